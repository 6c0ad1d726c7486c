package lifecycle

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errFirst = errors.New("first")

func untilEnd(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestFirstErrorEndsAll(t *testing.T) {
	g, ctx := New(t.Context())
	g.Go("streamer", untilEnd)
	g.Go("copier", func(context.Context) error { return errFirst })
	err := g.Wait()
	require.ErrorIs(t, err, errFirst)
	require.EqualError(t, err, "copier: first")
	require.Equal(t, err, context.Cause(ctx))
}

func TestWithoutAnError(t *testing.T) {
	g, ctx := New(t.Context())
	g.Go("a", func(ctx context.Context) error {
		g.Go("made by a", func(context.Context) error { return nil })
		return nil
	})
	require.NoError(t, g.Wait())
	require.ErrorIs(t, context.Cause(ctx), ErrStopped, "the context ends with the group")
}

func TestPanicBecomesAnError(t *testing.T) {
	g, _ := New(t.Context())
	g.Go("listener", func(context.Context) error { panic(errFirst) })
	g.Go("other", untilEnd)
	err := g.Wait()
	var panicked *PanicError
	require.ErrorAs(t, err, &panicked)
	require.ErrorIs(t, err, errFirst)
	require.ErrorContains(t, err, "listener: panic: first")
	require.Contains(t, string(panicked.Stack), "TestPanicBecomesAnError")
}

func TestGoexitBecomesAnError(t *testing.T) {
	g, _ := New(t.Context())
	g.Go("quitter", func(context.Context) error { runtime.Goexit(); return nil })
	g.Go("other", untilEnd)
	require.ErrorIs(t, g.Wait(), errGoexit)
}

func TestCancel(t *testing.T) {
	t.Run("orderly", func(t *testing.T) {
		g, _ := New(t.Context())
		g.Go("a", untilEnd)
		g.Go("b", func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) })
		g.Cancel(nil)
		require.NoError(t, g.Wait())
	})
	t.Run("orderly, and a failure while stopping", func(t *testing.T) {
		g, _ := New(t.Context())
		g.Go("flush", func(ctx context.Context) error { <-ctx.Done(); return errFirst })
		g.Cancel(nil)
		require.EqualError(t, g.Wait(), "flush: first")
	})
	t.Run("with a cause", func(t *testing.T) {
		g, _ := New(t.Context())
		g.Go("a", untilEnd)
		g.Cancel(errFirst)
		g.Cancel(errors.New("second"))
		require.Equal(t, errFirst, g.Wait())
	})
	t.Run("of the parent", func(t *testing.T) {
		parent, cancel := context.WithCancelCause(t.Context())
		g, _ := New(parent)
		g.Go("a", untilEnd)
		cancel(errFirst)
		err := g.Wait()
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, err, errFirst)
		require.EqualError(t, err, "a: context canceled: first")
	})
}

func TestStopOneTask(t *testing.T) {
	g, ctx := New(t.Context())
	task := g.Go("copier", untilEnd)
	require.NoError(t, task.Stop(t.Context()))
	<-task.Done()
	require.NoError(t, ctx.Err(), "the others go on")

	release := make(chan struct{})
	slow := g.Go("slow", func(context.Context) error { <-release; return nil })
	impatient, cancel := context.WithCancelCause(t.Context())
	cancel(errFirst)
	require.Equal(t, errFirst, slow.Stop(impatient))
	close(release)
	require.NoError(t, g.Wait())
}

func TestStopRunsEveryStep(t *testing.T) {
	var order []string
	step := func(name string, err error) Step {
		return Step{name, func(context.Context) error { order = append(order, name); return err }}
	}
	err := Stop(t.Context(), step("copy", nil), step("writer", errFirst),
		Step{"listener", func(context.Context) error { panic("boo") }}, step("state", nil))
	require.Equal(t, []string{"copy", "writer", "state"}, order)
	require.ErrorIs(t, err, errFirst)
	require.ErrorContains(t, err, "writer: first")
	require.ErrorContains(t, err, "listener: panic: boo")
	require.NoError(t, Stop(t.Context()))
}

func TestDetachOutlivesItsParent(t *testing.T) {
	parent, cancelParent := context.WithCancel(t.Context())
	detached, cancel := Detach(parent, time.Hour)
	defer cancel()
	cancelParent()
	require.NoError(t, detached.Err())
	_, bounded := detached.Deadline()
	require.True(t, bounded)
}
