package ghostferry

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/sirupsen/logrus"
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

// Only the time counts that a server or a lock was waited for: an ALTER that breaks off after
// hours is made again, and attempts that only wait come to an end however long each of them is.
func TestAttemptsAtWorkAreNoOutage(t *testing.T) {
	lost := func() error { return mysql.ErrInvalidConn }
	locked := func() error { return &TableLockedError{Table: "t", Err: errors.New("locked")} }
	for name, failure := range map[string]func() error{"outage": lost, "locked": locked} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				run := func(length time.Duration, failures int) (attempts int, err error) {
					p := &patience{server: "target", logger: quietLogger(), limit: 10 * time.Minute}
					err = p.do(t.Context(), 1, func(context.Context, int) error {
						if attempts++; attempts > failures {
							return nil
						}
						time.Sleep(length)
						return failure()
					})
					return attempts, err
				}
				attempts, err := run(3*time.Hour, 4)
				require.NoError(t, err)
				require.Equal(t, 5, attempts)
				attempts, err = run(3*time.Hour, 100)
				require.Error(t, err)
				require.Less(t, attempts, 10, "not for ever")
				_, err = run(time.Minute, 20)
				require.Error(t, err)
				require.Contains(t, err.Error(), "for 10m")
			})
		})
	}
}

// The target keeps the locks of a session whose connection was lost until it ends that. Whoever meets
// them waits for that long, also when the session was another worker's; nobody waits for ever.
func TestLocksOfALostSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		logger := logrus.New()
		logger.SetOutput(&said)
		p := &patience{server: "target", logger: logger}
		locked := func(until time.Time) func(context.Context, int) error {
			return func(context.Context, int) error {
				if time.Now().After(until) {
					return nil
				}
				time.Sleep(5 * time.Second) // innodb_lock_wait_timeout
				return &mysql.MySQLError{Number: 1205, Message: "Lock wait timeout exceeded"}
			}
		}
		began, never := time.Now(), time.Now().Add(time.Hour)
		require.ErrorContains(t, p.do(t.Context(), 5, locked(never)), "Lock wait timeout", "nothing was lost")
		require.Less(t, time.Since(began), time.Minute)

		ended := time.Now().Add(writerIdle)
		require.NoError(t, p.do(t.Context(), 5, func(ctx context.Context, attempt int) error {
			if attempt == 1 {
				return mysql.ErrInvalidConn
			}
			return locked(ended)(ctx, attempt)
		}))
		lost := time.Now()
		require.NoError(t, p.do(t.Context(), 5, func(_ context.Context, attempt int) error {
			if attempt == 1 {
				return mysql.ErrInvalidConn
			}
			return nil
		}))
		require.NoError(t, p.do(t.Context(), 5, locked(lost.Add(writerIdle))), "of another worker")
		require.Contains(t, said.String(), "by a session of ours whose connection was lost 5s ago: waiting for its end, for at most 3m55s; the target ends sessions that have been idle for 2m0s")
		require.ErrorContains(t, p.do(t.Context(), 5, locked(never)), "Lock wait timeout")
		require.Less(t, time.Since(lost), lostSessionLimit+time.Minute)
	})
}
