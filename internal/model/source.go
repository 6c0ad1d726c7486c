package model

// machine produces the successors of a state.
type machine struct {
	cfg *Config
	s   *state
	out []succ
	// capture collects, when it is not nil, the target transactions that could
	// be sent now, in place of successors.
	capture *[]txn
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
		m.indexBuild()
		return
	}
	m.application()
	m.engineCommits()
	m.rollback()
	m.xaEnd()
	m.failover()
	m.start()
	if s.ready() {
		if s.src&srcMoved != 0 {
			m.reconnect()
		} else {
			m.deliver()
		}
		m.copiers()
		m.applier()
		m.indexBuild()
		m.verify()
		m.cutover()
	}
	m.lands()
	m.crash()
	m.targetCrash()
	m.takeover()
}

// locked are the keys and unique values that a writer would have to wait for:
// those of transactions flushed and not engine-committed or prepared, and rows
// that a copier's reading transaction holds.
func (m *machine) locked() (keys, values uint8) {
	s := m.s
	r := s.init
	hold := func(e event) {
		keys |= e.touches()
		if k := e.old(); k != noKey {
			values |= 1 << r[k].unique()
		}
		values |= 1 << e.x.unique()
	}
	for i := range s.n {
		e := s.log[i]
		if s.vis>>i&1 == 0 && e.touches() != 0 {
			hold(e)
		}
		e.apply(&r)
	}
	for _, e := range s.xa[:s.xaN] {
		hold(e)
		e.apply(&r)
	}
	if s.rolling != 0 {
		keys |= 1 << (s.rolling - 1)
	}
	return keys | m.sharedLocks(), values &^ 1
}

// sharedLocks are the source rows that copiers hold.
func (m *machine) sharedLocks() (keys uint8) {
	for i := range m.cfg.Chunks {
		keys |= m.s.ch[i].locks
	}
	return keys
}

// writable says whether the application may write.
func (m *machine) writable() bool {
	s, c := m.s, m.cfg
	if int(s.n) >= c.Events || c.Txns > 0 && int(s.app) >= c.Txns {
		return false
	}
	switch {
	case s.cut == cutRunning, s.cut == cutE && c.mut[StopBeforeBlock]:
		return true
	}
	return c.on[Leak] && m.fault()
}

// application flushes a transaction of up to TxnMax changes, or prepares one.
func (m *machine) application() {
	if !m.writable() {
		return
	}
	s := m.s
	keys, values := m.locked()
	t := *s
	t.app++
	if s.cut != cutRunning && m.cfg.on[Leak] {
		t.faults++
	}
	m.extend(&t, keys, values, 1)
	if m.cfg.on[XA] && s.src&srcXA == 0 {
		m.prepare(keys, values)
	}
	if m.cfg.on[Rollbacks] && s.rolling == 0 && m.fault() {
		r := s.rowsAt(s.n)
		for k := range m.cfg.Keys {
			if r[k] != 0 && keys>>k&1 == 0 {
				t := m.do(actLock, uint8(k), 0)
				t.rolling = uint8(k) + 1
				t.faults++
			}
		}
	}
}

// extend adds one more change to the transaction at the end of t's log, and a
// successor that ends the transaction there.
func (m *machine) extend(t *state, keys, values uint8, size int) {
	r := t.rowsAt(t.n)
	m.changes(t, &r, keys, values, func(e event) {
		u := *t
		u.append(e)
		if m.cfg.mut[UnloggedCascade] && e.new() == noKey && e.old() == 0 && r[1] != 0 && keys&2 == 0 {
			u.append(event{1 | noKey<<2 | evHidden, 0})
		}
		if size < m.cfg.TxnMax && int(u.n) < m.cfg.Events {
			m.extend(&u, keys, values, size+1)
		}
		u.log[u.n-1].a |= evEnd
		m.out = append(m.out, succ{action{actFlush, m.s.n, u.n}, u})
		if m.cfg.mut[PayloadDropped] {
			for i := m.s.n; i < u.n; i++ {
				u.log[i].a |= evHidden
			}
			m.out = append(m.out, succ{action{actFlush, m.s.n, u.n}, u})
		}
	})
}

// append adds an entry to the log.
func (s *state) append(e event) {
	s.log[s.n] = e
	s.n++
}

// changes calls add with every row change that is possible on r.
func (m *machine) changes(t *state, r *rows, keys, values uint8, add func(event)) {
	c := m.cfg
	mark := newImg(0, stampLog+t.n)
	if t.src&srcEra != 0 || t.src&srcMoved != 0 {
		mark |= imgEra
	}
	fresh := t.freshValue(c.Values)
	free := func(u uint8, but int) bool { return u == 0 || u <= fresh && values>>u&1 == 0 && r.free(u, but) }
	for k := range c.Keys {
		if keys>>k&1 != 0 {
			continue
		}
		kk, x := uint8(k), r[k]
		if x == 0 {
			for u := uint8(0); c.Changes&Insert != 0 && u <= fresh; u++ {
				if free(u, k) {
					add(newEvent(noKey, kk, mark|img(u)))
					if c.Changes&(Respell|Reown) != 0 {
						add(newEvent(noKey, kk, mark|img(u)|imgVariant))
					}
				}
			}
			continue
		}
		same := mark | x&(imgUnique|imgVariant)
		if c.Changes&Update != 0 {
			add(newEvent(kk, kk, same))
		}
		if c.Changes&(Respell|Reown) != 0 {
			add(newEvent(kk, kk, same^imgVariant))
		}
		for u := uint8(0); c.Changes&SetU != 0 && u <= fresh; u++ {
			if u != x.unique() && free(u, k) {
				add(newEvent(kk, kk, same&^imgUnique|img(u)))
			}
		}
		if c.Changes&Delete != 0 {
			add(newEvent(kk, noKey, 0))
		}
		for to := range c.Keys {
			if c.Changes&MoveKey != 0 && to != k && r[to] == 0 && keys>>to&1 == 0 {
				add(newEvent(kk, uint8(to), same))
			}
		}
	}
}

// free says whether no row but that of key but holds u.
func (r *rows) free(u uint8, but int) bool {
	for k, x := range r {
		if k != but && x != 0 && x.unique() == u {
			return false
		}
	}
	return true
}

// freshValue is the highest unique value that an application may use next:
// values are interchangeable, so they come into use in order.
func (s *state) freshValue(values int) uint8 {
	var used uint8
	for _, x := range s.init {
		used = max(used, x.unique())
	}
	for _, x := range s.t {
		used = max(used, x.unique()) // a foreign row's
	}
	for i := range s.n {
		if s.log[i].touches() != 0 {
			used = max(used, s.log[i].x.unique())
		}
	}
	for _, e := range s.xa[:s.xaN] {
		used = max(used, e.x.unique())
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
