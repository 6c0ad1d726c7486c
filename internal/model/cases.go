package model

// tiny is what most mutants need: two keys, one of them there, one unique value,
// one chunk.
func tiny(events int, features ...Feature) Config {
	return Config{
		Keys: 2, Values: 1, Events: events, TxnMax: 1, Changes: AllChanges,
		Inits: []string{"a -"}, Chunks: []uint8{3}, Lanes: 2, Features: features,
	}
}

// twoChunks copies the two keys by two workers.
func (c Config) twoChunks() Config {
	c.Chunks, c.Workers = []uint8{1, 2}, 2
	return c
}

func (c Config) txns(max int) Config       { c.TxnMax = max; return c }
func (c Config) from(init string) Config   { c.Inits = []string{init}; return c }
func (c Config) values(n int) Config       { c.Values = n; return c }
func (c Config) crashes(n int) Config      { c.Crashes = n; return c }
func (c Config) faults(n int) Config       { c.Faults = n; return c }
func (c Config) changing(ch Change) Config { c.Changes = ch; return c }

// MutantCases are all mutants, each with the smallest configuration known in
// which it breaks an invariant.
func MutantCases() []MutantCase {
	cases := []MutantCase{
		{NoGate, "no-gate", "CE-1 M1", "a change delivered after a chunk's gate opened waits for the gate if its key may lie in the chunk", Age, tiny(1)},
		{NoBarrier, "no-barrier", "CE-7", "a chunk is read only when everything delivered before its gate opened is visible", Age, tiny(1)},
		{RacyOpen, "racy-open", "", "the delivered position is noted and the gate registered in one step", Age, tiny(1)},
		{OldSnapshot, "old-snapshot", "", "nothing is read in the reading transaction before the barrier", Age, tiny(1)},
		{GateNewKeyOnly, "gate-new-key-only", "", "the wait-list is computed from old and new key", Age, tiny(1)},
		{GatesBetweenPhases, "gates-between-phases", "", "all gates of a batch are awaited before its first statement", Age, tiny(1)},
		{PartsDoNotCount, "parts-do-not-count", "", "a transaction counts as delivered for the barrier from its first row", Debt, tiny(2, Parts).txns(2)},
		{NoMeeting, "no-meeting", "CE-6", "between the phases all lanes meet", Debt, tiny(2).txns(2).from("a b")},
		{DebtBoundAtRead, "debt-bound-at-read", "", "a skipped key's change is due by the log end when it was skipped, not by the log end after its chunk's read", Debt, tiny(1).twoChunks()},
		{StartAtLogEnd, "start-at-log-end", "CE-8 M8", "with plain reads the stream starts at what is committed, not at the end of the log", Checkpoint, tiny(1, Start).twoChunks()},
		{PlanBeforeStart, "plan-before-start", "CE-8 M8", "the highest key is read after the start position", Checkpoint, tiny(1, Start).twoChunks()},
		{PlainMax, "plain-max", "CE-8 M8", "without GTIDs the end of the plan is found by a locking read", Checkpoint, tiny(1, Start, LockingRead).twoChunks()},
		{NoFence, "no-fence", "M23", "a newcomer raises the epoch under the lock of every row that writers lock", Fencing, tiny(1, LostCommits).crashes(1).faults(1)},
		{StopBeforeBlock, "stop-before-block", "CE-28 M16", "the stop position is read after the writes are blocked", CutoverSound, tiny(1, Cutover)},
	}
	for i := range cases {
		c := &cases[i]
		c.Config.Name = c.Name
		c.Config.Mutants = append(c.Config.Mutants, c.Mutant)
	}
	return cases
}
