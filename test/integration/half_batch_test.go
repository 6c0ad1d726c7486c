package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// A batch that fails between two of its statements leaves nothing behind: no row, no lock
// that its own repetition would wait for, and no open transaction in the pool that the next
// BEGIN would commit.
func TestHalfABatchLeavesNothing(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, "half_batch", "CREATE TABLE halves (id INT NOT NULL PRIMARY KEY, v MEDIUMBLOB NOT NULL)")
		p.In(t, p.TargetDB, "half_batch", "ALTER TABLE halves MODIFY id TINYINT NOT NULL")
		tables, err := ghostferry.LoadTables(&sqlwrapper.DB{DB: p.SourceDB}, harness.Schemas{"half_batch"}, nil, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		big := bytes.Repeat([]byte{7}, 700<<10) // a statement of its own each
		rows := []ghostferry.RowData{{int64(1), big}, {int64(2), big}, {int64(300), big}}
		w := &ghostferry.BatchWriter{DB: &sqlwrapper.DB{DB: p.TargetDB}, WriteRetries: 1, BulkLoad: "off"}
		if err := w.WriteRowBatch(ghostferry.NewRowBatch(tables["half_batch.halves"], rows, 0)); err == nil {
			t.Fatal("row 300 has a smaller key on the target")
		}
		// Waits for the transaction's end, not for its connection's next user.
		p.In(t, p.TargetDB, "half_batch", "SET innodb_lock_wait_timeout=5", "INSERT INTO halves VALUES (1,'x'),(2,'x')", "DELETE FROM halves")
		if n := harness.Count(t, p.TargetDB, "half_batch.halves"); n != 0 {
			t.Fatalf("%d rows of a batch that failed are on the target", n)
		}
		p.In(t, p.TargetDB, "half_batch", "ALTER TABLE halves MODIFY id INT NOT NULL")
		if err := w.WriteRowBatch(ghostferry.NewRowBatch(tables["half_batch.halves"], rows, 0)); err != nil {
			t.Fatal(err)
		}
		if n := harness.Count(t, p.TargetDB, "half_batch.halves"); n != len(rows) {
			t.Fatalf("%d rows of %d are on the target", n, len(rows))
		}
	})
}

// A reading transaction that is killed between read and write takes its locks with it.
// Rows that were changed meanwhile are not written, but read again.
func TestLostLocksAreNoticed(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, "lost_locks", "CREATE TABLE locked (id INT NOT NULL PRIMARY KEY, v INT NOT NULL)")
		p.In(t, p.SourceDB, "lost_locks", "INSERT INTO locked VALUES (1,1),(2,1)")
		source := &sqlwrapper.DB{DB: p.SourceDB}
		tables, err := ghostferry.LoadTables(source, harness.Schemas{"lost_locks"}, nil, nil, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		batches := 0
		d := &ghostferry.DataIterator{
			DB: source, Concurrency: 1, ErrorHandler: &ghostferry.PanicErrorHandler{},
			CursorConfig: &ghostferry.CursorConfig{DB: source, ReadRetries: 3},
		}
		d.AddBatchListener(func(*ghostferry.RowBatch) error {
			if batches++; batches > 1 {
				return nil
			}
			if err := killTransactions(t.Context(), p); err != nil {
				return err
			}
			return p.TryIn(t.Context(), p.SourceDB, "lost_locks", "UPDATE locked SET v=2 WHERE id=1", "DELETE FROM locked WHERE id=2")
		})
		w := &ghostferry.BatchWriter{DB: &sqlwrapper.DB{DB: p.TargetDB}}
		d.AddBatchListener(w.WriteRowBatch)
		if err := d.RunContext(t.Context(), tables.AsSlice()); err != nil {
			t.Fatal(err)
		}
		if batches != 2 {
			t.Errorf("%d batches, expected the first one twice", batches)
		}
		p.MustEqual(t, "lost_locks")
	})
}

// killTransactions ends the sessions of the source that are in a transaction.
func killTransactions(ctx context.Context, p *harness.Pair) error {
	rows, err := p.SourceDB.QueryContext(ctx, "SELECT trx_mysql_thread_id FROM information_schema.innodb_trx WHERE trx_mysql_thread_id NOT IN (0, CONNECTION_ID())")
	if err != nil {
		return err
	}
	var ids []int
	for rows.Next() {
		var id int
		if err := rows.Scan(&id); err != nil {
			return err
		}
		ids = append(ids, id)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, id := range ids {
		if _, err := p.SourceDB.ExecContext(ctx, fmt.Sprintf("KILL %d", id)); err != nil {
			return err
		}
	}
	return nil
}
