package ghostferry

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strconv"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// The table rechecks has the keys of rows that differed when their batch was written, in the batch's
// transaction. A row of it goes when the verifier's progress is saved that has the key, or in which it
// was compared.

const (
	// settledRechecks is how many rows of the table rechecks are removed at once, and
	// settledTogether how many a statement removes.
	settledRechecks = 20 * settledTogether
	settledTogether = 500
)

// recheckQueued notes rows of the table rechecks whose keys the verifier has queued: from then on
// each is in its progress, or was compared.
func (c *checkpoint) recheckQueued(ids ...uint64) {
	c.queued.Lock()
	defer c.queued.Unlock()
	c.queued.rechecks = append(c.queued.rechecks, ids...)
}

// queuedRechecks returns rows of the table rechecks whose keys the verifier has queued, the first ones
// if there are very many.
func (c *checkpoint) queuedRechecks() []uint64 {
	c.queued.Lock()
	defer c.queued.Unlock()
	return slices.Clone(c.queued.rechecks[:min(len(c.queued.rechecks), settledRechecks)])
}

// settleRechecks saves the verifier's progress and removes rows of the table rechecks whose keys were
// queued before it was read: a process that takes the run over finds each in one of the two, or it was
// compared.
func (c *checkpoint) settleRechecks(ctx context.Context, saved savedVerification, settled []uint64) error {
	err := c.owned(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if err := c.saveVerification(ctx, tx, saved); err != nil {
			return err
		}
		for ids := range slices.Chunk(settled, settledTogether) {
			stmt := fmt.Appendf(nil, "DELETE FROM %s WHERE run_id=0x%x AND id IN (0", c.table("rechecks"), c.runID)
			for _, id := range ids {
				stmt = strconv.AppendUint(append(stmt, ','), id, 10)
			}
			if _, err := tx.ExecContext(ctx, string(stmt)+")"); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.queued.Lock()
	defer c.queued.Unlock()
	c.queued.rechecks = c.queued.rechecks[len(settled):]
	return nil
}

// appendRechecks appends the statement that remembers rows to be compared again.
func (c *checkpoint) appendRechecks(dst []byte, table *TableSchema, keys []string) []byte {
	dst = append(dst, "INSERT INTO "+c.table("rechecks")+" (run_id, table_number, row_key, sum) VALUES "...)
	number := c.number(table)
	for i, key := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendHex(append(dst, '('), []byte(c.runID)), ',')
		dst = append(strconv.AppendInt(dst, int64(number), 10), ',')
		dst = append(appendHex(dst, []byte(key)), ',')
		dst = append(strconv.AppendUint(dst, uint64(recheckSum(number, key)), 10), ')')
	}
	return dst
}

// recordRechecks remembers rows to be compared again, in the session's transaction. It returns the
// numbers of their records.
func (c *checkpoint) recordRechecks(ctx context.Context, s *session, table *TableSchema, keys []string) (ids []uint64, err error) {
	if _, err := s.exec(ctx, c.appendRechecks(s.statement(), table, keys)); err != nil {
		return nil, err
	}
	own := make(map[string]struct{}, len(keys))
	for _, key := range keys {
		own[key] = struct{}{}
	}
	// Between them may be those of others, and of a cluster not every number is used.
	stmt := append(s.statement(), "SELECT CAST(id AS CHAR), row_key FROM "+c.table("rechecks")+" WHERE id>=LAST_INSERT_ID() AND run_id="...)
	stmt = append(appendHex(stmt, []byte(c.runID)), " AND table_number="...)
	err = s.query(ctx, strconv.AppendInt(stmt, int64(c.number(table)), 10), func(values []driver.Value) error {
		number, _ := values[0].([]byte)
		key, _ := values[1].([]byte)
		if _, recorded := own[string(key)]; !recorded {
			return nil
		}
		id, err := strconv.ParseUint(string(number), 10, 64)
		ids = append(ids, id)
		return err
	})
	return ids, err
}

func (c *checkpoint) loadRechecks(ctx context.Context, db queryer, p *resumePoint) error {
	names := map[int]TableIdentifier{}
	for id, t := range p.tables {
		names[t.number] = id
	}
	rows, err := db.QueryContext(ctx, "SELECT id, table_number, row_key, sum FROM "+c.table("rechecks")+" WHERE run_id=?", c.runID)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	p.rechecks = map[TableIdentifier][]recheck{}
	for rows.Next() {
		var row uint64
		var number int
		var key []byte
		var sum uint32
		if err := rows.Scan(&row, &number, &key, &sum); err != nil {
			return err
		}
		id, known := names[number]
		if !known {
			return c.damaged(fmt.Sprintf("a row of table number %d, which it does not know, is to be compared again", number))
		}
		if recheckSum(number, string(key)) != sum {
			return c.damaged(fmt.Sprintf("the key of a row of table number %d that is to be compared again does not fit its checksum", number))
		}
		p.rechecks[id] = append(p.rechecks[id], recheck{row, string(key)})
	}
	return rows.Err()
}

// endRechecks removes every row to be compared again; earlier versions kept all that there ever were.
func (c *checkpoint) endRechecks(ctx context.Context, tx *sql.Tx) error {
	for {
		done, err := tx.ExecContext(ctx, fmt.Sprintf("DELETE FROM %s WHERE run_id=? ORDER BY id LIMIT %d", c.table("rechecks"), settledRechecks), c.runID)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n < settledRechecks {
			return err
		}
	}
}
