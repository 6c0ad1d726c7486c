package model

// scope is what the row filter leaves of an image.
func (c *Config) scope(x img) img {
	if c.on[Filter] && x.variant() {
		return 0
	}
	return x
}

// change is a log entry as the row filter projects it: insert, delete, update
// or nothing.
type change struct {
	touch uint8 // keys to be deleted or written
	to    uint8 // key of the new image, or noKey
	x     img
}

// project returns the log under the row filter.
func (s *state) project(c *Config) (out [maxLog]change) {
	if !c.on[Filter] {
		for i := range s.n {
			out[i] = change{s.log[i].touches(), s.log[i].new(), s.log[i].x}
		}
		return out
	}
	r := s.init
	for i := range s.n {
		e := s.log[i]
		out[i].to = noKey
		if k := e.old(); k != noKey && c.scope(r[k]) != 0 && !c.mut[FilterNewOnly] {
			out[i].touch |= 1 << k
		}
		if k := e.new(); k != noKey && c.scope(e.x) != 0 {
			out[i].touch |= 1 << k
			out[i].to, out[i].x = k, e.x
		}
		e.apply(&r)
	}
	return out
}

// batch is what a run of log entries comes to: the keys it touches and the last
// image of each.
type batch struct {
	keys uint8
	last rows
}

// compact folds the entries in (from, to] that are still to be executed.
func (s *state) compact(c *Config, from, to uint8) (b batch) {
	log := s.project(c)
	for i := from; i < to; i++ {
		if (s.pre|s.done)>>i&1 != 0 || s.log[i].a&evHidden != 0 {
			continue
		}
		log[i].leave(s.wait[i] >> waitLeave)
		b.add(log[i])
		if c.mut[XAAtPrepare] && s.log[i].touches() == 0 && s.log[i].x == markPrepare && s.xaN > 0 {
			b.add(change{s.xa[0].touches(), s.xa[0].new(), s.xa[0].x})
		}
	}
	return b
}

func (b *batch) add(ch change) {
	b.keys |= ch.touch
	for k := range b.last {
		if ch.touch>>k&1 != 0 {
			b.last[k] = 0
		}
	}
	if ch.to != noKey {
		b.last[ch.to] = ch.x
	}
}

// leave drops what the change does to keys.
func (ch *change) leave(keys uint8) {
	ch.touch &^= keys
	if ch.to != noKey && keys>>ch.to&1 != 0 {
		ch.to = noKey
	}
}

// laneKeys are the keys of lane l.
func (c *Config) laneKeys(l int) (keys uint8) {
	for k := range c.Keys {
		if c.laneOf(k) == l {
			keys |= 1 << k
		}
	}
	return keys
}

// laneBatch is lane l's share of the batch in execution.
func (m *machine) laneBatch(l int) batch {
	s, c := m.s, m.cfg
	from := s.m
	if c.mut[SkipDoneChanges] {
		from = max(from, min(s.pos[l], s.bEnd))
	}
	if c.mut[SkipDoneLanes] && s.pos[l] > s.m {
		from = s.bEnd
	}
	b := s.compact(c, from, s.bEnd)
	b.keys &= c.laneKeys(l)
	return b
}

// applier gathers a batch, or steps the lanes of the one in execution.
func (m *machine) applier() {
	if m.s.src&srcMoved != 0 && m.s.dlv > m.s.common {
		return // the lost entries are not kept: the mover will refuse anyway
	}
	if m.s.fix != 0 && m.s.bEnd == 0 && !m.cfg.mut[ApplyBeforeRepair] {
		return // chunks are to be emptied first
	}
	if m.s.bEnd == 0 {
		m.gather()
		m.pass()
		m.goTwoPhase()
	} else {
		m.lanes()
	}
}

// gather takes delivered transactions as a batch: as many as there may be, all
// their gates closed. With Parts a batch may end inside a transaction. After a
// crash in the middle of an index build it waits for the index.
func (m *machine) gather() {
	s, c := m.s, m.cfg
	if s.index == indexBuilding && s.m < s.floor && !c.mut[ApplyDuringRecoveredBuild] {
		return
	}
	for end := s.m + 1; end <= s.dlv; end++ {
		i := end - 1
		if s.wait[i]&waitGates != 0 && !c.mut[GatesBetweenPhases] {
			return
		}
		if !s.log[i].end() && !c.on[Parts] {
			continue
		}
		t := *s
		t.bEnd = end
		if c.mut[PositionBeforeData] {
			for l := range c.Lanes {
				t.pos[l] = t.position(c, end)
			}
		}
		if !m.oneByOne() {
			m.begin(&t)
		}
		if c.Coarse && t.bEnd != 0 {
			m.s = &t
			m.lanes()
			m.s = s
			continue
		}
		if m.capture == nil {
			*m.do(actBatch, s.m, end) = t
		}
	}
}

// oneByOne says whether changes are executed singly, in log order.
func (m *machine) oneByOne() bool {
	c := m.cfg
	return c.on[Serial] || c.mut[CompareAndSet] || c.mut[ByKeyHash]
}

// begin decides what is updated in place and passes the lanes that have no key
// in the batch.
func (m *machine) begin(t *state) {
	n := machine{cfg: m.cfg, s: t}
	b := t.compact(m.cfg, t.m, t.bEnd)
	t.upd = n.inPlace(&b)
	m.idleLanes(t)
}

// idleLanes passes the lanes that have no key in the batch.
func (m *machine) idleLanes(t *state) {
	n := machine{cfg: m.cfg, s: t}
	for l := range m.cfg.Lanes {
		if n.laneBatch(l).keys == 0 {
			t.lane[l] = laneDone
		}
	}
	t.finishBatch(m.cfg)
}

// lanes steps the lanes of the batch in execution.
func (m *machine) lanes() {
	s, c := m.s, m.cfg
	if m.oneByOne() {
		m.single()
		return
	}
	if s.allDone(c) {
		m.commitPosition()
		return
	}
	for l := range c.Lanes {
		b := m.laneBatch(l)
		switch s.lane[l] {
		case laneNone:
			if s.onePhase(c) {
				m.laneTxn(l, actUpsert, s.exec(c, opUpsert, b.keys, 0, b.last), true)
			} else {
				keys := b.keys &^ s.upd
				if c.mut[OldKeyStays] {
					keys = b.present()
				}
				m.laneTxn(l, actDelete, s.exec(c, opDelete, keys, 0, rows{}), false)
			}
		case lanePhase1:
			if m.allDeleted() || c.mut[NoMeeting] {
				m.laneTxn(l, actInsert, s.exec(c, opInsert, b.keys, s.upd&b.keys, b.last), true)
			}
		case laneUnknown:
			m.resolveLane(l)
		}
	}
}

// present are the keys that the batch leaves in place.
func (b *batch) present() (keys uint8) {
	for k, x := range b.last {
		if x != 0 {
			keys |= b.keys & (1 << k)
		}
	}
	return keys
}

// onePhase says whether the table is written in one phase.
func (s *state) onePhase(c *Config) bool {
	return c.on[OnePhase] || c.on[DeferredIndex] && s.two == 0
}

// inPlace are the keys of b that are updated where they are: the batch leaves
// their unique value as it was. Unguarded, the row must be known to be there as
// it was at m: nothing that was executed or read may be newer than m.
func (m *machine) inPlace(b *batch) (keys uint8) {
	s, c := m.s, m.cfg
	if !c.on[InPlace] && !c.on[InPlaceGuarded] {
		return 0
	}
	if c.on[InPlace] && s.m < s.floor && !c.mut[InPlaceInRecovery] {
		return 0
	}
	was := s.rowsAt(s.m)
	for k := range c.Keys {
		x, y := was[k], b.last[k]
		if b.keys>>k&1 == 0 || x == 0 || y == 0 || x.unique() != y.unique() && !c.mut[InPlaceUnique] {
			continue
		}
		owed := s.debt[k] != 0 && !c.mut[InPlaceOwed]
		if c.on[InPlaceGuarded] || m.confirmed(k) && !owed || c.mut[InPlaceUnconfirmed] {
			keys |= 1 << k
		}
	}
	return keys
}

// confirmed says whether k's chunk is finished and the applier past its read.
func (m *machine) confirmed(k int) bool {
	for i, keys := range m.cfg.Chunks {
		if keys>>k&1 != 0 {
			return m.s.marks>>i&1 != 0 && m.s.m >= m.s.ends[i]
		}
	}
	return false
}

// allDeleted says whether every lane has committed its deletes.
func (m *machine) allDeleted() bool {
	s := m.s
	for _, l := range s.lane[:m.cfg.Lanes] {
		if l == laneNone || l == laneUnknown {
			return false
		}
	}
	if m.cfg.mut[GatesBetweenPhases] {
		for i := s.m; i < s.bEnd; i++ {
			if s.wait[i]&waitGates != 0 {
				return false
			}
		}
	}
	return true
}

// laneTxn executes and commits a lane's transaction.
func (m *machine) laneTxn(l int, kind actionKind, x txn, final bool) {
	s, c := m.s, m.cfg
	if m.blocked(&x) {
		return
	}
	x.owner, x.end = uint8(l), s.bEnd
	if final && (c.Lanes == 1 || c.on[LanePositions] || m.oneByOne()) {
		x.final, x.pos = 1, s.position(c, s.bEnd)
	}
	if m.capture != nil {
		*m.capture = append(*m.capture, x)
		return
	}
	t := m.do(kind, uint8(l), x.keys)
	if t.commit(c, &x); t.halt != runs {
		return
	}
	t.laneStep(c, l, final)
	m.loseCommit(&x, func(t *state) { m.loseLane(t, &x) })
	m.failStatement(l, &x, final)
}

// commitPosition is the batch's last transaction when several lanes wrote it.
func (m *machine) commitPosition() {
	s, c := m.s, m.cfg
	x := txn{op: opWritten, epoch: s.epoch, final: 1, pos: s.position(c, s.bEnd), end: s.bEnd}
	if m.blocked(&x) {
		return
	}
	if m.capture != nil {
		*m.capture = append(*m.capture, x)
		return
	}
	t := m.do(actPosition, 0, x.pos)
	t.commit(c, &x)
	t.finishBatch(c)
	m.loseCommit(&x, func(t *state) { m.loseLane(t, &x) })
}

// failStatement is for the mutants that mistreat an error in a transaction.
func (m *machine) failStatement(l int, x *txn, final bool) {
	c := m.cfg
	if !m.fault() || !c.mut[FailedBatchDropped] && !c.mut[StatementRetried] && !c.mut[HalfCommitted] {
		return
	}
	y := *x
	switch {
	case c.mut[FailedBatchDropped]:
		y.wrote, y.skip = 0, 0
	case x.wrote&(x.wrote-1) == 0:
		return // a single statement
	case c.mut[StatementRetried]:
		y.wrote &= y.wrote - 1 // the deadlock took the first one back
	case c.mut[HalfCommitted]:
		y.wrote &= -y.wrote
		y.final = 0
	}
	t := m.do(actFail, uint8(l), 0)
	t.faults++
	t.commit(c, &y)
	if !c.mut[HalfCommitted] {
		t.laneStep(c, l, final)
	}
}

// position is what a batch that ends at end commits: a transaction end, and not
// past an XA PREPARE whose end has not come.
func (s *state) position(c *Config, end uint8) uint8 {
	p := s.lastEnd(end)
	if c.mut[PositionInTransaction] {
		p = end
	}
	if at := s.prepared(p); at != noEntry && !c.mut[XAForgotten] {
		p = at
	}
	return p
}

// loseLane begins the whole batch again; lane l first has to learn what became
// of its transaction. If that may have committed the position, nobody begins
// before this is known: a batch that is committed must not be deleted again.
func (m *machine) loseLane(t *state, x *txn) {
	if x.final == 0 || m.cfg.mut[RetryUnasked] {
		t.lane = [maxLanes]uint8{}
	}
	t.lane[x.owner] = laneUnknown
	if m.cfg.mut[RetryUnasked] && x.final != 0 {
		t.lane[x.owner] = laneNone
		t.z.state = txnOrphan
		m.idleLanes(t)
	}
}

// laneStep moves a lane on after its commit.
func (s *state) laneStep(c *Config, l int, final bool) {
	s.lane[l] = lanePhase1
	if final {
		s.lane[l] = laneDone
		s.finishBatch(c)
	}
}

// allDone says whether every lane has committed its rows.
func (s *state) allDone(c *Config) bool {
	for _, l := range s.lane[:c.Lanes] {
		if l != laneDone {
			return false
		}
	}
	return true
}

// finishBatch ends the batch when every lane is through. With LanePositions, lanes
// that had nothing to do take its position; without, several lanes need one more
// transaction for it.
func (s *state) finishBatch(c *Config) {
	if !s.allDone(c) {
		return
	}
	p := s.position(c, s.bEnd)
	if c.on[LanePositions] {
		for l := range c.Lanes {
			s.pos[l] = max(s.pos[l], p)
		}
	}
	if s.pos[0] < p {
		return
	}
	s.lane = [maxLanes]uint8{}
	for i := s.m; i < s.bEnd; i++ {
		s.wait[i] = 0
	}
	s.m, s.bEnd, s.upd = s.bEnd, 0, 0
	s.skipPre()
}

// resolveLane reads the lane's row, whose lock outlives the lost session, and
// learns whether the transaction committed.
func (m *machine) resolveLane(l int) {
	s, c := m.s, m.cfg
	if s.z.owner != uint8(l) || s.z.state != txnCommitted && s.z.state != txnRolledBack {
		return
	}
	t := m.do(actResolve, uint8(l), 0)
	t.z = txn{}
	if s.z.final != 0 && s.z.state == txnCommitted && !c.on[LanePositions] {
		for i := range c.Lanes {
			t.lane[i] = laneDone
		}
		t.finishBatch(c)
		return
	}
	if s.z.final != 0 {
		t.lane = [maxLanes]uint8{}
	}
	t.lane[l] = laneNone
	if !m.oneByOne() {
		m.idleLanes(t)
	}
}
