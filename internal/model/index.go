package model

// A unique index may be created when the rows are copied: the table goes over
// to two phases first, at a batch boundary, when nothing on the target can be
// newer than the applied position any more.

// goTwoPhase goes over to two phases.
func (m *machine) goTwoPhase() {
	s, c := m.s, m.cfg
	if !c.on[DeferredIndex] || s.two != 0 || !m.copied() || m.capture != nil {
		return
	}
	for i := range c.Chunks {
		if s.m < s.ends[i] && !c.mut[IndexTooEarly] {
			return
		}
	}
	if s.m < s.floor && !c.mut[IndexInRecovery] {
		return
	}
	m.do(actTwoPhase, 0, 0).two = 1
}

// indexBuild starts the ALTER and, whatever becomes of the mover, ends it.
func (m *machine) indexBuild() {
	s, c := m.s, m.cfg
	switch {
	case !c.on[DeferredIndex]:
	case s.index == indexBuilding:
		m.do(actIndexDone, 0, 0).index = indexPresent
	case s.index == indexAbsent && s.up != 0 && m.copied() && m.mayBuild():
		t := m.do(actIndexBegin, 0, 0)
		t.index = indexBuilding
		if t.duplicates() {
			t.halt = haltDuplicate
		}
	}
}

// mayBuild says whether the table is ready for the ALTER. A table that went over
// to two phases before a crash must first be past what was executed then.
func (m *machine) mayBuild() bool {
	s, c := m.s, m.cfg
	switch {
	case c.mut[IndexInOnePhase]:
		for i := range c.Chunks {
			if s.m < s.ends[i] {
				return false
			}
		}
		return s.m >= s.floor
	case s.two == 0:
		return false
	}
	return s.m >= s.floor || c.mut[IndexInRecovery]
}
