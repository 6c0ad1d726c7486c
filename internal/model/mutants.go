package model

import "slices"

// Mutant takes a rule of the engine away, or puts a known mistake in its place.
type Mutant uint8

// The mutants.
const (
	NoGate Mutant = iota
	NoBarrier
	RacyOpen
	OldSnapshot
	GateNewKeyOnly
	GatesBetweenPhases
	PartsDoNotCount
	FloorAtResume
	BarrierForgets
	CloseUnproven
	StaleRetry
	OnePacket
	MarkBeforeRows
	UnorderedPage
	SkipLowest
	MutexBeforeSpace
	SecondaryIndexRead
	SkipLocked
	PlainRead
	NoPing
	PingAfterCommit
	WatermarkByArrival
	StartAtLogEnd
	PlanBeforeStart
	PlainMax
	RestartKeepsRows
	WritesSource
	NoMeeting
	OldKeyStays
	Evict
	WrongRow
	Unscoped
	IgnoreForeign
	FilterNewOnly
	PredicateUnlocked
	InPlaceUnconfirmed
	InPlaceInRecovery
	InPlaceOwed
	RetryUnasked
	UniqueDropped
	IntentUnchecked
	InPlaceUnique
	PassByKey
	CompareAndSet
	FloatCompared
	ByKeyHash
	KeyUpdateInPlace
	CompactedByBytes
	KeepsSpelling
	CollatedByBytes
	FailedBatchDropped
	StatementRetried
	HalfCommitted
	DebtBoundAtRead
	PositionBeforeData
	PositionInTransaction
	SkipDoneLanes
	SkipDoneChanges
	ApplyBeforeRepair
	DebtsUnconfirmed
	CheckpointElsewhere
	NoLaneCheck
	NoFence
	NoEpochCheck
	XAAtPrepare
	XAForgotten
	Unconfirmed
	NumbersReused
	IndexTooEarly
	IndexInOnePhase
	IndexInRecovery
	ApplyDuringRecoveredBuild
	PayloadDropped
	UnloggedCascade
	TargetTrigger
	StopBeforeBlock
	NoTailGuard
	NoFinalVerify
	VerifyPlain
	VerifyTwoReads
	VerifyClaimsLate
	mutantCount = iota
)

// MutantCase is a mutant with the configuration in which the checker finds it.
type MutantCase struct {
	Mutant Mutant
	// Name is the case's golden file in testdata, without the suffix.
	Name string
	// Known lists the counterexamples (CE-n) and harness mutants (Mn) it is.
	Known string
	// Rule is the rule that is missing.
	Rule   string
	Breaks Invariant
	Config Config
}

// Sound is the case's configuration without the mutant.
func (mc MutantCase) Sound() Config {
	c := mc.Config
	c.Mutants = slices.DeleteFunc(slices.Clone(c.Mutants), func(m Mutant) bool { return m == mc.Mutant })
	return c
}
