package model

import "slices"

// Mutant takes a rule of the engine away, or puts a known mistake in its place.
type Mutant uint8

// The mutants; MutantCases and FreeCases say which rule each takes away.
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
	IntentForgotten
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
	VerifyOwed
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

// Search is the case's configuration without the rule.
func (fc FreeCase) Search() Config {
	c := fc.Config
	c.Name = "without: " + fc.Rule
	c.Mutants = append(slices.Clone(c.Mutants), fc.Mutant)
	return c
}

// NotModelled are counterexamples that the model cannot express, and limits of what it
// holds: each with the reason and, where something else covers it, the test.
func NotModelled() []string {
	return []string{
		"CE-15 M21 values truncated by INSERT IGNORE: rows have no values here; TestLoadDataHidesNoError",
		"CE-18 locks of a transaction left open, held against its own repetition: transactions execute in one step here (half a batch that the next BEGIN commits is the free rule that an error rolls back); TestHalfABatchLeavesNothing",
		"CE-21 values in wrong columns after DDL: rows have no columns here; TestF21ToF24RefusedEvents",
		"CE-26 generated key for id 0 (pages that begin too late are the mutant skip-lowest): no AUTO_INCREMENT here; TestHotHazards",
		"starvation of a change that waits for chunks again and again: liveness is reachability, not fairness; the wait-list is fixed at delivery",
		"two batches at once, lock order and deadlocks between statements of a transaction: target transactions execute in one step; TestRunsAreAccepted has batches that are begun again",
		"several XA transactions, several movers that are alive together, a source failing twice",
	}
}

// Sound is the case's configuration without the mutant.
func (mc MutantCase) Sound() Config {
	c := mc.Config
	c.Mutants = slices.DeleteFunc(slices.Clone(c.Mutants), func(m Mutant) bool { return m == mc.Mutant })
	return c
}
