package integration

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// TestFencedMover is the process of the tests below.
func TestFencedMover(t *testing.T) { require.NoError(t, harness.MoverProcess(context.Background())) }

// fenceOf is a fence against the account of fencedApplication.
func fenceOf(kind string) *ghostferry.FenceConfig {
	fence := &ghostferry.FenceConfig{Kind: kind}
	if kind == ghostferry.FenceAccounts {
		fence.Accounts = []string{"fenced_app@%"}
	}
	return fence
}

// killedBehindFence has a mover killed there, and returns the application's pool and a
// write of it that was made while the fence was closed.
func killedBehindFence(t *testing.T, p *harness.Pair, schema, kind, at string) (app *sql.DB, written <-chan error) {
	t.Helper()
	app = fencedApplication(t, p, schema)
	m := p.StartFencedMover(t, "TestFencedMover", schema, fenceOf(kind), at)
	for line := range m.Lines {
		if line == at {
			done := make(chan error, 1)
			go func() {
				_, err := app.Exec("UPDATE rows_ SET n = 5 WHERE id = 1")
				done <- err
			}()
			if kind == ghostferry.FenceLockTables {
				harness.Await(t, "the application waits", func() bool {
					return harness.Count(t, p.SourceDB, "information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for table%lock'") > 0
				})
			} else {
				require.Error(t, <-done)
			}
			m.Kill()
			return app, done
		}
	}
	require.NoError(t, m.Wait())
	t.Fatal("the mover has ended")
	return nil, nil
}

// nextRun is the same move in another process.
func nextRun(t *testing.T, ctx context.Context, p *harness.Pair, schema, kind string) (f *ghostferry.Ferry, ran <-chan error) {
	t.Helper()
	f = &ghostferry.Ferry{Config: p.Config(schema)}
	f.TailGuardSeconds, f.CutoverFence = -1, fenceOf(kind)
	mustStart(t, ctx, f)
	t.Cleanup(func() { _ = f.Close() })
	require.True(t, f.Resuming())
	done := make(chan error, 1)
	go func() { done <- f.RunContext(ctx) }()
	return f, done
}

func openByHand(t *testing.T, p *harness.Pair) {
	t.Helper()
	p.In(t, p.SourceDB, "", "SET GLOBAL read_only = OFF", "DROP USER IF EXISTS 'fenced_app'@'%'")
}

// A mover is killed while its fence is closed: the next process of its run opens it, first
// of all, and the application goes on; table locks end with the process. The run then cuts
// over.
func TestKilledBehindItsFence(t *testing.T) {
	for _, setting := range harness.Settings[1:] {
		for _, kind := range []string{ghostferry.FenceReadOnly, ghostferry.FenceAccounts, ghostferry.FenceLockTables} {
			t.Run(setting.Name+"/"+kind, func(t *testing.T) {
				ctx := cutoverContext(t)
				p := harness.Shared(t, setting)
				defer openByHand(t, p)
				app, written := killedBehindFence(t, p, "fence_killed", kind, "fenced")
				if kind == ghostferry.FenceLockTables {
					require.NoError(t, <-written)
				} else {
					_, err := app.ExecContext(ctx, "UPDATE rows_ SET n = 6")
					require.Error(t, err, "the fence is open without anybody")
				}
				f, ran := nextRun(t, ctx, p, "fence_killed", kind)
				harness.Await(t, "the application writes again", func() bool {
					_, err := app.ExecContext(ctx, "UPDATE rows_ SET n = n + 1")
					return err == nil
				})
				_, err := f.Cutover(ctx, ghostferry.CutoverHooks{Switch: func(context.Context) error { return nil }})
				require.NoError(t, err)
				require.NoError(t, <-ran)
				p.MustEqual(t, "fence_killed")
			})
		}
	}
}

// A mover is killed while it sends the application to the target: nobody but a person, or
// the next cutover, may open or switch. When somebody has opened the fence, the next process
// knows.
func TestKilledWhileSwitching(t *testing.T) {
	for kind, setting := range map[string]harness.Setting{ghostferry.FenceReadOnly: harness.Settings[1], ghostferry.FenceAccounts: harness.Settings[2]} {
		t.Run(setting.Name+"/"+kind, func(t *testing.T) {
			ctx := cutoverContext(t)
			p := harness.Shared(t, setting)
			defer openByHand(t, p)
			app, _ := killedBehindFence(t, p, "fence_switching", kind, "switching")

			f, ran := nextRun(t, ctx, p, "fence_switching", kind)
			_, err := f.Cutover(ctx, ghostferry.CutoverHooks{Switch: func(context.Context) error { return errors.New("not yet") }})
			failure, ok := errors.AsType[*ghostferry.CutoverError](err)
			require.True(t, ok, "%v", err)
			require.True(t, failure.Blocked)
			require.ErrorContains(t, err, "look where the application writes")
			require.NoError(t, <-ran)
			_, err = app.ExecContext(ctx, "UPDATE rows_ SET n = 6")
			require.Error(t, err, "the fence was opened although the traffic may have been switched")
			require.NoError(t, f.Close())

			if kind == ghostferry.FenceReadOnly {
				p.In(t, p.SourceDB, "", "SET GLOBAL super_read_only = OFF, GLOBAL read_only = OFF")
			} else {
				p.In(t, p.SourceDB, "", "ALTER USER 'fenced_app'@'%' ACCOUNT UNLOCK")
			}
			_, err = app.ExecContext(ctx, "UPDATE rows_ SET n = 7")
			require.NoError(t, err)
			f, ran = nextRun(t, ctx, p, "fence_switching", kind)
			_, err = f.Cutover(ctx, ghostferry.CutoverHooks{Switch: func(context.Context) error { return nil }})
			require.NoError(t, err)
			require.NoError(t, <-ran)
			p.MustEqual(t, "fence_switching")
		})
	}
}
