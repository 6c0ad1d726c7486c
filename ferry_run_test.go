package ghostferry

import (
	"context"
	"database/sql/driver"
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

// A connection that was given up because a context ended is told as the end of that context,
// with what ended it; no other failure is.
func TestEndOfAContextThatCostsAConnection(t *testing.T) {
	lost := fmt.Errorf("copy-4: %w", driver.ErrBadConn)
	require.Equal(t, lost, endOf(t.Context(), lost))

	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	require.NoError(t, endOf(ctx, nil))
	err := endOf(ctx, lost)
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, why)
	require.ErrorIs(t, err, driver.ErrBadConn)
	unequal := errors.New("unequal")
	require.Equal(t, unequal, endOf(ctx, unequal))
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

// A table that may have been written anew is compared again, unless the host's verifier leaves
// it out.
func TestCompareAnewOfATableThatIsLeftOut(t *testing.T) {
	compared := literalTable("s", "compared")
	v := &OnlineVerifier{Tables: []*TableSchema{compared}}
	c, err := v.core()
	require.NoError(t, err)
	c.queue.take()
	f := &Ferry{Verifier: v}
	require.NoError(t, f.compareAnew(t.Context(), literalTable("s", "left_out"), true))
	require.Empty(t, c.queue.take())
	require.NoError(t, f.compareAnew(t.Context(), compared, true))
	require.Len(t, c.queue.take(), 1)
}

// Rows are not repaired while a deferred index is missing; without one nothing speaks against it.
func TestRepairWaitsForIndexes(t *testing.T) {
	f := &Ferry{Config: &Config{}, indexes: &deferredIndexes{}}
	f.prepareChannels()
	f.OverallState.Store(StateCopying)
	v := &OnlineVerifier{ferry: f, Repair: true}
	require.NoError(t, v.afterIndexes())
	f.indexes.owed = []*deferredTable{{}}
	require.ErrorContains(t, v.afterIndexes(), "deferred indexes")
	v.Repair = false
	require.NoError(t, v.afterIndexes())
}
