package copydb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
)

func TestExitStatusByError(t *testing.T) {
	different := &DifferentError{ghostferry.VerificationResult{Message: "s.t: keys 1, 2"}}
	late := &ghostferry.LateWriteError{Tables: []string{"s.t"}}
	ctx := t.Context()
	stopped, stop := context.WithCancelCause(ctx)
	stop(fmt.Errorf("received terminated: %w", ghostferry.ErrInterrupted))
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	for _, c := range []struct {
		err     error
		outcome Outcome
		status  int
	}{
		{different, Different, 4},
		{fmt.Errorf("%w; and more", different), Different, 4},
		{new(CopydbFerry).refused(ctx, &ExistingTableError{[]string{"`s`.`t`"}}), Refused, 1},
		{(&CopydbFerry{wrote: true}).refused(ctx, errors.New("too late")), Failed, 2},
		{new(CopydbFerry).refused(stopped, context.Canceled), Interrupted, 3},
		{ended(cancelled, errors.New("invalid connection")), Interrupted, 3},
		{ended(stopped, different), Different, 4},
		{ended(ctx, context.Canceled), Failed, 2}, // somebody else's
		{fmt.Errorf("received terminated: %w", ghostferry.ErrInterrupted), Interrupted, 3},
		{late, Failed, 2},
		{errors.New("disk full"), Failed, 2},
	} {
		outcome := outcomeOf(c.err)
		require.Equal(t, c.outcome, outcome, c.err)
		require.Equal(t, c.status, outcome.ExitStatus())
	}
	for _, outcome := range []Outcome{Equal, EqualSourceNotFenced, DoneNotVerified} {
		require.Zero(t, outcome.ExitStatus())
	}
}

func TestReasonOfAnInterruptionIsKept(t *testing.T) {
	ctx, stop := context.WithCancelCause(t.Context())
	stop(fmt.Errorf("received terminated: %w", ghostferry.ErrInterrupted))
	err := ended(ctx, fmt.Errorf("reading: %w", context.Canceled))
	require.EqualError(t, err, "received terminated: interrupted; the run can be resumed")
	more := fmt.Errorf("%w; and the writers are still blocked", err)
	require.Equal(t, more, ended(ctx, more))
	require.NoError(t, ended(ctx, nil))
}

func TestLastLine(t *testing.T) {
	for wants, result := range map[string]Result{
		"equal at binlog.000002:17":                                         {Outcome: Equal, Coordinate: "binlog.000002:17"},
		"equal at binlog.000002:17, source not fenced":                      {Outcome: EqualSourceNotFenced, Coordinate: "binlog.000002:17"},
		"done, NOT verified":                                                {Outcome: DoneNotVerified},
		"interrupted; the same command goes on from here":                   {Outcome: Interrupted, Err: errors.New("received terminated")},
		"interrupted; its writes go on; the same command goes on from here": {Outcome: Interrupted, Err: &givenUpError{errors.New("received terminated"), "its writes go on"}},
		"failed: disk full":                                                 {Outcome: Failed, Err: errors.New("disk full")},
		"refused: a (and 2 more)":                                           {Outcome: Refused, Err: errors.Join(errors.New("a"), errors.New("b"), errors.New("c"))},
	} {
		require.Equal(t, wants, result.String())
	}
}

// What was not compared is said where something was found equal.
func TestLastLineOfAPartialComparison(t *testing.T) {
	r := Result{Outcome: Equal, Coordinate: "b.1:2", NotCompared: "1 table and 3 columns"}
	require.Equal(t, "equal at b.1:2, 1 table and 3 columns not compared", r.String())
	r.Outcome = EqualSourceNotFenced
	require.Equal(t, "equal at b.1:2, source not fenced, 1 table and 3 columns not compared", r.String())
	line, err := json.Marshal(r)
	require.NoError(t, err)
	require.Contains(t, string(line), `"not_compared":"1 table and 3 columns"`)
}

func TestResultAsJSON(t *testing.T) {
	result := Result{
		Outcome: Different, Tables: 3, RowsCopied: 10, CopySeconds: 1.5, BinlogRowsApplied: 4, Coordinate: "b.1:2",
		RowsCompared: 11, WriteBlockMS: 80, Seconds: 2.25, Err: errors.New(`keys "1"`),
	}
	line, err := json.Marshal(result)
	require.NoError(t, err)
	require.JSONEq(t, `{"result":"different","tables":3,"rows_copied":10,"copy_seconds":1.5,"binlog_rows_applied":4,"coordinate":"b.1:2",
		"verified":false,"rows_compared":11,"write_block_ms":80,"verify_block_ms":0,"seconds":2.25,"error":"keys \"1\""}`, string(line))

	line, err = json.Marshal(Result{Outcome: Equal, Verified: true})
	require.NoError(t, err)
	require.Contains(t, string(line), `"error":""`)
}
