package model

// crash kills the mover: what it held in memory is gone. A transaction whose
// COMMIT was sent may still land.
func (m *machine) crash() {
	if int(m.s.crashes) < m.cfg.Crashes && m.s.ready() {
		m.do(actCrash, 0, 0).die()
	}
}

// die drops everything volatile.
func (s *state) die() {
	s.crashes++
	s.up = 0
	s.dlv, s.m, s.bEnd, s.upd, s.floor, s.from, s.done, s.mutex = 0, 0, 0, 0, 0, 0, 0, 0
	s.wait = [maxLog]uint8{}
	s.ch = [maxChunks]chunk{}
	s.lane = [maxLanes]uint8{}
	s.ver = verifier{}
	switch s.z.state {
	case txnFlying:
		s.z.state = txnOrphan
	case txnStale:
	default:
		s.z = txn{}
	}
}

// takeover stops the mover just before it sends a transaction, for long enough
// that another one takes its place.
func (m *machine) takeover() {
	s, c := m.s, m.cfg
	if !c.on[SecondMover] || int(s.crashes) >= c.Crashes || s.z.state != txnNone || !s.ready() {
		return
	}
	var sent []txn
	m.capture = &sent
	m.applier()
	for i := range c.Chunks {
		if s.ch[i].pc == chRead {
			m.write(i)
		}
	}
	m.capture = nil
	for _, x := range sent {
		t := m.do(actStop, x.owner, x.keys)
		t.die()
		t.z = x
		t.z.state = txnStale
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
	t.epoch++
	if s.src&srcMoved != 0 {
		executed := max(s.intent, s.p(c))
		if c.mut[IntentUnchecked] {
			executed = s.p(c)
		}
		t.noticed(c, executed, s.p(c))
	}
	t.begin(c)
}

// begin starts a mover from the checkpoint rows.
func (s *state) begin(c *Config) {
	s.up = 1
	p := s.p(c)
	s.dlv, s.m, s.from, s.floor = p, p, p, max(p, s.intent)
	if c.mut[PositionInTransaction] && p > s.lastEnd(p) {
		// The stream begins at a transaction: the rest of this one is not sent.
		s.dlv = s.txnEnd(p)
		s.m, s.from = s.dlv, s.dlv
	}
	if !c.mut[SkipDoneLanes] && !c.mut[SkipDoneChanges] {
		for l := range c.Lanes {
			s.pos[l] = p
		}
	}
	s.skipPre()
}

// targetCrash lets the target save what it has, and fall back to that. The
// mover finds its connections dead and the lane rows gone back, and resumes.
func (m *machine) targetCrash() {
	s, c := m.s, m.cfg
	if !c.on[TargetCrash] || !s.ready() {
		return
	}
	if s.onDisk == 0 {
		t := m.do(actSave, 0, 0)
		t.disk, t.onDisk = s.durable, 1
	} else if int(s.crashes) < c.Crashes {
		t := m.do(actTargetCrash, 0, 0)
		pos, marks := t.pos, t.marks
		t.durable, t.disk = s.disk, durable{}
		if c.mut[CheckpointElsewhere] {
			t.pos, t.marks = pos, marks
		}
		if c.mut[NoLaneCheck] {
			t.crashes++
			return
		}
		t.die()
	}
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
		} else if m.copied() && s.xaN == 0 && s.rolling == 0 {
			m.do(actBlock, 0, 0).cut = cutBlocked
		}
	case cutBlocked:
		t := m.do(actReadE, s.n, 0)
		t.cut, t.e = cutE, s.n
	case cutE:
		if s.m < s.e || s.bEnd != 0 || !m.copied() || !m.verified() || s.src&srcMoved != 0 ||
			c.on[DeferredIndex] && s.index != indexPresent {
			return
		}
		t := m.do(actDone, 0, 0)
		switch {
		case s.n > s.e && !c.mut[StopBeforeBlock] && !c.mut[NoTailGuard]:
			t.halt = haltLateWrite
		case s.debt != [maxKeys]uint8{}:
			t.halt = haltLedger
		default:
			t.halt = haltDone
		}
	}
}

// verified says whether every key was verified since its last change.
func (m *machine) verified() bool {
	if !m.cfg.on[Verify] || m.cfg.mut[NoFinalVerify] {
		return true
	}
	for k := range m.cfg.Keys {
		if !m.claimed(k) {
			return false
		}
	}
	return true
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
	m := machine{cfg: c, s: s}
	return s.up != 0 && s.ready() && s.src&srcMoved == 0 && s.xaN == 0 && s.rolling == 0 &&
		s.z.state == txnNone && s.vis == span(0, s.n) && s.m >= s.n && s.bEnd == 0 && m.copied() &&
		(!c.on[DeferredIndex] || s.index == indexPresent)
}
