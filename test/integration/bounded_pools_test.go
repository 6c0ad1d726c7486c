package integration

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	logtest "github.com/sirupsen/logrus/hooks/test"
	"golang.org/x/sync/errgroup"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// A host may allow the pools fewer connections than there are workers and lanes: they take turns,
// and what else the run asks finds a connection, too. The log says what is too few.
func TestBoundedPools(t *testing.T) {
	onSomeSettings(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, "bounded", "CREATE TABLE a (id BIGINT PRIMARY KEY, v INT)", "CREATE TABLE b (id BIGINT PRIMARY KEY, v INT, u BIGINT AS (id) STORED UNIQUE)")
		for _, table := range []string{"a", "b"} {
			p.In(t, p.SourceDB, "bounded", "INSERT INTO "+table+" (id, v) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 900) SELECT i, 0 FROM n")
		}
		logger, lines := logtest.NewNullLogger()
		ctx := minute(t)
		f := &ghostferry.Ferry{Config: p.Config("bounded")}
		f.Config.Logger = logger
		f.DataIterationConcurrency = 8
		f.UpdatableConfig.DataIterationBatchSize = 5
		if err := f.InitializeContext(ctx); err != nil {
			t.Fatal(err)
		}
		f.SourceDB.SetMaxOpenConns(4)
		f.TargetDB.SetMaxOpenConns(4)
		if err := f.StartContext(ctx); err != nil {
			t.Fatal(err)
		}
		churn := p.Churn(t, harness.ChurnOptions{}, func(_ context.Context, tx *harness.Tx) error {
			if tx.Rand.IntN(20) == 0 { // enough for all lanes, in two phases
				return tx.Exec("UPDATE bounded.b SET v=v+1")
			}
			return tx.Exec(fmt.Sprintf("UPDATE bounded.%c SET v=v+1 WHERE id=%d", 'a'+rune(tx.Rand.IntN(2)), tx.Rand.IntN(900)+1))
		})
		if err := harness.RunStarted(ctx, f, churn.Stop); err != nil {
			t.Fatal(err)
		}
		p.MustEqual(t, "bounded")
		told := map[string]bool{}
		for _, line := range lines.AllEntries() {
			if pool, _, is := strings.Cut(line.Message, " is bounded to 4 connections"); is {
				told[pool] = true
			}
		}
		if len(told) != 2 {
			t.Errorf("the log tells of %v", told)
		}
	})
}

// startsLast is the throttler of one of several cursors: after its first batch it waits until each
// of them has had one.
type startsLast struct {
	ghostferry.PauserThrottler
	begun bool
	left  *atomic.Int32 // how many have not had one
}

func (s *startsLast) Throttled() bool { return s.begun && s.left.Load() > 0 }

// More cursors than a bounded pool has connections take turns, while each of them waits between its
// batches, too; and callbacks of those that lock nothing find a connection of the same pool.
func TestCursorsOfABoundedPool(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		names := []string{"a", "b", "c", "d"}
		for _, pool := range []int{1, 2, 4} {
			for _, locks := range []bool{true, false} {
				t.Run(fmt.Sprintf("%d, locks %v", pool, locks), func(t *testing.T) {
					var ddl []string
					for _, name := range names {
						ddl = append(ddl, "CREATE TABLE "+name+" (id INT PRIMARY KEY)")
					}
					p.Create(t, aloneSchema, ddl...)
					for _, name := range names {
						p.In(t, p.SourceDB, aloneSchema, "INSERT INTO "+name+" VALUES (1),(2),(3),(4),(5)")
					}
					c := newParts(t, p, false)
					defer c.close(t)
					c.source.SetMaxOpenConns(pool)
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
					defer cancel()
					size := uint64(2)
					var left, together atomic.Int32
					left.Store(int32(len(names)))
					all := make(chan struct{}) // closed when as many callbacks are under way as the pool has connections
					group, ctx := errgroup.WithContext(ctx)
					for _, name := range names {
						turn := &startsLast{left: &left}
						config := &ghostferry.CursorConfig{DB: c.source, BatchSize: &size, Throttler: turn}
						cursor := config.NewCursor(c.table(name), nil, nil)
						cursor.RowLock = locks
						group.Go(func() error {
							rows := 0
							err := cursor.EachContext(ctx, func(ctx context.Context, b *ghostferry.RowBatch) error {
								rows += b.Size()
								if !turn.begun {
									turn.begun = true
									left.Add(-1)
								}
								if locks {
									return nil
								}
								if together.Add(1) == int32(pool) {
									close(all)
								}
								select {
								case <-all:
								case <-ctx.Done():
									return ctx.Err()
								}
								_, err := c.source.ExecContext(ctx, "DO 1")
								return err
							})
							if err == nil && rows != 5 {
								err = fmt.Errorf("%s: %d rows", name, rows)
							}
							return err
						})
					}
					if err := group.Wait(); err != nil {
						t.Error(err)
					}
				})
			}
		}
	})
}
