package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
	"github.com/ghostferry-go/ghostferry/test/shop"
)

// silence stops a server's process: it acknowledges what is sent to it and answers nothing.
func silence(s *servers.Server) error { return syscall.Kill(s.PID(), syscall.SIGSTOP) }

func wake(s *servers.Server) error { return syscall.Kill(s.PID(), syscall.SIGCONT) }

// waker wakes the servers when a line says that the cutover is tried again, and keeps it.
type waker struct {
	pair  *harness.Pair
	lines []string // appended to by Cutover's goroutine, read when it has returned
}

// Levels are those of the line.
func (w *waker) Levels() []logrus.Level { return []logrus.Level{logrus.WarnLevel} }

// Fire is called by whoever logs, before it goes on.
func (w *waker) Fire(line *logrus.Entry) error {
	if !strings.HasPrefix(line.Message, "the cutover is tried again") {
		return nil
	}
	w.lines = append(w.lines, line.Message)
	return errors.Join(wake(w.pair.Source), wake(w.pair.Target))
}

// silentMove is a move with a small budget whose servers are woken after each attempt.
func silentMove(t *testing.T, p *harness.Pair, database string) (*hooked, *waker) {
	t.Helper()
	w := &waker{pair: p}
	h := newHooked(t, p, database, func(f *ghostferry.Ferry) {
		f.UpdatableConfig.MaxWriteBlock = ghostferry.Duration(500 * time.Millisecond)
		logger := logrus.New()
		logger.SetOutput(io.Discard)
		logger.AddHook(w)
		f.Config.Logger = logger
	})
	t.Cleanup(func() { _, _ = wake(p.Source), wake(p.Target) }) // before anybody waits for them
	return h, w
}

// A server that falls silent while the writers wait costs them the budget, and is named; then
// they go on. When it speaks again the cutover is tried again, and nothing is lost.
func TestServersFallSilentInTheCutover(t *testing.T) {
	t.Parallel() // with servers of its own
	for _, s := range harness.OneFlavour(t) {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			p := harness.New(t, s)
			t.Cleanup(func() { _, _ = wake(p.Source), wake(p.Target) })
			source, target := fmt.Sprintf("source %s:%d", p.Source.Host, p.Source.Port), fmt.Sprintf("target %s:%d", p.Target.Host, p.Target.Port)

			t.Run("before the commit", func(t *testing.T) {
				h, w := silentMove(t, p, "silent")
				ctx := cutoverContext(t)
				fence, unfence, attempt := h.hooks.Fence, h.hooks.Unfence, 0
				h.hooks.Fence = func(ctx context.Context) error {
					if attempt++; attempt == 2 { // with changes that it has not got
						before := h.writer.Stats().Committed
						if err := errors.Join(silence(p.Target), h.writer.UntilCommitted(ctx, func(s shop.Stats) bool { return s.Committed > before+20 })); err != nil {
							return err
						}
					}
					err := fence(ctx)
					if attempt == 1 {
						err = errors.Join(err, silence(p.Source))
					}
					return err
				}
				h.hooks.Unfence = func(ctx context.Context) error {
					if attempt == 2 { // the budget of an attempt counts from before its fence
						h.ferry.Update(ghostferry.UpdatableConfig{MaxWriteBlock: ghostferry.Duration(time.Minute)})
					}
					return unfence(ctx)
				}
				report, err := h.ferry.Cutover(ctx, h.hooks)
				require.NoError(t, err)
				require.NoError(t, <-h.ran)
				require.Equal(t, 3, report.Attempts)
				calls := slices.DeleteFunc(h.allCalls(), func(name string) bool { return name == "fenced" }) // all of it may have been applied before
				require.Equal(t, []string{"fence", "unfence", "fence", "unfence", "fence", "switch"}, calls)
				require.Len(t, w.lines, 2)
				require.Contains(t, w.lines[0], "no answer comes from the "+source)
				require.NotContains(t, w.lines[0], target)
				require.Contains(t, w.lines[1], "no answer comes from the "+target)
				p.MustEqual(t, h.shop.Database)
			})
			t.Run("in the commit", func(t *testing.T) {
				h, _ := silentMove(t, p, "silent_later")
				ctx := cutoverContext(t)
				h.hooks.Fenced = func(context.Context) error {
					if h.ferry.Phase() == ghostferry.PhaseCommit {
						return silence(p.Source)
					}
					h.ferry.Update(ghostferry.UpdatableConfig{MaxWriteBlock: ghostferry.Duration(3 * time.Second)})
					return nil
				}
				_, err := h.ferry.Cutover(ctx, h.hooks)
				require.NoError(t, wake(p.Source))
				require.NoError(t, <-h.ran)
				failure, ok := errors.AsType[*ghostferry.CutoverError](err)
				require.True(t, ok, "%v", err)
				require.Equal(t, ghostferry.PhaseCommit, failure.Phase)
				require.Equal(t, ghostferry.TrafficOnSource, failure.Traffic)
				require.False(t, failure.Blocked)
				require.Equal(t, []string{source}, failure.Silent)
				require.ErrorContains(t, err, "no answer comes from the "+source)
				require.Equal(t, "unfence", h.allCalls()[len(h.allCalls())-1])
				before := h.writer.Stats().Committed
				require.NoError(t, h.writer.UntilCommitted(ctx, func(s shop.Stats) bool { return s.Committed > before }))
			})
			t.Run("after the switch", func(t *testing.T) {
				h, _ := silentMove(t, p, "silent_at_last")
				h.ferry.TailGuardSeconds = 1
				h.hooks.Switch = func(context.Context) error { return silence(p.Source) }
				_, err := h.ferry.Cutover(context.WithoutCancel(t.Context()), h.hooks)
				require.NoError(t, wake(p.Source))
				require.NoError(t, err)
				require.NoError(t, <-h.ran)
				require.Equal(t, ghostferry.PhaseDone, h.ferry.Phase())
				p.MustEqual(t, h.shop.Database)
			})
			t.Run("while a fence closes", func(t *testing.T) { silentWhileClosing(t, p) })
		})
	}
}

// silentWhileClosing gives fences up whose statements wait in a server that falls silent. They
// do not close when it speaks again.
func silentWhileClosing(t *testing.T, p *harness.Pair) {
	for kind, statement := range map[string]string{ghostferry.FenceReadOnly: "read_only = ON", ghostferry.FenceLockTables: "LOCK TABLES "} {
		t.Run(kind, func(t *testing.T) {
			ctx := cutoverContext(t)
			app := fencedApplication(t, p, "fenced")
			f := &ghostferry.Ferry{Config: p.Config("fenced")}
			require.NoError(t, f.InitializeContext(ctx))
			defer f.Close()
			fence, err := f.NewFence(&ghostferry.FenceConfig{Kind: kind, KillAfter: -1})
			require.NoError(t, err)
			giveUp, fenced, long := fenceBehindAStatement(ctx, t, p, app, fence, statement)
			require.NoError(t, silence(p.Source))
			giveUp()
			err = <-fenced
			require.NoError(t, wake(p.Source))
			require.ErrorContains(t, err, fmt.Sprintf("fence of %s:%d: connection", p.Source.Host, p.Source.Port))
			require.NoError(t, fence.Unfence(ctx))
			require.Empty(t, sourceProcesses(t, p, statement, ""), "the fence may still close")
			for _, one := range sourceProcesses(t, p, "SLEEP(30)", "") {
				harness.Exec(t, p.SourceDB, fmt.Sprintf("KILL QUERY %d", one.ID))
			}
			<-long // whether it was interrupted is no matter
			require.NoError(t, fence.Close(ctx))
			_, err = app.ExecContext(ctx, "UPDATE rows_ SET n = 1 WHERE id = 2")
			require.NoError(t, err, "the application is blocked")
		})
	}
}
