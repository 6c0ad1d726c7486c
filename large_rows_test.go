package ghostferry

import (
	"context"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
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

// Statements that are far longer than the rows in them are halved until they fit, whoever else
// has lowered the limit.
func TestStatementsOfLongLiteralsAreHalved(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w := &tableWriter{quoted: "t"}
	w.limit.Store(1 << 20)
	const fits, literals = 1000, 10 // a literal is ten times as long as its value
	tooLarge := &mysql.MySQLError{Number: 1153}
	err := (*patience)(nil).doWhile(ctx, 1, func(error) bool { return false }, func(context.Context, int) error {
		if w.maxBytes() > fits && ctx.Err() == nil {
			return w.halved(tooLarge, w.maxBytes()*literals, 2)
		}
		return ctx.Err()
	})
	require.NoError(t, err)
	require.Greater(t, w.maxBytes(), fits/4)
}
