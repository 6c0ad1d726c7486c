package model

// start fixes the start position, then the end of the plan.
func (m *machine) start() {
	s, c := m.s, m.cfg
	first, second := m.startStream, m.planEnd
	if c.mut[PlanBeforeStart] {
		first, second = second, first
	}
	switch {
	case s.src&(srcStarted|srcPlanned) == 0:
		first()
	case !s.ready():
		second()
	}
}

// startStream begins at what is committed. Without GTIDs it begins at the end
// of the log, and every read has to wait for the locks of what is in flight.
func (m *machine) startStream() {
	s, c := m.s, m.cfg
	t := m.do(actStart, 0, 0)
	t.src |= srcStarted
	t.pre = s.vis
	if c.on[LockingRead] || c.mut[StartAtLogEnd] {
		t.pre = span(0, s.n)
	}
	if c.mut[WritesSource] {
		r := s.rowsAt(s.n)
		for k, x := range r {
			if x != 0 {
				t.append(event{uint8(k) | noKey<<2 | evEnd | evMover, 0})
				break
			}
		}
	}
	t.skipPre()
}

// planEnd reads the highest key: plainly when a stream that began at what is
// committed brings later rows, else under locks. It waits for XA transactions
// that were prepared before the start: their commits carry no rows.
func (m *machine) planEnd() {
	s, c := m.s, m.cfg
	r := s.visible()
	if c.on[LockingRead] && !c.mut[PlainMax] {
		if keys, _ := m.locked(); keys != 0 {
			return
		}
	}
	if at := s.prepared(s.n); at != noEntry && s.pre>>at&1 != 0 && !c.mut[XAForgotten] {
		return
	}
	t := m.do(actPlan, 0, 0)
	t.src |= srcPlanned
	t.planMax = 0
	for k := range c.Keys {
		if r[k] != 0 {
			t.planMax = uint8(k) + 1
		}
	}
	for i := range c.Chunks {
		if c.Chunks[i]&span(0, t.planMax) == 0 {
			t.marks |= 1 << i
		}
	}
}

// skipPre passes log entries that the start position includes.
func (s *state) skipPre() {
	for s.dlv < s.n && s.pre>>s.dlv&1 != 0 {
		s.dlv++
	}
	for s.bEnd == 0 && s.m < s.dlv && (s.pre|s.done)>>s.m&1 != 0 {
		s.m++
	}
}

// deliver hands the next transaction, or with Parts the next change, from the
// streamer to the applier. Its wait-list is fixed here: the gates that are open
// now and may contain its old or new key.
func (m *machine) deliver() {
	s, c := m.s, m.cfg
	if s.dlv >= s.n {
		return
	}
	if c.on[SmallQueue] && s.dlv > s.m {
		if c.mut[MutexBeforeSpace] && s.mutex == 0 {
			m.do(actMutex, 0, 0).mutex = 1
		}
		return
	}
	end := s.txnEnd(s.dlv)
	if c.on[Parts] {
		end = s.dlv + 1
	}
	t := m.do(actDeliver, s.dlv, end)
	t.mutex = 0
	if s.log[s.dlv].a&evXA != 0 && m.unknownXA() {
		if !c.mut[XAForgotten] {
			t.halt = haltRefused
			return
		}
		for i := s.dlv; i < end; i++ {
			t.log[i].a |= evHidden
		}
	}
	for i := s.dlv; i < end; i++ {
		t.wait[i] = m.gatesOf(i)
		if c.on[DropAhead] && (c.on[OnePhase] || c.mut[UniqueDropped]) {
			t.wait[i] |= m.ahead(i) << waitLeave
		}
	}
	t.dlv = end
	t.skipPre()
}

// unknownXA says whether the rows of the XA COMMIT to be delivered next were
// logged before this stream began.
func (m *machine) unknownXA() bool {
	at := m.s.prepared(m.s.dlv)
	return at == noEntry || m.s.pre>>at&1 != 0 || at < m.s.from
}

// ahead are the keys of entry i that no copier has begun to copy: the barrier of
// their chunk will put the change into the read. Keys past the plan's end are
// nobody's: they come by the stream.
func (m *machine) ahead(i uint8) (keys uint8) {
	for j := range m.cfg.Chunks {
		if m.s.ch[j].pc == chIdle && m.s.marks>>j&1 == 0 {
			keys |= m.chunkKeys(j)
		}
	}
	return keys & m.s.log[i].touches()
}

// gatesOf is the wait-list of entry i, delivered now. A key that cannot be
// compared may lie in every chunk.
func (m *machine) gatesOf(i uint8) (gates uint8) {
	s, c := m.s, m.cfg
	e := s.log[i]
	keys := e.touches()
	switch {
	case c.mut[NoGate], c.on[LockedCopy], c.on[Watermark]:
		return 0
	case c.mut[GateNewKeyOnly]:
		if keys = 0; e.new() != noKey {
			keys = 1 << e.new()
		}
	case c.mut[CollatedByBytes]:
		if old := e.old(); e.x.variant() || old != noKey && s.rowsAt(i)[old].variant() {
			return 0 // upper case sorts outside the chunk
		}
	case c.on[Collated] && keys != 0:
		keys = 0xff
	}
	for j := range c.Chunks {
		if s.ch[j].pc >= chOpen && m.chunkKeys(j)&keys != 0 {
			gates |= 1 << j
		}
	}
	return gates
}
