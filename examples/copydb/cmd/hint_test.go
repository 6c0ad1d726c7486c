package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
)

// Nobody is told to go on, or to begin anew, where the application may write to the target or
// another process makes the move.
func TestHint(t *testing.T) {
	const look, goOn, anew, leave = "look where the application writes", "the same command goes on", "then begin anew with -restart", "another process makes this move now"
	reason := errors.New("disk full")
	fenced := fmt.Errorf("recording the position: %w", &ghostferry.FencedError{RunID: "r", Epoch: 2})
	for _, c := range []struct {
		outcome copydb.Outcome
		err     error
		says    string
	}{
		{copydb.Failed, &ghostferry.CutoverError{Traffic: ghostferry.TrafficUnknown, Err: reason}, look},
		{copydb.Failed, &ghostferry.CutoverError{Traffic: ghostferry.TrafficOnTarget, Err: reason}, look},
		{copydb.Failed, &ghostferry.CutoverError{Traffic: ghostferry.TrafficOnSource, Err: &ghostferry.LateWriteError{}}, goOn},
		{copydb.Failed, &ghostferry.LateWriteError{Switched: true}, look},
		{copydb.Failed, fenced, leave},
		{copydb.Failed, &ghostferry.CutoverError{Traffic: ghostferry.TrafficOnSource, Err: fenced}, leave},
		{copydb.Failed, &ghostferry.CutoverError{Traffic: ghostferry.TrafficOnTarget, Err: fenced}, look},
		{copydb.Refused, &copydb.RefusedError{Err: fenced, Resuming: true}, leave},
		{copydb.Failed, &ghostferry.RunBegunError{RunID: "r"}, leave},
		{copydb.Failed, &ghostferry.DebtError{Table: "s.t"}, "put the named rows of the target in order"},
		{copydb.Different, &ghostferry.ForeignWriteError{}, look},
		{copydb.Different, &copydb.DifferentError{}, "make sure that the application does not write to the target, " + anew},
		{copydb.Interrupted, ghostferry.ErrInterrupted, goOn},
		{copydb.Refused, &copydb.RefusedError{Err: reason}, "this process wrote nothing to the target"},
		{copydb.Refused, &copydb.RefusedError{Err: reason, Resuming: true}, "the rows of an earlier run still are"},
	} {
		require.Contains(t, hint(copydb.Result{Outcome: c.outcome, Err: c.err}), c.says, "%s: %v", c.outcome, c.err)
	}
	require.Empty(t, hint(copydb.Result{Outcome: copydb.Equal}))
}
