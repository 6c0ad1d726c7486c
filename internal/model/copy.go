package model

// A chunk is copied in these steps: open the gate, pass the barrier, read,
// insert what is absent and commit it with the chunk's mark, close the gate.

// chunkKeys are the keys that chunk i covers.
func (m *machine) chunkKeys(i int) uint8 {
	return m.cfg.Chunks[i] & span(0, m.s.planMax)
}

// copiers steps every chunk.
func (m *machine) copiers() {
	busy := 0
	for i := range m.cfg.Chunks {
		if m.s.ch[i].pc != chIdle {
			busy++
		}
	}
	for i := range m.cfg.Chunks {
		switch m.s.ch[i].pc {
		case chIdle:
			if m.s.marks>>i&1 == 0 && busy < m.cfg.Workers {
				m.open(i)
			}
		case chNoted:
			m.do(actRegister, uint8(i), 0).ch[i].pc = chOpen
		case chOpen:
			m.barrier(i)
		case chBarrier:
			m.read(i)
		case chRead:
			m.write(i)
		case chExecuted:
			m.commitChunk(i)
		case chUnknown:
			m.resolveChunk(i)
		case chWritten:
			m.do(actClose, uint8(i), 0).closeGate(i)
		}
		m.replan(i)
	}
}

// open notes the delivered position and registers the gate in one step.
func (m *machine) open(i int) {
	t := m.do(actOpen, uint8(i), 0)
	t.ch[i] = chunk{pc: chOpen, d: max(m.s.dlv, m.s.floor)}
	if m.cfg.mut[RacyOpen] {
		t.ch[i].pc = chNoted
	}
	if m.cfg.mut[OldSnapshot] {
		t.ch[i].buf = m.rowsOf(i)
	}
}

// barrier waits until everything that was delivered when the gate opened is
// visible. The first change of a transaction counts as the transaction.
func (m *machine) barrier(i int) {
	s, c := m.s, m.cfg
	d := s.ch[i].d
	if c.mut[PartsDoNotCount] {
		d = s.lastEnd(d)
	}
	waits := span(0, d) &^ s.vis
	if waits != 0 && !c.on[LockingRead] && !c.mut[NoBarrier] {
		return
	}
	if c.Coarse && !c.on[LockingRead] {
		m.read(i)
		return
	}
	t := m.do(actBarrier, uint8(i), d)
	t.ch[i].pc = chBarrier
	if c.on[LockingRead] {
		t.ch[i].todo = m.chunkKeys(i)
	}
}

// read fills the buffer: one consistent read, or key by key under row locks
// that are dropped when the last key is read.
func (m *machine) read(i int) {
	s := m.s
	if !m.cfg.on[LockingRead] {
		t := m.do(actRead, uint8(i), 0)
		if !m.cfg.mut[OldSnapshot] {
			t.ch[i].buf = m.rowsOf(i)
		}
		t.ch[i].pc, t.ch[i].h = chRead, s.n
		return
	}
	keys, _ := m.locked()
	for k := range m.cfg.Keys {
		bit := uint8(1) << k
		if s.ch[i].todo&bit == 0 {
			continue
		}
		if keys&^m.sharedLocks()&bit != 0 {
			return // in key order: it waits for this row
		}
		t := m.do(actReadKey, uint8(i), uint8(k))
		ch := &t.ch[i]
		ch.buf[k] = s.visible()[k]
		ch.todo &^= bit
		if ch.buf[k] != 0 {
			ch.locks |= bit
		}
		if ch.todo == 0 {
			ch.pc, ch.h, ch.locks = chRead, s.n, 0
		}
		return
	}
}

// sharedLocks are the source rows that copiers hold.
func (m *machine) sharedLocks() (keys uint8) {
	for i := range m.cfg.Chunks {
		keys |= m.s.ch[i].locks
	}
	return keys
}

// rowsOf is what a plain read of chunk i sees.
func (m *machine) rowsOf(i int) rows {
	r := m.s.visible()
	for k := range r {
		if m.chunkKeys(i)>>k&1 == 0 {
			r[k] = 0
		}
	}
	return r
}

// write inserts the rows that are absent, with the chunk's mark in the same
// transaction.
func (m *machine) write(i int) {
	x := m.s.insertAbsent(m.cfg, m.s.ch[i].buf, m.chunkKeys(i))
	x.owner, x.pos = uint8(maxLanes+i), m.s.ch[i].h
	if m.blocked(&x) {
		return
	}
	if m.cfg.on[SplitWrite] {
		if m.s.z.state == txnNone {
			t := m.do(actExecute, uint8(i), 0)
			x.state = txnOpen
			t.z, t.ch[i].pc = x, chExecuted
		}
		return
	}
	t := m.do(actWrite, uint8(i), 0)
	t.commit(m.cfg, &x)
	m.written(t, i)
	m.loseCommit(&x, func(t *state) { t.ch[i].pc = chUnknown })
}

// written forgets the rows of chunk i: they are on the target.
func (m *machine) written(t *state, i int) {
	t.ch[i] = chunk{pc: chWritten}
	if m.cfg.Coarse {
		t.closeGate(i)
	}
}

// commitChunk sends the COMMIT of an executed chunk.
func (m *machine) commitChunk(i int) {
	t := m.do(actWrite, uint8(i), 0)
	x := t.z
	t.z = txn{}
	t.commit(m.cfg, &x)
	m.written(t, i)
}

// resolveChunk finds out, on a new connection and once the lost session is
// proven dead, whether the chunk's mark is there.
func (m *machine) resolveChunk(i int) {
	switch m.s.z.state {
	case txnCommitted:
		t := m.do(actResolve, uint8(maxLanes+i), 1)
		t.z = txn{}
		m.written(t, i)
	case txnRolledBack:
		t := m.do(actResolve, uint8(maxLanes+i), 0)
		t.z = txn{}
		t.closeGate(i)
	}
}

// closeGate lets the changes that wait for chunk i go on.
func (s *state) closeGate(i int) {
	s.ch[i] = chunk{}
	for j := range s.wait {
		s.wait[j] &^= 1 << i
	}
}

// replan closes a chunk past its time bound before anything of it was sent.
func (m *machine) replan(i int) {
	pc := m.s.ch[i].pc
	if m.cfg.on[Replans] && pc >= chOpen && pc <= chRead && m.fault() {
		t := m.do(actReplan, uint8(i), 0)
		t.faults++
		t.closeGate(i)
	}
}

// fault says whether one more thing may go wrong.
func (m *machine) fault() bool { return int(m.s.faults) < m.cfg.Faults }
