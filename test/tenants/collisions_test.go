package tenants

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// held is a move of one of two tenants whose changes do not reach the target until release
// is called.
type held struct {
	*ghostferry.Ferry
	release func()
	ended   chan error
}

// twoTenants makes a table of tenants 1 and 2, which both move, and of rows of others on
// the target.
func twoTenants(t *testing.T, p *harness.Pair) {
	t.Helper()
	p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, owner INT NOT NULL, label VARCHAR(20), v INT NOT NULL DEFAULT 0, KEY by_owner (owner), UNIQUE KEY by_label (label))")
	p.In(t, p.SourceDB, schema, "INSERT INTO t (id,owner,label) VALUES (1,1,'l1'),(2,2,'l2'),(3,1,'l3'),(4,2,'l4'),(5,1,'l5'),(6,2,'l6'),(7,1,'l7'),(8,2,'l8')")
	p.In(t, p.TargetDB, schema, "INSERT INTO t (id,owner,label) VALUES (100,9,'theirs')")
}

// startHeld starts the move of a tenant and returns when its rows are copied.
func startHeld(t *testing.T, ctx context.Context, p *harness.Pair, owner int, fence func() error) *held {
	t.Helper()
	f := tenantFerry(p, owner, nil)
	require.NoError(t, f.InitializeContext(ctx))
	hold := make(chan struct{})
	f.BinlogStreamer.AddEventListener(func([]ghostferry.DMLEvent) error {
		select {
		case <-hold:
		case <-ctx.Done():
		}
		return nil
	})
	require.NoError(t, f.StartContext(ctx))
	h := &held{Ferry: f, release: func() { close(hold) }, ended: make(chan error, 1)}
	copied := make(chan struct{})
	f.DataIterator.AddDoneListener(func() error { close(copied); return nil })
	go func() { h.ended <- harness.RunStarted(ctx, f, fence) }()
	select {
	case <-copied:
	case err := <-h.ended:
		t.Fatal(err)
	}
	return h
}

func waiting(t *testing.T, p *harness.Pair) int {
	return harness.Count(t, p.TargetDB, "_ghostferry.collisions")
}

// mustHaveArrived fails unless both tenants are on the target, and others as before.
func mustHaveArrived(t *testing.T, p *harness.Pair) {
	t.Helper()
	ours := "SELECT * FROM tenants.t WHERE owner<9 ORDER BY id"
	require.Equal(t, harness.Rows(t, p.SourceDB, ours), harness.Rows(t, p.TargetDB, ours))
	require.Equal(t, 1, harness.Count(t, p.TargetDB, "tenants.t WHERE owner=9 AND id=100 AND label='theirs' AND v=0"))
	require.Zero(t, waiting(t, p))
}

// Rows pass between two tenants that move at once, and so do unique values. The one's move
// is behind, so that its rows are in the way of the other's: these wait, also in a process
// that is started anew, and arrive when the first has come so far.
func TestRowsPassBetweenMoves(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minutes(t)
		twoTenants(t, p)
		fence := make(chan struct{})
		fenced := func() error {
			select {
			case <-fence:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		first := startHeld(t, ctx, p, 1, fenced)

		// Before the second copies: its copy meets the first's row.
		p.In(t, p.SourceDB, schema, "UPDATE t SET owner=2 WHERE id=1")
		run, kill := context.WithCancel(ctx)
		second := startHeld(t, run, p, 2, fenced)
		second.release()
		require.Equal(t, 1, waiting(t, p))

		// Afterwards: its changes meet them, by key and by unique value.
		p.In(t, p.SourceDB, schema,
			"UPDATE t SET owner=2, v=1 WHERE id=3", "UPDATE t SET owner=1 WHERE id=3",
			"UPDATE t SET label='passed on' WHERE id=5", "UPDATE t SET label='l5' WHERE id=6",
			"UPDATE t SET owner=1, v=2 WHERE id=2", "UPDATE t SET owner=2, v=3 WHERE id=7")
		harness.Await(t, "rows that wait", func() bool { return waiting(t, p) >= 3 })
		require.Equal(t, 1, harness.Count(t, p.TargetDB, "tenants.t WHERE id=1 AND owner=1"))
		kill()
		require.ErrorIs(t, <-second.ended, ghostferry.ErrInterrupted)
		require.NoError(t, second.Close())

		second = startHeld(t, ctx, p, 2, fenced)
		require.True(t, second.Resuming())
		second.release()
		p.In(t, p.SourceDB, schema, "UPDATE t SET v=v+1 WHERE id=1", "UPDATE t SET owner=2 WHERE id=3", "UPDATE t SET owner=1 WHERE id=3")
		harness.Await(t, "the rows that have passed on to wait again", func() bool { return waiting(t, p) >= 3 })
		first.release()
		close(fence)
		require.NoError(t, errors.Join(<-first.ended, <-second.ended))
		require.NoError(t, errors.Join(first.Close(), second.Close()))
		mustHaveArrived(t, p)
	})
}

// A move that has ended leaves rows that the log of one that is behind has still to bring
// and to give back, by key and by unique value: they are in nobody's way.
func TestRowsPassBackBehindAnEndedMove(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minutes(t)
		twoTenants(t, p)
		fence := make(chan struct{})
		fenced := func() error { <-fence; return nil }
		first, second := startHeld(t, ctx, p, 1, fenced), startHeld(t, ctx, p, 2, fenced)
		p.In(t, p.SourceDB, schema,
			"UPDATE t SET owner=2, v=1 WHERE id=3", "UPDATE t SET owner=1, v=2 WHERE id=3",
			"UPDATE t SET label='lent' WHERE id=5", "UPDATE t SET label='l5' WHERE id=6",
			"UPDATE t SET label='l6' WHERE id=6", "UPDATE t SET label='l5' WHERE id=5")
		close(fence)
		first.release()
		require.NoError(t, errors.Join(<-first.ended, first.Close()))
		second.release()
		require.NoError(t, errors.Join(<-second.ended, second.Close()))
		mustHaveArrived(t, p)
	})
}

// A row that has passed to the tenant with the last change before the fence is waited for
// behind it: it is no late write of anybody.
func TestCutoverWaitsForARowOfAnotherMove(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minutes(t)
		twoTenants(t, p)
		fence := make(chan struct{})
		first := startHeld(t, ctx, p, 1, func() error { <-fence; return nil })

		second := tenantFerry(p, 2, nil)
		second.VerifierType = ghostferry.VerifierTypeOnline
		require.NoError(t, second.InitializeContext(ctx))
		require.NoError(t, second.StartContext(ctx))
		ended := make(chan error, 1)
		go func() { ended <- second.RunContext(ctx) }()
		_, err := second.Cutover(ctx, ghostferry.CutoverHooks{
			Fence: func(ctx context.Context) error {
				err := p.TryIn(ctx, p.SourceDB, schema, "UPDATE t SET owner=2, v=1 WHERE id=3")
				close(fence)
				go func() {
					for n := 0; n == 0 && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
						_ = p.TargetDB.QueryRowContext(ctx, "SELECT COUNT(*) FROM _ghostferry.collisions").Scan(&n)
					}
					first.release()
				}()
				return err
			},
			Switch: func(context.Context) error { return nil },
		})
		require.NoError(t, err)
		require.NoError(t, errors.Join(<-first.ended, <-ended))
		require.NoError(t, errors.Join(first.Close(), second.Close()))
		mustHaveArrived(t, p)
	})
}

// A row that waits for a move that is given up is a conflict; when the row in its way is
// gone, the same run goes on.
func TestRowWaitsInVain(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minutes(t)
		twoTenants(t, p)
		run, kill := context.WithCancel(ctx)
		first := startHeld(t, run, p, 1, func() error { <-run.Done(); return run.Err() })
		p.In(t, p.SourceDB, schema, "UPDATE t SET owner=2 WHERE id=1")
		kill()
		require.Error(t, <-first.ended)
		require.NoError(t, first.Close())

		second := startHeld(t, ctx, p, 2, func() error { return nil })
		second.release()
		require.Equal(t, 1, waiting(t, p))
		again := tenantFerry(p, 1, nil)
		require.NoError(t, again.InitializeContext(ctx))
		require.NoError(t, errors.Join(again.ForgetCheckpoint(ctx), again.Close()))
		err := <-second.ended
		var conflict *ghostferry.TargetConflictError
		require.ErrorAs(t, err, &conflict)
		require.Equal(t, "PRIMARY", conflict.Index)
		require.True(t, ghostferry.Resumable(err))
		require.NoError(t, second.Close())
		require.Equal(t, 1, harness.Count(t, p.TargetDB, "tenants.t WHERE id=1 AND owner=1"))

		p.In(t, p.TargetDB, schema, "DELETE FROM t WHERE owner=1")
		last := tenantFerry(p, 2, nil)
		require.NoError(t, errors.Join(harness.Move(ctx, last, func() error { return nil }), last.Close()))
		ours := "SELECT * FROM tenants.t WHERE owner=2 ORDER BY id"
		require.Equal(t, harness.Rows(t, p.SourceDB, ours), harness.Rows(t, p.TargetDB, ours))
	})
}
