package model

// machine produces the successors of a state.
type machine struct {
	cfg *Config
	s   *state
	out []succ
}

// succ is a step and the state after it.
type succ struct {
	act action
	to  state
}

// do adds a successor that looks like s and returns it to be changed.
func (m *machine) do(kind actionKind, a, b uint8) *state {
	m.out = append(m.out, succ{action{kind, a, b}, *m.s})
	return &m.out[len(m.out)-1].to
}

// next fills m.out with the successors of s.
func (m *machine) next(s *state) {
	m.s, m.out = s, m.out[:0]
	if s.halt != runs {
		return
	}
	if s.up == 0 {
		m.resume()
		m.lands()
		return
	}
	m.application()
	m.engineCommits()
	m.start()
	if s.src == srcStarted|srcPlanned {
		m.deliver()
		m.copiers()
		m.applier()
		m.cutover()
	}
	m.lands()
	m.crash()
}

// locked are the keys and unique values that a writer would have to wait for:
// those of transactions flushed and not engine-committed, and rows that a
// copier's reading transaction holds.
func (m *machine) locked() (keys, values uint8) {
	s := m.s
	r := s.init
	for i := range s.n {
		e := s.log[i]
		if s.vis>>i&1 == 0 {
			keys |= e.touches()
			if k := e.old(); k != noKey {
				values |= 1 << r[k].unique()
			}
			values |= 1 << e.x.unique()
		}
		e.apply(&r)
	}
	for c := range m.cfg.Chunks {
		keys |= s.ch[c].locks
	}
	return keys, values &^ 1
}

// application flushes a transaction of up to TxnMax changes.
func (m *machine) application() {
	s, c := m.s, m.cfg
	blocked := s.cut != cutRunning && !(s.cut == cutE && c.mut[StopBeforeBlock])
	if int(s.n) >= c.Events || blocked || c.Txns > 0 && int(s.app) >= c.Txns {
		return
	}
	keys, values := m.locked()
	t := *s
	t.app++
	m.extend(&t, keys, values, 1)
}

// extend adds one more change to the transaction at the end of t's log, and a
// successor that ends the transaction there.
func (m *machine) extend(t *state, keys, values uint8, size int) {
	r := t.rowsAt(t.n)
	m.changes(t, &r, keys, values, func(e event) {
		u := *t
		u.log[u.n] = e
		u.n++
		if size < m.cfg.TxnMax && int(u.n) < m.cfg.Events {
			m.extend(&u, keys, values, size+1)
		}
		u.log[u.n-1].a |= evEnd
		m.out = append(m.out, succ{action{actFlush, m.s.n, u.n}, u})
	})
}

// changes calls add with every row change that is possible on r.
func (m *machine) changes(t *state, r *rows, keys, values uint8, add func(event)) {
	c := m.cfg
	stamp := stampLog + t.n
	fresh := t.freshValue(c.Values)
	free := func(u uint8, but int) bool {
		if u == 0 {
			return true
		}
		if u > fresh || values>>u&1 != 0 {
			return false
		}
		for k := range c.Keys {
			if k != but && r[k] != 0 && r[k].unique() == u {
				return false
			}
		}
		return true
	}
	for k := range c.Keys {
		if keys>>k&1 != 0 {
			continue
		}
		kk := uint8(k)
		x := r[k]
		if x == 0 {
			for u := uint8(0); c.Changes&Insert != 0 && u <= fresh; u++ {
				if free(u, k) {
					add(newEvent(noKey, kk, newImg(u, stamp)))
				}
			}
			continue
		}
		if c.Changes&Update != 0 {
			add(newEvent(kk, kk, newImg(x.unique(), stamp)))
		}
		for u := uint8(0); c.Changes&SetU != 0 && u <= fresh; u++ {
			if u != x.unique() && free(u, k) {
				add(newEvent(kk, kk, newImg(u, stamp)))
			}
		}
		if c.Changes&Delete != 0 {
			add(newEvent(kk, noKey, 0))
		}
		for to := range c.Keys {
			if c.Changes&MoveKey != 0 && to != k && r[to] == 0 && keys>>to&1 == 0 {
				add(newEvent(kk, uint8(to), newImg(x.unique(), stamp)))
			}
		}
	}
}

// freshValue is the highest unique value that an application may use next:
// values are interchangeable, so they come into use in order.
func (t *state) freshValue(values int) uint8 {
	var used uint8
	for _, x := range t.init {
		used = max(used, x.unique())
	}
	for i := range t.n {
		used = max(used, t.log[i].x.unique())
	}
	return min(used+1, uint8(values))
}

// engineCommits makes a flushed transaction visible and drops its locks.
func (m *machine) engineCommits() {
	s := m.s
	for i := uint8(0); i < s.n; {
		end := s.txnEnd(i)
		if s.vis>>i&1 == 0 {
			m.do(actEngine, i, end).vis |= span(i, end)
			if m.cfg.on[CommitsInOrder] {
				return
			}
		}
		i = end
	}
}

// start fixes the start position, then the end of the plan.
func (m *machine) start() {
	s, c := m.s, m.cfg
	first, second := m.startStream, m.planEnd
	if c.mut[PlanBeforeStart] {
		first, second = second, first
	}
	switch s.src {
	case 0:
		first()
	case srcStarted | srcPlanned:
	default:
		second()
	}
}

// startStream begins at what is committed. Without GTIDs it begins at the end
// of the log, and every read has to wait for the locks of what is in flight.
func (m *machine) startStream() {
	t := m.do(actStart, 0, 0)
	t.src |= srcStarted
	t.pre = m.s.vis
	if m.cfg.on[LockingRead] || m.cfg.mut[StartAtLogEnd] {
		t.pre = span(0, m.s.n)
	}
	t.skipPre()
}

// planEnd reads the highest key: plainly when a stream that began at what is
// committed brings later rows, else under locks.
func (m *machine) planEnd() {
	s, c := m.s, m.cfg
	r := s.visible()
	if c.on[LockingRead] && !c.mut[PlainMax] {
		if keys, _ := m.locked(); keys != 0 {
			return
		}
	}
	t := m.do(actPlan, 0, 0)
	t.src |= srcPlanned
	t.plan(c, &r)
}

// plan bounds the plan by the highest key of r.
func (s *state) plan(c *Config, r *rows) {
	s.planMax = 0
	for k := range c.Keys {
		if r[k] != 0 {
			s.planMax = uint8(k) + 1
		}
	}
	for i, keys := range c.Chunks {
		if keys&span(0, s.planMax) == 0 {
			s.marks |= 1 << i
		}
	}
}

// skipPre passes log entries that the start position includes.
func (s *state) skipPre() {
	for s.dlv < s.n && s.pre>>s.dlv&1 != 0 {
		s.dlv++
	}
	for s.bEnd == 0 && s.m < s.dlv && s.pre>>s.m&1 != 0 {
		s.m++
	}
}
