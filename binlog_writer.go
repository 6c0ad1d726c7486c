package ghostferry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

const (
	// applyBatchRows and applyBatchBytes bound what is applied at once: large enough that
	// statements are long, hot rows collapse and lanes seldom wait for each other, small enough
	// for memory.
	applyBatchRows  = 10000
	applyBatchBytes = 8 << 20
	// applyBatchTime is how long a batch should take: changes behind it wait that long. A target
	// that is slow, for example beside the copy, gets smaller ones, but not less than leastBatchRows.
	applyBatchTime = 500 * time.Millisecond
	leastBatchRows = 1000
	// applyQueueBytes bounds what is delivered and not yet taken into a batch.
	applyQueueBytes = 8 << 20
	// applyBytes bounds what is delivered and not yet on the target: beyond the queue one
	// batch that is written and one that is being made. Of larger rows there is one.
	applyBytes = applyQueueBytes + 2*applyBatchBytes
	// soleLaneRows: a smaller batch is not worth the round trips of several lanes.
	soleLaneRows = 200
	// idlePosition is how often the position is recorded while only changes of other
	// tables go by.
	idlePosition = time.Second
)

// BinlogWriter applies row changes to the target in batches: the last image of each
// key of a batch is written, by several lanes at once, and the stream's position is
// committed with it. It works as a literal with DB set; events then are applied
// without a checkpoint. BufferBinlogEvents is called by one goroutine.
type BinlogWriter struct {
	// DB is the target.
	DB *sql.DB
	// DatabaseRewrites and TableRewrites map source names to target names.
	DatabaseRewrites map[string]string
	TableRewrites    map[string]string
	// Throttler is waited on before each batch.
	Throttler Throttler
	// BatchSize is how many row changes a batch has at most; 0 means by size.
	BatchSize int
	// WriteRetries is how often a batch is tried in total; 0 means without limit.
	WriteRetries int
	// ErrorHandler gets what Run cannot return; without one it is logged.
	ErrorHandler ErrorHandler
	// StateTracker gets the position of each batch; nil keeps none.
	StateTracker *StateTracker

	logger   Logger
	patience *patience
	gate     *gate // nil: nothing is copied at the same time
	// settledFrom returns from where on the target has a table exactly as the source had it
	// at the applied position, false while that is not known; nil: it never is.
	settledFrom func(ctx context.Context, table *TableSchema) (BinlogCoordinate, bool, error)
	checkpoint  *checkpoint // nil: no position is recorded
	ledger      *debtLedger // nil: a row left out is a conflict
	collisions  *collisionLedger
	laneCount   int
	lanes       func() int       // how many lanes are wanted now
	start       BinlogCoordinate // where the stream begins, then the end of the last whole transaction
	mark        logMark          // of the last transaction up to start
	resumed     writerResume     // owned by the goroutine that builds batches
	batch       uint64           // number of the last batch recorded

	once     sync.Once
	srv      *server.Server // owned by the writing goroutine after Run began
	writers  map[*TableSchema]*tableWriter
	sessions sessionPool
	pauses   tablePauses
	queue    applyQueue
	refs     []*rowEvent    // memory for the next events; owned by the goroutine that delivers
	executed binlog.GTIDSet // transactions up to the last end; owned by the goroutine that builds batches
	open     openTransaction

	applied struct {
		sync.Mutex
		at      BinlogCoordinate // everything up to here is on the target
		changed chan struct{}    // closed and replaced when at moves
	}
	paced         atomic.Int64  // rows that were written in applyBatchTime of late; 0: not known
	recordAll     atomic.Bool   // every position is recorded before it is published
	appliedRows   atomic.Uint64 // changes executed
	lastTimestamp atomic.Int64  // unix seconds of the last change executed
}

// Initialize prepares the writer; it is done by the first event otherwise.
func (w *BinlogWriter) Initialize() {
	w.once.Do(func() {
		w.writers = map[*TableSchema]*tableWriter{}
		w.queue.more, w.queue.room = make(chan struct{}, 1), make(chan struct{}, 1)
		w.applied.changed = make(chan struct{})
		w.applied.at = w.start
		if w.logger == nil {
			w.logger = LogWithField("tag", "binlog_writer")
		}
		if w.laneCount <= 0 {
			w.laneCount = defaultBinlogApplyLanes
		}
		if w.lanes == nil {
			w.lanes = func() int { return w.laneCount }
		}
		w.sessions.open = func(ctx context.Context) (*session, error) {
			return openWriter(ctx, w.DB, w.srv)
		}
	})
}

// BufferBinlogEvents queues events for the target; it is an event listener. It blocks
// while the queue is full, and returns the writer's error once that has failed.
func (w *BinlogWriter) BufferBinlogEvents(events []DMLEvent) error {
	w.Initialize()
	refs := w.eventRefs(len(events))
	item := queuedEvents{events: refs}
	for i, ev := range events {
		r, err := rowEventOf(ev)
		if err != nil {
			return err
		}
		refs[i] = r
		item.bytes += r.size()
	}
	if item.bytes > 16<<10 { // what shares its memory with others is freed with the last of them
		item.events = slices.Clone(refs)
		clear(refs)
	}
	// Room is taken before the gate's lock: a full queue must not keep chunks from closing.
	if err := w.queue.waitForRoom(item.bytes); err != nil {
		return err
	}
	if w.gate != nil {
		item.waits = w.gate.deliver(item.events)
	}
	w.queue.push(item)
	return w.alone(item.bytes)
}

// alone waits until a large event is on the target: the next one, which may be as large, is
// not read before.
func (w *BinlogWriter) alone(bytes int) error {
	if bytes < largeRowsBytes || !w.queue.ends {
		return nil
	}
	err := w.queue.waitUntilWritten()
	collectLarge(bytes)
	return err
}

// eventRefs returns a slice of n, cut from a larger one where it is small.
func (w *BinlogWriter) eventRefs(n int) []*rowEvent {
	const piece = 128
	if n > piece/4 {
		return make([]*rowEvent, n)
	}
	if len(w.refs) < n {
		w.refs = make([]*rowEvent, piece)
	}
	refs := w.refs[:n:n]
	w.refs = w.refs[n:]
	return refs
}

// transactionEnded records that the stream has passed the end of a transaction, of
// tables that move or not, or has broken inside one.
func (w *BinlogWriter) transactionEnded(e transactionEnd) {
	w.Initialize()
	if e.broken {
		w.queue.push(queuedEvents{broken: true})
		return
	}
	if w.gate != nil {
		w.gate.streamed(e.gtid)
	}
	traceEnd()
	w.queue.pushEnd(e)
}

// Stop lets Run end when everything queued is on the target. Call it after the last event.
func (w *BinlogWriter) Stop() {
	w.Initialize()
	w.queue.close(nil)
}

// Run applies events until Stop was called and the queue is empty; failures go to the
// ErrorHandler.
func (w *BinlogWriter) Run() {
	if err := w.RunContext(context.Background()); err != nil {
		fatal(w.ErrorHandler, w.logger, "binlog_writer", err)
	}
}

// RunContext applies events until Stop was called and the queue is empty, and returns
// the first error. Batches are built by one goroutine while the one before is written.
func (w *BinlogWriter) RunContext(ctx context.Context) (err error) {
	w.Initialize()
	defer func() {
		w.sessions.close()
		w.queue.close(errors.Join(errors.New("the binlog writer has stopped"), err))
	}()
	if w.srv == nil {
		if w.srv, err = server.Detect(ctx, w.DB); err != nil {
			return err
		}
	}
	batches := make(chan *applyBatch)
	group, _ := lifecycle.New(ctx)
	group.Go("build", func(ctx context.Context) error {
		defer close(batches)
		return w.buildBatches(ctx, batches)
	})
	group.Go("write", func(ctx context.Context) error { return w.writeBatches(ctx, batches) })
	return endOf(ctx, group.Wait())
}

func (w *BinlogWriter) buildBatches(ctx context.Context, out chan<- *applyBatch) error {
	for {
		items, err := w.queue.take(ctx, w.maxRows())
		if err != nil || items == nil {
			return err
		}
		b, err := w.newBatch(items)
		if err != nil {
			return err
		}
		for i, item := range items { // what they hold is the batch's: their memory is shared with what is still queued
			*item, items[i] = queuedEvents{}, nil
		}
		select {
		case out <- b:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *BinlogWriter) maxRows() int {
	most := cmp.Or(max(w.BatchSize, 0), applyBatchRows)
	if paced := int(w.paced.Load()); paced > 0 {
		return min(max(paced, leastBatchRows), most)
	}
	return most
}

// pace notes how long the lanes of a batch took, and recording its position after that. That is
// a few round trips, of which the lanes had some more: what is far away takes as long for a few
// changes as for many, and less of them at once would only be slower.
func (w *BinlogWriter) pace(changes int, lanes, position time.Duration) {
	const roundTrips = 4 // times those of a position
	took := max(lanes-roundTrips*position, lanes/10, time.Microsecond)
	w.paced.Store(int64(float64(changes) * applyBatchTime.Seconds() / took.Seconds()))
}

func (w *BinlogWriter) writeBatches(ctx context.Context, batches <-chan *applyBatch) error {
	var recorded time.Time
	var pending *applyBatch // a position without changes that is not recorded yet
	for b := range batches {
		if len(b.tables) == 0 && time.Since(recorded) < idlePosition && !w.recordAll.Load() {
			pending = b
			w.advance(b)
			continue
		}
		if err := w.writeBatch(ctx, b); err != nil {
			return err
		}
		w.queue.written(b.changes, b.bytes)
		pending, recorded = nil, time.Now()
		w.advance(b)
		failpoint("apply.advanced")
		if err := w.checkDebts(ctx, b.end); err != nil {
			return err
		}
	}
	if pending != nil && ctx.Err() == nil {
		return w.writeBatch(ctx, pending)
	}
	return ctx.Err()
}

func (w *BinlogWriter) checkDebts(ctx context.Context, at BinlogCoordinate) error {
	if w.ledger == nil {
		return nil
	}
	return w.ledger.check(ctx, at, false)
}

// advance publishes that everything up to the batch's end is on the target.
func (w *BinlogWriter) advance(b *applyBatch) {
	w.appliedRows.Add(uint64(b.changes))
	if !b.timestamp.IsZero() {
		w.lastTimestamp.Store(b.timestamp.Unix())
	}
	if b.end.File == "" {
		return
	}
	if w.StateTracker != nil {
		w.StateTracker.writtenTo(b.position, b.hold, b.mark)
	}
	w.applied.Lock()
	defer w.applied.Unlock()
	w.applied.at = b.end
	close(w.applied.changed)
	w.applied.changed = make(chan struct{})
}

// startAt says where the stream begins. exact: the file and offset are that place, too; on
// MySQL with GTIDs they lie behind transactions that are still to come.
func (w *BinlogWriter) startAt(at BinlogCoordinate, exact bool) {
	w.start = at
	if !exact && at.GTIDSet != "" {
		return
	}
	w.applied.Lock()
	defer w.applied.Unlock()
	w.applied.at = at
}

// appliedUpTo returns the coordinate up to which everything is on the target.
func (w *BinlogWriter) appliedUpTo() BinlogCoordinate {
	w.Initialize()
	w.applied.Lock()
	defer w.applied.Unlock()
	return w.applied.at
}

// WaitUntilApplied returns when every change at or before the coordinate's file and
// offset is on the target.
func (w *BinlogWriter) WaitUntilApplied(ctx context.Context, c BinlogCoordinate) error {
	w.Initialize()
	end := func() {}
	defer func() { end() }()
	for first := true; ; first = false {
		w.applied.Lock()
		at, changed := w.applied.at, w.applied.changed
		w.applied.Unlock()
		if at.File != "" && at.CompareFilePos(c) >= 0 {
			return nil
		}
		if first {
			end = waitingFor(ctx, waitApplied)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for changes up to %s (applied up to %s): %w", c, at, context.Cause(ctx))
		}
	}
}
