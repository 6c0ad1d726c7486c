package ghostferry

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A time is told only where the source knows how many rows there are.
func TestEstimateOfTheCopy(t *testing.T) {
	copying := ControlServerOverview{State: StateCopying, CopyRowsPerSecond: 10}
	for _, c := range []struct {
		name   string
		tables []tableFacts
		eta    float64
		reason string
	}{
		{"estimated", []tableFacts{{action: actionCopying, rows: 50, estimated: 100}, {estimated: 50}}, 10, ""},
		{"one without an estimate among many", append(make([]tableFacts, 1), manyTables(20, 5)...), 10, ""},
		{"most without an estimate", append(make([]tableFacts, 20), manyTables(5, 5)...), 0, "the source has no estimate of 20 tables"},
		{"more than estimated", []tableFacts{{action: actionCopying, rows: 150, estimated: 100}}, 0, "the tables have more rows than the source has estimated"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := copying
			for _, table := range c.tables {
				o.count(table)
			}
			o.estimate()
			require.Equal(t, c.reason, o.ETAReason)
			if c.reason == "" {
				require.NotNil(t, o.ETASeconds)
				require.InDelta(t, c.eta, *o.ETASeconds, 1e-9)
			} else {
				require.Nil(t, o.ETASeconds)
			}
		})
	}
}

func manyTables(n int, estimated uint64) []tableFacts {
	tables := make([]tableFacts, n)
	for i := range tables {
		tables[i].estimated = estimated
	}
	return tables
}

// A switch that fails when the run has ended is a failure of the run: it follows the source no
// longer, and somebody has to know who owns the traffic.
func TestFailedSwitchIsShown(t *testing.T) {
	refused := errors.New("the router said no")
	for name, test := range map[string]struct {
		err  error
		says string
	}{
		"on the source": {refused, "the source stays the side that counts"},
		"unknown":       {errors.Join(refused, ErrTrafficUnknown), "whether the host has switched over is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			s := testControlServer(t, nil)
			shown := func() (o ControlServerOverview) {
				s.describe(&o, time.Now())
				return o
			}
			close(s.F.runEnded) // without an error
			require.False(t, shown().Failed)
			err := (&cutoverAttempt{f: s.F, phase: PhaseCommit}).abort(t.Context(), test.err)
			require.ErrorIs(t, err, refused)
			o := shown()
			require.True(t, o.Failed)
			require.Equal(t, "failed", o.Phase)
			require.Contains(t, o.Error, refused.Error())
			require.Contains(t, o.Error, test.says)
			s.F.enterPhase(PhaseDone) // the host has finished it by EndCutover
			require.False(t, shown().Failed)
		})
	}
}
