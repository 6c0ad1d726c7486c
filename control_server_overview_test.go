package ghostferry

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/schema"
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
		{"more than estimated, and little else", []tableFacts{{action: actionCopying, rows: 150, estimated: 100}, {estimated: 50}}, 0, "the tables have more rows than the source has estimated"},
		{"little more than estimated", []tableFacts{{action: actionCopying, rows: 15, estimated: 10}, {estimated: 100}}, 10, ""},
		{"resumed", []tableFacts{{action: actionCompleted, before: 90, estimated: 200}, {action: actionCopying, rows: 10, before: 40, estimated: 100}, {estimated: 50}}, 10, ""},
		{"resumed behind the estimate", []tableFacts{{action: actionCopying, rows: 10, before: 95, estimated: 100}}, 0, "the tables have more rows than the source has estimated"},
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

// What an earlier process of the run has copied counts for how far the run is, and not for how fast
// this process copies.
func TestEarlierProcessesCount(t *testing.T) {
	before := NewStateTracker(0)
	before.UpdateLastSuccessfulPaginationKey("s.done", NewUint64Key(90), RowStats{NumRows: 90, NumBytes: 900})
	before.MarkTableAsCompleted("s.done")
	before.UpdateLastSuccessfulPaginationKey("s.half", NewUint64Key(40), RowStats{NumRows: 40, NumBytes: 400})
	text, err := json.Marshal(before.Serialize(nil, nil))
	require.NoError(t, err)
	state := &SerializableState{}
	require.NoError(t, json.Unmarshal(text, state))

	f := &Ferry{
		Config: &Config{}, Tables: TableSchemaCache{}, StateTracker: NewStateTrackerFromSerializedState(0, state), began: time.Now().Add(-time.Minute),
		DataIterator: &DataIterator{TargetPaginationKeys: &sync.Map{}, CursorConfig: &CursorConfig{}},
	}
	for name, estimated := range map[string]uint64{"done": 200, "half": 100, "waiting": 50} {
		f.Tables["s."+name] = &TableSchema{Table: &schema.Table{Schema: "s", Name: name}, approxRows: estimated}
	}
	f.copyBegan.Store(1)
	shown := func() (*Progress, map[string]tableFacts) {
		p := &Progress{Tables: map[string]TableProgress{}}
		f.estimate(p, f.tableProgress(p))
		view := newRunView(&ControlServer{F: f})
		snapshot, facts := view.take(time.Now()), map[string]tableFacts{}
		for i, name := range snapshot.names {
			facts[name] = snapshot.tables[i]
		}
		o := snapshot.overview
		require.Equal(t, []uint64{p.RowsCopied, p.BytesCopied, p.RowsCopiedBefore}, []uint64{o.RowsCopied, o.BytesCopied, o.RowsCopiedBefore})
		return p, facts
	}

	p, facts := shown()
	require.EqualValues(t, 130, p.RowsCopiedBefore)
	require.Zero(t, p.RowsCopied)
	require.Zero(t, p.ETA, "of this process no speed is known yet")
	require.Equal(t, TableProgress{CurrentAction: TableActionCompleted, LastSuccessfulPaginationKey: NewUint64Key(90), RowsWrittenBefore: 90, RowsEstimate: 200}, p.Tables["s.done"])
	require.Equal(t, TableProgress{CurrentAction: TableActionCopying, LastSuccessfulPaginationKey: NewUint64Key(40), RowsWrittenBefore: 40, RowsEstimate: 100}, p.Tables["s.half"])
	require.Equal(t, []float64{1, 0.4, 0}, []float64{facts["s.done"].fraction(), facts["s.half"].fraction(), facts["s.waiting"].fraction()})

	f.StateTracker.UpdateLastSuccessfulPaginationKey("s.half", NewUint64Key(50), RowStats{NumRows: 10, NumBytes: 100})
	p, facts = shown()
	require.EqualValues(t, []uint64{130, 10, 100}, []uint64{p.RowsCopiedBefore, p.RowsCopied, p.BytesCopied})
	require.InDelta(t, 100, p.ETA*10/p.CopySeconds, 1e-6, "rows that remain, at the speed of this process")
	require.InDelta(t, 0.5, facts["s.half"].fraction(), 1e-9)
	require.Equal(t, map[string]uint64{"s.done": 90, "s.half": 50}, f.StateTracker.Serialize(nil, nil).RowsCopied)

	f.StateTracker.UpdateLastSuccessfulPaginationKey("s.half", NewUint64Key(500), RowStats{NumRows: 450, NumBytes: 4500})
	p, facts = shown()
	require.Zero(t, p.ETA, "nobody knows how many rows it has")
	require.Less(t, facts["s.half"].fraction(), 1.0)

	f.StateTracker.forgetTable("s.done") // it is copied again
	p, facts = shown()
	require.EqualValues(t, 40, p.RowsCopiedBefore)
	require.Zero(t, facts["s.done"].fraction())
}

// The copy of a run that has failed goes on no longer, and nobody waits for its end.
func TestFailedCopyTakesNoLonger(t *testing.T) {
	f := &Ferry{began: time.Now().Add(-time.Minute), runEnded: make(chan struct{})}
	f.copyBegan.Store(int64(10 * time.Second))
	f.runErr, f.runEndedAt = errors.New("gone"), f.began.Add(30*time.Second)
	close(f.runEnded)
	p := &Progress{RowsCopied: 10}
	f.estimate(p, &ControlServerOverview{TablesTotal: 1, RowsRemaining: 100})
	require.InDelta(t, 20, p.CopySeconds, 1e-9)
	require.Zero(t, p.ETA)
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

// A run that a host ends because its cutover has failed was not interrupted: the failure is shown,
// and that the traffic is unknown is no invitation to resume.
func TestFailedCutoverThatEndsTheRunIsShown(t *testing.T) {
	s := testControlServer(t, nil)
	err := (&cutoverAttempt{f: s.F, phase: PhaseCommit}).abort(t.Context(), errors.Join(errors.New("the router said no"), ErrTrafficUnknown))
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(err)
	s.F.runErr = s.F.runError(ctx, err)
	close(s.F.runEnded)
	var o ControlServerOverview
	s.describe(&o, time.Now())
	require.Equal(t, err.Error(), o.Error)
	require.NotContains(t, o.Error, ErrInterrupted.Error())
	require.False(t, o.Resumable)
}
