package ghostferry

import (
	"context"
	"fmt"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// owned runs f in a transaction during which this process owns the run; otherwise the
// error is a FencedError. Both are repeated while their error may pass, so f has to find
// out whether it was committed before.
func (c *checkpoint) owned(ctx context.Context, f func(ctx context.Context, tx *sql.Tx) error) error {
	return c.patience.do(ctx, c.attempts, func(ctx context.Context, _ int) error {
		return c.sessions.transaction(ctx, func(ctx context.Context, tx *sql.Tx) error {
			if err := c.lockOwned(ctx, tx); err != nil {
				return err
			}
			return f(ctx, tx)
		})
	})
}

// lockOwned makes sure that this process owns the run until the transaction ends.
func (c *checkpoint) lockOwned(ctx context.Context, tx *sql.Tx) error {
	var epoch uint64
	err := tx.QueryRowContext(ctx, fmt.Sprintf("SELECT epoch FROM %s WHERE run_id=0x%x%s", c.table("runs"), c.runID, c.server.LockingReadSuffix())).Scan(&epoch)
	return c.ownedAt(epoch, err)
}

// chunkRecorded counts a chunk whose rows were committed together with its record.
func (c *checkpoint) chunkRecorded(table *TableSchema) {
	c.recorded.Lock()
	defer c.recorded.Unlock()
	c.recorded.chunks[c.number(table)]++
}

// noteRead remembers how far the source's log reached when rows of a table, or that there
// are none, had been read.
func (c *checkpoint) noteRead(table *TableSchema, end BinlogCoordinate) {
	if !c.begun() {
		return
	}
	c.recorded.Lock()
	defer c.recorded.Unlock()
	c.noteReadLocked(c.number(table), end)
}

func (c *checkpoint) noteReadLocked(number int, end BinlogCoordinate) {
	if at := c.recorded.readEnd[number]; at.File == "" || at.CompareFilePos(end) < 0 {
		if last := c.recorded.lastEnd; last.File == end.File {
			end.File = last.File // of ten thousand tables, which are read in a few files
		}
		c.recorded.lastEnd, c.recorded.readEnd[number] = end, end
	}
}

// readEnd is the furthest that was noted of a table. Whoever records it has locked the table's row
// before: then no earlier place is recorded over a later one.
func (c *checkpoint) readEnd(number int) BinlogCoordinate {
	c.recorded.Lock()
	defer c.recorded.Unlock()
	return c.recorded.readEnd[number]
}

// countRecorded notes what was recorded before.
func (c *checkpoint) countRecorded(previous *resumePoint) {
	c.recorded.Lock()
	defer c.recorded.Unlock()
	c.recorded.chunks, c.recorded.completed, c.recorded.readEnd = map[int]int{}, map[int]bool{}, map[int]BinlogCoordinate{}
	if previous == nil {
		return
	}
	for _, t := range previous.tables {
		c.recorded.chunks[t.number], c.recorded.completed[t.number] = len(t.chunks), t.completed
		c.noteReadLocked(t.number, t.readEnd)
		for _, ch := range t.chunks {
			c.noteReadLocked(t.number, ch.readEnd)
		}
	}
}

// completeTable records that a table's copy is complete; its chunks need no rows any
// more. It is the moment to notice that the target lost chunks it had acknowledged.
func (c *checkpoint) completeTable(ctx context.Context, table *TableSchema) error {
	number := c.number(table)
	c.recorded.Lock()
	recorded := c.recorded.chunks[number]
	c.recorded.Unlock()
	err := c.owned(ctx, func(ctx context.Context, tx *sql.Tx) error {
		// Literals: with parameters each statement would be two round trips, and a run may
		// have ten thousand tables.
		chunks := fmt.Sprintf("%s WHERE run_id=0x%x AND table_number=%d", c.table("chunks"), c.runID, number)
		row := fmt.Sprintf(" WHERE run_id=0x%x AND number=%d", c.runID, number)
		var completed bool
		var found int
		if err := tx.QueryRowContext(ctx, "SELECT completed, (SELECT COUNT(*) FROM "+chunks+") FROM "+c.table("tables")+row+" FOR UPDATE").Scan(&completed, &found); err != nil || completed {
			return err
		}
		if found != recorded {
			return &TargetLostCommitsError{RunID: c.runID, What: fmt.Sprintf("%d of %d copied chunks of %s", recorded-found, recorded, table)}
		}
		end := c.readEnd(number)
		// Chunks with debts stay: a resumed run has to look after them.
		update := append([]byte("UPDATE "+c.table("tables")+" SET completed=1, read_file="), appendHex(nil, []byte(end.File))...)
		update = fmt.Appendf(update, ", read_pos=%d, sum=%d, rows_copied=rows_copied+(SELECT COALESCE(SUM(rows_copied),0) FROM %s AND debts IS NULL)%s",
			end.Pos, tableSum(number, table.Schema, table.Name, true), chunks, row)
		if _, err := tx.ExecContext(ctx, string(update)); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+chunks+" AND debts IS NULL"); err != nil {
			return err
		}
		failpoint("copy.completing")
		return nil
	})
	if err != nil {
		return err
	}
	c.recorded.Lock()
	c.recorded.completed[number] = true
	c.recorded.Unlock()
	failpoint("copy.completed")
	return nil
}

// finish marks the run as done after so many batches, if this process still owns it and
// the target still has everything that it acknowledged. settled are rows on the record of debts that
// are not owed any more. The run's rows stay, so that the same command finds them.
func (c *checkpoint) finish(ctx context.Context, batches uint64, settled map[*TableSchema][]string) error {
	return c.owned(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var batch uint64
		if err := tx.QueryRowContext(ctx, "SELECT batch FROM "+c.table("lanes")+" WHERE run_id=? AND lane=0", c.runID).Scan(&batch); err != nil {
			return err
		}
		if batch != batches {
			return c.wentBack(batch, batches)
		}
		if err := c.checkCompleted(ctx, tx); err != nil {
			return err
		}
		if err := c.checkSettled(ctx, tx); err != nil {
			return err
		}
		if err := c.endDebts(ctx, tx, settled); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "UPDATE "+c.table("runs")+" SET finished=1 WHERE run_id=?", c.runID); err != nil {
			return err
		}
		// The same command then compares everything anew.
		_, err := tx.ExecContext(ctx, "DELETE FROM "+c.table("verifications")+" WHERE run_id=?", c.runID)
		return err
	})
}

// checkCompleted makes sure that the tables that were recorded as complete still are.
func (c *checkpoint) checkCompleted(ctx context.Context, tx *sql.Tx) error {
	rows, err := tx.QueryContext(ctx, "SELECT number FROM "+c.table("tables")+" WHERE run_id=? AND completed=0", c.runID)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	c.recorded.Lock()
	defer c.recorded.Unlock()
	lost := 0
	for rows.Next() {
		var number int
		if err := rows.Scan(&number); err != nil {
			return err
		}
		if c.recorded.completed[number] {
			lost++
		}
	}
	if err := rows.Err(); err != nil || lost == 0 {
		return err
	}
	return &TargetLostCommitsError{RunID: c.runID, What: fmt.Sprintf("the end of the copy of %d tables", lost)}
}

// checkSettled makes sure that nothing is recorded any more that was settled: each such row was
// removed together with what settled it, or behind that, so the target has lost both, or may have.
func (c *checkpoint) checkSettled(ctx context.Context, tx *sql.Tx) error {
	for _, of := range []struct{ table, what string }{
		{"collisions", "the copy of %d rows that rows of others had kept out"},
		{"deferred_indexes", "the end of the creation of indexes of %d tables"},
	} {
		var left int
		if err := tx.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+c.table(of.table)+" WHERE run_id=?", c.runID).Scan(&left); err != nil {
			return err
		}
		if left > 0 {
			return &TargetLostCommitsError{RunID: c.runID, What: fmt.Sprintf(of.what, left)}
		}
	}
	return nil
}

// wentBack: the checkpoint stands at an older batch than the last one acknowledged.
func (c *checkpoint) wentBack(batch, acknowledged uint64) error {
	return &TargetLostCommitsError{RunID: c.runID, What: fmt.Sprintf("%d of %d batches of changes", acknowledged-batch, acknowledged)}
}
