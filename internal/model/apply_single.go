package model

// single steps the appliers that take changes one by one.
func (m *machine) single() {
	s, c := m.s, m.cfg
	switch {
	case s.lane[0] == laneUnknown:
		m.resolveLane(0)
	case c.mut[CompareAndSet]:
		m.compareAndSet()
	case c.mut[ByKeyHash]:
		m.byKeyHash()
	default:
		m.serial()
	}
}

// serial executes a batch change by change in log order, in one transaction:
// delete the own keys, insert if absent.
func (m *machine) serial() {
	s, c := m.s, m.cfg
	if c.mut[CompactedByBytes] {
		m.laneTxn(0, actSerial, m.compactedByBytes(), true)
		return
	}
	t := *s
	x := txn{op: opWritten, epoch: s.epoch}
	log := s.project(c)
	for i := s.m; i < s.bEnd; i++ {
		if s.pre>>i&1 != 0 || s.log[i].a&evHidden != 0 {
			continue
		}
		m.serialChange(&t, &x, log[i], s.log[i])
	}
	x.rows = t.t
	m.laneTxn(0, actSerial, x, true)
}

// serialChange executes one change on t and adds it to x.
func (m *machine) serialChange(t *state, x *txn, ch change, e event) {
	c := m.cfg
	var in rows
	if ch.to != noKey {
		in[ch.to] = ch.x
	}
	if c.mut[KeyUpdateInPlace] && e.old() != noKey && ch.to != noKey && ch.to != e.old() {
		// UPDATE ... SET all columns WHERE key = old: nothing when it is absent.
		if t.t[e.old()] == 0 {
			x.keys |= ch.touch
			return
		}
	}
	d := t.exec(c, opDelete, ch.touch, 0, rows{})
	if c.mut[WrongRow] || c.mut[KeepsSpelling] {
		// An upsert in place of delete and insert: the row stays for it to find.
		if d = t.exec(c, opDelete, ch.touch&^bitOf(ch.to), 0, rows{}); c.mut[KeepsSpelling] {
			t.write(&d)
			x.add(&d)
			d = t.exec(c, opUpsert, bitOf(ch.to), 0, in)
			in = rows{}
		}
	}
	t.write(&d)
	x.add(&d)
	if in != (rows{}) {
		if c.mut[WrongRow] && t.t[ch.to] != 0 {
			d = t.exec(c, opDelete, bitOf(ch.to), 0, rows{})
			t.write(&d)
			x.add(&d)
		}
		ins := t.exec(c, opInsert, bitOf(ch.to), 0, in)
		t.write(&ins)
		x.add(&ins)
	}
}

func bitOf(key uint8) uint8 {
	if key == noKey {
		return 0
	}
	return 1 << key
}

// compactedByBytes is the mutant that compacts under keys whose equality it
// cannot decide: the last change per spelling, upserts first, then deletes.
func (m *machine) compactedByBytes() txn {
	s, c := m.s, m.cfg
	var last [2]rows // per spelling
	var touched [2]uint8
	r := s.rowsAt(s.m)
	spelling := func(x img) int { return int(x & imgVariant / imgVariant) }
	for i := s.m; i < s.bEnd; i++ {
		e := s.log[i]
		if k := e.old(); k != noKey {
			v := spelling(r[k])
			touched[v] |= 1 << k
			last[v][k] = 0
		}
		if k := e.new(); k != noKey {
			v := spelling(e.x)
			touched[v] |= 1 << k
			last[v][k] = e.x
		}
		e.apply(&r)
	}
	t := *s
	x := txn{op: opWritten, epoch: s.epoch}
	for _, deletes := range []bool{false, true} {
		for v := range last {
			for k := range c.Keys {
				if touched[v]>>k&1 != 0 && (last[v][k] == 0) == deletes {
					y := t.exec(c, opUpsert, 1<<k, 0, last[v])
					t.write(&y)
					x.add(&y)
				}
			}
		}
	}
	x.rows = t.t
	return x
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
	x.fail = max(x.fail, y.fail)
	x.skip = x.skip&^y.wrote&^y.keys | y.skip
}

// compareAndSet is upstream's way: each change alone, INSERT IGNORE, UPDATE and
// DELETE naming all old values.
func (m *machine) compareAndSet() {
	s, c := m.s, m.cfg
	at := s.m
	if s.lane[0] >= laneAt {
		at = s.lane[0] - laneAt
	}
	was, e := s.rowsAt(at), s.log[at]
	x := txn{op: opWritten, epoch: s.epoch, keys: e.touches(), rows: s.t}
	x.owner, x.pos, x.end = 0, s.position(c, at+1), at+1
	w := work{c: c, x: &x, t: s.t, unique: s.unique()}
	old, to := e.old(), e.new()
	matches := old != noKey && s.t[old] == was[old]
	if c.mut[FloatCompared] && matches && was[old].unique() == 2 {
		matches = false // 1.1 is not 1.1
	}
	switch {
	case old == noKey:
		if s.t[to] == 0 && w.holder(int(to), e.x) < 0 {
			w.put(int(to), e.x)
		}
	case to == noKey:
		if matches {
			w.put(int(old), 0)
		}
	case matches:
		w.t[old] = 0
		if s.t[to] != 0 && to != old || w.holder(int(to), e.x) >= 0 {
			return // error 1062, now and for ever
		}
		w.t[old] = s.t[old]
		w.put(int(old), 0)
		w.put(int(to), e.x)
	}
	x.rows, x.final = w.t, 1
	t := m.do(actSingle, 0, at)
	t.commit(c, &x)
	t.lane[0] = laneAt + at + 1
	if at+1 == s.bEnd {
		for l := range c.Lanes {
			t.lane[l] = laneDone
		}
		t.finishBatch(c)
	}
}

// byKeyHash is parallel apply by key alone: every lane runs its own changes in
// log order and replaces what is in the way.
func (m *machine) byKeyHash() {
	s, c := m.s, m.cfg
	for l := range c.Lanes {
		at := s.m
		if s.lane[l] == laneDone {
			continue
		}
		if s.lane[l] >= laneAt {
			at = s.lane[l] - laneAt
		}
		for at < s.bEnd && s.log[at].touches()&c.laneKeys(l) == 0 {
			at++
		}
		t := m.do(actSingle, uint8(l), at)
		if at == s.bEnd {
			t.lane[l] = laneDone
			t.finishBatch(c)
			continue
		}
		var b batch
		b.add(change{s.log[at].touches(), s.log[at].new(), s.log[at].x})
		x := s.exec(c, opUpsert, b.keys, 0, b.last)
		x.owner, x.end = uint8(l), s.bEnd
		t.commit(c, &x)
		t.lane[l] = laneAt + at + 1
	}
}

// pass executes, ahead of transactions that are held at a gate, a later one
// whose keyset is disjoint from theirs: keys and unique values, old and new.
func (m *machine) pass() {
	s, c := m.s, m.cfg
	if !c.on[Pass] {
		return
	}
	r := s.rowsAt(s.m)
	var heldKeys, heldValues uint8
	for i := s.m; i < s.dlv; {
		end := s.txnEnd(i)
		var keys, values, gates uint8
		for j := i; j < end; j++ {
			e := s.log[j]
			keys |= e.touches()
			for k := range r {
				if e.touches()>>k&1 != 0 && r[k] != 0 {
					values |= 1 << r[k].unique()
				}
			}
			e.apply(&r)
			values |= 1 << e.x.unique()
			gates |= s.wait[j] & waitGates
		}
		values &^= 1
		if c.mut[PassByKey] {
			values = 0
		}
		disjoint := keys&heldKeys == 0 && values&heldValues == 0
		if s.done>>i&1 == 0 {
			if gates == 0 && disjoint && heldKeys != 0 {
				m.passTxn(i, end)
			}
			heldKeys |= keys
			heldValues |= values
		}
		i = end
	}
}

// passTxn executes one transaction alone and commits no position.
func (m *machine) passTxn(from, to uint8) {
	s, c := m.s, m.cfg
	b := s.compact(c, from, to)
	x := s.exec(c, opReplace, b.keys, 0, b.last)
	x.end = to
	t := m.do(actPass, from, to)
	t.commit(c, &x)
	t.done |= span(from, to)
}
