package integration

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// F05: the target has lost what it had acknowledged, under a run that goes on: a chunk
// with its record, or a batch. It is noticed, and the next run goes on from what is there.
// (TestTargetThatLosesCommits in test/stress kills a server that really loses them.)
func TestF05TargetLosesAcknowledgedCommits(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		ferry := func() *ghostferry.Ferry {
			f := shopFerry(p, "lost_commits", 2)
			f.Config.SkipTargetVerification = true // the test's own hand on the target
			f.Config.DataIterationConcurrency = 1  // there is one chunk when one is lost
			return f
		}
		p.Create(t, "lost_commits", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, "lost_commits", "INSERT INTO t VALUES (1,1),(2,2),(3,3),(4,4),(5,5),(6,6),(7,7),(8,8)")
		mustLose := func(f *ghostferry.Ferry, err error) {
			t.Helper()
			var lost *ghostferry.TargetLostCommitsError
			require.ErrorAs(t, err, &lost)
			require.True(t, ghostferry.Resumable(err))
		}

		f := ferry()
		mustStart(t, ctx, f)
		var once sync.Once
		f.DataIterator.AddBatchListener(func(b *ghostferry.RowBatch) (err error) { // behind the Ferry's own
			once.Do(func() {
				for _, key := range harness.Keys(b) {
					if err = p.TryIn(ctx, p.TargetDB, "lost_commits", "DELETE FROM t WHERE id="+key[:len(key)-1]); err != nil {
						return
					}
				}
				err = p.TryIn(ctx, p.TargetDB, "_ghostferry", "DELETE FROM chunks LIMIT 1")
			})
			return err
		})
		mustLose(f, harness.RunStarted(ctx, f, func() error { return nil }))

		f = ferry()
		mustStart(t, ctx, f)
		mustLose(f, harness.RunStarted(ctx, f, func() error {
			p.In(t, p.SourceDB, "lost_commits", "INSERT INTO t VALUES (9,9)")
			harness.Await(t, "the change is on the target", func() bool { return harness.Count(t, p.TargetDB, "lost_commits.t") == 9 })
			return p.TryIn(ctx, p.TargetDB, "_ghostferry", "UPDATE lanes SET batch=batch-1 WHERE lane=0")
		}))

		// What was settled is recorded again: the rows and indexes that were written with it are gone, too.
		for table, row := range map[string]string{
			"collisions":       "SELECT run_id, 1, UNHEX(SHA2('key',256)), 'key' FROM runs",
			"debts":            "SELECT run_id, 1, UNHEX(SHA2('key',256)), 'key' FROM runs",
			"deferred_indexes": "SELECT run_id, 1, 'CREATE TABLE', '[]' FROM runs",
		} {
			f = ferry()
			mustStart(t, ctx, f)
			mustLose(f, harness.RunStarted(ctx, f, func() error {
				return p.TryIn(ctx, p.TargetDB, "_ghostferry", "INSERT INTO "+table+" "+row)
			}))
			p.In(t, p.TargetDB, "_ghostferry", "DELETE FROM "+table)
		}

		f = ferry()
		require.NoError(t, harness.Move(ctx, f, func() error { return nil }))
		require.NoError(t, f.Close())
		p.MustEqual(t, "lost_commits")
	})
}

// A process of a run that is begun anew by another can write nothing of the old one any
// more, although the new run has the same name.
func TestForgottenRunIsFenced(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p.Create(t, "forgotten", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, "forgotten", "INSERT INTO t VALUES (1,1)")
		first := shopFerry(p, "forgotten", 10)
		first.Config.AutomaticCutover, first.Config.SkipTargetVerification = false, true
		mustStart(t, ctx, first)
		ran := make(chan error, 1)
		go func() { ran <- first.RunContext(ctx) }()
		awaitRows(t, p.TargetDB, "forgotten.t", 1, first)

		second := shopFerry(p, "forgotten", 10)
		require.NoError(t, second.InitializeContext(ctx))
		require.NoError(t, second.ForgetCheckpoint(ctx))
		p.In(t, p.TargetDB, "forgotten", "DELETE FROM t")
		require.NoError(t, second.StartContext(ctx))
		require.NoError(t, harness.RunStarted(ctx, second, func() error { return nil }))
		p.In(t, p.SourceDB, "forgotten", "INSERT INTO t VALUES (2,2)")
		var fenced *ghostferry.FencedError
		require.ErrorAs(t, <-ran, &fenced)
		require.Equal(t, 1, harness.Count(t, p.TargetDB, "forgotten.t"))
		require.NoError(t, second.Close())
	})
}
