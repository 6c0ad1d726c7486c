package ghostferry

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Small ones of the large rows share the budget, larger ones have it alone; with the gate
// open nobody waits, and who waits for more holds nothing meanwhile.
func TestLargeRowsBudget(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	of := newLargeRows()
	first, second, third := &largeRowsLease{of: of}, &largeRowsLease{of: of}, &largeRowsLease{of: of}
	require.True(t, first.extend(largeRowsBytes/2))
	require.True(t, second.extend(largeRowsBytes/2))
	require.False(t, third.extend(largeRow+1))
	require.True(t, second.extend(largeRowsBytes/4), "it has room for more than that")
	require.False(t, second.extend(largeRowsBytes))

	both := make(chan error, 2)
	for _, lease := range []*largeRowsLease{first, second} { // each wants what the other has
		go func() {
			err := lease.take(ctx, 10*largeRowsBytes)
			lease.release()
			both <- err
		}()
	}
	require.NoError(t, <-both)
	require.NoError(t, <-both)
	require.True(t, third.extend(100*largeRowsBytes))
	third.release()
	third.release()

	require.NoError(t, first.take(ctx, largeRowsBytes))
	given, giveUp := context.WithCancel(ctx)
	giveUp()
	require.ErrorIs(t, second.take(given, largeRow), context.Canceled)
	second.release()
	first.release()
}
