package model

// The verifier compares one key at a time, all along. It notes what is
// delivered, reads the source behind a barrier, notes the log end, waits until
// the applier has passed it, reads the target. If no change of the key was
// delivered since the beginning and the key was not skipped, the two images belong
// to one position: equal means verified there, different means lost. Otherwise it
// looks again.

const (
	verIdle = iota
	verNoted
	verSource // source read
	verTarget // mutant: target read, source to be read once more
)

func (m *machine) verify() {
	s, c := m.s, m.cfg
	if !c.on[Verify] || s.src&srcMoved != 0 {
		return
	}
	v := &s.ver
	switch v.pc {
	case verIdle:
		for k := range c.Keys {
			if c.covered(s, k) && !m.claimed(k) {
				t := m.do(actVerify, uint8(k), 0)
				t.ver.pc, t.ver.key, t.ver.d = verNoted, uint8(k), s.dlv
			}
		}
	case verNoted:
		if span(0, max(v.d, s.floor))&^s.vis != 0 && !c.mut[VerifyPlain] {
			return
		}
		t := m.do(actVerifySource, v.key, 0)
		t.ver.pc, t.ver.x, t.ver.h = verSource, c.scope(s.visible()[v.key]), s.n
	case verSource:
		if s.m < v.h || s.m < s.floor {
			return
		}
		m.verifyTarget()
	case verTarget:
		again := c.scope(s.visible()[v.key])
		t := m.do(actVerifyAgain, v.key, 0)
		t.ver = verifier{claim: v.claim}
		if again.unique() == v.x.unique() && (again == 0) == (v.x == 0) {
			t.report(c)
		}
	}
}

// claimed says whether k was verified and has not changed since, as far as was
// delivered.
func (m *machine) claimed(k int) bool {
	at := m.s.ver.claim[k]
	return at != 0 && !m.s.touchedIn(k, at-1, m.s.dlv)
}

// touchedIn says whether an entry in (from, to] changes k.
func (s *state) touchedIn(k int, from, to uint8) bool {
	for i := from; i < to; i++ {
		if s.log[i].touches()>>k&1 != 0 {
			return true
		}
	}
	return false
}

// verifyTarget reads the target and judges.
func (m *machine) verifyTarget() {
	s, c := m.s, m.cfg
	v := s.ver
	k := int(v.key)
	y := s.t[k]
	t := m.do(actVerifyTarget, v.key, 0)
	if c.mut[VerifyTwoReads] {
		// Images are compared by their values: a row may come back to an old one.
		t.ver.pc, t.ver.y = verTarget, y
		if y.unique() == v.x.unique() && (y == 0) == (v.x == 0) {
			t.ver = verifier{claim: v.claim}
		}
		return
	}
	t.ver = verifier{claim: v.claim}
	at := s.dlv
	if c.mut[VerifyClaimsLate] {
		at = s.n
	}
	owed := s.debt[k] != 0 && !c.mut[VerifyOwed]
	switch touched := s.touchedIn(k, v.d, s.dlv); {
	case touched || owed:
	case y == v.x:
		t.ver.claim[k] = at + 1
		if c.scope(s.rowsAt(at)[k]) != v.x {
			t.ghost |= ghostClaim
		}
	default:
		t.report(c)
	}
}

// report is the verifier saying that the key is different. It is wrong when the
// engine was to write the key yet, or had.
func (s *state) report(c *Config) {
	s.halt = haltMismatch
	if !c.corrupt() {
		s.ghost |= ghostClaim
	}
}

// corrupt says whether the configuration loses rows on purpose, so that reports
// may be true.
func (c *Config) corrupt() bool { return len(c.Only) > 0 }
