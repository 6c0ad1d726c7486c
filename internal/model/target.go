package model

// The target's operators. Each computes what a transaction writes on the rows
// as they are and the locks that it takes; commit makes it so.

// insertAbsent inserts the rows of keys that are absent. A row whose unique
// value another row holds is skipped: it becomes a debt.
func (s *state) insertAbsent(c *Config, in rows, keys uint8) txn {
	x := txn{keys: keys, epoch: s.epoch, rows: in}
	t := s.t
	for k := range c.Keys {
		if keys>>k&1 == 0 || in[k] == 0 {
			continue
		}
		x.lockK |= 1 << k
		x.lockV |= 1 << in[k].unique()
		switch holder := t.holder(c, k, in[k]); {
		case t[k] != 0:
		case holder >= 0:
			x.skip |= 1 << k
			x.lockK |= 1 << holder
		default:
			t[k] = in[k]
			x.wrote |= 1 << k
		}
	}
	x.lockV &^= 1
	return x
}

// holder is the key of another row that holds x's unique value, or -1.
func (t *rows) holder(c *Config, k int, x img) int {
	if c.on[OnePhase] {
		return -1
	}
	for o := range c.Keys {
		if o != k && t[o] != 0 && x.unique() != 0 && t[o].unique() == x.unique() {
			return o
		}
	}
	return -1
}

// deleteKeys deletes rows by their own key.
func (s *state) deleteKeys(c *Config, keys uint8) txn {
	x := txn{keys: keys, epoch: s.epoch}
	for k := range c.Keys {
		if keys>>k&1 != 0 && s.t[k] != 0 {
			x.wrote |= 1 << k
			x.lockK |= 1 << k
			x.lockV |= 1 << s.t[k].unique()
		}
	}
	x.lockV &^= 1
	return x
}

// upsert makes every key's row equal to in, absent ones included.
func (s *state) upsert(keys uint8, in rows) txn {
	return txn{keys: keys, epoch: s.epoch, rows: in, wrote: keys, lockK: keys}
}

// commit makes a transaction's writes durable, with its checkpoint row.
func (s *state) commit(c *Config, x *txn) {
	if x.epoch != s.epoch {
		s.ghost |= ghostFenced
	}
	for k := range c.Keys {
		if x.wrote>>k&1 != 0 {
			s.t[k] = x.rows[k]
		}
		if x.owner < maxLanes && x.keys>>k&1 != 0 {
			s.debt[k] = 0 // the pending change has come
		}
		if x.skip>>k&1 != 0 {
			s.owe(c, k, x)
		}
	}
	if x.owner >= maxLanes {
		s.marks |= 1 << (x.owner - maxLanes)
	} else if x.final != 0 {
		if p := s.pos[x.owner]; x.pos < p || x.pos == p && !c.on[Parts] {
			s.ghost |= ghostTwice
		}
		s.pos[x.owner] = x.pos
	}
}

// owe records that key k was skipped. The change that brings it lies before the
// end of the log now. The log end after the chunk's read would not do: the row
// in the way may come from a later read of another chunk.
func (s *state) owe(c *Config, k int, x *txn) {
	bound := s.n
	if c.mut[DebtBoundAtRead] && x.owner >= maxLanes {
		bound = x.pos
	}
	if s.debt[k] == 0 || bound+1 < s.debt[k] {
		s.debt[k] = bound + 1
	}
}

// blocked says whether x would have to wait for locks of the undecided
// transaction.
func (m *machine) blocked(x *txn) bool {
	z := &m.s.z
	if z.state != txnOpen && z.state != txnFlying && z.state != txnOrphan {
		return false
	}
	// The keys asked for, the rows in their way, and the values to be written.
	return z.lockK&(x.keys|x.lockK) != 0 || z.lockV&x.lockV != 0
}

// loseCommit adds, where the configuration allows it, the successor in which
// the connection dies after x's COMMIT was sent.
func (m *machine) loseCommit(x *txn, unknown func(*state)) {
	if !m.cfg.on[LostCommits] || !m.fault() || m.s.z.state != txnNone {
		return
	}
	t := m.do(actLose, x.owner, 0)
	t.faults++
	t.z = *x
	t.z.state = txnFlying
	unknown(t)
}

// lands decides the undecided transaction.
func (m *machine) lands() {
	z := &m.s.z
	if z.state != txnFlying && z.state != txnOrphan {
		return
	}
	t := m.do(actLand, z.owner, 1)
	t.commit(m.cfg, z)
	t.z.state = txnCommitted
	u := m.do(actLand, z.owner, 0)
	u.z.state = txnRolledBack
	if z.state == txnOrphan {
		m.out[len(m.out)-2].to.z, u.z = txn{}, txn{}
	}
}
