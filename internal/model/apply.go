package model

// batch is what a run of log entries comes to: the keys it touches and the last
// image of each.
type batch struct {
	keys uint8
	last rows
}

// compact folds the entries in (from, to].
func (s *state) compact(from, to uint8) (b batch) {
	for i := from; i < to; i++ {
		if s.pre>>i&1 != 0 {
			continue
		}
		b.keys |= s.log[i].touches()
		s.log[i].apply(&b.last)
	}
	return b
}

// lanes of a batch's keys, as a mask of keys.
func (c *Config) laneKeys(l int) (keys uint8) {
	for k := range c.Keys {
		if c.laneOf(k) == l {
			keys |= 1 << k
		}
	}
	return keys
}

// applier gathers a batch, or steps the lanes of the one in execution.
func (m *machine) applier() {
	if m.s.bEnd == 0 {
		m.gather()
	} else {
		m.lanes()
	}
}

// lanes steps the lanes of the batch in execution.
func (m *machine) lanes() {
	s, c := m.s, m.cfg
	if c.on[Serial] {
		m.serial()
		return
	}
	b := s.compact(s.m, s.bEnd)
	for l := range c.Lanes {
		keys := b.keys & c.laneKeys(l)
		switch s.lane[l] {
		case laneNone:
			if c.on[OnePhase] {
				m.laneTxn(l, actUpsert, s.upsert(keys, b.last), true)
			} else {
				m.laneTxn(l, actDelete, s.deleteKeys(c, keys), false)
			}
		case lanePhase1:
			if m.allDeleted() || c.mut[NoMeeting] {
				m.laneTxn(l, actInsert, s.insertAbsent(c, b.last, keys), true)
			}
		case laneUnknown:
			m.resolveLane(l)
		}
	}
}

// gather takes delivered transactions as a batch: as many as there may be, all
// their gates closed. With Parts a batch may end inside a transaction.
func (m *machine) gather() {
	s, c := m.s, m.cfg
	for end := s.m + 1; end <= s.dlv; end++ {
		i := end - 1
		if s.wait[i] != 0 && !c.mut[GatesBetweenPhases] {
			return
		}
		if !s.log[i].end() && !c.on[Parts] {
			continue
		}
		t := *s
		t.bEnd = end
		if !c.on[Serial] {
			t.idleLanes(c)
		}
		if c.Coarse && t.bEnd != 0 {
			m.s = &t
			m.lanes()
			m.s = s
			continue
		}
		*m.do(actBatch, s.m, end) = t
	}
}

// idleLanes passes the lanes that have no key in the batch.
func (s *state) idleLanes(c *Config) {
	b := s.compact(s.m, s.bEnd)
	for l := range c.Lanes {
		if b.keys&c.laneKeys(l) == 0 {
			s.lane[l] = laneDone
		}
	}
	s.finishBatch(c)
}

// allDeleted says whether every lane has committed its deletes.
func (m *machine) allDeleted() bool {
	s := m.s
	for _, l := range s.lane[:m.cfg.Lanes] {
		if l == laneNone || l == laneUnknown && s.z.final == 0 {
			return false
		}
	}
	if m.cfg.mut[GatesBetweenPhases] {
		for i := s.m; i < s.bEnd; i++ {
			if s.wait[i] != 0 {
				return false
			}
		}
	}
	return true
}

// laneTxn executes and commits a lane's transaction.
func (m *machine) laneTxn(l int, kind actionKind, x txn, final bool) {
	if m.blocked(&x) {
		return
	}
	x.owner, x.pos = uint8(l), m.s.lastEnd(m.s.bEnd)
	if final {
		x.final = 1
	}
	t := m.do(kind, uint8(l), x.keys)
	t.commit(m.cfg, &x)
	t.laneStep(m.cfg, l, final)
	m.loseCommit(&x, func(t *state) { t.lane[l] = laneUnknown })
}

// laneStep moves a lane on after its commit.
func (s *state) laneStep(c *Config, l int, final bool) {
	s.lane[l] = lanePhase1
	if final {
		s.lane[l] = laneDone
		s.finishBatch(c)
	}
}

// finishBatch ends the batch when every lane is through. Lanes that had nothing
// to do take its position.
func (s *state) finishBatch(c *Config) {
	for _, l := range s.lane[:c.Lanes] {
		if l != laneDone {
			return
		}
	}
	for l := range c.Lanes {
		s.pos[l] = max(s.pos[l], s.lastEnd(s.bEnd))
		s.lane[l] = laneNone
	}
	for i := s.m; i < s.bEnd; i++ {
		s.wait[i] = 0
	}
	s.m, s.bEnd = s.bEnd, 0
	s.skipPre()
}

// resolveLane reads the lane's row, whose lock outlives the lost session, and
// learns whether the transaction committed.
func (m *machine) resolveLane(l int) {
	s := m.s
	if s.z.owner != uint8(l) || s.z.state < txnCommitted {
		return
	}
	final, landed := s.z.final != 0, s.z.state == txnCommitted
	t := m.do(actResolve, uint8(l), 0)
	t.z = txn{}
	switch {
	case landed:
		t.laneStep(m.cfg, l, final)
	case final && !m.cfg.on[OnePhase] && !m.cfg.on[Serial]:
		t.lane[l] = lanePhase1
	default:
		t.lane[l] = laneNone
	}
}

// serial executes a batch change by change in log order, in one transaction:
// delete the own keys, insert if absent.
func (m *machine) serial() {
	s, c := m.s, m.cfg
	if s.lane[0] == laneUnknown {
		m.resolveLane(0)
		return
	}
	t := *s
	x := txn{epoch: s.epoch}
	for i := s.m; i < s.bEnd; i++ {
		if s.pre>>i&1 != 0 {
			continue
		}
		e := s.log[i]
		d := t.deleteKeys(c, e.touches())
		t.write(&d)
		x.add(&d)
		if k := e.new(); k != noKey {
			var in rows
			in[k] = e.x
			ins := t.insertAbsent(c, in, 1<<k)
			t.write(&ins)
			x.add(&ins)
		}
	}
	x.rows = t.t
	m.laneTxn(0, actSerial, x, true)
}

// write puts a transaction's rows on the target and nothing else.
func (s *state) write(x *txn) {
	for k := range s.t {
		if x.wrote>>k&1 != 0 {
			s.t[k] = x.rows[k]
		}
	}
}

// add merges what a statement did into its transaction.
func (x *txn) add(y *txn) {
	x.keys |= y.keys
	x.wrote |= y.wrote
	x.lockK |= y.lockK
	x.lockV |= y.lockV
	x.skip = x.skip&^y.wrote&^y.keys | y.skip
}
