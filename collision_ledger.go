package ghostferry

import (
	"context"
	"database/sql/driver"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/retry"
)

const (
	// collisionPause and collisionPauseMax are between two looks at the rows left out.
	collisionPause, collisionPauseMax = 20 * time.Millisecond, time.Second
	// collisionPatience is how long the other moves have to take their rows out of the way
	// before the cutover, and collisionPatienceBlocked at the end, while the writers wait.
	collisionPatience, collisionPatienceBlocked = 10 * time.Minute, time.Minute
	// collisionKeys is how many rows are looked at together.
	collisionKeys = 100
	// collisionAsk is how long a transaction on the target may wait for the source's word.
	collisionAsk = 5 * time.Second
)

// collisionLedger remembers rows that were left out because a row of others on the target
// has their key or a unique value. Moves to the same target are not ordered against each
// other: a row that has passed from one tenant to another on the source may reach the
// target by the second one's move before the first one's has removed it, or when the
// first one has ended with a row that the second one's log has still to give back. So the
// row is left out, its key is recorded in the same transaction, and it is copied anew,
// behind the gate like a chunk, until it is there or is no longer of ours on the source.
// What is of ours there and kept out while no other run moves its table is a conflict
// (docs/decisions/016-rows-between-moves.md).
//
// Nothing here ever writes to a row of others.
type collisionLedger struct {
	// immutable
	checkpoint *checkpoint // nil: nobody knows of other moves
	reader     *sourceReader
	target     func(ctx context.Context) (*session, error)
	writer     func(table *TableSchema) (*tableWriter, error)
	patience   *patience
	attempts   int
	logger     Logger
	added      chan struct{} // capacity 1

	settling sync.Mutex  // held while rows are copied anew
	over     atomic.Bool // nobody looks at what is left out from here on

	mu struct {
		sync.Mutex
		left map[*TableSchema]map[string]uint64 // key to when it was left out, in order
		last uint64
	}
}

// newCollisionLedger makes the Ferry's ledger, which needs its reader and checkpoint.
func (f *Ferry) newCollisionLedger() *collisionLedger {
	return &collisionLedger{
		checkpoint: f.checkpoint, reader: f.reader, patience: f.targetPatience, attempts: f.DBWriteRetries,
		logger: taggedLogger(f.logger, "collisions"), added: make(chan struct{}, 1),
		target: func(ctx context.Context) (*session, error) {
			return openWriter(ctx, f.TargetDB, f.targetServer)
		},
		writer: func(table *TableSchema) (*tableWriter, error) {
			schema, name := newRewrites(f.DatabaseRewrites, f.TableRewrites).table(table.Schema, table.Name)
			return newTableWriter(table, schema, name, f.targetServer.UpsertRowAlias(), f.targetServer.MaxAllowedPacket)
		},
	}
}

// leave leaves a row out that a row of others collides with, and records it in the
// session's transaction. It returns false when that is a conflict: nobody is there to make
// room, and the source has the row as ours.
func (c *collisionLedger) leave(ctx context.Context, s *session, w *tableWriter, r rowRef, _ string) (bool, error) {
	if c == nil || c.over.Load() || !c.checkpoint.begun() || !c.checkpoint.records(w.table) {
		return false, nil
	}
	shared, err := c.checkpoint.sharesTable(ctx, s, w.table)
	if err != nil {
		return false, err
	}
	if !shared {
		if due, err := c.due(ctx, s, w, r); err != nil || due {
			return false, err
		}
	}
	key := string(r.rows.AppendKey(nil, r.row, w.layout.keys))
	if _, err := s.exec(ctx, c.checkpoint.appendKeys(s.statement(), collisionsTable, c.checkpoint.number(w.table), []string{key})); err != nil {
		return false, err
	}
	// Should the transaction be rolled back, the row is looked at for nothing.
	c.add(w.table, key)
	return true, nil
}

// due reports whether the row, as the source has it now, is one of ours that a row of
// others keeps out. When the source gives no answer the next look has to tell.
func (c *collisionLedger) due(ctx context.Context, s *session, w *tableWriter, r rowRef) (bool, error) {
	var now *codec.Rows
	asked, cancel := context.WithTimeout(ctx, collisionAsk)
	defer cancel()
	err := c.reader.readOnce(asked, deliveredMark{}, func(source *session, _ string) (err error) {
		now, err = w.layout.rowsByKeys(ctx, source, w.table, []keyTuple{keyOf(r.rows, r.row, w.layout.keys)}, "")
		return err
	})
	if err != nil || now.Len() == 0 {
		return false, ctx.Err()
	}
	rows := allRows(now)
	held, err := w.keyHolders(ctx, s, rows)
	if err != nil {
		return false, err
	}
	by := held[0]
	if by == nobody {
		by, _, err = w.uniqueHolder(ctx, s, rows[0])
	}
	return by == others, err
}

func (c *collisionLedger) add(table *TableSchema, keys ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.left == nil {
		c.mu.left = map[*TableSchema]map[string]uint64{}
	}
	if c.mu.left[table] == nil {
		c.mu.left[table] = map[string]uint64{}
	}
	if len(c.mu.left[table]) == 0 && len(keys) > 0 {
		c.logger.WithField("table", table.String()).Info("a row that is not part of the move is in the way of one of ours on the target: ours waits until that one is gone")
	}
	for _, key := range keys {
		c.mu.last++
		c.mu.left[table][key] = c.mu.last
	}
	notify(c.added)
}

// snapshot returns the rows left out now, by table.
func (c *collisionLedger) snapshot() map[*TableSchema]map[string]uint64 {
	out := map[*TableSchema]map[string]uint64{}
	if c == nil {
		return out
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for table, keys := range c.mu.left {
		if len(keys) > 0 {
			out[table] = maps.Clone(keys)
		}
	}
	return out
}

// run copies what was left out anew, again and again, until the context ends or a row is
// left that nobody can make room for any more: a TargetConflictError.
func (c *collisionLedger) run(ctx context.Context) error {
	pause := collisionPause
	var abandoned map[*TableSchema]bool
	for {
		if len(c.snapshot()) == 0 {
			pause = collisionPause
			select {
			case <-c.added:
			case <-ctx.Done():
				return nil
			}
		}
		if retry.Sleep(ctx, pause) != nil {
			return nil //nolint:nilerr // it ends with its context
		}
		var look collisionLook
		var err error
		look, abandoned, err = c.judge(ctx, abandoned)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // it ends with its context
		case err != nil:
			return err
		case look.settled:
			pause = collisionPause
		default:
			pause = min(2*pause, collisionPauseMax)
		}
	}
}

// await returns when every row that is left out now has been settled. When the other moves
// do not take their rows away in time, or have all ended, it is a TargetConflictError.
func (c *collisionLedger) await(ctx context.Context, patience time.Duration) error {
	begun := c.snapshot()
	if len(begun) > 0 {
		defer waitingFor(ctx, waitOtherMove)()
	}
	deadline := time.Now().Add(patience)
	var abandoned map[*TableSchema]bool
	for len(begun) > 0 {
		late := time.Now().After(deadline)
		var look collisionLook
		var err error
		if look, abandoned, err = c.judge(ctx, abandoned); err != nil {
			return err
		}
		if !c.anyStillLeft(begun) {
			return nil
		}
		if kept := look.anyKeptOut(); late && kept != nil {
			return kept
		}
		if err := retry.Sleep(ctx, collisionPause); err != nil {
			return err
		}
	}
	return nil
}

// anyStillLeft reports whether rows have been left out all along.
func (c *collisionLedger) anyStillLeft(begun map[*TableSchema]map[string]uint64) bool {
	now := c.snapshot()
	for table, keys := range begun {
		for key, order := range keys {
			if now[table][key] == order {
				return true
			}
		}
	}
	return false
}

// judge looks at everything once, and returns the tables of which it has met conflicts
// and no other run moves rows. A conflict in a table that was such a one before the look,
// too, is an error: nobody was there to make room for a row that is of ours.
func (c *collisionLedger) judge(ctx context.Context, before map[*TableSchema]bool) (look collisionLook, abandoned map[*TableSchema]bool, err error) {
	if look, err = c.settle(ctx); err != nil {
		return look, nil, err
	}
	if len(look.conflicts) == 0 {
		return look, nil, nil
	}
	err = c.patience.do(ctx, c.attempts, func(ctx context.Context, _ int) error {
		s, err := c.target(ctx)
		if err != nil {
			return err
		}
		defer s.discard()
		abandoned = map[*TableSchema]bool{}
		for table := range look.conflicts {
			shared, err := c.checkpoint.sharesTable(ctx, s, table)
			if err != nil {
				return err
			}
			abandoned[table] = !shared
		}
		return nil
	})
	for table, conflict := range look.conflicts {
		if err == nil && before[table] && abandoned[table] {
			err = conflict
		}
	}
	return look, abandoned, err
}

// collisionLook is what one look at the rows left out has found: whether some have been
// settled, and what keeps the others out.
type collisionLook struct {
	settled   bool
	conflicts map[*TableSchema]error // by rows of others: one of each table
	passing   error                  // by what passes by itself, see keptOut
}

// anyKeptOut is a reason why rows are still left out; nil without.
func (l collisionLook) anyKeptOut() error {
	for _, conflict := range l.conflicts {
		return conflict
	}
	return l.passing
}

// settle looks at everything that is left out, once.
func (c *collisionLedger) settle(ctx context.Context) (look collisionLook, err error) {
	c.settling.Lock()
	defer c.settling.Unlock()
	look.conflicts = map[*TableSchema]error{}
	for table, left := range c.snapshot() {
		keys := slices.Sorted(maps.Keys(left))
		for part := range slices.Chunk(keys, collisionKeys) {
			kept, err := c.copyAnew(ctx, table, part)
			if err != nil {
				return look, &TableError{Schema: table.Schema, Table: table.Name, Err: fmt.Errorf("copying rows anew that others were in the way of: %w", err)}
			}
			if kept.conflict != nil {
				look.conflicts[table] = kept.conflict
			}
			if look.passing == nil {
				look.passing = kept.passing
			}
			look.settled = look.settled || len(kept.keys) < len(part)
			c.strike(table, part, left, kept.keys)
		}
	}
	return look, nil
}

// strike takes settled keys out, unless they were left out again meanwhile.
func (c *collisionLedger) strike(table *TableSchema, keys []string, orders map[string]uint64, still map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, key := range keys {
		if !still[key] && c.mu.left[table][key] == orders[key] {
			delete(c.mu.left[table], key)
		}
	}
}

// keptOut are rows of a table that are still kept out.
type keptOut struct {
	keys     map[string]bool
	conflict error // by a row of others
	// passing: by a row of ours, which the log has still to change, or by a transaction of
	// ours that is just leaving the same rows out, and has many others to write.
	passing error
}

// copyAnew copies rows by their keys as a chunk is copied, see gate.
func (c *collisionLedger) copyAnew(ctx context.Context, table *TableSchema, keys []string) (kept keptOut, err error) {
	w, err := c.writer(table)
	if err != nil {
		return kept, err
	}
	w.collide = func(_ context.Context, _ *session, w *tableWriter, r rowRef, index string) (bool, error) {
		kept.keys[string(r.rows.AppendKey(nil, r.row, w.layout.keys))] = true
		kept.conflict = w.conflict(r, index)
		return true, nil
	}
	tuples := make([]keyTuple, len(keys))
	for i, key := range keys {
		if tuples[i] = decodeTuple([]byte(key)); len(tuples[i]) != len(w.layout.keys) {
			return kept, c.checkpoint.damaged("a key of a row that waits for another move cannot be read")
		}
	}
	gated, images, end, err := c.read(ctx, w, keys, tuples)
	if err != nil {
		return kept, err
	}
	c.checkpoint.noteRead(table, end)
	err = c.patience.do(ctx, c.attempts, func(ctx context.Context, _ int) error {
		kept = keptOut{keys: map[string]bool{}}
		skipped, err := c.write(ctx, w, keys, images, &kept)
		if len(skipped) > 0 {
			kept.passing = debtError(table, skipped, end)
		}
		return err
	})
	if err != nil {
		c.reader.gate.failChunk(gated, err)
		return kept, err
	}
	c.reader.gate.closeChunk(gated)
	return kept, nil
}

// read reads those of the rows that are in scope on the source behind their gate, which is left
// open when it succeeds.
func (c *collisionLedger) read(ctx context.Context, w *tableWriter, keys []string, tuples []keyTuple) (gated *gatedChunk, images *codec.Rows, end BinlogCoordinate, err error) {
	err = c.reader.patience.doWhile(ctx, edgeAttempts, retryableRead, func(ctx context.Context, _ int) error {
		g, mark := c.reader.gate.openKeys(w.table, keys)
		err := c.reader.readOnce(ctx, mark, c.reader.noted(ctx, &end, func(s *session, suffix string) error {
			images, err = w.layout.rowsByKeys(ctx, s, w.table, tuples, suffix)
			return err
		}))
		if err != nil {
			c.reader.gate.closeChunk(g)
			return err
		}
		gated = g
		return nil
	})
	return gated, images, end, err
}

// rowsByKeys reads those of the rows of a table on the source that are in scope.
func (l *tableLayout) rowsByKeys(ctx context.Context, s *session, table *TableSchema, tuples []keyTuple, suffix string) (*codec.Rows, error) {
	rows := codec.NewRows(len(l.columns), len(tuples), 256*len(tuples))
	stmt := append(s.statement(), "SELECT "+l.reading(allLeaves)+" FROM "+QuotedTableName(table)+l.forceKeyIndex()+" WHERE "...)
	stmt, _ = l.appendKeyList(stmt, len(tuples), 0, func(i int) keyTuple { return tuples[i] })
	err := s.query(ctx, append(stmt, suffix...), func(values []driver.Value) error { return l.appendRow(rows, values) })
	return rows, err
}

// write inserts the rows that nobody is in the way of, and takes those and the ones that
// are no longer of ours off the record: one transaction. It begins by locking the record,
// so that an attempt whose COMMIT got no answer is over when the next one goes on.
func (c *collisionLedger) write(ctx context.Context, w *tableWriter, keys []string, images *codec.Rows, kept *keptOut) (skipped []string, err error) {
	s, err := c.target(ctx)
	if err != nil {
		return nil, err
	}
	defer s.discard()
	if err := c.checkpoint.lockEpoch(ctx, s); err != nil {
		return nil, err
	}
	_, err = s.exec(ctx, c.checkpoint.appendKeys(s.statement(), collisionsTable, c.checkpoint.number(w.table), keys))
	if mysqlerr.Classify(err) == mysqlerr.LockWait {
		kept.passing = fmt.Errorf("rows that are left out are still being recorded: %w", err)
		for _, key := range keys {
			kept.keys[key] = true
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	free, skipped, err := c.unhindered(ctx, s, w, allRows(images))
	if err != nil {
		return nil, err
	}
	left, err := w.insertScoped(ctx, s, free)
	if err != nil {
		return nil, err
	}
	// A row of ours in the way may itself be waited for: the next look tells.
	skipped = append(skipped, left...)
	for _, key := range skipped {
		kept.keys[key] = true
	}
	settled := slices.DeleteFunc(slices.Clone(keys), func(key string) bool { return kept.keys[key] })
	if len(settled) > 0 {
		if _, err := s.exec(ctx, c.checkpoint.appendStruck(s.statement(), collisionsTable, c.checkpoint.number(w.table), settled)); err != nil {
			return nil, err
		}
	}
	if images.Len() > 0 {
		if err := c.checkpoint.recordReadEnd(ctx, s, w.table); err != nil {
			return nil, err
		}
	}
	return skipped, s.commit(ctx)
}

// unhindered returns the rows that nothing is in the way of; of the others w.collide is told,
// and skipped are the keys of those that a row of ours keeps out. It only looks: an INSERT
// that fails would lock the row that it has met, for which the other move waits to delete it.
func (c *collisionLedger) unhindered(ctx context.Context, s *session, w *tableWriter, rows []rowRef) (free []rowRef, skipped []string, err error) {
	if len(rows) == 0 {
		return nil, nil, nil
	}
	held, err := w.keyHolders(ctx, s, rows)
	if err != nil {
		return nil, nil, err
	}
	for i, r := range rows {
		by, index := held[i], w.keyIndexName()
		if by == nobody {
			if by, index, err = w.uniqueHolder(ctx, s, r); err != nil {
				return nil, nil, err
			}
			if by == ours {
				skipped = append(skipped, string(r.rows.AppendKey(nil, r.row, w.layout.keys)))
			}
		}
		switch by {
		case nobody:
			free = append(free, r)
		case others:
			if _, err := w.collide(ctx, s, w, r, index); err != nil {
				return nil, nil, err
			}
		}
	}
	return free, skipped, nil
}
