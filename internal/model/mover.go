package model

// crash kills the mover: what it held in memory is gone. A transaction whose
// COMMIT was sent may still land.
func (m *machine) crash() {
	s := m.s
	if int(s.crashes) >= m.cfg.Crashes {
		return
	}
	t := m.do(actCrash, 0, 0)
	t.crashes++
	t.up = 0
	t.dlv, t.m, t.bEnd, t.floor = 0, 0, 0, 0
	t.wait = [maxLog]uint8{}
	t.ch = [maxChunks]chunk{}
	t.lane = [maxLanes]uint8{}
	switch s.z.state {
	case txnFlying:
		t.z.state = txnOrphan
	default:
		t.z = txn{}
	}
}

// resume takes the checkpoint rows under lock, which waits for any transaction
// of the dead mover, raises the epoch, sets every lane to the least position
// and starts the stream there.
func (m *machine) resume() {
	s, c := m.s, m.cfg
	if s.z.state == txnOrphan && !c.mut[NoFence] {
		return
	}
	t := m.do(actResume, 0, 0)
	t.up = 1
	t.epoch++
	p := s.p(c.Lanes)
	t.dlv, t.m, t.floor = p, p, p
	for l := range c.Lanes {
		t.floor = max(t.floor, s.pos[l])
		t.pos[l] = p
	}
	t.skipPre()
}

// cutover blocks the writes, reads the stop position, drains, and is done.
func (m *machine) cutover() {
	s, c := m.s, m.cfg
	if !c.on[Cutover] {
		return
	}
	switch s.cut {
	case cutRunning:
		if c.mut[StopBeforeBlock] {
			t := m.do(actReadE, s.n, 0)
			t.cut, t.e = cutE, s.n
		} else if m.copied() {
			m.do(actBlock, 0, 0).cut = cutBlocked
		}
	case cutBlocked:
		t := m.do(actReadE, s.n, 0)
		t.cut, t.e = cutE, s.n
	case cutE:
		if s.m < s.e || s.bEnd != 0 || !m.copied() {
			return
		}
		t := m.do(actDone, 0, 0)
		t.halt = haltDone
		if s.debt != [maxKeys]uint8{} {
			t.halt = haltAlarm
		}
	}
}

// copied says whether every chunk is finished and its gate closed.
func (m *machine) copied() bool {
	for i := range m.cfg.Chunks {
		if m.s.marks>>i&1 == 0 || m.s.ch[i].pc != chIdle {
			return false
		}
	}
	return true
}

// quiet says whether everything that was written has arrived and nothing is
// under way.
func (s *state) quiet(c *Config) bool {
	if s.up == 0 || s.src != srcStarted|srcPlanned || s.z.state != txnNone ||
		s.vis != span(0, s.n) || s.m != s.n || s.bEnd != 0 {
		return false
	}
	for i := range c.Chunks {
		if s.marks>>i&1 == 0 || s.ch[i].pc != chIdle {
			return false
		}
	}
	return true
}
