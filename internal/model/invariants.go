package model

import "slices"

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

// Invariants is how many there are.
const Invariants = invariantCount

var invariantTexts = [invariantCount + 1]string{
	"",
	"INV-1 Convergence: everything was delivered and executed, and the target differs from the source",
	"INV-2 Checkpoint soundness: a row is absent on the target, and neither a pending change nor an unfinished chunk will bring it",
	"INV-3 No fabrication: the target holds an image that was never committed on the source",
	"INV-4 Age: the target holds an image older than the durable position",
	"INV-5 Debt: a skipped key has no pending change within its bound",
	"INV-6 Exactness: the target differs from the source at the applied position, or a statement met a row that cannot be there",
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
	if inv := c.breaks(s); c.checks(inv) {
		return inv
	}
	return 0
}

// checks says whether the configuration asks for an invariant.
func (c *Config) checks(inv Invariant) bool { return len(c.Only) == 0 || slices.Contains(c.Only, inv) }

func (c *Config) breaks(s *state) Invariant {
	switch {
	case s.ghost&(ghostFenced|ghostTwice) != 0:
		return Fencing
	case s.ghost&ghostClaim != 0:
		return VerifierSound
	case s.halt == haltLedger:
		return Debt
	case s.halt == haltDuplicate:
		return Exactness
	case s.halt == haltRefused && !c.on[Failover] && !c.on[XA],
		s.halt == haltConflict && c.Foreign == "",
		s.halt == haltLateWrite && !c.on[Leak]:
		return Liveness
	}
	if inv := c.checkOutside(s); inv != 0 {
		return inv
	}
	if s.src&srcMoved != 0 || s.halt == haltRefused {
		return 0 // what the mover does not know yet, or leaves as not verified
	}
	log := s.project(c)
	now := c.rowsAt(s, s.n)
	switch {
	case s.halt == haltDone && !c.same(&s.t, &now):
		return CutoverSound
	case s.quiet(c) && !c.same(&s.t, &now):
		return Convergence
	case c.on[Watermark] && !c.exact(s, &log):
		return Exactness
	}
	p := s.p(c)
	for k := range c.Keys {
		if inv := c.checkKey(s, &log, p, k); inv != 0 {
			return inv
		}
	}
	return 0
}

// checkOutside checks what the mover must not touch: the source, and foreign
// rows on the target.
func (c *Config) checkOutside(s *state) Invariant {
	for i := range s.n {
		if s.log[i].a&evMover != 0 {
			return SourceUntouched
		}
	}
	if c.Foreign != "" {
		for k, x := range c.foreign() {
			if x != 0 && s.t[k] != x {
				return Convergence
			}
		}
	}
	return 0
}

// rowsAt is the source in scope after the first p entries.
func (c *Config) rowsAt(s *state, p uint8) rows {
	r := s.rowsAt(p)
	for k := range r {
		r[k] = c.scope(r[k])
	}
	return r
}

// same compares the rows that are in scope.
func (c *Config) same(t, src *rows) bool {
	for k := range t {
		if t[k] != src[k] && t[k].stamp() != stampForeign {
			return false
		}
	}
	return true
}

// exact is what the watermark mode promises between batches: rows that were
// touched or placed are S_m, others absent.
func (c *Config) exact(s *state, log *[maxLog]change) bool {
	if s.up == 0 || s.bEnd != 0 || s.m < s.floor {
		return true
	}
	want := c.rowsAt(s, s.m)
	for k := range c.Keys {
		var touched bool
		for i := range s.m {
			touched = touched || log[i].touch>>k&1 != 0
		}
		if !touched && !c.covered(s, k) {
			want[k] = 0
		}
	}
	return s.t == want
}

// checkKey checks what is said of one key at durable position p.
func (c *Config) checkKey(s *state, log *[maxLog]change, p uint8, k int) Invariant {
	bit := uint8(1) << k
	// What the log says of k: its last change that is executed for good, whether
	// one is pending, and whether there is one at all.
	base, pending, changed := -1, false, false
	for i := range s.n {
		if log[i].touch&bit == 0 {
			continue
		}
		changed = true
		if i < p || s.pre>>i&1 != 0 {
			base = int(i)
		} else {
			pending = true
		}
	}
	x := s.t[k]
	if !changed && c.scope(s.init[k]) != 0 && x != s.init[k] && x.stamp() != stampForeign && c.covered(s, k) {
		return CursorSound
	}
	switch {
	case x.stamp() == stampForeign:
		return 0
	case x != 0:
		v := s.version(c, k, x)
		if v == none && !c.inRepair(s, k) {
			return NoFabrication
		}
		if v != none && v < base {
			return Age
		}
	case !pending && c.missing(s, log, base, k):
		return Checkpoint
	}
	if b := s.debt[k]; b != 0 && !c.inRepair(s, k) && !s.pendingIn(c, log, k, b-1) {
		return Debt
	}
	return 0
}

// inRepair says whether k's chunk waits to be emptied or copied again.
func (c *Config) inRepair(s *state, k int) bool {
	for i, keys := range c.Chunks {
		if keys>>k&1 != 0 && (s.fix|s.again)>>i&1 != 0 {
			return true
		}
	}
	return false
}

// none is "no version".
const none = -2

// version is the log entry that wrote image x of key k, -1 for the initial one.
func (s *state) version(c *Config, k int, x img) int {
	if c.scope(x) == 0 {
		return none
	}
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
func (c *Config) missing(s *state, log *[maxLog]change, base, k int) bool {
	x := c.scope(s.init[k])
	if base >= 0 {
		x = 0
		if int(log[base].to) == k {
			x = log[base].x
		}
	}
	if x == 0 {
		return false
	}
	executed := base >= 0 && s.pre>>base&1 == 0 && !c.on[DropAhead] && !c.inRepair(s, k)
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
func (s *state) pendingIn(c *Config, log *[maxLog]change, k int, bound uint8) bool {
	from := s.m
	if s.up == 0 {
		from = s.p(c)
	}
	if s.bEnd != 0 && s.lane[c.laneOf(k)] == laneDone {
		from = s.bEnd
	}
	for i := from; i < min(bound, s.n); i++ {
		if log[i].touch&^(s.wait[i]>>waitLeave)>>k&1 != 0 && s.done>>i&1 == 0 {
			return true
		}
	}
	return false
}
