package integration

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// holdBack takes the permission back when a line with its text is first logged, and is sent
// what came of it. Lines that say that the cutover is held back go to held.
type holdBack struct {
	at     string
	once   sync.Once
	ferry  *ghostferry.Ferry
	inTime chan bool
	held   chan struct{}
}

func newHoldBack(f *ghostferry.Ferry, at string) *holdBack {
	h := &holdBack{at: at, ferry: f, inTime: make(chan bool, 1), held: make(chan struct{}, 1)}
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.AddHook(h)
	f.Logger = logger
	return h
}

// Levels are all.
func (h *holdBack) Levels() []logrus.Level { return logrus.AllLevels }

// Fire is called by whoever logs, before it goes on.
func (h *holdBack) Fire(line *logrus.Entry) error {
	if strings.HasPrefix(line.Message, h.at) {
		h.once.Do(func() { h.inTime <- h.ferry.DenyCutover() })
	}
	if line.Message == "the cutover is held back" {
		h.held <- struct{}{}
	}
	return nil
}

// wait returns when the cutover is held back, and says whether the order came in time.
func (h *holdBack) wait(ctx context.Context, t *testing.T) bool {
	t.Helper()
	select {
	case <-h.held:
	case <-ctx.Done():
		t.Fatal("the cutover was not held back")
	}
	return <-h.inTime
}

// A cutover that is held back between two attempts, or once the verification before it has
// begun, waits before it stops the writers, and goes on when it is allowed again. While
// the writers are stopped it is too late.
func TestCutoverHeldBack(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	for name, test := range map[string]struct {
		at     string
		before []string // calls when it is held back
		all    []string
	}{
		"between two attempts":         {"the cutover is tried again", []string{"fence", "unfence"}, []string{"fence", "unfence", "fence", "fenced", "fenced", "switch"}},
		"during the last verification": {"verifying before the cutover", nil, []string{"fence", "unfence", "fence", "fenced", "fenced", "switch"}},
		"when the rows are copied":     {"entering cutover phase", nil, []string{"fence", "unfence", "fence", "fenced", "fenced", "switch"}},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := cutoverContext(t)
			var hold *holdBack
			h := newHooked(t, p, "cutover_held", func(f *ghostferry.Ferry) { hold = newHoldBack(f, test.at) })
			fence := h.hooks.Fence
			attempts := 0
			h.hooks.Fence = func(ctx context.Context) error {
				require.False(t, h.ferry.DenyCutover(), "the writers are being stopped")
				require.True(t, h.ferry.CutoverAllowed())
				if err := fence(ctx); err != nil {
					return err
				}
				if attempts++; attempts == 1 {
					return &ghostferry.WriteBlockBudgetError{Phase: ghostferry.PhaseFence, Budget: time.Nanosecond}
				}
				return nil
			}
			ended := make(chan error, 1)
			go func() {
				_, err := h.ferry.Cutover(ctx, h.hooks)
				ended <- err
			}()
			require.True(t, hold.wait(ctx, t), "it came in time")
			require.Equal(t, test.before, h.allCalls())
			require.False(t, h.ferry.CutoverAllowed())
			h.ferry.AllowCutover()
			require.NoError(t, <-ended)
			require.NoError(t, <-h.ran)
			require.Equal(t, test.all, h.allCalls())
			require.False(t, h.ferry.DenyCutover(), "it is over")
			p.MustEqual(t, h.shop.Database)
		})
	}
}

// A fence that only Cutover closes is not passed over by hosts that drive the cutover themselves.
func TestStartCutoverRefusesAFence(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	ctx := cutoverContext(t)
	h := newHooked(t, p, "start_fence", func(f *ghostferry.Ferry) { f.CutoverFence = &ghostferry.FenceConfig{Kind: ghostferry.FenceLockTables} })
	require.NoError(t, h.ferry.WaitUntilRowCopyIsCompleteContext(ctx))
	_, err := h.ferry.StartCutoverContext(ctx)
	for _, err := range []error{err, h.ferry.FlushBinlogAndStopStreamingContext(ctx)} {
		fault, ok := errors.AsType[*ghostferry.ConfigError](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, "CutoverFence", fault.Field)
	}
	require.Equal(t, ghostferry.PhaseReady, h.ferry.Phase())
	_, err = h.ferry.Cutover(ctx, h.hooks)
	require.NoError(t, err)
}

// StartCutover, of hosts that drive the cutover themselves, waits as well.
func TestStartCutoverHeldBack(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	ctx := cutoverContext(t)
	h := newHooked(t, p, "start_held", nil)
	require.NoError(t, h.ferry.WaitUntilRowCopyIsCompleteContext(ctx))
	require.True(t, h.ferry.DenyCutover())
	held, cancel := context.WithCancel(ctx)
	cancel()
	_, err := h.ferry.StartCutoverContext(held)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, h.ferry.WaitUntilCutoverIsAllowedContext(held), context.Canceled)
	require.Equal(t, ghostferry.PhaseReady, h.ferry.Phase())
	h.ferry.AllowCutover()
	require.NoError(t, h.ferry.WaitUntilCutoverIsAllowedContext(ctx))
	_, err = h.ferry.StartCutoverContext(ctx)
	require.NoError(t, err)
	require.False(t, h.ferry.DenyCutover())
	require.NoError(t, h.ferry.AbortCutoverContext(ctx))
	require.True(t, h.ferry.DenyCutover(), "it was given up")

	// A host that stops its writers without StartCutover is too far with the stop position.
	require.NoError(t, h.writer.Pause(ctx))
	require.NoError(t, h.ferry.FlushBinlogAndStopStreamingContext(ctx))
	require.False(t, h.ferry.DenyCutover())
	require.NoError(t, <-h.ran)
}
