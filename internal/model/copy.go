package model

// A chunk is copied in these steps: open the gate, pass the barrier, read,
// insert what is absent and commit it with the chunk's mark, close the gate.

// chunkKeys are the keys that chunk i covers.
func (m *machine) chunkKeys(i int) uint8 {
	keys := m.cfg.Chunks[i] & span(0, m.s.planMax)
	if m.cfg.mut[SkipLowest] {
		keys &^= 1
	}
	return keys
}

// copiers steps every chunk.
func (m *machine) copiers() {
	s, c := m.s, m.cfg
	busy := 0
	for i := range c.Chunks {
		if s.ch[i].pc != chIdle {
			busy++
		}
	}
	online := s.src&srcMoved == 0
	m.empty()
	for i := range c.Chunks {
		switch pc := s.ch[i].pc; {
		case pc == chIdle && s.marks>>i&1 == 0 && busy < c.Workers && online && s.mutex == 0:
			m.open(i)
		case pc == chNoted:
			m.do(actRegister, uint8(i), 0).ch[i].pc = chOpen
		case pc == chOpen && online:
			m.barrier(i)
		case pc == chBarrier && online:
			m.read(i)
		case pc == chRead && c.on[Watermark]:
			m.place(i)
		case pc == chRead:
			m.write(i)
		case pc == chExecuted:
			m.commitChunk(i)
		case pc == chUnknown:
			m.resolveChunk(i)
		case pc == chWritten && s.mutex == 0:
			m.written(i)
		}
		m.replan(i)
		m.loseLocks(i)
	}
}

// empty deletes the rows of a chunk whose read saw what the source has lost.
// All such chunks are emptied before anything else is written: a row that never
// was would hold its unique value against rows that are.
func (m *machine) empty() {
	for i := range m.cfg.Chunks {
		if m.s.fix>>i&1 != 0 {
			t := m.do(actEmpty, uint8(i), 0)
			x := m.s.exec(m.cfg, opDelete, m.chunkKeys(i), 0, rows{})
			t.write(&x)
			t.fix &^= 1 << i
			t.again |= 1 << i
		}
	}
}

// open notes the delivered position and registers the gate in one step. Before
// this mover, too, something may have been executed.
func (m *machine) open(i int) {
	s, c := m.s, m.cfg
	t := m.do(actOpen, uint8(i), 0)
	t.ch[i] = chunk{pc: chOpen, d: max(s.dlv, s.floor)}
	if c.mut[FloorAtResume] {
		t.ch[i].d = s.dlv
	}
	if c.mut[RacyOpen] {
		t.ch[i].pc = chNoted
	}
	if c.mut[OldSnapshot] {
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
	if c.mut[BarrierForgets] {
		waits &^= span(0, s.from)
	}
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
		if c.mut[PredicateUnlocked] {
			r := s.visible()
			for k := range c.Keys {
				if c.scope(r[k]) == 0 {
					t.ch[i].todo &^= 1 << k
				}
			}
		}
	}
}

// read fills the buffer: one consistent read, or key by key under row locks.
func (m *machine) read(i int) {
	s, c := m.s, m.cfg
	if c.on[LockingRead] {
		m.readKey(i)
		return
	}
	t := m.do(actRead, uint8(i), 0)
	if !c.mut[OldSnapshot] {
		t.ch[i].buf = m.rowsOf(i)
	}
	if c.mut[UnorderedPage] {
		// The first page, not in key order, ends with the highest key.
		for k := range c.Keys - 1 {
			t.ch[i].buf[k] = 0
		}
	}
	t.ch[i].pc, t.ch[i].h = chRead, s.n
	m.early(t, i)
}

// readKey locks and reads the next key: it waits for whoever changes the row.
// The locks go when the last key is read, or stay when there is no gate.
func (m *machine) readKey(i int) {
	s, c := m.s, m.cfg
	keys, _ := m.locked()
	keys &^= m.sharedLocks()
	r := s.visible()
	if s.ch[i].todo == 0 {
		m.do(actRead, uint8(i), 0).ch[i].pc = chRead
		return
	}
	for k := range c.Keys {
		bit := uint8(1) << k
		if s.ch[i].todo&bit == 0 {
			continue
		}
		held := keys&bit != 0
		if held && !c.mut[SkipLocked] && !c.mut[SecondaryIndexRead] && !c.mut[PlainRead] {
			return
		}
		t := m.do(actReadKey, uint8(i), uint8(k))
		ch := &t.ch[i]
		if held && c.mut[SkipLocked] {
			r[k] = 0
		}
		ch.buf[k] = c.scope(r[k])
		if c.mut[PredicateUnlocked] {
			ch.buf[k] = r[k]
		}
		ch.todo &^= bit
		if ch.buf[k] != 0 && !c.mut[PlainRead] {
			ch.locks |= bit
		}
		if ch.todo == 0 {
			ch.pc, ch.h = chRead, s.n
			if !c.on[LockedCopy] {
				ch.locks = 0
			}
			m.early(t, i)
		}
		return
	}
}

// early is for the mutant that saves the cursor before the rows.
func (m *machine) early(t *state, i int) {
	if m.cfg.mut[MarkBeforeRows] {
		t.marks |= 1 << i
	}
}

// rowsOf is what a plain read of chunk i sees.
func (m *machine) rowsOf(i int) rows {
	r := m.s.visible()
	for k := range r {
		if r[k] = m.cfg.scope(r[k]); m.chunkKeys(i)>>k&1 == 0 {
			r[k] = 0
		}
	}
	return r
}

// chunkTxn is the transaction that writes chunk i.
func (m *machine) chunkTxn(i int) txn {
	s := m.s
	x := s.exec(m.cfg, opInsert, m.chunkKeys(i), 0, s.ch[i].buf)
	x.owner, x.pos = uint8(maxLanes+i), s.ch[i].h
	return x
}

// write inserts the rows that are absent, with the chunk's mark in the same
// transaction.
func (m *machine) write(i int) {
	if m.s.fix != 0 && !m.cfg.mut[ApplyBeforeRepair] {
		return
	}
	x := m.chunkTxn(i)
	if m.blocked(&x) {
		return
	}
	if m.capture != nil {
		*m.capture = append(*m.capture, x)
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
	if t.commit(m.cfg, &x); t.halt != runs {
		return
	}
	m.close(t, i)
	m.loseCommit(&x, func(t *state) { t.ch[i].pc = chUnknown })
}

// close goes on to the gate of chunk i, whose rows are on the target.
func (m *machine) close(t *state, i int) {
	t.ch[i] = chunk{pc: chWritten, locks: t.ch[i].locks, lost: t.ch[i].lost}
	if m.cfg.Coarse && !m.cfg.on[SmallQueue] && !m.cfg.mut[PingAfterCommit] { // the mutant does something between
		t.closeGate(i)
	}
}

// written closes the gate. The mutant looks only now whether the locks held.
func (m *machine) written(i int) {
	if m.cfg.mut[PingAfterCommit] && m.s.ch[i].lost != 0 {
		t := m.do(actRepair, uint8(i), 0)
		t.marks &^= 1 << i
		t.fix |= 1 << i
		t.closeGate(i)
		return
	}
	t := m.do(actClose, uint8(i), 0)
	t.closeGate(i)
	if m.cfg.mut[PingAfterCommit] {
		t.marks |= 1 << i
	}
}

// commitChunk sends the COMMIT of an executed chunk. Without a gate it first
// asks whether the reading transaction is alive: it was then when the rows were
// inserted. If it is not, the rows are rolled back and read again.
func (m *machine) commitChunk(i int) {
	c := m.cfg
	if m.s.ch[i].lost != 0 && !c.mut[NoPing] && !c.mut[PingAfterCommit] {
		t := m.do(actPingDead, uint8(i), 0)
		t.z = txn{}
		t.closeGate(i)
		return
	}
	t := m.do(actWrite, uint8(i), 0)
	x := t.z
	t.z = txn{}
	t.commit(c, &x)
	if c.mut[PingAfterCommit] {
		t.marks &^= 1 << i // the mark comes after the ping
	}
	m.close(t, i)
	m.loseCommit(&x, func(t *state) { t.ch[i].pc = chUnknown })
}

// loseLocks kills the reading transaction without anybody noticing.
func (m *machine) loseLocks(i int) {
	ch := &m.s.ch[i]
	if m.cfg.on[LostLocks] && ch.locks != 0 && ch.pc <= chExecuted && m.fault() {
		t := m.do(actLoseLocks, uint8(i), 0)
		t.faults++
		t.ch[i].locks, t.ch[i].lost = 0, 1
		if ch.pc == chBarrier {
			t.closeGate(i) // the read fails: this one is noticed
		}
	}
}

// resolveChunk finds out, on a new connection and once the lost session is
// proven dead, whether the chunk's mark is there.
func (m *machine) resolveChunk(i int) {
	s, c := m.s, m.cfg
	switch {
	case s.z.state == txnCommitted:
		t := m.do(actResolve, uint8(maxLanes+i), 1)
		t.z = txn{}
		m.close(t, i)
	case s.z.state == txnRolledBack:
		// Either the chunk is read again later, or its rows are written again
		// under the same gate.
		t := m.do(actResolve, uint8(maxLanes+i), 0)
		t.z = txn{}
		t.closeGate(i)
		if c.mut[StaleRetry] {
			t.ch[i] = s.ch[i]
			t.ch[i].pc = chRead
		}
		u := m.do(actRewrite, uint8(maxLanes+i), 0)
		u.z = txn{}
		u.ch[i].pc = chRead
	case c.mut[CloseUnproven]:
		t := m.do(actResolve, uint8(maxLanes+i), 0)
		t.z.state = txnOrphan
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
	if m.cfg.on[Replans] && pc >= chOpen && pc <= chRead && m.fault() && m.s.mutex == 0 {
		t := m.do(actReplan, uint8(i), 0)
		t.faults++
		t.closeGate(i)
	}
}

// fault says whether one more thing may go wrong.
func (m *machine) fault() bool { return int(m.s.faults) < m.cfg.Faults }

// place is the watermark mode's write: when the applier stands between batches
// past the log end after the read, the rows that no change after d has touched.
func (m *machine) place(i int) {
	s, c := m.s, m.cfg
	h := s.ch[i].h
	if c.mut[WatermarkByArrival] {
		h = s.ch[i].d
	}
	if s.bEnd != 0 || s.m < h {
		return
	}
	keys := m.chunkKeys(i)
	for j := s.ch[i].d; j < s.m; j++ {
		keys &^= s.log[j].touches()
	}
	x := s.exec(c, opInsert, keys, 0, s.ch[i].buf)
	x.owner, x.pos = uint8(maxLanes+i), s.ch[i].h
	exact := s.m >= s.floor
	for k := range c.Keys {
		// A change up to d may have brought the row already: the same one, then.
		if y := s.ch[i].buf[k]; exact && keys>>k&1 != 0 && y != 0 && x.rows[k] != y {
			x.fail = haltDuplicate
		}
	}
	t := m.do(actPlace, uint8(i), keys)
	t.commit(c, &x)
	m.close(t, i)
}
