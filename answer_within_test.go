package ghostferry

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// A host's code that knows of no context may hang or panic.
func TestAnswerWithin(t *testing.T) {
	answer, err := answerWithin(t.Context(), func() (int, error) { return 3, nil })
	require.NoError(t, err)
	require.Equal(t, 3, answer)
	broken := errors.New("broken")
	_, err = answerWithin(t.Context(), func() (int, error) { return 0, broken })
	require.ErrorIs(t, err, broken)
	_, err = answerWithin(t.Context(), func() (int, error) { panic("no") })
	require.ErrorContains(t, err, "panicked: no")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	hangs := make(chan struct{})
	defer close(hangs)
	_, err = answerWithin(ctx, func() (int, error) { <-hangs; return 0, nil })
	require.ErrorIs(t, err, broken)
}
