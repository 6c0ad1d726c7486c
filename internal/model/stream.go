package model

// deliver hands the next transaction, or with Parts the next change, from the
// streamer to the applier. Its wait-list is fixed here: the gates that are open
// now and may contain its old or new key.
func (m *machine) deliver() {
	s, c := m.s, m.cfg
	if s.dlv >= s.n {
		return
	}
	end := s.txnEnd(s.dlv)
	if c.on[Parts] {
		end = s.dlv + 1
	}
	t := m.do(actDeliver, s.dlv, end)
	for i := s.dlv; i < end; i++ {
		t.wait[i] = m.gatesOf(s.log[i])
	}
	t.dlv = end
	t.skipPre()
}

// gatesOf is the wait-list of a change delivered now.
func (m *machine) gatesOf(e event) (gates uint8) {
	s, c := m.s, m.cfg
	keys := e.touches()
	switch {
	case c.mut[NoGate]:
		return 0
	case c.mut[GateNewKeyOnly]:
		if keys = 0; e.new() != noKey {
			keys = 1 << e.new()
		}
	}
	for i, in := range c.Chunks {
		if s.ch[i].pc >= chOpen && in&span(0, s.planMax)&keys != 0 {
			gates |= 1 << i
		}
	}
	return gates
}
