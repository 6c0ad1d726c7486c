package model

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
	NoMeeting
	DebtBoundAtRead
	StartAtLogEnd
	PlanBeforeStart
	PlainMax
	NoFence
	StopBeforeBlock
	mutantCount
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
