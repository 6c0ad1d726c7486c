package retry

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var errPassing, errFinal = errors.New("passing"), errors.New("final")

func isPassing(err error) bool { return errors.Is(err, errPassing) }

// recorder is a Sleep that returns at once.
type recorder struct{ waits []time.Duration }

func (r *recorder) sleep(ctx context.Context, d time.Duration) error {
	r.waits = append(r.waits, d)
	return ctx.Err()
}

// failing returns a function that fails with the errors in turn and then succeeds.
func failing(calls *int, errs ...error) func(context.Context) error {
	return func(context.Context) error {
		*calls++
		if *calls <= len(errs) {
			return errs[*calls-1]
		}
		return nil
	}
}

func TestSucceedsAfterPassingErrors(t *testing.T) {
	var r recorder
	var calls int
	var seen []int
	onRetry := func(attempt int, wait time.Duration, err error) {
		seen = append(seen, attempt)
		require.ErrorIs(t, err, errPassing)
	}
	p := Policy{First: 100, Max: 350, Sleep: r.sleep}
	require.NoError(t, Do(t.Context(), p, isPassing, onRetry, failing(&calls, errPassing, errPassing, errPassing, errPassing)))
	require.Equal(t, 5, calls)
	require.Equal(t, []int{1, 2, 3, 4}, seen)
	for i, nominal := range []time.Duration{100, 200, 350, 350} {
		require.GreaterOrEqual(t, r.waits[i], nominal/2)
		require.LessOrEqual(t, r.waits[i], nominal)
	}
}

func TestStopsAtAnErrorThatStays(t *testing.T) {
	var r recorder
	var calls int
	err := Do(t.Context(), Policy{Sleep: r.sleep}, isPassing, nil, failing(&calls, errFinal))
	require.Equal(t, errFinal, err, "the error of the only call comes back as it is")

	calls = 0
	err = Do(t.Context(), Policy{Sleep: r.sleep}, isPassing, nil, failing(&calls, errPassing, errFinal))
	var gaveUp *Error
	require.ErrorAs(t, err, &gaveUp)
	require.Equal(t, 2, gaveUp.Attempts)
	require.ErrorIs(t, err, errFinal)
	require.EqualError(t, err, "after 2 attempts: final")
}

func TestStopsAfterTheLastAttempt(t *testing.T) {
	var r recorder
	var calls int
	err := Do(t.Context(), Policy{Attempts: 3, Sleep: r.sleep}, isPassing, nil, failing(&calls, errPassing, errPassing, errPassing))
	require.ErrorIs(t, err, errPassing)
	require.Equal(t, 3, calls)
	require.Len(t, r.waits, 2, "no wait after the last attempt")
}

func TestStopsWhenTheContextEnds(t *testing.T) {
	cause := errors.New("the operator said so")
	ctx, cancel := context.WithCancelCause(t.Context())
	var calls int
	// The real timer: only the end of the context can end this wait.
	onRetry := func(int, time.Duration, error) { cancel(cause) }
	err := Do(ctx, Policy{First: time.Hour, Max: time.Hour}, isPassing, onRetry, failing(&calls, errPassing))
	require.ErrorIs(t, err, errPassing)
	require.ErrorIs(t, err, cause)
	require.ErrorContains(t, err, "after 1 attempts, last error: passing")
	require.Equal(t, 1, calls)

	calls = 0
	err = Do(ctx, Policy{}, isPassing, nil, failing(&calls, errPassing))
	require.ErrorIs(t, err, errPassing)
	require.Equal(t, 1, calls)
}

func TestRealTimer(t *testing.T) {
	var calls int
	require.NoError(t, Do(t.Context(), Policy{First: time.Nanosecond}, isPassing, nil, failing(&calls, errPassing)))
	require.Equal(t, 2, calls)
}
