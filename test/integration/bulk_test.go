package integration

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

var bulkTables = []string{
	"CREATE TABLE plain (id INT NOT NULL PRIMARY KEY, v INT NOT NULL, pad VARCHAR(100) NOT NULL)",
	"CREATE TABLE further (id INT NOT NULL PRIMARY KEY, u INT NULL, pad VARCHAR(100) NOT NULL, UNIQUE KEY (u))",
	"CREATE TABLE named (name VARCHAR(30) NOT NULL PRIMARY KEY, v INT NOT NULL)",
}

// bulk is one transaction of more than 50,000 row changes, in the order of a shuffle of
// what an application might do to three tables at once.
var bulk = []string{
	"BEGIN",
	"INSERT INTO plain WITH RECURSIVE n (i) AS (SELECT 10001 UNION ALL SELECT i+1 FROM n WHERE i < 30000) SELECT i, i, REPEAT('x', i%100) FROM n",
	"UPDATE further SET u=NULL",
	"UPDATE plain SET v=v+1, pad=CONCAT('u',LEFT(pad,50)) WHERE id > 12000",
	"UPDATE plain SET id=id+100000 WHERE id <= 5000",
	"DELETE FROM plain WHERE id BETWEEN 5001 AND 7000",
	"UPDATE further SET u=10001-id",
	"UPDATE named SET name=UPPER(name), v=v+1 WHERE v % 2 = 0",
	"DELETE FROM named WHERE v % 5 = 0",
	"COMMIT",
}

func createBulk(t *testing.T, p *harness.Pair) {
	t.Helper()
	p.Create(t, "bulk", bulkTables...)
	p.In(t, p.SourceDB, "bulk", "SET SESSION "+recursionLimit(p)+"=100000",
		"INSERT INTO plain WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 10000) SELECT i, i, 'seed' FROM n",
		"INSERT INTO further WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 3000) SELECT i, i, 'seed' FROM n",
		"INSERT INTO named WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 400) SELECT CONCAT('name ',i), i FROM n")
}

func recursionLimit(p *harness.Pair) string {
	if p.IsMariaDB() {
		return "max_recursive_iterations"
	}
	return "cte_max_recursion_depth"
}

// A transaction larger than any batch is applied in parts; a run that is cancelled
// between two parts begins it again.
func TestLargeTransaction(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		createBulk(t, p)
		statements := append([]string{"SET SESSION " + recursionLimit(p) + "=100000"}, bulk...)

		f := bulkFerry(p)
		f.Config.AutomaticCutover = false
		mustStart(t, ctx, f)
		run, stop := context.WithCancel(ctx)
		delivered := 0
		f.BinlogStreamer.AddEventListener(func(events []ghostferry.DMLEvent) error {
			if delivered += len(events); delivered > 35000 {
				stop() // some 10,000 changes are on the target, the transaction's end is not in sight
			}
			return nil
		})
		var once sync.Once
		written := make(chan error, 1)
		f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error {
			once.Do(func() {
				go func() { written <- p.TryIn(ctx, p.SourceDB, "bulk", statements...) }()
			})
			return nil
		})
		mustBeInterrupted(t, harness.RunStarted(run, f, nil))
		if err := <-written; err != nil {
			t.Fatal(err)
		}

		f = bulkFerry(p)
		if err := harness.Move(ctx, f, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		p.MustEqual(t, "bulk")
		if applied := f.Progress().BinlogRowsApplied; applied < 50000 {
			t.Fatalf("%d changes were applied", applied)
		}
	})
}

func bulkFerry(p *harness.Pair) *ghostferry.Ferry {
	f := &ghostferry.Ferry{Config: p.Config("bulk")}
	f.UpdatableConfig.DataIterationBatchSize = 1000
	return f
}

// The log's file changes all the time, up to the stop position itself.
func TestRotation(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		o := p.Shop(t, "rotation", 3000)
		writer := p.Write(t, o, 80)
		rotations := p.Churn(t, harness.ChurnOptions{Every: 15 * time.Millisecond}, func(_ context.Context, tx *harness.Tx) error {
			return tx.Exec("FLUSH BINARY LOGS")
		})
		f := &ghostferry.Ferry{Config: p.Config(o.Database)}
		f.UpdatableConfig.DataIterationBatchSize = 50
		if err := f.InitializeContext(ctx); err != nil {
			t.Fatal(err)
		}
		f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { return rotations.Await(ctx, 1) })
		if err := f.StartContext(ctx); err != nil {
			t.Fatal(err)
		}
		err := harness.RunStarted(ctx, f, func() error {
			if _, err := writer.Stop(); err != nil {
				return err
			}
			// Until here, and once more: the stop position is the beginning of a file.
			if err := rotations.Stop(); err != nil {
				return fmt.Errorf("rotations: %w", err)
			}
			_, err := p.SourceDB.ExecContext(ctx, "FLUSH BINARY LOGS")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		p.MustEqual(t, o.Database)
	})
}
