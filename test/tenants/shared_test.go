package tenants

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// manyTenants makes a table of six tenants, two others' rows on the target.
func manyTenants(t *testing.T, p *harness.Pair, rows int) {
	t.Helper()
	p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, owner INT NOT NULL, v INT, doc VARCHAR(200), KEY by_owner (owner))")
	p.In(t, p.SourceDB, schema, fmt.Sprintf("INSERT INTO t SELECT i, i MOD 6, 0, REPEAT('x', i MOD 200) FROM (WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) SELECT i FROM n) AS m", min(rows, 900)))
	for have := 900; have < rows; have *= 2 {
		p.In(t, p.SourceDB, schema, fmt.Sprintf("INSERT INTO t SELECT id+%d, owner, 0, doc FROM t WHERE id <= %d", have, rows-have))
	}
	p.In(t, p.TargetDB, schema, "INSERT INTO t VALUES (1000001,100,7,'others'),(1000002,101,7,'others')")
}

// stays is a tenant that does not move; rows come from it and go to it, and from one that
// moves to another.
const stays = 50

func changeTenants(t *testing.T, p *harness.Pair, rows int) *harness.Churn {
	one := func(_ context.Context, tx *harness.Tx) error {
		id := tx.Rand.IntN(rows)
		return tx.Exec("UPDATE tenants.t SET owner=?, v=v+1 WHERE id=?", []int{id % 6, tx.Rand.IntN(6), stays}[tx.Rand.IntN(3)], id)
	}
	return p.Churn(t, harness.ChurnOptions{Every: 4 * time.Millisecond}, one, one, replaceRow(rows))
}

// replaceRow is a transaction of two row events.
func replaceRow(rows int) harness.Change {
	return func(_ context.Context, tx *harness.Tx) error {
		id := tx.Rand.IntN(rows)
		if err := tx.Exec("DELETE FROM tenants.t WHERE id=?", id); err != nil {
			return err
		}
		return tx.Exec("INSERT INTO tenants.t VALUES (?,?,0,'new')", id, id%6)
	}
}

// dumps returns how many replicas the source serves.
func dumps(t *testing.T, db *sql.DB) int {
	return len(harness.Rows(t, db, "SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'"))
}

// tenantFerry is the move of one tenant of manyTenants.
func tenantFerry(p *harness.Pair, owner int, shared *ghostferry.SharedStreamer) *ghostferry.Ferry {
	config := p.Config(schema)
	config.CopyFilter = &ghostferry.RowFilter{Where: ghostferry.RowCondition{"owner": {owner}}}
	config.SharedStreamer, config.SkipTargetVerification = shared, true
	config.UpdatableConfig.DataIterationBatchSize = 100
	return &ghostferry.Ferry{Config: config}
}

// Six moves in one process follow the source over one connection while all tenants write
// and rows pass from each to each and to one that stays; one of them is interrupted and goes on.
// MySQL's log holds transactions of one writer compressed, with several row events in each.
func TestSharedStreamer(t *testing.T) {
	inTurn(t, func(t *testing.T, p *harness.Pair) {
		ctx := minutes(t)
		const rows = 1800
		manyTenants(t, p, rows)
		before := dumps(t, p.SourceDB)
		churn := changeTenants(t, p, rows)
		compressed := harness.ChurnOptions{Every: 4 * time.Millisecond, Seed: 1}
		if !p.IsMariaDB() {
			compressed.Setup = []string{"SET SESSION binlog_transaction_compression=ON"}
		}
		packed := p.Churn(t, compressed, replaceRow(rows))
		var once sync.Once
		var stopped error
		fence := func() error {
			once.Do(func() { stopped = errors.Join(churn.Stop(), packed.Stop()) })
			return stopped
		}
		p.NoLeak(t, func() {
			config := p.Config().Source
			shared := &ghostferry.SharedStreamer{Source: config, Logger: harness.TestLogger()}
			require.NoError(t, shared.Start(ctx))
			var ready, ended sync.WaitGroup // no writer stops before all are ready for it
			ready.Add(6)
			errs := make([]error, 6)
			for owner := range 6 {
				ended.Go(func() {
					var arrived sync.Once
					arrive := func() { arrived.Do(ready.Done) }
					defer arrive()
					if owner == 2 {
						errs[owner] = interrupted(ctx, tenantFerry(p, owner, shared))
						if errs[owner] != nil {
							return
						}
					}
					ferry := tenantFerry(p, owner, shared)
					errs[owner] = harness.Move(ctx, ferry, func() error {
						arrive()
						ready.Wait()
						return fence()
					})
					errs[owner] = errors.Join(errs[owner], ferry.Close())
				})
			}
			ready.Wait()
			during := dumps(t, p.SourceDB) - before
			ended.Wait()
			require.NoError(t, errors.Join(errs...))
			stats := shared.Stats()
			require.LessOrEqual(t, during, 2, "%+v", stats) // the one that went on may not have joined yet
			require.NotZero(t, stats.RowEventsDecoded)
			require.Zero(t, stats.Left)
			require.NoError(t, shared.Close())
		})
		ours := "SELECT * FROM tenants.t WHERE owner < 6 ORDER BY id"
		require.Equal(t, harness.Rows(t, p.SourceDB, ours), harness.Rows(t, p.TargetDB, ours))
		require.Equal(t, 2, harness.Count(t, p.TargetDB, "tenants.t WHERE owner >= 100"))
	})
}

// A move that ends before it streams leaves no seat behind that the others would wait for: one that is
// closed, one that cannot prepare the target, and one whose stream never came to its seat.
func TestSharedSeatsAreGivenBack(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minutes(t)
		manyTenants(t, p, 900)
		shared := &ghostferry.SharedStreamer{Source: p.Config().Source, Logger: harness.TestLogger()}
		require.NoError(t, shared.Start(ctx))
		closed, refused := tenantFerry(p, 1, shared), tenantFerry(p, 2, shared)
		for _, f := range []*ghostferry.Ferry{closed, refused} {
			require.NoError(t, f.InitializeContext(ctx))
			require.NoError(t, f.StartContext(ctx))
		}
		require.Equal(t, 2, shared.Stats().Subscribers)
		require.NoError(t, closed.Close())
		require.Equal(t, 1, shared.Stats().Subscribers)
		p.In(t, p.TargetDB, schema, "INSERT INTO t VALUES (1000003,2,7,'in its way')")
		require.Error(t, refused.RunContext(ctx))
		require.Zero(t, shared.Stats().Subscribers)
		require.NoError(t, errors.Join(refused.Close(), shared.Close()))
	})
}

// interrupted begins a move and ends it in the middle of its copy.
func interrupted(ctx context.Context, f *ghostferry.Ferry) error {
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := f.InitializeContext(run); err != nil {
		return err
	}
	if err := f.StartContext(run); err != nil {
		return err
	}
	f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { cancel(); return nil })
	if err := f.RunContext(run); !errors.Is(err, ghostferry.ErrInterrupted) {
		return fmt.Errorf("an interrupted run ended with %w", err)
	}
	return f.Close()
}

// A move that does not keep up leaves, the others go on, and it loses nothing; nor does
// anybody when the shared stream ends, or its connection breaks.
func TestSharedStreamerIsLeft(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minutes(t)
		const rows = 900
		manyTenants(t, p, rows)
		p.In(t, p.SourceDB, schema, "CREATE TABLE noise (id INT AUTO_INCREMENT PRIMARY KEY, doc LONGTEXT)")
		shared := &ghostferry.SharedStreamer{Source: p.Config().Source, Logger: harness.TestLogger()}
		require.NoError(t, shared.Start(ctx))
		slow, fast := tenantFerry(p, 1, shared), tenantFerry(p, 2, shared)
		hold := make(chan struct{})
		for _, f := range []*ghostferry.Ferry{slow, fast} {
			f.TableFilter = onlyTable{"t"}
			require.NoError(t, f.InitializeContext(ctx))
		}
		slow.BinlogStreamer.AddEventListener(func([]ghostferry.DMLEvent) error {
			select {
			case <-hold:
			case <-ctx.Done():
			}
			return nil
		})
		for _, f := range []*ghostferry.Ferry{slow, fast} {
			require.NoError(t, f.StartContext(ctx))
		}
		require.Equal(t, 2, shared.Stats().Subscribers)
		runs := make(chan error, 2)
		done := make(chan struct{})
		go func() { runs <- harness.RunStarted(ctx, slow, func() error { <-done; return nil }) }()
		p.In(t, p.SourceDB, schema, "UPDATE t SET v=v+1 WHERE owner=1")
		for range 14 {
			p.In(t, p.SourceDB, schema, "INSERT INTO noise (doc) VALUES (REPEAT('x',4000000))")
		}
		go func() {
			runs <- harness.RunStarted(ctx, fast, func() error {
				p.KillConnections(t, p.SourceDB, p.Source.User())
				return p.TryIn(ctx, p.SourceDB, schema, "UPDATE t SET v=v+1 WHERE owner=2")
			})
		}()
		require.NoError(t, <-runs)
		harness.Await(t, "the slow one's leave", func() bool { return shared.Stats().Left == 1 })
		close(hold)
		require.NoError(t, slow.WaitUntilBinlogStreamerCatchesUpContext(ctx))
		require.NoError(t, shared.Close())
		p.In(t, p.SourceDB, schema, "UPDATE t SET v=v+1 WHERE owner=1")
		close(done)
		require.NoError(t, <-runs)
		require.NoError(t, errors.Join(slow.Close(), fast.Close()))
		ours := "SELECT * FROM tenants.t WHERE owner IN (1,2) ORDER BY id"
		require.Equal(t, harness.Rows(t, p.SourceDB, ours), harness.Rows(t, p.TargetDB, ours))
	})
}

// A source that is restarted while a move copies and follows it by a shared stream: each move
// judges for itself whether the source still has what it has read, and goes on.
func TestSharedSourceIsRestarted(t *testing.T) {
	for _, s := range harness.OneSetting(t) {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			p := harness.New(t, s) // its servers are killed
			ctx := minutes(t)
			manyTenants(t, p, 900)
			shared := &ghostferry.SharedStreamer{Source: p.Config().Source, Logger: harness.TestLogger()}
			require.NoError(t, shared.Start(ctx))
			f := tenantFerry(p, 1, shared)
			f.UpdatableConfig.DataIterationBatchSize, f.DataIterationConcurrency = 10, 1
			require.NoError(t, f.InitializeContext(ctx))
			require.NoError(t, f.StartContext(ctx))
			require.Equal(t, 1, shared.Stats().Subscribers)
			batches := 0
			f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error {
				if batches++; batches == 5 {
					return errors.Join(p.Source.Kill(), p.Source.Restart(ctx))
				}
				return nil
			})
			require.NoError(t, harness.RunStarted(ctx, f, func() error {
				return p.TryIn(ctx, p.SourceDB, schema, "UPDATE t SET v=v+1 WHERE owner=1")
			}))
			require.Greater(t, batches, 5)
			require.NoError(t, errors.Join(f.Close(), shared.Close()))
			ours := "SELECT * FROM tenants.t WHERE owner=1 ORDER BY id"
			require.Equal(t, harness.Rows(t, p.SourceDB, ours), harness.Rows(t, p.TargetDB, ours))
		})
	}
}

type onlyTable []string

func (onlyTable) ApplicableDatabases([]string) ([]string, error) { return []string{schema}, nil }

func (o onlyTable) ApplicableTables(tables []*ghostferry.TableSchema) (out []*ghostferry.TableSchema, err error) {
	for _, table := range tables {
		if strings.EqualFold(table.Name, o[0]) {
			out = append(out, table)
		}
	}
	return out, nil
}
