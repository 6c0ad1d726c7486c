package model

// Feature is something a configuration may have switched on.
type Feature uint8

// The features. A configuration without any has one chunk worker with a gate
// and an atomic batch applier.
const (
	// Parts delivers and executes a transaction change by change: leading parts
	// of a large transaction reach the target before its end is known.
	Parts Feature = iota
	// Start lets the application write before the mover begins, so that the
	// start position and the plan's end are found while commits are in flight.
	Start
	// Cutover has the host block writes, reads the stop position and drains.
	// Without it a run ends when everything stands still.
	Cutover
	// Leak lets the application write once after the block (needs Cutover).
	Leak
	// OnePhase is a table without a unique secondary key: one phase, upserts.
	OnePhase
	// Serial applies in log order in one lane: delete own key, insert if absent.
	Serial
	// LanePositions has every lane commit a position with its data, and a resumed
	// run go on from the least. Without it one transaction commits the position
	// when all lanes have committed, or the only lane does.
	LanePositions
	// InPlace updates in phase 2, in place of delete and insert, keys whose unique
	// value the batch leaves as it was, where the row is known to be there: its
	// chunk confirmed, and the position past everything executed before a crash.
	InPlace
	// InPlaceGuarded is the same without knowing that the row is there: the
	// statement also names the unique value, and a key that it does not find is
	// deleted and inserted if absent.
	InPlaceGuarded
	// Pass lets a transaction with a disjoint keyset pass one that waits for a
	// gate.
	Pass
	// DropAhead leaves changes of keys whose chunk no copier has begun to the copy
	// (tables without a unique secondary key).
	DropAhead
	// DeferredIndex creates the unique index when the rows are copied.
	DeferredIndex
	// CommitsInOrder makes engine commits happen in log order (with it the barrier is
	// the position of a consistent snapshot).
	CommitsInOrder
	// LockingRead reads a chunk key by key under row locks, released when the
	// rows are read, in place of the barrier: servers without GTIDs.
	LockingRead
	// LockedCopy holds the locks of the reading transaction until the rows are on
	// the target, and has no gate (needs LockingRead and SplitWrite).
	LockedCopy
	// LostLocks lets a reading transaction die silently, and its locks with it.
	LostLocks
	// Rollbacks lets the application lock a row and roll back.
	Rollbacks
	// Watermark places the rows that no change since the gate's d has touched, when
	// the applier has passed the log end after the read; no change waits.
	Watermark
	// SplitWrite executes and commits a chunk's target transaction in two
	// steps; others wait for its row locks.
	SplitWrite
	// LostCommits lets the connection die after COMMIT was sent: the transaction
	// lands later, or is rolled back.
	LostCommits
	// Replans lets a chunk past its time bound close unwritten and start again.
	Replans
	// XA lets the application prepare a transaction and later commit or roll it
	// back; its rows are logged at the prepare.
	XA
	// Filter moves one tenant's rows; the variant bit marks the other's.
	Filter
	// Collated has keys whose equality is coarser than bytes; the variant bit is the
	// spelling.
	Collated
	// Failover lets the source lose the end of its log, and positions be used again.
	Failover
	// TargetCrash lets the target fall back to an older durable state.
	TargetCrash
	// SecondMover lets a new mover take over from one that is stopped and
	// wakes up later.
	SecondMover
	// Verify has a verifier compare keys all along; done needs every key verified
	// (needs Cutover).
	Verify
	// SmallQueue bounds what is delivered and not executed to one entry.
	SmallQueue
	featureCount = iota
)

var featureNames = [featureCount]string{
	"parts",
	"start",
	"cutover",
	"leaky-block",
	"one-phase",
	"serial",
	"lane-positions",
	"in-place",
	"in-place-guarded",
	"pass-held",
	"drop-ahead",
	"deferred-index",
	"commits-in-order",
	"locking-read",
	"locked-copy",
	"lost-locks",
	"rollbacks",
	"watermark",
	"split-write",
	"lost-commits",
	"replans",
	"xa",
	"filter",
	"collated",
	"failover",
	"target-crash",
	"second-mover",
	"verify",
	"small-queue",
}

func (f Feature) String() string { return featureNames[f] }

// Change is a set of kinds of row change.
type Change uint8

// The kinds of row change an application makes.
const (
	Insert Change = 1 << iota
	Update        // without touching the unique column
	SetU          // of the unique column
	Delete
	MoveKey    // update of the key
	Respell    // update of the key to another spelling of the same key
	Reown      // to or from the other tenant
	AllChanges = Insert | Update | SetU | Delete | MoveKey
)

// Config bounds a search.
type Config struct {
	Name string
	// Keys, Values: rows have keys 1..Keys and unique values NULL and the first
	// Values letters.
	Keys, Values int
	// Events is the longest log, TxnMax the most changes in a transaction, Txns
	// the most transactions (0: as many as fit).
	Events, TxnMax, Txns int
	Changes              Change
	// Inits are the source tables to start from, one word a key: "-" absent,
	// "N" NULL, else the unique value's letter; in upper case (NULL: "n") with
	// the variant bit.
	Inits []string
	// Foreign is the other tenant's rows on the target, in the same form, and
	// Stale the rows that an earlier run left there.
	Foreign, Stale string
	// Only restricts the check to these invariants, if there are any.
	Only []Invariant
	// Chunks are the key ranges as masks: bit 0 is key 1.
	Chunks []uint8
	// Workers is the number of chunks that may be in flight at once.
	Workers int
	Lanes   int
	// Crashes is how often the mover may die, Faults how often anything else
	// may go wrong.
	Crashes, Faults int
	Features        []Feature
	// Coarse joins steps that nothing can come between to any effect: barrier and
	// read (a barrier once passed stays passed), commit and close (a gate that
	// stays open only forbids; with SmallQueue the two stay apart), gathering a batch and its first transaction (what
	// could come between could as well come before).
	Coarse bool
	// Mutants are the rules taken away.
	Mutants []Mutant

	on  [featureCount]bool
	mut [mutantCount]bool
}

// prepared returns a copy whose sets are ready for use.
func (c Config) prepared() *Config {
	for _, f := range c.Features {
		c.on[f] = true
	}
	for _, m := range c.Mutants {
		c.mut[m] = true
	}
	if c.Workers == 0 {
		c.Workers = 1
	}
	return &c
}

// laneOf is the lane of a key.
func (c *Config) laneOf(key int) int { return key % c.Lanes }

// initial returns the states to start from.
func (c *Config) initial() []state {
	var out []state
	for _, text := range c.Inits {
		s := state{up: 1, epoch: 1, planMax: uint8(c.Keys)}
		s.init = c.parse(text, stampInitial)
		if c.Foreign != "" {
			s.t = c.foreign()
		}
		if c.mut[RestartKeepsRows] {
			s.t = c.parse(c.Stale, stampStale)
		}
		if c.on[DeferredIndex] {
			s.index = indexAbsent
		} else if !c.on[OnePhase] {
			s.index = indexPresent
		}
		if !c.on[Start] {
			s.src = srcStarted | srcPlanned
		}
		out = append(out, s)
	}
	return out
}

// foreign are the other tenant's rows on the target.
func (c *Config) foreign() rows {
	r := c.parse(c.Foreign, stampForeign)
	for k := range r {
		if r[k] != 0 {
			r[k] |= imgVariant
		}
	}
	return r
}

// parse reads rows in the form of Inits.
func (c *Config) parse(text string, stamp uint8) (r rows) {
	for k := 0; k < c.Keys && 2*k < len(text); k++ {
		w := text[2*k]
		var x img
		switch {
		case w == '-':
			continue
		case w == 'N' || w == 'n':
			x = newImg(0, stamp)
		default:
			x = newImg((w|0x20)-'a'+1, stamp)
		}
		if w != 'N' && w < 'a' || w == 'n' {
			x |= imgVariant
		}
		r[k] = x
	}
	return r
}
