package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// A run that ends because somebody's context has ended was interrupted, whoever was told first.
func TestRunErrorOfAnEndedContext(t *testing.T) {
	f := &Ferry{}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	stopped := fmt.Errorf("copy-1: %w", context.Canceled)
	for _, ctx := range []context.Context{t.Context(), ended} {
		err := f.runError(ctx, stopped)
		require.ErrorIs(t, err, ErrInterrupted)
		require.ErrorIs(t, err, context.Canceled)
		require.True(t, Resumable(err))
	}
	broken := errors.New("broken")
	require.Equal(t, broken, f.runError(t.Context(), broken))
}

// Reports that are configured to come at no interval come twenty times a second.
func TestEveryHasALeastInterval(t *testing.T) {
	for _, interval := range []time.Duration{0, time.Nanosecond, leastInterval} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second+leastInterval/2)
			defer cancel()
			calls := 0
			_ = every(ctx, interval, func() { calls++ })
			require.Equal(t, int(time.Second/leastInterval), calls)
		})
	}
}
