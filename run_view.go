package ghostferry

import (
	"context"
	"slices"
	"sync"
	"time"
)

const (
	// viewInterval is how old a snapshot may be before a new one is taken.
	viewInterval = time.Second
	// viewRateWindow is over how long speeds are averaged.
	viewRateWindow = 10 * time.Second
	// historyPoints is how many points of the past are kept at most.
	historyPoints = 600
)

// runView takes snapshots of a run, at most one a second for everybody who looks, and keeps
// the course of its speeds.
type runView struct {
	s *ControlServer // immutable

	mu struct {
		sync.Mutex
		latest  *runSnapshot
		samples []speedSample // of the last viewRateWindow, oldest first
		history history
	}
}

func newRunView(s *ControlServer) *runView {
	v := &runView{s: s}
	v.mu.history.every = viewInterval
	return v
}

// run keeps the history going while nobody looks.
func (v *runView) run(ctx context.Context) error {
	return every(ctx, viewInterval, func() { v.current() })
}

// runSnapshot is a run at a moment. It is not changed any more.
type runSnapshot struct {
	at       time.Time
	overview ControlServerOverview
	names    []string       // of the tables, sorted
	schemas  []*TableSchema // in the same order
	tables   []tableFacts   // in the same order
}

// tableFacts is what a list of tables needs; the rest is looked up for those shown.
type tableFacts struct {
	action      int8   // index of tableActions
	rows, bytes uint64 // copied by this process
	before      uint64 // rows copied by earlier ones
	estimated   uint64
}

var tableActions = [...]string{TableActionWaiting, TableActionCopying, TableActionCompleted}

const (
	actionWaiting = iota
	actionCopying
	actionCompleted
)

// copied is how many rows of a table the run has copied.
func (t tableFacts) copied() uint64 { return t.before + t.rows }

// outgrown says that a table which is still being copied has come to its estimate: nobody knows
// how much is left.
func (t tableFacts) outgrown() bool { return t.action == actionCopying && t.copied() >= t.estimated }

// fraction is how much of a table is copied, by the estimate of its rows.
func (t tableFacts) fraction() float64 {
	switch {
	case t.action == actionCompleted:
		return 1
	case t.estimated == 0:
		return 0
	}
	return min(0.999, float64(t.copied())/float64(t.estimated))
}

// speedSample is what had been done at a moment.
type speedSample struct {
	at                   time.Time
	rows, bytes, changes uint64
}

// HistoryPoint is how fast a run was at a moment of its past.
type HistoryPoint struct {
	// Time is seconds since 1970.
	Time int64
	// CopyRows and CopyBytes are what was copied a second, ApplyRows the changes applied.
	CopyRows, CopyBytes, ApplyRows float64
	// Lag is in seconds, null while it is not known.
	Lag *float64
}

// history covers the whole run: when it is full, every two points become one.
type history struct {
	every  time.Duration
	points []HistoryPoint
	last   time.Time // when the last of them was added
}

func (h *history) add(now time.Time, p HistoryPoint) {
	if len(h.points) > 0 && now.Sub(h.last).Round(time.Second) < h.every {
		return
	}
	h.last = now
	h.points = append(h.points, p)
	if len(h.points) < historyPoints {
		return
	}
	half := h.points[:0]
	for i := 0; i+1 < len(h.points); i += 2 {
		half = append(half, h.points[i+1])
	}
	h.points, h.every = half, 2*h.every
}

// current returns a snapshot of the last second.
func (v *runView) current() *runSnapshot {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := time.Now()
	// A little less, so that the next tick of whoever looks every second gets a new one.
	if v.mu.latest != nil && now.Sub(v.mu.latest.at) < viewInterval*9/10 {
		return v.mu.latest
	}
	snapshot := v.take(now)
	v.mu.latest = snapshot
	o := &snapshot.overview
	if o.DoneTime != nil && len(v.mu.history.points) > 0 {
		return snapshot // nothing moves any more
	}
	v.mu.history.add(now, HistoryPoint{
		Time: now.Unix(), CopyRows: o.CopyRowsPerSecond, CopyBytes: o.CopyBytesPerSecond, ApplyRows: o.ApplyRowsPerSecond, Lag: o.ApplyLagSeconds,
	})
	return snapshot
}

// changed makes the next look take a new snapshot: an order was obeyed.
func (v *runView) changed() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.latest = nil
}

// past returns the course of the speeds so far.
func (v *runView) past() []HistoryPoint {
	v.current()
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.mu.history.points)
}

// take is called with the lock held.
func (v *runView) take(now time.Time) *runSnapshot {
	f := v.s.F
	snapshot := &runSnapshot{at: now}
	if v.mu.latest != nil && len(v.mu.latest.names) == len(f.Tables) {
		snapshot.names, snapshot.schemas = v.mu.latest.names, v.mu.latest.schemas
	} else {
		snapshot.names = sortedNames(f.Tables)
		snapshot.schemas = make([]*TableSchema, len(snapshot.names))
		for i, name := range snapshot.names {
			snapshot.schemas[i] = f.Tables[name]
		}
	}
	snapshot.tables = make([]tableFacts, len(snapshot.names))
	o := &snapshot.overview
	if f.StateTracker != nil {
		f.StateTracker.eachTable(snapshot.names, func(i int, p *tableProgress) {
			snapshot.tables[i] = factsOf(snapshot.schemas[i], p)
			o.count(snapshot.tables[i])
		})
	}
	v.s.describe(o, now)
	v.rates(o, now)
	o.estimate()
	return snapshot
}

func factsOf(table *TableSchema, p *tableProgress) tableFacts {
	facts := tableFacts{rows: p.written.NumRows, bytes: p.written.NumBytes, before: p.before}
	if table != nil {
		facts.estimated = table.approxRows
	}
	switch {
	case p.completed:
		facts.action = actionCompleted
	case facts.copied() > 0 || p.last != nil:
		facts.action = actionCopying
	}
	return facts
}

// rates fills in speeds of the last seconds.
func (v *runView) rates(o *ControlServerOverview, now time.Time) {
	v.mu.samples = append(v.mu.samples, speedSample{now, o.RowsCopied, o.BytesCopied, o.BinlogRowsApplied})
	for len(v.mu.samples) > 2 && now.Sub(v.mu.samples[1].at) >= viewRateWindow {
		v.mu.samples = v.mu.samples[1:]
	}
	first := v.mu.samples[0]
	seconds := now.Sub(first.at).Seconds()
	if seconds <= 0 {
		return
	}
	rate := func(now, before uint64) float64 { return float64(now-min(before, now)) / seconds }
	o.CopyRowsPerSecond = rate(o.RowsCopied, first.rows)
	o.CopyBytesPerSecond = rate(o.BytesCopied, first.bytes)
	o.ApplyRowsPerSecond = rate(o.BinlogRowsApplied, first.changes)
}
