package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/Masterminds/squirrel"
	"golang.org/x/sync/errgroup"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// copyJob is the copy of one table, done in pieces by any worker.
type copyJob interface {
	// claim returns a piece of work for a worker (from 1), nil when there is none at the moment.
	claim(ctx context.Context, worker int) (func(ctx context.Context) error, error)
	// finished is true once, when all the work is done.
	finished() bool
	schema() *TableSchema
}

// copyQueue hands the pieces of all tables to the workers, first table first. A worker stays
// with a table that is its own, and helps another one when no table is without a worker:
// several that fill one small table wait for each other in the target, which lets only one
// of them make a file longer or split a page near an index's root.
type copyQueue struct {
	d *DataIterator

	mu      sync.Mutex
	jobs    []copyJob
	at      map[int]copyJob // where a worker took its last piece
	changed chan struct{}   // closed and replaced when a piece ends
	over    chan struct{}   // closed when no table is left
}

// newCopyQueue finds what is left to copy of each table; empty tables are complete.
func (d *DataIterator) newCopyQueue(ctx context.Context, tables []*TableSchema) (*copyQueue, error) {
	q := &copyQueue{d: d, at: map[int]copyJob{}, changed: make(chan struct{}), over: make(chan struct{})}
	// Each costs the server a round trip, which many tables need not wait for in a row.
	jobs := make([]copyJob, len(tables))
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(d.Concurrency)
	for i, table := range tables {
		group.Go(func() (err error) {
			if jobs[i], err = d.newCopyJob(groupCtx, table); err != nil {
				return &TableError{Schema: table.Schema, Table: table.Name, Err: err}
			}
			if jobs[i] == nil {
				return d.completeTable(groupCtx, table)
			}
			d.logger.WithFields(tableFields(table)).Debug("table is about to be copied")
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for _, job := range jobs {
		if job != nil {
			q.jobs = append(q.jobs, job)
		}
	}
	if len(q.jobs) == 0 {
		close(q.over)
	}
	return q, nil
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
	p, err := newChunkPlanner(table, reader, ranges, next, rows, d.chunkBytes)
	if err != nil {
		return nil, err
	}
	p.print, p.pace = fp, d.pace
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

// work takes pieces until all tables are copied.
func (q *copyQueue) work(ctx context.Context, worker int) error {
	for {
		if wanted, err := q.wanted(ctx, worker); err != nil || !wanted {
			return err
		}
		if q.d.CursorConfig.Throttler != nil {
			if err := WaitForThrottleContext(ctx, q.d.CursorConfig.Throttler); err != nil {
				return err
			}
		}
		job, piece, changed, err := q.next(ctx, worker)
		if err != nil {
			return err
		}
		if piece == nil {
			if changed == nil {
				return nil
			}
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if err := piece(ctx); err != nil {
			return err
		}
		if err := q.ended(ctx, job); err != nil {
			return err
		}
	}
}

// wanted returns when the worker is among those that are wanted; false when none is needed
// any more.
func (q *copyQueue) wanted(ctx context.Context, worker int) (bool, error) {
	for {
		changed := q.d.updates.wait()
		configured := q.d.configuredWorkers()
		if worker <= q.d.pace.workers(configured) {
			return true, nil
		}
		rested := func() {}
		if worker <= configured {
			rested = waitingFor(ctx, waitPaced)
		}
		select {
		case <-changed:
			rested()
		case <-q.over:
			rested()
			return false, nil
		case <-ctx.Done():
			rested()
			return false, ctx.Err()
		}
	}
}

// next claims a piece of a job; without one it returns a channel to wait on, or nil when no
// table is left.
func (q *copyQueue) next(ctx context.Context, worker int) (copyJob, func(context.Context) error, <-chan struct{}, error) {
	q.mu.Lock()
	jobs, changed := q.jobs, q.changed
	q.mu.Unlock()
	for job := range q.choices(jobs, worker) {
		piece, err := job.claim(ctx, worker)
		if err != nil {
			return nil, nil, nil, &TableError{Schema: job.schema().Schema, Table: job.schema().Name, Err: err}
		}
		if piece != nil {
			q.move(worker, job)
			return job, piece, nil, nil
		}
	}
	if len(jobs) == 0 {
		return nil, nil, nil, nil
	}
	return nil, nil, changed, nil
}

// choices are the jobs in the order in which a worker asks them for a piece: the one that it
// is at, those that nobody is at, and all others.
func (q *copyQueue) choices(jobs []copyJob, worker int) iter.Seq[copyJob] {
	return func(yield func(copyJob) bool) {
		q.mu.Lock()
		own := q.at[worker]
		q.mu.Unlock()
		if own != nil && !yield(own) {
			return
		}
		for _, job := range jobs {
			if q.moveAlone(worker, job) && !yield(job) {
				return
			}
		}
		for _, job := range jobs {
			if !yield(job) {
				return
			}
		}
	}
}

// move notes that a worker is at a job.
func (q *copyQueue) move(worker int, job copyJob) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.at[worker] = job
}

// moveAlone does so if no worker is at it.
func (q *copyQueue) moveAlone(worker int, job copyJob) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, other := range q.at {
		if other == job {
			return false
		}
	}
	q.at[worker] = job
	return true
}

// ended completes the piece's table when it was the last of its work, and wakes the waiting
// workers. A job has work from the start, so no other can have been finished by it.
func (q *copyQueue) ended(ctx context.Context, job copyJob) error {
	if job.finished() {
		if err := q.d.completeTable(ctx, job.schema()); err != nil {
			return err
		}
		q.remove(job)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.changed)
	q.changed = make(chan struct{})
	return nil
}

// remove takes a job off the list, a new one: workers walk through the old one unlocked.
func (q *copyQueue) remove(job copyJob) {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := slices.Index(q.jobs, job)
	q.jobs = slices.Concat(q.jobs[:at], q.jobs[at+1:])
	if len(q.jobs) == 0 {
		close(q.over)
	}
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

// filteredJob copies the rows of a host's query: one batch at a time, in order,
// because the query has no upper bound of its own.
type filteredJob struct {
	d      *DataIterator
	table  *TableSchema
	layout *tableLayout
	print  *fingerprint // nil: rows are read without digests
	high   keyTuple

	mu        sync.Mutex
	last      keyTuple // guarded by mu; the end of the last batch
	number    uint64
	busy      bool
	done      bool
	completed bool
}

func (j *filteredJob) claim(context.Context, int) (func(context.Context) error, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.busy || j.done {
		return nil, nil
	}
	j.busy = true
	return j.copyBatch, nil
}

func (j *filteredJob) finished() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.done || j.completed {
		return false
	}
	j.completed = true
	return true
}

func (j *filteredJob) schema() *TableSchema { return j.table }

// copyBatch copies the host's next batch. Its upper key is read first, without a gate,
// only to bound the gate and the query that is really copied: between the two reads
// rows may come and go, and both are seen by the second one or by the stream.
func (j *filteredJob) copyBatch(ctx context.Context) error {
	size := j.batchSize()
	var first *RowBatch
	err := j.d.reader.read(ctx, deliveredMark{}, func(s *session, _ string) (err error) {
		first, err = j.fetch(ctx, s, size, nil, "", noLeaves)
		return err
	})
	if err != nil {
		return j.failed(err)
	}
	if first.Size() == 0 {
		j.ended(nil)
		return nil
	}
	end, err := j.copyUpTo(ctx, first.lastKey(j.layout), size)
	if err != nil {
		return err
	}
	j.ended(end)
	return nil
}

// copyUpTo reads the batch up to the key behind the gate, hands it on, and returns the
// key up to which the table is copied now.
func (j *filteredJob) copyUpTo(ctx context.Context, upper keyTuple, size uint64) (keyTuple, error) {
	d := j.d
	c := &chunk{keyRange: keyRange{j.last, upper}, table: j.table, number: j.number}
	gated, mark := d.reader.gate.openChunk(j.table, c.low, c.high)
	var batch *RowBatch
	again := func(err error) bool { return errors.Is(err, errReadAgain) }
	err := d.reader.patience.doWhile(ctx, 3, again, func(ctx context.Context, _ int) error {
		return d.reader.readOnce(ctx, mark, d.reader.noted(ctx, &c.readEnd, func(s *session, suffix string) error {
			return withLeaves(func(leaves leafReports) (err error) {
				batch, err = j.fetch(ctx, s, size, upper, suffix, leaves)
				return err
			})
		}))
	})
	if err != nil {
		d.reader.gate.closeChunk(gated)
		return nil, j.failed(err)
	}
	if uint64(batch.Size()) >= size {
		// Rows that came between the two reads may have pushed others past the limit.
		c.high = batch.lastKey(j.layout)
	}
	d.checkpoint.noteRead(j.table, c.readEnd)
	if batch.Size() == 0 {
		d.StateTracker.rangeCopied(j.table, j.layout, c.keyRange, RowStats{})
	} else {
		batch.chunk = c
		if err := d.callListeners(ctx, batch); err != nil {
			return nil, d.failedChunk(ctx, gated, err)
		}
	}
	d.reader.gate.closeChunk(gated)
	return c.high, nil
}

// query returns the host's query for the next batch, bounded when upper is set.
func (j *filteredJob) query(size uint64, upper keyTuple, leaves leafReports) (string, []any, error) {
	last := j.layout.belowAll(j.table)
	if j.last != nil {
		last = j.layout.paginationKey(j.table, j.last)
	}
	builder, err := j.d.CursorConfig.BuildSelect(j.layout.selectColumns(j.print, leaves), j.table, last, size)
	if err != nil {
		return "", nil, err
	}
	if upper != nil {
		bound := string(j.layout.appendUpTo(nil, upper))
		builder = builder.Where(squirrel.Expr(strings.ReplaceAll(bound, "?", "??")))
	}
	return builder.ToSql()
}

func (j *filteredJob) fetch(ctx context.Context, s *session, size uint64, upper keyTuple, suffix string, leaves leafReports) (*RowBatch, error) {
	query, args, err := j.query(size, upper, leaves)
	if err != nil {
		return nil, err
	}
	rows, err := s.conn.QueryContext(ctx, query+suffix, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	batch, err := scanBatch(rows, j.table, j.layout, j.print)
	if err == nil && batch.Size() > 0 && !batch.containsKey(j.layout) {
		err = fmt.Errorf("it does not select the pagination key %s", j.layout.keyNames())
	}
	return batch, err
}

func (j *filteredJob) failed(err error) error {
	return &TableError{Schema: j.table.Schema, Table: j.table.Name, Err: fmt.Errorf("the copy filter's query: %w", err)}
}

func (j *filteredJob) batchSize() uint64 {
	if n := j.d.CursorConfig.GetBatchSize(j.table.Schema, j.table.Name); n > 0 {
		return n
	}
	return defaultCursorBatch
}

func (j *filteredJob) ended(upper keyTuple) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.busy = false
	if upper == nil {
		j.done = true
		return
	}
	j.last = upper
	j.number++
	if j.layout.keyOrdered && j.layout.compareKeys(upper, j.high) >= 0 {
		j.done = true // rows beyond the highest key at the start come by the stream
	}
}

// belowAll is the key that a host's query starts after: below zero for integers, whose
// columns may hold zero and negative values, no bytes for the others, which a row may have.
func (l *tableLayout) belowAll(table *TableSchema) PaginationKey {
	name := table.GetPaginationColumn().Name
	switch keyKindOf(table.GetPaginationColumn()) {
	case keyKindBinary:
		return BinaryKey{Column: name, Value: []byte{}, begins: true}
	case keyKindText:
		return TextKey{Column: name, begins: true}
	}
	if l.columns[l.keys[0]].Kind == codec.Int {
		return Int64Key{Column: name, Value: -1 << 63, begins: true}
	}
	return Int64Key{Column: name, Value: -1, begins: true}
}

// begins reports that a key is belowAll's, and no row's with the same value.
func begins(key PaginationKey) bool {
	switch k := key.(type) {
	case Int64Key:
		return k.begins
	case BinaryKey:
		return k.begins
	case TextKey:
		return k.begins
	}
	return false
}
