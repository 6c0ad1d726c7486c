package model

// prepare prepares an XA transaction of one change: its row is logged now, in a
// group of its own, and locked until the end of the transaction.
func (m *machine) prepare(keys, values uint8) {
	s := m.s
	if int(s.n)+1 >= m.cfg.Events {
		return // its commit must fit, too
	}
	r := s.rowsAt(s.n)
	m.changes(s, &r, keys, values, func(e event) {
		t := m.do(actPrepare, s.n, 0)
		t.append(event{noKey | noKey<<2 | evEnd, markPrepare})
		if e.x != 0 {
			e.x = e.x&0xf | newImg(0, stampPrepared)
		}
		t.xa[0], t.xaN = e, 1
		t.src |= srcXA
	})
}

// xaEnd commits or rolls back the prepared transaction. The log says which; the
// rows are not repeated there, but they count from here.
func (m *machine) xaEnd() {
	s := m.s
	if s.xaN == 0 || s.cut != cutRunning {
		return
	}
	t := m.do(actXACommit, s.n, s.n+s.xaN)
	for _, e := range s.xa[:s.xaN] {
		if e.x != 0 {
			e.x = e.x&0xf | newImg(0, stampLog+t.n)
		}
		e.a |= evXA
		t.append(e)
	}
	t.log[t.n-1].a |= evEnd
	t.xaN = 0
	if int(s.n) < m.cfg.Events {
		u := m.do(actXARollback, s.n, 0)
		u.append(event{noKey | noKey<<2 | evEnd, markRollback})
		u.xaN = 0
	}
}

// prepared is the position of the XA PREPARE entry whose end is not among the
// first upto entries, or noEntry.
func (s *state) prepared(upto uint8) uint8 {
	at := noEntry
	for i := range upto {
		switch e := s.log[i]; {
		case e.a&evXA != 0, e.touches() == 0 && e.x == markRollback:
			at = noEntry
		case e.touches() == 0:
			at = i
		}
	}
	return at
}

const noEntry = uint8(0xff)

// rollback ends the transaction that locked a row and changed nothing.
func (m *machine) rollback() {
	if m.s.rolling != 0 {
		m.do(actRollback, m.s.rolling-1, 0).rolling = 0
	}
}

// failover puts a server in the source's place that lacks the end of the log.
// What it has is committed, and the positions of the rest are used again.
func (m *machine) failover() {
	s := m.s
	if !m.cfg.on[Failover] || s.src&(srcMoved|srcEra) != 0 || !m.fault() {
		return
	}
	for n := range s.n {
		if n > 0 && !s.log[n-1].end() {
			continue
		}
		t := m.do(actFailover, n, 0)
		t.faults++
		t.src |= srcMoved
		t.common, t.n, t.vis = n, n, span(0, n)
		for i := n; i < s.n; i++ {
			t.log[i] = event{}
		}
	}
}

// reconnect is the mover noticing that the source changed. What it was handed
// must be there still, by content and not by number; chunks whose read saw more
// than it was handed are copied again, range emptied.
func (m *machine) reconnect() {
	s, c := m.s, m.cfg
	t := m.do(actReconnect, 0, 0)
	t.noticed(c, max(s.dlv, s.intent), s.dlv)
	if t.fix != 0 && t.halt == runs && !c.mut[ApplyBeforeRepair] {
		// The batch in execution, too, may have met rows that never were.
		t.die()
		t.crashes--
		t.begin(c)
	}
}

// owedIn says whether chunk i has a skipped key whose change was expected past
// position p: it may have been lost.
func (s *state) owedIn(c *Config, i int, p uint8) bool {
	for k, bound := range s.debt {
		if c.Chunks[i]>>k&1 != 0 && bound > p+1 && !c.mut[DebtsUnconfirmed] {
			return true
		}
	}
	return false
}

// noticed checks everything that was executed, and every chunk against what was
// handed over before position p.
func (s *state) noticed(c *Config, executed, p uint8) {
	s.src = s.src&^srcMoved | srcEra
	if executed > s.common && !(c.mut[NumbersReused] && executed <= s.n) {
		s.halt = haltRefused
		return
	}
	if c.mut[Unconfirmed] {
		return
	}
	for i := range c.Chunks {
		if pc := s.ch[i].pc; pc == chRead && s.ch[i].h > p {
			s.closeGate(i)
		}
		owed := s.owedIn(c, i, p)
		switch {
		case s.marks>>i&1 != 0 && (s.ends[i] > p || owed):
			s.marks &^= 1 << i
			s.fix |= 1 << i
			s.closeGate(i)
		case owed:
			s.again |= 1 << i // its copy is to come anyway
		default:
			continue
		}
		for k := range s.debt {
			if c.Chunks[i]>>k&1 != 0 {
				s.debt[k] = 0
			}
		}
	}
}
