package ghostferry

import (
	"context"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"
)

// Collisions are counted from the end of an outage on: who could not be reached for long is not
// given up at the first deadlock after it.
func TestCollisionsBehindAnOutage(t *testing.T) {
	deadlock := &mysql.MySQLError{Number: 1213, Message: "Deadlock found"}
	p := &patience{server: "target", logger: quietLogger(), conflicts: 30 * time.Millisecond}
	run := func(errs ...error) error {
		i := -1
		return p.do(t.Context(), 2, func(context.Context, int) error {
			i++
			if i == len(errs) {
				return nil
			}
			return errs[i]
		})
	}
	lost := mysql.ErrInvalidConn
	require.NoError(t, run(lost, lost, lost, lost, deadlock))
	require.NoError(t, run(deadlock, lost, lost, lost, deadlock))
	require.ErrorContains(t, run(deadlock, deadlock, deadlock, deadlock, deadlock, deadlock), "Deadlock")
	require.Zero(t, p.mu.waiting)
}
