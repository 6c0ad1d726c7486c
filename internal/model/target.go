package model

// The target. exec works out what a transaction writes on the rows as they are
// and which locks it takes; commit makes it so, with the checkpoint row.

// unique says whether the target's unique index refuses duplicates.
func (s *state) unique() bool { return s.index == indexPresent }

// exec works out a transaction that does op with keys. Keys in inPlace are to
// be updated where they are.
func (s *state) exec(c *Config, op, keys, inPlace uint8, in rows) txn {
	x := txn{op: op, keys: keys, inUpd: inPlace, epoch: s.epoch, in: in}
	w := work{c: c, x: &x, t: s.t, unique: s.unique()}
	switch op {
	case opDelete:
		w.each(keys, w.delete)
	case opUpsert:
		w.each(keys, w.upsert)
	case opReplace:
		w.each(keys, w.delete)
		w.each(keys, w.insert)
	case opInsert:
		w.each(inPlace, w.update)
		w.each(keys&^inPlace, w.insert)
	}
	x.rows = w.t
	x.lockV &^= 1
	return x
}

// work is a transaction in execution.
type work struct {
	c      *Config
	x      *txn
	t      rows
	unique bool
}

func (w *work) each(keys uint8, do func(k int)) {
	for k := range w.c.Keys {
		if keys>>k&1 != 0 {
			do(k)
		}
	}
}

// put writes row k and locks what that takes.
func (w *work) put(k int, y img) {
	if w.t[k] != 0 || y != 0 {
		w.x.wrote |= 1 << k
		w.x.lockK |= 1 << k
	}
	for _, z := range [2]img{w.t[k], y} {
		w.x.lockV |= 1 << z.unique()
	}
	w.t[k] = y
}

// foreign says whether row k is another tenant's, which no statement of ours
// can address.
func (w *work) foreign(k int) bool {
	return w.t[k].stamp() == stampForeign && !w.c.mut[Unscoped]
}

// delete deletes row k by its key.
func (w *work) delete(k int) {
	if !w.foreign(k) {
		w.put(k, 0)
	}
}

// insert inserts row k if it is absent. A row whose unique value another row
// holds is skipped: a debt. A foreign row in the way ends the run.
func (w *work) insert(k int) {
	y := w.x.in[k]
	if y == 0 {
		return
	}
	w.x.lockK |= 1 << k
	w.x.lockV |= 1 << y.unique()
	holder := w.holder(k, y)
	switch {
	case w.t[k] != 0:
		if w.foreign(k) && !w.c.mut[IgnoreForeign] {
			w.x.fail = haltConflict
		}
	case holder < 0:
		w.put(k, y)
	case w.foreign(holder) && !w.c.mut[IgnoreForeign]:
		w.x.fail = haltConflict
	case w.c.mut[WrongRow]:
		w.put(holder, y)
	case w.c.mut[Evict]:
		w.put(holder, 0)
		w.put(k, y)
	default:
		w.x.skip |= 1 << k
		w.x.lockK |= 1 << holder
	}
}

// upsert makes row k so, or deletes it.
func (w *work) upsert(k int) {
	y := w.x.in[k]
	switch {
	case w.foreign(k):
		if y != 0 {
			w.x.fail = haltConflict
		}
		return
	case w.c.mut[KeepsSpelling] && w.t[k] != 0 && y != 0:
		y = y&^imgVariant | w.t[k]&imgVariant
	}
	if holder := w.holder(k, y); y != 0 && holder >= 0 {
		w.put(holder, 0) // REPLACE
	}
	w.put(k, y)
}

// update replaces row k where it is. With the guard it must hold the same
// unique value, else it is deleted and inserted if absent.
func (w *work) update(k int) {
	y := w.x.in[k]
	if w.c.on[InPlaceGuarded] {
		if w.t[k] != 0 && w.t[k].unique() == y.unique() {
			w.put(k, y)
		} else {
			w.delete(k)
			w.insert(k)
		}
		return
	}
	if w.t[k] == 0 || w.holder(k, y) >= 0 {
		w.x.fail = haltDuplicate
		return
	}
	w.put(k, y)
}

// holder is the key of another row that holds y's unique value, or -1.
func (w *work) holder(k int, y img) int {
	for o := range w.c.Keys {
		if w.unique && o != k && w.t[o] != 0 && y.unique() != 0 && w.t[o].unique() == y.unique() {
			return o
		}
	}
	return -1
}

// commit makes a transaction's writes durable, with its checkpoint row.
func (s *state) commit(c *Config, x *txn) {
	if x.fail != 0 {
		s.halt = x.fail
		return
	}
	if x.epoch != s.epoch {
		s.ghost |= ghostFenced
	}
	for k := range c.Keys {
		bit := uint8(1) << k
		if x.wrote&bit != 0 {
			s.t[k] = x.rows[k]
		}
		if x.owner < maxLanes && x.keys&bit != 0 {
			s.debt[k] = 0 // the pending change has come
		}
		if x.skip&bit != 0 {
			s.owe(c, k, x)
		}
	}
	if c.mut[TargetTrigger] && x.wrote&1 != 0 && s.t[0] != 0 && s.t[1] != 0 {
		s.t[1] = s.t[1]&0xf | newImg(0, stampTrigger)
	}
	if s.index == indexBuilding && s.duplicates() {
		s.halt = haltDuplicate
	}
	if x.owner >= maxLanes {
		i := x.owner - maxLanes
		s.marks |= 1 << i
		s.again &^= 1 << i
		s.ends[i] = x.pos
		return
	}
	s.intent = max(s.intent, x.end)
	if c.mut[IntentForgotten] {
		s.intent = x.end
	}
	if x.final != 0 {
		if p := s.pos[x.owner]; x.pos < p || x.pos == p && !c.on[Parts] && !c.on[XA] {
			s.ghost |= ghostTwice
		}
		s.pos[x.owner] = x.pos
	}
}

// duplicates says whether two rows hold one unique value.
func (s *state) duplicates() bool {
	for k, x := range s.t {
		if x != 0 && x.unique() != 0 && !s.t.free(x.unique(), k) {
			return true
		}
	}
	return false
}

// owe records that key k was skipped. The row in its way is one that a chunk
// brought, or one that a lane wrote before a crash; so the change that brings k
// is due by the highest log end after any chunk's read, or by what was executed
// before the crash. The log end after the read of k's own chunk would not do:
// the row in the way may come from a later read of another.
func (s *state) owe(c *Config, k int, x *txn) {
	bound := s.newest(c)
	if x.owner >= maxLanes {
		bound = max(bound, x.pos) // its mover may be gone
	}
	if c.mut[DebtBoundAtRead] && x.owner >= maxLanes {
		bound = x.pos
	}
	if s.debt[k] == 0 || bound+1 < s.debt[k] {
		s.debt[k] = bound + 1
	}
}

// newest is the highest position that an image on the target can come from,
// beyond what was executed by this mover.
func (s *state) newest(c *Config) uint8 {
	p := max(s.floor, s.m)
	for i := range c.Chunks {
		p = max(p, s.ends[i], s.ch[i].h)
	}
	return p
}

// blocked says whether x would have to wait for locks of the undecided
// transaction.
func (m *machine) blocked(x *txn) bool {
	z := &m.s.z
	if z.state != txnOpen && z.state != txnFlying && z.state != txnOrphan {
		return false
	}
	if z.owner == x.owner {
		return true // on the row of the checkpoint
	}
	// The keys asked for, the rows in their way, and the values to be written.
	return z.lockK&(x.keys|x.lockK) != 0 || z.lockV&x.lockV != 0
}

// loseCommit adds, where the configuration allows it, the successor in which
// the connection dies after x's COMMIT was sent.
func (m *machine) loseCommit(x *txn, unknown func(*state)) {
	if !m.cfg.on[LostCommits] || !m.fault() || m.s.z.state != txnNone && (m.s.z.state != txnOpen || m.s.z.owner != x.owner) || x.fail != 0 {
		return
	}
	t := m.do(actLose, x.owner, 0)
	t.faults++
	t.z = *x
	if m.cfg.mut[OnePacket] {
		// The whole transaction was one packet: it has not even been executed,
		// and its sender tries again at once.
		t.z.state = txnStale
		return
	}
	t.z.state = txnFlying
	unknown(t)
}

// lands decides the undecided transaction, or lets a late one arrive.
func (m *machine) lands() {
	s, c := m.s, m.cfg
	z := &s.z
	switch z.state {
	case txnFlying, txnOrphan:
		t := m.do(actLand, z.owner, 1)
		t.z.state = txnCommitted
		if z.state == txnOrphan {
			t.z = txn{}
		}
		t.commit(c, z)
		u := m.do(actLand, z.owner, 0)
		u.z.state = txnRolledBack
		if z.state == txnOrphan {
			u.z = txn{}
		}
	case txnStale:
		t := m.do(actLate, z.owner, 0)
		t.z = txn{}
		if z.epoch != s.epoch && !c.mut[NoEpochCheck] {
			return // it reads the epoch first, under lock, and gives up
		}
		x := s.exec(c, z.op, z.keys, z.inUpd, z.in)
		x.owner, x.final, x.pos, x.end, x.epoch = z.owner, z.final, z.pos, z.end, z.epoch
		if c.mut[OnePacket] {
			x.final = 0
		}
		t.commit(c, &x)
	}
}
