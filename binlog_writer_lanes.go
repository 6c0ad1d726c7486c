package ghostferry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"golang.org/x/sync/errgroup"
)

// writeBatch brings one batch to the target; the chunks that it had to wait for are closed
// (applyQueue.take). An attempt that fails is rolled back
// whole and redone on fresh connections: what a batch leaves behind does not depend on
// how much of it was there before.
func (w *BinlogWriter) writeBatch(ctx context.Context, b *applyBatch) error {
	if w.Throttler != nil {
		if err := WaitForThrottleContext(ctx, w.Throttler); err != nil {
			return err
		}
	}
	if err := w.pauses.enter(ctx, b.tables); err != nil {
		return err
	}
	defer w.pauses.leave()
	if err := w.settle(ctx, b); err != nil {
		return err
	}
	traceBatch(b)
	if w.StateTracker != nil {
		w.StateTracker.begin(b.began)
	}
	var skipped map[*TableSchema][]string
	err := w.patience.do(ctx, w.WriteRetries, func(ctx context.Context, attempt int) error {
		a := &batchAttempt{w: w, batch: b, number: w.batch + 1, lanes: w.lanesFor(b)}
		if attempt > 1 {
			if done, err := a.committedBefore(ctx); done || err != nil {
				return err
			}
			traceRetry()
			b.writeWhole(false) // a part of the batch may be there already
		}
		if err := w.checkpoint.ensureLanes(ctx, a.lanes); err != nil {
			return err
		}
		var err error
		if skipped, err = a.run(ctx); errors.Is(err, errNotInPlace) {
			w.logger.WithError(err).Info("a batch is written again, with whole rows")
			traceRetry()
			b.writeWhole(true)
			skipped, err = a.run(ctx)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("applying %d changes up to %s: %w", b.changes, b.intent, err)
	}
	if w.checkpoint != nil {
		w.batch++
		w.checkpoint.held = b.hold
	}
	return w.settleDebts(ctx, b, skipped)
}

func (w *BinlogWriter) lanesFor(b *applyBatch) int {
	if b.changes < soleLaneRows {
		return 1
	}
	return max(1, w.lanes())
}

// settleDebts strikes the keys that the batch has executed off the ledger, then adds
// those that it had to leave out: before the batch is claimed as executed anywhere else.
func (w *BinlogWriter) settleDebts(ctx context.Context, b *applyBatch, skipped map[*TableSchema][]string) error {
	if w.ledger == nil {
		for table, keys := range skipped {
			l, err := table.layout()
			if err != nil {
				return err
			}
			return &TargetConflictError{Table: table.String(), Key: l.describeKey(decodeTuple([]byte(keys[0])))}
		}
		return nil
	}
	w.ledger.struck()
	if !w.ledger.empty() {
		for table, key := range b.executed() {
			w.ledger.paid(table, key)
		}
	}
	for table, keys := range skipped {
		w.ledger.note(table, keys, w.checkpoint != nil)
	}
	for table, keys := range skipped {
		if err := w.ledger.bind(ctx, table, keys); err != nil {
			return err
		}
	}
	return nil
}

// executed are the keys whose changes the batch has.
func (b *applyBatch) executed() iter.Seq2[*TableSchema, string] {
	return func(yield func(*TableSchema, string) bool) {
		for _, t := range b.tables {
			for _, c := range t.ordered {
				if !yield(t.writer.table, c.key) {
					return
				}
			}
			for _, ev := range t.serial {
				for _, image := range []int{ev.old, ev.new} {
					if image >= 0 && !yield(t.writer.table, ev.key(image)) {
						return
					}
				}
			}
		}
	}
}

// batchAttempt is one attempt to write a batch.
//
// Tables whose key is their only unique index are written in one phase: keys that are
// gone are deleted, the others upserted. Tables with further unique indexes, or with
// JSON columns (an upsert keeps a JSON value that compares equal), take two:
// first every touched key is deleted, by all lanes, and committed; then the images are
// inserted where nothing is in the way. Between the phases no row of the batch can be
// in another's way, so none ever has to be evicted.
//
// The position is committed after every lane, alone or with what only one lane writes:
// nothing that it claims can be missing. It is not committed by a lane that waits for
// the others with its rows locked: they could be waiting for it.
type batchAttempt struct {
	w      *BinlogWriter
	batch  *applyBatch
	number uint64 // of the batch, in the checkpoint
	lanes  int
}

// errBatchCommitted ends an attempt whose batch an earlier attempt had committed after all.
type errBatchCommitted struct{}

func (errBatchCommitted) Error() string { return "the batch is committed already" }

func (a *batchAttempt) run(ctx context.Context) (map[*TableSchema][]string, error) {
	began := time.Now()
	if a.twoPhase() {
		if err := a.inLanes(ctx, a.deleteTouched); err != nil {
			return nil, err
		}
	}
	skipped := make([]map[*TableSchema][]string, a.lanes)
	images := func(ctx context.Context, s *session, lane int) (err error) {
		skipped[lane], err = a.writeImages(ctx, s, lane)
		return err
	}
	if a.lanes > 1 {
		if err := a.inLanes(ctx, images); err != nil {
			return nil, err
		}
		images = nil
	}
	lanes := time.Since(began)
	left, err := a.commitPosition(ctx, images, skipped)
	if errors.Is(err, errBatchCommitted{}) {
		traceLanded(nil)
		return left, nil
	}
	if err == nil && a.lanes > 1 {
		a.w.pace(a.batch.changes, lanes, time.Since(began)-lanes)
	}
	return left, err
}

// committedBefore reports whether an attempt whose COMMIT got no answer was committed
// after all. It has to be asked before anything of the batch is written again: the
// first phase would delete rows that the position already claims, and a crash would
// then lose them. It waits while that attempt's transaction is undecided.
func (a *batchAttempt) committedBefore(ctx context.Context) (bool, error) {
	c := a.w.checkpoint
	if c == nil {
		return false, nil
	}
	var committed uint64
	err := a.transaction(ctx, func(s *session) (err error) {
		committed, err = c.committedBatch(ctx, s)
		return err
	})
	if committed == a.number {
		traceLanded(nil)
	}
	return committed == a.number, err
}

// commitPosition is the batch's last transaction: what only one lane writes, the position, and what
// the batch and its lanes, as skipped says, have left out, which it returns.
func (a *batchAttempt) commitPosition(ctx context.Context, images func(ctx context.Context, s *session, lane int) error, skipped []map[*TableSchema][]string) (left map[*TableSchema][]string, err error) {
	err = a.transaction(ctx, func(s *session) error {
		err := a.recordPosition(ctx, s)
		if errors.Is(err, errBatchCommitted{}) { // what that attempt has left out is on the record
			recorded, failed := a.recordedDebts(ctx, s)
			left = mergeSkipped(append(skipped, recorded)...)
			return cmp.Or(failed, err)
		}
		if err != nil {
			return err
		}
		if images != nil {
			if err := images(ctx, s, 0); err != nil {
				return err
			}
		}
		serial, err := a.writeSerial(ctx, s)
		if err != nil {
			return err
		}
		left = mergeSkipped(append(skipped, serial)...)
		return a.recordDebts(ctx, s, left)
	})
	return left, err
}

// recordDebts records what the batch leaves out, and strikes what it pays.
func (a *batchAttempt) recordDebts(ctx context.Context, s *session, left map[*TableSchema][]string) error {
	c, ledger := a.w.checkpoint, a.w.ledger
	if c == nil || ledger == nil {
		return nil
	}
	exec := func(stmt []byte) error {
		_, err := s.exec(ctx, append(s.statement(), stmt...))
		return err
	}
	if err := c.strikeDebts(ledger.struckBy(a.batch.executed(), left), exec); err != nil {
		return err
	}
	return c.recordDebts(left, exec)
}

// recordedDebts returns what is on the record of the batch's tables.
func (a *batchAttempt) recordedDebts(ctx context.Context, s *session) (map[*TableSchema][]string, error) {
	c, recorded := a.w.checkpoint, map[*TableSchema][]string{}
	byNumber := map[int]*TableSchema{}
	for _, t := range a.batch.tables {
		byNumber[c.number(t.writer.table)] = t.writer.table
	}
	err := c.eachKey(ctx, s.conn, debtsTable, debtWhat, func(number int, key string) error {
		if table := byNumber[number]; table != nil {
			recorded[table] = append(recorded[table], key)
		}
		return nil
	})
	return recorded, err
}

func mergeSkipped(parts ...map[*TableSchema][]string) map[*TableSchema][]string {
	merged := map[*TableSchema][]string{}
	for _, part := range parts {
		for table, keys := range part {
			merged[table] = append(merged[table], keys...)
		}
	}
	return merged
}

func (a *batchAttempt) twoPhase() bool {
	for _, t := range a.batch.tables {
		if t.twoPhase() && len(t.ordered) > 0 {
			return true
		}
	}
	return false
}

// inLanes runs a phase in every lane, one transaction each, and waits for all of them.
func (a *batchAttempt) inLanes(ctx context.Context, phase func(ctx context.Context, s *session, lane int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for lane := range a.lanes {
		group.Go(func() error {
			return a.transaction(ctx, func(s *session) error {
				if err := a.recordIntent(ctx, s, lane); err != nil {
					return err
				}
				return phase(ctx, s, lane)
			})
		})
	}
	return group.Wait()
}

// transaction runs f on a session and commits. Statements and COMMIT travel in packets
// of their own, so that a packet that arrives late can never commit. A session with a
// failure is closed.
func (a *batchAttempt) transaction(ctx context.Context, f func(s *session) error) error {
	s, err := a.w.sessions.get(ctx)
	if err != nil {
		return err
	}
	if err = f(s); err == nil {
		err = s.commit(ctx)
	}
	if err != nil {
		a.w.sessions.failed(s, err)
		return err
	}
	a.w.sessions.put(ctx, s)
	return nil
}

// recordIntent locks the lane's row of the checkpoint and says how far the batch reaches.
func (a *batchAttempt) recordIntent(ctx context.Context, s *session, lane int) error {
	c := a.w.checkpoint
	if c == nil {
		return nil
	}
	n, err := s.exec(ctx, c.appendIntent(s.statement(), lane, a.batch.began))
	failpoint("apply.intent")
	if err != nil || n == 1 {
		return err
	}
	return c.ownerErrorOn(ctx, s.conn) // nil: the same intent stood there, and its row is locked
}

func (a *batchAttempt) recordPosition(ctx context.Context, s *session) error {
	c := a.w.checkpoint
	if c == nil {
		return nil
	}
	tracePosition(s, a.batch.position)
	n, err := s.exec(ctx, c.appendPosition(s.statement(), executedUpTo{a.batch.position, a.batch.mark}, a.batch.began, a.number))
	if err == nil && n == 1 && !sameHold(c.held, a.batch.hold) {
		_, err = s.exec(ctx, c.appendHold(s.statement(), a.batch.hold))
	}
	if err != nil || n == 1 {
		return err
	}
	committed, err := c.committedBatch(ctx, s)
	if err != nil {
		return err
	}
	switch {
	case committed == a.number:
		return errBatchCommitted{}
	case committed < a.number-1:
		return c.wentBack(committed, a.number-1)
	}
	return fmt.Errorf("the checkpoint of run %s stands at batch %d, not %d: another process writes to it", c.runID, committed, a.number-1)
}

// share returns a lane's part of a table's changes. Inserts into further unique indexes
// lock gaps between neighbours, so the lanes would wait for each other there: such a
// table is one lane's.
func (a *batchAttempt) share(table, lane int) []*rowChange {
	t := a.batch.tables[table]
	if !t.twoPhase() {
		return t.share(lane, a.lanes)
	}
	if table%a.lanes == lane {
		return t.ordered
	}
	return nil
}

// deleteTouched is the first phase of the tables with two.
func (a *batchAttempt) deleteTouched(ctx context.Context, s *session, lane int) error {
	for i, t := range a.batch.tables {
		if !t.twoPhase() {
			continue
		}
		if err := t.writer.deleteKeys(ctx, s, keysOf(a.share(i, lane), false)); err != nil {
			return err
		}
		traceDelete(s, lane, t.writer, a.share(i, lane))
	}
	return nil
}

// writeImages writes a lane's share of the compacted tables.
func (a *batchAttempt) writeImages(ctx context.Context, s *session, lane int) (map[*TableSchema][]string, error) {
	skipped := map[*TableSchema][]string{}
	for i, t := range a.batch.tables {
		all := a.share(i, lane)
		share, updates := t.splitUpdates(all)
		images := make([]rowRef, 0, len(share))
		for _, c := range share {
			if c.image.rows != nil {
				images = append(images, c.image)
			}
		}
		if t.twoPhase() {
			keys, err := t.writer.insertAbsent(ctx, s, images)
			if err != nil {
				return nil, t.writer.failed(fmt.Errorf("inserting into %s: %w", t.writer.quoted, err))
			}
			if len(keys) > 0 {
				skipped[t.writer.table] = keys
			}
			traceWrite(s, lane, t.writer, share, keys)
			continue
		}
		if err := t.writer.deleteKeys(ctx, s, keysOf(share, true)); err != nil {
			return nil, t.writer.failed(err)
		}
		if _, err := t.writer.insert(ctx, s, images, t.writer.layout.writable, t.writer.overwrite); err != nil {
			return nil, t.writer.failed(fmt.Errorf("writing to %s: %w", t.writer.quoted, err))
		}
		for set, rows := range updates {
			if err := t.writer.update(ctx, s, set, rows); err != nil {
				return nil, t.writer.failed(fmt.Errorf("updating %s: %w", t.writer.quoted, err))
			}
		}
		traceWrite(s, lane, t.writer, all, nil)
	}
	return skipped, nil
}

// failed is an error that is about the writer's table.
func (tw *tableWriter) failed(err error) error {
	return &TableError{Schema: tw.table.Schema, Table: tw.table.Name, Err: err}
}

// writeSerial applies the tables whose keys only the server can compare, change by
// change in log order.
func (a *batchAttempt) writeSerial(ctx context.Context, s *session) (map[*TableSchema][]string, error) {
	skipped := map[*TableSchema][]string{}
	for _, t := range a.batch.tables {
		left := map[string]struct{}{}
		for _, ev := range t.serial {
			if err := t.writer.applyOne(ctx, s, ev, left); err != nil {
				return nil, t.writer.failed(err)
			}
		}
		traceSerial(s, t.writer, t.serial, left)
		for key := range left {
			skipped[t.writer.table] = append(skipped[t.writer.table], key)
		}
	}
	return skipped, nil
}

// applyOne deletes the row of the old and of the new key and inserts the new image,
// unless another row's unique value keeps it out: then its key is in left.
func (tw *tableWriter) applyOne(ctx context.Context, s *session, ev *rowEvent, left map[string]struct{}) error {
	var keys []keyTuple
	for _, image := range []int{ev.old, ev.new} {
		if image >= 0 && (image != ev.new || ev.old < 0 || ev.changesKey()) {
			keys = append(keys, keyOf(ev.rows, image, tw.layout.keys))
			delete(left, ev.key(image))
		}
	}
	if err := tw.deleteKeys(ctx, s, keys); err != nil {
		return err
	}
	if ev.new < 0 {
		return nil
	}
	skipped, err := tw.insertAbsent(ctx, s, []rowRef{{ev.rows, ev.new}})
	if err != nil {
		return fmt.Errorf("inserting into %s: %w", tw.quoted, err)
	}
	for _, key := range skipped {
		left[key] = struct{}{}
	}
	return nil
}

// keysOf returns the keys of changes, all of them or those whose row is gone.
func keysOf(changes []*rowChange, goneOnly bool) []keyTuple {
	keys := make([]keyTuple, 0, len(changes))
	for _, c := range changes {
		if !goneOnly || c.image.rows == nil {
			keys = append(keys, decodeTuple([]byte(c.key)))
		}
	}
	return keys
}
