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
	// OnePhase is a table without a unique secondary key: one phase, upserts.
	OnePhase
	// Serial applies in log order in one lane: delete own key, insert if absent.
	Serial
	// CommitsInOrder makes engine commits happen in log order.
	CommitsInOrder
	// LockingRead reads a chunk key by key under row locks, released when the
	// rows are read, in place of the barrier: servers without GTIDs.
	LockingRead
	// SplitWrite executes and commits a chunk's target transaction in two
	// steps; others wait for its row locks.
	SplitWrite
	// LostCommits lets the connection die after COMMIT was sent: the transaction
	// lands later, or is rolled back.
	LostCommits
	// Replans lets a chunk past its time bound close unwritten and start again.
	Replans
	featureCount
)

var featureNames = [featureCount]string{
	"parts", "start", "cutover", "one-phase", "serial", "commits-in-order",
	"locking-read", "split-write", "lost-commits", "replans",
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
	// "N" NULL, else the unique value's letter.
	Inits []string
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
	// stays open only forbids), gathering a batch and its first transaction (what
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
		for k := range c.Keys {
			switch w := text[2*k]; w {
			case '-':
			case 'N':
				s.init[k] = newImg(0, stampInitial)
			default:
				s.init[k] = newImg(w-'a'+1, stampInitial)
			}
		}
		if !c.on[Start] {
			s.src = srcStarted | srcPlanned
		}
		out = append(out, s)
	}
	return out
}
