package ghostferry

import (
	"cmp"
	"context"
	"sort"
	"sync"
)

// copyJob is the copy of one table, done in pieces by any worker.
type copyJob interface {
	// claim returns a piece of work for a worker (from 1), nil when there is none at the moment.
	claim(ctx context.Context, worker int) (func(ctx context.Context) error, error)
	// finished is true once, when all the work is done.
	finished() bool
	schema() *TableSchema
}

func (d *DataIterator) newCopyJob(ctx context.Context, table *TableSchema) (copyJob, error) {
	l, err := table.layout()
	if err != nil {
		return nil, err
	}
	reader := d.reader
	if reader == nil {
		return d.newCursorJob(ctx, table)
	}
	// The highest key bounds the plan. It is read after the stream's start was fixed,
	// so a row beyond it comes by the stream.
	high, end, err := reader.edgeKey(ctx, table, true)
	if err == nil {
		d.checkpoint.noteRead(table, end) // it has seen that there are no rows beyond
	}
	if err != nil || high == nil {
		return nil, err
	}
	d.TargetPaginationKeys.Store(table.String(), l.paginationKey(table, high))
	done, next := d.copiedBefore(table, l)
	d.StateTracker.copied(table, l, done)
	low, ranges := l.gaps(done, high, d.hostQuery(l))
	if len(ranges) == 0 {
		return nil, nil
	}
	fp, err := d.fingerprint(table)
	if err != nil {
		return nil, err
	}
	if d.hostQuery(l) {
		return &filteredJob{d: d, table: table, layout: l, print: fp, last: low, high: high, number: next}, nil
	}
	rows := func() int { return int(d.CursorConfig.GetBatchSize(table.Schema, table.Name)) }
	p, err := newChunkPlanner(table, reader, ranges, next, rows, func() int { return d.chunkSize(l) })
	if err != nil {
		return nil, err
	}
	p.print, p.pace = fp, d.pace
	p.largeBytes = cmp.Or(d.chunkBytes, defaultDataIterationChunkBytes)
	if d.chunkBytes == 0 {
		p.quick = &d.quick
	}
	p.begin()
	return &chunkJob{d: d, planner: p}, nil
}

// hostQuery reports whether a table's rows are those of a host's query.
func (d *DataIterator) hostQuery(l *tableLayout) bool {
	return d.CursorConfig.BuildSelect != nil && l.scope == nil
}

// fingerprint is how a table's rows are digested, nil when they are not.
func (d *DataIterator) fingerprint(table *TableSchema) (*fingerprint, error) {
	if !d.SelectFingerprint {
		return nil, nil
	}
	return newFingerprint(table)
}

// copiedBefore returns what earlier runs have copied of a table, and the number of the
// next chunk.
func (d *DataIterator) copiedBefore(table *TableSchema, l *tableLayout) (done []keyRange, next uint64) {
	if d.resume == nil {
		return d.StateTracker.resumedRanges(table.String(), l), 1
	}
	t := d.resume.tables[NewTableIdentifierFromSchemaTable(table)]
	if t == nil {
		return nil, 1
	}
	for _, c := range t.chunks {
		done = append(done, c.keyRange)
	}
	return done, t.next
}

// chainEnd follows copied ranges from the table's beginning, each starting where the
// one before ended. It needs no order of keys, only equality of the planned bounds.
func chainEnd(done []keyRange) keyTuple {
	starts := make(map[string]keyTuple, len(done))
	for _, r := range done {
		starts[r.low.encode()] = r.high
	}
	var low keyTuple
	for range done {
		high, ok := starts[low.encode()]
		if !ok {
			break
		}
		low = high
	}
	return low
}

// gaps returns the ranges up to high that are not done, and the end of what is done
// from the table's beginning. Without an order of keys, or in order only, everything
// behind that end is a gap.
func (l *tableLayout) gaps(done []keyRange, high keyTuple, inOrder bool) (low keyTuple, ranges []keyRange) {
	if !l.keyOrdered || inOrder {
		low = chainEnd(done)
		return low, []keyRange{{low, high}}
	}
	sort.Slice(done, func(i, j int) bool { return l.compareLows(done[i].low, done[j].low) < 0 })
	var at keyTuple
	for _, r := range done {
		if l.compareLows(at, r.low) < 0 {
			ranges = append(ranges, keyRange{at, r.low})
		}
		if at == nil || l.compareKeys(r.high, at) > 0 {
			at = r.high
		}
		if len(ranges) == 0 {
			low = at
		}
	}
	if at == nil || l.compareKeys(at, high) < 0 {
		ranges = append(ranges, keyRange{at, high})
	}
	return low, ranges
}

func (l *tableLayout) compareLows(a, b keyTuple) int {
	switch {
	case a == nil && b == nil:
		return 0
	case a == nil:
		return -1
	case b == nil:
		return 1
	}
	return l.compareKeys(a, b)
}

// chunkJob copies a table in parallel chunks.
type chunkJob struct {
	d       *DataIterator
	planner *chunkPlanner
}

func (j *chunkJob) claim(ctx context.Context, worker int) (func(context.Context) error, error) {
	c, err := j.planner.claim(ctx, worker)
	if err != nil || c == nil {
		return nil, err
	}
	return func(ctx context.Context) error { return j.d.copyChunk(ctx, j.planner, c) }, nil
}

func (j *chunkJob) finished() bool       { return j.planner.finished() }
func (j *chunkJob) schema() *TableSchema { return j.planner.table }

// cursorJob walks a whole table with a locking cursor, for components without a gate.
type cursorJob struct {
	d      *DataIterator
	cursor *Cursor

	mu            sync.Mutex
	claimed, done bool
	completed     bool
}

func (d *DataIterator) newCursorJob(ctx context.Context, table *TableSchema) (copyJob, error) {
	high, err := maxPaginationKey(ctx, d.DB, table)
	if err != nil {
		return nil, err
	}
	// A table that looks empty is walked, too: a row that is just being committed is
	// waited for by a locking read only.
	if high != nil {
		d.TargetPaginationKeys.Store(table.String(), high)
	}
	j := &cursorJob{d: d, cursor: d.CursorConfig.NewCursor(table, d.StateTracker.lastKey(table.String()), nil)}
	j.cursor.Throttler = nil // the worker waits
	j.cursor.chunkBytes = d.chunkBytes
	j.cursor.print, err = d.fingerprint(table)
	return j, err
}

func (j *cursorJob) claim(context.Context, int) (func(context.Context) error, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.claimed {
		return nil, nil
	}
	j.claimed = true
	return func(ctx context.Context) error {
		j.cursor.Throttler = j.d.CursorConfig.Throttler
		if err := j.cursor.EachContext(ctx, j.d.callListeners); err != nil {
			return err
		}
		j.mu.Lock()
		defer j.mu.Unlock()
		j.done = true
		return nil
	}, nil
}

func (j *cursorJob) finished() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.done || j.completed {
		return false
	}
	j.completed = true
	return true
}

func (j *cursorJob) schema() *TableSchema { return j.cursor.Table }
