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

func (c Config) txns(n int) Config                    { c.TxnMax = n; return c }
func (c Config) starting(init string) Config          { c.Inits = []string{init}; return c }
func (c Config) valued(n int) Config                  { c.Values = n; return c }
func (c Config) crashing(n int) Config                { c.Crashes = n; return c }
func (c Config) failing(n int) Config                 { c.Faults = n; return c }
func (c Config) oneLane() Config                      { c.Lanes = 1; return c }
func (c Config) coarse() Config                       { c.Coarse = true; return c }
func (c Config) changing(ch Change) Config            { c.Changes = ch; return c }
func (c Config) hostile(foreign, stale string) Config { c.Foreign, c.Stale = foreign, stale; return c }
func (c Config) checking(only ...Invariant) Config    { c.Only = only; return c }

// MutantCases are all mutants, each with the smallest configuration known in
// which it breaks an invariant.
func MutantCases() []MutantCase {
	var cases []MutantCase
	for _, group := range [][]MutantCase{
		copyCases(), startCases(), applyCases(), filterCases(), resumeCases(), sourceCases(), cutoverCases(),
	} {
		cases = append(cases, group...)
	}
	for i := range cases {
		c := &cases[i]
		c.Config.Name = c.Name
		c.Config.Mutants = append(c.Config.Mutants, c.Mutant)
	}
	return cases
}

func copyCases() []MutantCase {
	locked := tiny(1, LockingRead, LockedCopy, SplitWrite)
	return []MutantCase{
		{NoGate, "no-gate", "CE-1 M1", "a change delivered after a chunk's gate opened waits for the gate if its key may lie in the chunk", Age, tiny(1)},
		{NoBarrier, "no-barrier", "CE-7b", "a chunk is read only when everything delivered before its gate opened is visible", Age, tiny(1)},
		{RacyOpen, "racy-open", "", "the delivered position is noted and the gate registered in one step", Age, tiny(1)},
		{OldSnapshot, "old-snapshot", "", "nothing is read in the reading transaction before the barrier", Age, tiny(1)},
		{GateNewKeyOnly, "gate-new-key-only", "", "the wait-list is computed from old and new key", Age, tiny(1)},
		{GatesBetweenPhases, "gates-between-phases", "", "all gates of a batch are awaited before its first statement", Age, tiny(1)},
		{PartsDoNotCount, "parts-do-not-count", "", "a transaction counts as delivered for the barrier from its first row", Debt, tiny(2, Parts).txns(2)},
		{StaleRetry, "stale-retry", "", "rows may be written again only while the same gate stayed open", Age, tiny(1, LostCommits).failing(1)},
		{OnePacket, "one-packet", "CE-29 M13", "statements and COMMIT never travel in one packet", Checkpoint, tiny(2, LostCommits).failing(1)},
		{MarkBeforeRows, "mark-before-rows", "M2", "a chunk's mark is committed with its rows", CursorSound, tiny(1)},
		{UnorderedPage, "unordered-page", "CE-24", "a page is read in key order, so that its last key is its highest", CursorSound, tiny(0).starting("a b")},
		{SkipLowest, "skip-lowest", "CE-26", "the first page begins before every key", CursorSound, tiny(0)},
		{MutexBeforeSpace, "mutex-before-space", "", "space in the delivery queue is reserved before the gate's mutex is taken", Liveness, tiny(2, SmallQueue)},
		{SecondaryIndexRead, "secondary-index-read", "", "a locking read locks the clustered index, and so waits for every change of the row", Age, tiny(1, LockingRead)},
		{SkipLocked, "skip-locked", "CE-9 M9", "a locked row is waited for, not skipped", CursorSound, tiny(1, LockingRead, Rollbacks).failing(1)},
		{PlainRead, "plain-read", "CE-1 M1", "a copier without a gate reads under locks", Age, locked},
		{NoPing, "no-ping", "CE-2 M14", "a copier without a gate asks whether its reading transaction is alive before it commits", Age, locked.with(LostLocks).failing(1)},
		{PingAfterCommit, "ping-after-commit", "", "a copier without a gate asks before its COMMIT, not after", Convergence, locked.with(LostLocks).failing(1).crashing(1).checking(Convergence)},
		{WatermarkByArrival, "watermark-by-arrival", "CE-7 M7", "rows are placed when the applier has passed the log end after their read, and only those no change since d has touched", Exactness, tiny(1, Watermark)},
		{NoBarrier, "drop-ahead-no-barrier", "CE-7b", "a change is dropped because its chunk is yet to be read only if a barrier will put it into the read", Age, tiny(1, DropAhead, OnePhase).valued(0).starting("N -")},
		{UniqueDropped, "drop-ahead-unique", "", "changes of a table with unique secondary keys are never left to the copy", Debt, tiny(2, DropAhead).twoChunks().txns(2)},
		{DebtBoundAtRead, "debt-bound-at-read", "", "a skipped key's change is due by the log end when it was skipped, not by the log end after its chunk's read", Debt, tiny(1).twoChunks()},
	}
}

func (c Config) with(features ...Feature) Config {
	c.Features = append(append([]Feature(nil), c.Features...), features...)
	return c
}

func startCases() []MutantCase {
	return []MutantCase{
		{StartAtLogEnd, "start-at-log-end", "CE-8 M8", "with plain reads the stream starts at what is committed, not at the end of the log", Checkpoint, tiny(1, Start).twoChunks()},
		{PlanBeforeStart, "plan-before-start", "CE-8 M8", "the highest key is read after the start position", Checkpoint, tiny(1, Start).twoChunks()},
		{PlainMax, "plain-max", "CE-8 M8", "without GTIDs the end of the plan is found by a locking read", Checkpoint, tiny(1, Start, LockingRead).twoChunks()},
		{RestartKeepsRows, "restart-keeps-rows", "", "a restart empties the rows of an earlier run first", NoFabrication, tiny(0).hostile("", "b -")},
		{WritesSource, "writes-source", "", "the mover writes nothing on the source", SourceUntouched, tiny(1, Start)},
	}
}

func applyCases() []MutantCase {
	swap := tiny(2).txns(2).starting("a b")
	serial := tiny(2, Serial).oneLane()
	return []MutantCase{
		{NoMeeting, "no-meeting", "", "between the phases all lanes meet", Debt, swap},
		{OldKeyStays, "old-key-stays", "CE-3", "phase 1 deletes old keys as well as new ones", Age, tiny(1)},
		{WrongRow, "wrong-row", "CE-14 M22", "an insert that meets another row's unique value leaves that row alone", NoFabrication, serial},
		{InPlaceUnconfirmed, "in-place-unconfirmed", "", "a row is updated in place only when its chunk is confirmed", Exactness, tiny(2, InPlace)},
		{InPlaceOwed, "in-place-owed", "", "a key that was skipped is not updated in place", Exactness, tiny(2, InPlace).twoChunks().changing(Update | MoveKey)},
		{InPlaceInRecovery, "in-place-in-recovery", "", "nothing is updated in place before the position has passed everything executed before a crash", Exactness, tiny(2, InPlace).changing(Update | MoveKey).crashing(1)},
		{InPlaceUnique, "in-place-unique", "", "a row whose unique value changes is not updated in place", Exactness, tiny(2, InPlace).txns(2).starting("a b")},
		{PassByKey, "pass-by-key", "", "a held change may be passed only by changes with other keys and other unique values", Debt, tiny(2, Pass).twoChunks()},
		{CompareAndSet, "compare-and-set-handover", "CE-4 M5", "changes are full images addressed by key, not updates that name all old values", Convergence, tiny(2).twoChunks().oneLane().starting("a N").changing(SetU).checking(Convergence)},
		{CompareAndSet, "compare-and-set-crash-loop", "CE-5 M5", "changes are full images addressed by key, not updates that meet error 1062", Liveness, tiny(3).twoChunks().oneLane().starting("N N").changing(SetU).coarse().checking(Liveness)},
		{FloatCompared, "float-compared", "CE-16 M18", "no statement compares values that need not equal themselves", Convergence, tiny(1).valued(2).starting("b -").oneLane().changing(Update).also(CompareAndSet).checking(Convergence)},
		{ByKeyHash, "by-key-hash", "CE-6 M6", "changes are not spread over lanes by key alone", Convergence, tiny(4, LanePositions).txns(4).starting("a N").changing(SetU).coarse().checking(Convergence)},
		{KeyUpdateInPlace, "key-update-in-place", "CE-3 M4", "a change of the key deletes the old key and writes the new one", Checkpoint, serial},
		{CompactedByBytes, "compacted-by-bytes", "CE-13 M15", "keys whose equality is not known are applied in log order, without compaction", Checkpoint, tiny(1, Serial, Collated).oneLane().changing(AllChanges | Respell)},
		{KeepsSpelling, "keeps-spelling", "", "an upsert sets the key's columns, too", NoFabrication, tiny(1, Serial, Collated).oneLane().changing(AllChanges | Respell)},
		{CollatedByBytes, "collated-by-bytes", "", "a key that cannot be compared may lie in every chunk", Age, tiny(1, Serial, Collated).oneLane().starting("A -").changing(AllChanges | Respell)},
		{FailedBatchDropped, "failed-batch-dropped", "CE-17 M19", "a batch that failed is never passed", Checkpoint, tiny(1).failing(1)},
		{RetryUnasked, "retry-unasked", "", "a batch whose last COMMIT was lost is begun again only when it is known not to be committed", Checkpoint, tiny(1, LostCommits).oneLane().failing(1)},
		{StatementRetried, "statement-retried", "CE-27 M12", "after any error the whole transaction is done again", Checkpoint, tiny(2).txns(2).oneLane().failing(1)},
		{TargetTrigger, "target-trigger", "CE-12", "triggers on the target are refused", CursorSound, tiny(1).starting("a b")},
		{IndexTooEarly, "index-too-early", "", "the unique index is begun when the apply has passed the log end after the last chunk's read", Exactness, tiny(2, DeferredIndex).twoChunks().changing(MoveKey | Update)},
		{IndexInOnePhase, "index-in-one-phase", "", "a table goes over to two phases before its unique index is begun", Exactness, tiny(2, DeferredIndex).txns(2).starting("a b")},
		{IndexInRecovery, "index-in-recovery", "", "the unique index waits for everything executed before a crash", Exactness, tiny(2, DeferredIndex).changing(Update | MoveKey).crashing(1)},
		{ApplyDuringRecoveredBuild, "apply-during-recovered-build", "", "after a crash in the middle of a batch the apply waits for an index that is being built", Exactness, tiny(2, DeferredIndex).changing(Update | MoveKey).crashing(1)},
	}
}

func filterCases() []MutantCase {
	filtered := tiny(1, Filter).changing(AllChanges | Reown)
	return []MutantCase{
		{Unscoped, "unscoped", "CE-25 M17", "every statement names the row filter", Convergence, filtered.hostile("- B", "")},
		{IgnoreForeign, "ignore-foreign", "CE-25", "a foreign row in the way ends the run", Debt, filtered.hostile("- B", "").valued(2)},
		{FilterNewOnly, "filter-new-only", "CE-22", "a row that leaves the filter is deleted", CursorSound, filtered},
		{PredicateUnlocked, "predicate-unlocked", "CE-23", "the filter is part of the locking read", NoFabrication, filtered.with(LockingRead)},
	}
}

func resumeCases() []MutantCase {
	return []MutantCase{
		{PositionBeforeData, "position-before-data", "M3", "the position is committed with the data", Checkpoint, tiny(1)},
		{PositionInTransaction, "position-in-transaction", "", "the position is always a transaction end", Convergence, tiny(2, Parts).txns(2).changing(Update | SetU).crashing(1)},
		{SkipDoneLanes, "skip-done-lanes", "", "a resumed run redoes every lane from the least position", Checkpoint, tiny(2, LanePositions).crashing(1)},
		{BarrierForgets, "barrier-forgets", "", "the barrier covers what was executed before a crash", Age, tiny(1).twoChunks().crashing(1)},
		{CheckpointElsewhere, "checkpoint-elsewhere", "CE-19", "the checkpoint is on the target, in the data's transaction", CursorSound, tiny(1, TargetCrash).crashing(1)},
		{NoLaneCheck, "no-lane-check", "", "every transaction checks that its lane row is where it left it", Checkpoint, tiny(1, TargetCrash).crashing(1)},
		{NoFence, "no-fence", "M23", "a newcomer raises the epoch under the lock of every row that writers lock", Fencing, tiny(1, LostCommits).crashing(1).failing(1)},
		{NoEpochCheck, "no-epoch-check", "M23", "every transaction checks the epoch", Fencing, tiny(1, SecondMover).crashing(1)},
	}
}

func sourceCases() []MutantCase {
	return []MutantCase{
		{XAAtPrepare, "xa-at-prepare", "CE-10 M10", "the rows of an XA transaction count from its commit", NoFabrication, tiny(2, XA)},
		{XAForgotten, "xa-forgotten", "CE-10", "no position passes an XA transaction that is still prepared", Checkpoint, tiny(2, XA).crashing(1)},
		{Unconfirmed, "unconfirmed", "", "a chunk whose read saw more than was delivered is copied again when the source loses the end of its log", CursorSound, tiny(1, Failover).failing(1)},
		{ApplyBeforeRepair, "apply-before-repair", "", "what the source lost is removed from the target before anything else is written", CursorSound, tiny(1, Failover).twoChunks().failing(1)},
		{DebtsUnconfirmed, "debts-unconfirmed", "", "a skipped key whose change may have been lost with the end of the log is copied again", CursorSound, tiny(2, Failover).txns(2).twoChunks().failing(1).starting("a N").changing(SetU).coarse()},
		{IntentUnchecked, "intent-unchecked", "", "with its first transaction a batch commits where it will end, and a resumed run asks the source for that", NoFabrication, tiny(1, Failover).failing(1).crashing(1)},
		{IntentForgotten, "intent-forgotten", "", "a resumed run never lowers how far batches have begun", NoFabrication, tiny(2, Failover).failing(1).crashing(1).changing(MoveKey | Insert)},
		{NumbersReused, "numbers-reused", "M20", "what was delivered is recognised by content, not by number", NoFabrication, tiny(2, Failover).failing(1)},
		{PayloadDropped, "payload-dropped", "CE-20 M11", "compressed transactions are unwrapped", Checkpoint, tiny(1)},
		{UnloggedCascade, "unlogged-cascade", "CE-11 M24", "tables with cascades that are not logged are refused", Age, tiny(2).starting("a b")},
	}
}

func cutoverCases() []MutantCase {
	return []MutantCase{
		{StopBeforeBlock, "stop-before-block", "CE-28 M16", "the stop position is read after the writes are blocked", CutoverSound, tiny(1, Cutover)},
		{NoTailGuard, "no-tail-guard", "", "the log is looked at again after the stop position", CutoverSound, tiny(1, Cutover, Leak).failing(1)},
		{NoFinalVerify, "no-final-verify", "", "done is declared only when every key was verified since its last change", CutoverSound, tiny(1, Cutover, Verify).also(NoGate).checking(CutoverSound)},
		{VerifyPlain, "verify-plain", "", "the verifier's reads pass the barrier, too", VerifierSound, tiny(1, Cutover, Verify)},
		{VerifyOwed, "verify-owed", "", "a key that was skipped is not judged before its change has come", VerifierSound, tiny(2, Verify).twoChunks().changing(MoveKey).coarse()},
		{VerifyTwoReads, "verify-two-reads", "", "a difference is reported only when no change of the key was delivered between the reads", VerifierSound, tiny(2, Cutover, Verify).changing(SetU)},
		{VerifyClaimsLate, "verify-claims-late", "", "a key is verified at the position up to which its changes are known", VerifierSound, tiny(1, Cutover, Verify)},
	}
}

// FreeCase is a rule that the model does without: taking it away breaks nothing
// in the configuration, which is searched completely.
type FreeCase struct {
	Mutant Mutant
	Rule   string
	Why    string
	Config Config
}

// FreeCases are the rules that are not needed for the target to end equal.
func FreeCases() []FreeCase {
	base := tiny(2).twoChunks().txns(2).coarse().crashing(1).changing(SetU | MoveKey | Delete)
	return []FreeCase{
		{CloseUnproven, "a gate closes only when the chunk's commit is known, or its rollback proven",
			"the lost transaction still holds the locks of its rows, and the chunk is read again under a new gate", base.with(LostCommits).failing(1)},
		{Evict, "a row in the way is never evicted",
			"it is a future image whose change is pending; only a foreign row must not be evicted", base.starting("a b")},
		{HalfCommitted, "an error rolls back",
			"a batch half of which was committed without its position is done again whole", base.oneLane().starting("a b").failing(1)},
		{SkipDoneChanges, "a resumed run redoes every lane from the least position",
			"a lane may leave out exactly the changes up to its own position, as long as the first barrier covers them", base.with(LanePositions).starting("a b")},
		{FloorAtResume, "the first barrier after a crash covers everything executed before it",
			"what lies past the position that the run resumes from is delivered again, behind the gate", base},
	}
}

// also takes away another rule, whose loss the mutant must not hide.
func (c Config) also(m Mutant) Config {
	c.Mutants = append(append([]Mutant(nil), c.Mutants...), m)
	return c
}
