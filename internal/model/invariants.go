package model

// Invariant numbers the promises that are checked in every state.
type Invariant uint8

// The invariants. Zero is "none broken".
const (
	Convergence     Invariant = 1 + iota // quiet ⇒ target = source
	Checkpoint                           // the durable position tells the truth
	NoFabrication                        // every image on the target was committed on the source
	Age                                  // no image older than the durable position
	Debt                                 // every skipped key has a pending change within its bound
	Exactness                            // watermark mode: target = S_m on what it holds
	CursorSound                          // finished chunks are on the target
	Fencing                              // one epoch commits, a batch at most once
	CutoverSound                         // done ⇒ stop position after the block, both sides equal
	VerifierSound                        // verified ⇒ equal, reported ⇒ different
	SourceUntouched                      // the mover writes nothing on the source
	Liveness                             // when faults and writes stop, the run ends
	invariantCount  = iota
)

var invariantTexts = [invariantCount + 1]string{
	"",
	"INV-1 Convergence: everything was delivered and executed, and the target differs from the source",
	"INV-2 Checkpoint soundness: a row is absent on the target, and neither a pending change nor an unfinished chunk will bring it",
	"INV-3 No fabrication: the target holds an image that was never committed on the source",
	"INV-4 Age: the target holds an image older than the durable position",
	"INV-5 Debt: a skipped key has no pending change within its bound",
	"INV-6 Exactness: the target differs from the source at the applied position",
	"INV-7 Cursor: a finished chunk has a row that never changed and is not on the target",
	"INV-8 Fencing: a transaction of an old epoch committed, or a batch committed twice",
	"INV-9 Cut-over: done was declared, and the target differs from the source",
	"INV-10 Verifier soundness: the verifier said what is not so",
	"INV-11 Source untouched: the mover wrote on the source",
	"INV-12 Liveness: no schedule leads to the end any more",
}

func (i Invariant) String() string { return invariantTexts[i] }

// check returns the first invariant that s breaks, or zero.
func (c *Config) check(s *state) Invariant {
	if s.ghost&(ghostFenced|ghostTwice) != 0 {
		return Fencing
	}
	if s.halt == haltAlarm {
		return Debt
	}
	now := s.rowsAt(s.n)
	if s.halt == haltDone && !c.same(&s.t, &now) {
		return CutoverSound
	}
	if s.quiet(c) && !c.same(&s.t, &now) {
		return Convergence
	}
	p := s.p(c.Lanes)
	for k := range c.Keys {
		if inv := c.checkKey(s, p, k); inv != 0 {
			return inv
		}
	}
	return 0
}

// same compares the rows that are in scope.
func (c *Config) same(t, src *rows) bool { return *t == *src }

// checkKey checks what is said of one key at durable position p.
func (c *Config) checkKey(s *state, p uint8, k int) Invariant {
	bit := uint8(1) << k
	// What the log says of k: its first version that is not older than p,
	// whether a change is pending, and whether one is at all.
	base, pending, changed := -1, false, false
	for i := range s.n {
		if s.log[i].touches()&bit == 0 {
			continue
		}
		changed = true
		if i < p || s.pre>>i&1 != 0 {
			base = int(i)
		} else {
			pending = true
		}
	}
	if x := s.t[k]; x != 0 {
		v := s.version(k, x)
		if v == none {
			return NoFabrication
		}
		if v < base {
			return Age
		}
	} else if !pending && c.missing(s, base, k) {
		return Checkpoint
	}
	if !changed && s.init[k] != 0 && s.t[k] != s.init[k] && c.covered(s, k) {
		return CursorSound
	}
	if b := s.debt[k]; b != 0 && !s.pendingIn(c, k, b-1) {
		return Debt
	}
	return 0
}

// none is "no version".
const none = -2

// version is the log entry that wrote image x of key k, -1 for the initial one.
func (s *state) version(k int, x img) int {
	if x == s.init[k] {
		return -1
	}
	if i := int(x.stamp()) - stampLog; i >= 0 && i < int(s.n) && int(s.log[i].new()) == k && s.log[i].x == x {
		return i
	}
	return none
}

// missing says whether the absence of k, which has no change pending, is a loss:
// the row is there at base, and no copy is to come.
func (c *Config) missing(s *state, base, k int) bool {
	x := s.init[k]
	if base >= 0 {
		x = 0
		if int(s.log[base].new()) == k {
			x = s.log[base].x
		}
	}
	if x == 0 {
		return false
	}
	executed := base >= 0 && s.pre>>base&1 == 0
	return executed || c.covered(s, k)
}

// covered says whether k's chunk is marked as finished.
func (c *Config) covered(s *state, k int) bool {
	for i, keys := range c.Chunks {
		if keys>>k&1 != 0 {
			return s.marks>>i&1 != 0 && s.src&srcPlanned != 0
		}
	}
	return true
}

// pendingIn says whether a change of k that is not yet executed lies at or
// before bound.
func (s *state) pendingIn(c *Config, k int, bound uint8) bool {
	from := s.m
	if s.up == 0 {
		from = s.p(c.Lanes)
	}
	if s.bEnd != 0 && s.lane[c.laneOf(k)] == laneDone {
		from = s.bEnd
	}
	for i := from; i < bound; i++ {
		if s.log[i].touches()>>k&1 != 0 {
			return true
		}
	}
	return false
}
