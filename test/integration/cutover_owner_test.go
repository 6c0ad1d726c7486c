package integration

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// A run that the target has forgotten when it is to take the traffic over, because somebody has
// taken the move back while the process stood still, or it has lost commits, is not switched to.
func TestCutoverOfAForgottenRun(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	posted := make(chan string, 10)
	callback := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { posted <- r.URL.Path }))
	defer callback.Close()
	forgetAtTheEnd := func(f *ghostferry.Ferry) {
		f.CutoverUnlock = ghostferry.HTTPCallback{URI: callback.URL + "/unlock"}
		logger := logrus.New()
		logger.SetOutput(io.Discard)
		logger.AddHook(&onLine{"ghostferry run is complete, shutting down auxiliary services", func() error {
			_, err := p.TargetDB.ExecContext(context.WithoutCancel(t.Context()), "DELETE FROM _ghostferry.runs WHERE run_id=?", f.CheckpointRunID())
			return err
		}})
		f.Logger = logger
	}
	var lost *ghostferry.TargetLostCommitsError
	t.Run("hooks", func(t *testing.T) {
		h := newHooked(t, p, "forgotten", forgetAtTheEnd)
		_, err := h.ferry.Cutover(cutoverContext(t), h.hooks)
		require.NoError(t, <-h.ran)
		require.ErrorAs(t, err, &lost)
		failure, ok := errors.AsType[*ghostferry.CutoverError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, ghostferry.TrafficOnSource, failure.Traffic)
		require.False(t, failure.Blocked)
		require.Equal(t, []string{"fence", "fenced", "unfence"}, h.allCalls())
	})
	t.Run("callbacks", func(t *testing.T) {
		h, ctx := newHooked(t, p, "forgotten_calls", forgetAtTheEnd), cutoverContext(t)
		require.NoError(t, h.ferry.WaitUntilRowCopyIsCompleteContext(ctx))
		began, err := h.ferry.StartCutoverContext(ctx)
		require.NoError(t, err)
		require.NoError(t, h.writer.Pause(ctx))
		require.NoError(t, h.ferry.FlushBinlogAndStopStreamingContext(ctx))
		require.NoError(t, <-h.ran)
		require.ErrorAs(t, h.ferry.EndCutoverContext(ctx, began), &lost)
		require.Empty(t, posted)
	})
}

// A process that another one has taken the run over from, and that ends for a reason of its own
// before it notices, does not let the writers go on: the other one may have stopped them anew.
func TestCutoverOfAnOvertakenProcess(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	for _, ends := range []string{"the run", "the cutover"} {
		t.Run(ends, func(t *testing.T) {
			h := newHooked(t, p, "overtaken_"+ends[4:], nil)
			ctx, cancel := context.WithCancel(cutoverContext(t))
			defer cancel()
			fence := h.hooks.Fence
			h.hooks.Fence = func(ctx context.Context) error {
				if err := fence(ctx); err != nil {
					return err
				}
				for _, table := range []string{"runs", "lanes"} {
					if _, err := p.TargetDB.ExecContext(ctx, "UPDATE _ghostferry."+table+" SET epoch=epoch+1 WHERE run_id=?", h.ferry.CheckpointRunID()); err != nil {
						return err
					}
				}
				if ends == "the cutover" {
					cancel()
					return nil
				}
				h.end()
				<-ctx.Done() // the run's end is the cutover's
				return ctx.Err()
			}
			_, err := h.ferry.Cutover(ctx, h.hooks)
			failure, ok := errors.AsType[*ghostferry.CutoverError](err)
			require.True(t, ok, "%v", err)
			require.True(t, failure.Blocked)
			require.ErrorContains(t, err, "taken the run over")
			require.Equal(t, []string{"fence"}, h.allCalls())
		})
	}
}
