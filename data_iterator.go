package ghostferry

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// DataIterator copies tables: it reads their rows in batches and hands each batch to
// its listeners. The Ferry's copies chunks of one table in parallel behind the gate; a
// literal, without a gate, walks each table with a cursor that keeps the rows of a
// batch locked until the listeners have returned.
//
// Batch listeners are called in registration order for each batch; batches of one
// table may come concurrently and in any order.
type DataIterator struct {
	// DB is the source.
	DB *sql.DB
	// Concurrency is how many batches are under way at once; default 4.
	Concurrency int
	// SelectFingerprint adds the rows' digests to the batches, see RowBatch.Fingerprints.
	SelectFingerprint bool
	// ErrorHandler gets what Run cannot return; without one it is logged.
	ErrorHandler ErrorHandler
	// CursorConfig says how tables are read.
	CursorConfig *CursorConfig
	// StateTracker knows what is copied already; nil begins at the beginning.
	StateTracker *StateTracker
	// TableSorter orders the tables; nil means the largest first.
	TableSorter DataIteratorSorter
	// TargetPaginationKeys is "schema.table" to the highest PaginationKey at the start.
	TargetPaginationKeys *sync.Map

	reader     *sourceReader // nil: no gate, locked cursors
	chunkBytes int           // of every chunk; 0: see chunkSize
	// tablesBytes is what there is to copy.
	tablesBytes uint64
	quick       atomic.Int64 // see chunkPlanner
	// loads reports whether a table's rows go by LOAD DATA; nil: none do.
	loads func(l *tableLayout) bool
	large *largeRows // budget of all workers
	// liveWorkers, when set, is used as long as Concurrency is what it was made with, and
	// updates tells of changes.
	liveWorkers func() int
	madeWith    int
	pace        *copyPace   // nil: as fast as configured
	late        func() bool // changes reach the target late; nil: nobody knows
	updates     *updateHub
	logger      Logger
	metrics     *Metrics
	resume      *resumePoint
	checkpoint  *checkpoint

	batchListeners []func(context.Context, *RowBatch) error
	hosted         bool // a host has batches, too, and may keep them
	doneListeners  []func() error
}

// AddBatchListener appends a listener for batches, before Run. The rows of the batch
// count as copied when it returns: a listener that hands them on and returns before
// they are durable breaks what the copy promises. An error ends the run.
func (d *DataIterator) AddBatchListener(listener func(*RowBatch) error) {
	d.hosted = true
	d.addBatchListener(func(_ context.Context, b *RowBatch) error { return listener(b) })
}

func (d *DataIterator) addBatchListener(listener func(context.Context, *RowBatch) error) {
	d.batchListeners = append(d.batchListeners, listener)
}

// AddDoneListener appends a listener that is called once after all tables, before Run.
func (d *DataIterator) AddDoneListener(listener func() error) {
	d.doneListeners = append(d.doneListeners, listener)
}

// Run copies the tables and returns when all are copied; failures go to the ErrorHandler.
func (d *DataIterator) Run(tables []*TableSchema) {
	if err := d.RunContext(context.Background(), tables); err != nil {
		fatal(d.ErrorHandler, d.logger, "data_iterator", err)
	}
}

// RunContext copies the tables and returns the first error.
func (d *DataIterator) RunContext(ctx context.Context, tables []*TableSchema) error {
	d.initialize()
	var todo []*TableSchema
	for _, t := range tables {
		if !d.StateTracker.IsTableComplete(t.String()) {
			todo = append(todo, t)
		}
	}
	d.tablesBytes = bytesOf(todo)
	sorted, err := d.sortTables(todo)
	if err != nil {
		return err
	}
	if d.reader != nil {
		defer d.reader.spare.drop()
	}
	group, groupCtx := lifecycle.New(ctx)
	queue, err := d.newCopyQueue(groupCtx, sorted)
	if err != nil {
		group.Cancel(err)
		return endOf(ctx, group.Wait())
	}
	group.Go("copy-workers", func(ctx context.Context) error { return d.startWorkers(ctx, group, queue) })
	if err := group.Wait(); err != nil {
		return endOf(ctx, err)
	}
	for _, listener := range d.doneListeners {
		if err := listener(); err != nil {
			d.logger.WithError(err).Warn("a listener for the end of the copy failed; the rows are copied")
		}
	}
	return nil
}

// startWorkers starts as many workers as are wanted, and more when more are, until all
// tables are copied. Those that are not wanted any more wait until they are again.
func (d *DataIterator) startWorkers(ctx context.Context, group *lifecycle.Group, queue *copyQueue) error {
	for started := 0; ; {
		changed := d.updates.wait()
		for ; started < d.pace.workers(d.configuredWorkers()); started++ {
			worker := started + 1
			group.Go("copy-"+strconv.Itoa(worker), func(ctx context.Context) error { return queue.work(ctx, worker) })
		}
		select {
		case <-changed:
		case <-queue.over:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// configuredWorkers is how many workers are wanted while nothing paces the copy.
func (d *DataIterator) configuredWorkers() int {
	if d.liveWorkers != nil && d.Concurrency == d.madeWith {
		return max(1, d.liveWorkers())
	}
	return d.Concurrency
}

func (d *DataIterator) initialize() {
	if d.logger == nil {
		d.logger = LogWithField("tag", "data_iterator")
	}
	if d.Concurrency <= 0 {
		d.Concurrency = 4
	}
	if d.StateTracker == nil {
		d.StateTracker = NewStateTracker(0)
	}
	if d.TargetPaginationKeys == nil {
		d.TargetPaginationKeys = &sync.Map{}
	}
	if d.CursorConfig == nil {
		d.CursorConfig = &CursorConfig{DB: d.DB, ReadRetries: defaultDBReadRetries}
	}
	if d.CursorConfig.DB == nil {
		d.CursorConfig.DB = d.DB
	}
	if d.large == nil {
		d.large = newLargeRows()
	}
}

// callListeners hands a batch to every listener.
func (d *DataIterator) callListeners(ctx context.Context, batch *RowBatch) error {
	metricsOrGlobal(d.metrics).countRows(batch.TableSchema(), "table", batch.Size())
	for _, listener := range d.batchListeners {
		if err := safely(func() error { return listener(ctx, batch) }); err != nil {
			return err
		}
	}
	return nil
}

// safely turns a panic of a host's code into an error.
func safely(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("a listener panicked: %v", r)
		}
	}()
	return f()
}

// completeTable records that a table is copied.
func (d *DataIterator) completeTable(ctx context.Context, table *TableSchema) error {
	if d.checkpoint.begun() {
		if err := d.checkpoint.completeTable(ctx, table); err != nil {
			return &TableError{Schema: table.Schema, Table: table.Name, Err: fmt.Errorf("recording the end of its copy: %w", err)}
		}
	}
	d.StateTracker.MarkTableAsCompleted(table.String())
	d.logger.WithFields(tableFields(table)).Debug("table copied")
	return nil
}

// copyChunk reads one chunk behind the gate and hands it on.
//
// The gate stays open from before the barrier until the listeners have returned, so
// that a change of one of these rows that is delivered meanwhile is executed after
// them. A failed read closes it, because nothing was written; after a failed listener
// rows may be on their way, so the gate fails, and with it who waits for it.
func (d *DataIterator) copyChunk(ctx context.Context, p *chunkPlanner, c *chunk) error {
	start := time.Now()
	lease := &largeRowsLease{of: d.large}
	defer lease.release()
	read, gated, err := d.readGated(ctx, p, c, lease)
	if err != nil {
		p.abandon(c)
		return errRange(p, c, err)
	}
	lease.collect()
	d.checkpoint.noteRead(p.table, c.readEnd)
	if read.rows.Len() == 0 {
		traceEmpty(c)
		d.StateTracker.rangeCopied(p.table, p.layout, c.keyRange, RowStats{})
	} else {
		batch := newCanonicalBatch(p.table, p.layout, p.layout.all, read.rows)
		batch.chunk, batch.digests = c, read.digests
		if err := d.callListeners(ctx, batch); err != nil {
			return d.failedChunk(ctx, gated, err)
		}
	}
	d.reader.gate.closeChunk(gated)
	c.held = gated.held // nobody is told to wait for it any more
	p.done(c, read.rows.Len(), read.rows.Bytes(), read.expected(), time.Since(start))
	if !d.hosted {
		d.reader.spare.give(read.rows, p.bytes())
	}
	return nil
}

// failedChunk fails the gate with what ended the copy, which may be another worker's
// failure: whoever waits for the chunk ends with the same error.
func (d *DataIterator) failedChunk(ctx context.Context, gated *gatedChunk, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	err = origin("data_iterator", err)
	d.reader.gate.failChunk(gated, err)
	return err
}
