package ghostferry

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
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
	chunkBytes int
	// liveWorkers, when set, is used as long as Concurrency is what it was made with, and
	// updates tells of changes.
	liveWorkers func() int
	madeWith    int
	pace        *copyPace // nil: as fast as configured
	updates     *updateHub
	logger      Logger
	metrics     *Metrics
	resume      *resumePoint
	checkpoint  *checkpoint

	batchListeners []func(context.Context, *RowBatch) error
	doneListeners  []func() error
}

// AddBatchListener appends a listener for batches, before Run. The rows of the batch
// count as copied when it returns: a listener that hands them on and returns before
// they are durable breaks what the copy promises. An error ends the run.
func (d *DataIterator) AddBatchListener(listener func(*RowBatch) error) {
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
	sorted, err := d.sortTables(todo)
	if err != nil {
		return err
	}
	group, ctx := lifecycle.New(ctx)
	queue, err := d.newCopyQueue(ctx, sorted)
	if err != nil {
		group.Cancel(err)
		return errors.Join(group.Wait())
	}
	group.Go("copy-workers", func(ctx context.Context) error { return d.startWorkers(ctx, group, queue) })
	if err := group.Wait(); err != nil {
		return err
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
	if d.chunkBytes == 0 {
		d.chunkBytes = defaultDataIterationChunkBytes
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
	var rows *codec.Rows
	var digests []byte
	var gated *gatedChunk
	err := d.reader.patience.doWhile(ctx, max(1, d.CursorConfig.ReadRetries), retryableRead, func(ctx context.Context, _ int) error {
		g, mark := d.reader.gate.openChunk(p.table, c.low, c.high)
		traceChunk(g, c)
		read, printed, cut, err := d.reader.readChunk(ctx, p.layout, p.print, c, mark, 4*d.chunkBytes)
		if err != nil {
			traceAbandon(g)
			d.reader.gate.closeChunk(g)
			return err
		}
		if cut {
			last := keyOf(read, read.Len()-1, p.layout.keys)
			p.giveBack(keyRange{last, c.high}, c.worker)
			c.high = last
		}
		traceRead(c, p.layout, read)
		rows, digests, gated = read, printed, g
		return nil
	})
	if err != nil {
		p.abandon(c)
		return &TableError{Schema: p.table.Schema, Table: p.table.Name, Err: fmt.Errorf("reading rows after %s up to %s: %w", p.layout.describeKey(c.low), p.layout.describeKey(c.high), err)}
	}
	d.checkpoint.noteRead(p.table, c.readEnd)
	if rows.Len() == 0 {
		traceEmpty(c)
		d.StateTracker.rangeCopied(p.table, p.layout, c.keyRange, RowStats{})
	} else {
		batch := newCanonicalBatch(p.table, p.layout, p.layout.all, rows)
		batch.chunk, batch.digests = c, digests
		if err := d.callListeners(ctx, batch); err != nil {
			return d.failedChunk(ctx, gated, err)
		}
	}
	d.reader.gate.closeChunk(gated)
	p.done(c, rows.Len(), rows.Bytes(), time.Since(start))
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

// newRows has room for the rows that the chunk is planned to have and an eighth more, so
// that it need not grow (within reason), or for those of the whole table where that is less.
func (c *chunk) newRows(l *tableLayout, maxBytes int) *codec.Rows {
	const surplus = 9.0 / 8
	rows, bytes := float64(c.limit)/2, float64(maxBytes)/4
	if t := c.table; t.approxRows > 0 {
		rows, bytes = min(rows, float64(t.approxRows)), min(bytes, float64(t.dataLength))
	}
	return codec.NewRows(len(l.columns), int(rows*surplus)+1, int(min(bytes, 4<<20)*surplus)+1)
}

// readChunk reads the rows of a chunk so that everything delivered up to the mark is
// seen, with their digests when fp is set. cut reports that the chunk was fuller than
// its limits: the rows are its first.
func (r *sourceReader) readChunk(ctx context.Context, l *tableLayout, fp *fingerprint, c *chunk, mark deliveredMark, maxBytes int) (rows *codec.Rows, digests []byte, cut bool, err error) {
	err = r.readOnce(ctx, mark, r.noted(ctx, &c.readEnd, func(s *session, suffix string) error {
		traceBarrier(c)
		return withLeaves(func(leaves leafReports) (err error) {
			rows, digests, cut, err = readRows(ctx, s, l, fp, c, leaves, suffix, maxBytes)
			return err
		})
	}))
	return rows, digests, cut, err
}

func readRows(ctx context.Context, s *session, l *tableLayout, fp *fingerprint, c *chunk, leaves leafReports, suffix string, maxBytes int) (rows *codec.Rows, digests []byte, cut bool, err error) {
	rows = c.newRows(l, maxBytes)
	stmt := append(s.statement(), "SELECT "+l.reading(leaves)...)
	if fp != nil {
		stmt = append(append(stmt, ','), fp.row...)
	}
	stmt = append(stmt, " FROM "+sqlesc.Table(c.table.Schema, c.table.Name)+l.forceRangeIndex()+" WHERE "...)
	stmt = l.appendRange(stmt, c.keyRange)
	stmt = append(stmt, " ORDER BY "+l.keyOrder(false)+" LIMIT "+strconv.Itoa(c.limit)+suffix...)
	err = s.query(ctx, stmt, func(values []driver.Value) error {
		if cut || rows.Bytes() > maxBytes {
			cut = true // the rest is read and dropped
			return nil
		}
		if err := l.appendRow(rows, values); err != nil || fp == nil {
			return err
		}
		var err error
		digests, err = fp.appendDigest(digests, values[l.readWidth()], func(column int) driver.Value { return values[column] })
		return err
	})
	return rows, digests, cut || rows.Len() == c.limit, err
}
