package ghostferry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// filteredJob copies the rows of a host's query: one batch at a time, in order,
// because the query has no upper bound of its own.
type filteredJob struct {
	d      *DataIterator
	table  *TableSchema
	layout *tableLayout
	print  *fingerprint // nil: rows are read without digests
	high   keyTuple
	// wholeRows: a batch's end is not found by the key's columns alone. Of the worker that has the batch.
	wholeRows bool

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
	first, err := j.nextKeys(ctx, size)
	if err != nil {
		return j.failed(err)
	}
	if first == nil {
		j.ended(nil)
		return nil
	}
	end, err := j.copyUpTo(ctx, first.lastKey(j.layout), size)
	switch {
	case err != nil:
		return err
	case end == nil:
		j.again()
	default:
		j.ended(end)
	}
	return nil
}

// nextKeys reads the keys of the next batch, nil when all are copied. A row whose transaction was in
// the log before the stream's start does not come by the stream: where only locks tell that there is
// one, the end is believed when no row in front of it is locked.
func (j *filteredJob) nextKeys(ctx context.Context, size uint64) (*RowBatch, error) {
	for waited := !j.d.reader.lockingReads(); ; waited = true {
		keys, err := j.readEnd(ctx, size)
		if err == nil && keys.Size() > 0 {
			err = j.advances(keys)
		}
		if err != nil {
			return nil, err
		}
		if keys.Size() > 0 && !j.beyond(keys) {
			return keys, nil
		}
		if waited {
			return nil, nil
		}
		reader := j.d.reader
		err = reader.patience.doWhile(ctx, j.attempts(), retryableRead, func(ctx context.Context, _ int) error {
			return reader.readOnce(ctx, deliveredMark{}, func(s *session, suffix string) error {
				return j.waitForLocks(ctx, s, keyRange{j.last, j.high}, suffix)
			})
		})
		if err != nil {
			return nil, err
		}
	}
}

// lockedAtOnce is how many rows one statement locks: those of others, too, which the application changes.
const lockedAtOnce = 10000

// waitForLocks returns when the transactions that hold rows of a range locked have ended, and are
// visible to later reads. A host's query does not wait for them by itself: what is in a derived table, or
// in a secondary index alone, is read without locks.
func (j *filteredJob) waitForLocks(ctx context.Context, s *session, r keyRange, suffix string) error {
	l := j.layout
	for {
		stmt := append(s.statement(), "SELECT "+l.keySelectList()+l.besideKeyIndex(j.table)+" FROM "+sqlesc.Table(j.table.Schema, j.table.Name)+l.forceKeyIndex()+" WHERE "...)
		stmt = append(l.appendRange(stmt, r), " ORDER BY "+l.keyOrder(false)+" LIMIT 1 OFFSET "+strconv.Itoa(lockedAtOnce-1)+suffix...)
		last, err := l.queryKey(ctx, s, stmt)
		if err != nil || last == nil {
			return err
		}
		r.low = last
	}
}

// besideKeyIndex is one more column to select, for which a read by the key's index looks at the rows
// themselves: in a secondary index alone it does not meet the locks of changes of other columns.
func (l *tableLayout) besideKeyIndex(table *TableSchema) string {
	beside := ""
	for i := range l.columns {
		c := &l.columns[i]
		if l.keyIndex == "PRIMARY" || c.Generated || slices.Contains(l.keys, i) || slices.Contains(table.PKColumns, i) {
			continue
		}
		beside = ", " + sqlesc.Ident(c.Name)
		if c.Kind != codec.Text && c.Kind != codec.Binary && c.Kind != codec.JSON { // which may be long
			break
		}
	}
	return beside
}

// attempts is how often a read is made that locks or changes keep from being made.
func (j *filteredJob) attempts() int { return max(1, j.d.CursorConfig.ReadRetries) }

// readEnd reads the keys of the next batch, and whole rows where the host's query names other
// columns that it selects (HAVING).
func (j *filteredJob) readEnd(ctx context.Context, size uint64) (keys *RowBatch, err error) {
	read := func(columns []string, fp *fingerprint) error {
		return j.d.reader.read(ctx, deliveredMark{}, func(s *session, _ string) (err error) {
			keys, err = j.fetch(ctx, s, size, nil, columns, fp, nil)
			return err
		})
	}
	if !j.wholeRows {
		err := read(j.layout.selectKeyColumns(), nil)
		if mysqlerr.Classify(err) != mysqlerr.UnknownObject {
			return keys, err
		}
		j.wholeRows = true
	}
	err = read(j.layout.selectColumns(j.print, noLeaves), j.print)
	return keys, err
}

// copyUpTo reads the batch up to the key behind the gate, hands it on, and returns the
// key up to which the table is copied now: that of the last row. What the query's limit counts is
// the host's, so that there may be more rows behind it up to the key, also where it returned none;
// then the key is nil, and nothing is copied.
func (j *filteredJob) copyUpTo(ctx context.Context, upper keyTuple, size uint64) (keyTuple, error) {
	d := j.d
	c := &chunk{keyRange: keyRange{j.last, upper}, table: j.table, number: j.number}
	var gated *gatedChunk
	var batch *RowBatch
	lease := &largeRowsLease{of: d.large}
	defer lease.release()
	for {
		if err := lease.take(ctx, c.large); err != nil {
			return nil, err
		}
		err := d.reader.patience.doWhile(ctx, j.attempts(), retryableRead, func(ctx context.Context, _ int) error {
			g, mark := d.reader.gate.openChunk(j.table, c.low, upper)
			err := d.reader.readOnce(ctx, mark, d.reader.noted(ctx, &c.readEnd, func(s *session, suffix string) error {
				if suffix != "" {
					if err := j.waitForLocks(ctx, s, c.keyRange, suffix); err != nil {
						return err
					}
				}
				return withLeaves(func(leaves leafReports) (err error) {
					batch, err = j.fetch(ctx, s, size, upper, j.layout.selectColumns(j.print, leaves), j.print, lease.extend)
					return err
				})
			}))
			if err != nil {
				d.reader.gate.closeChunk(g)
				return err
			}
			gated = g
			return nil
		})
		large, isLarge := errors.AsType[*largeRowError](err)
		if err != nil && !isLarge {
			return nil, j.failed(err)
		}
		if err == nil {
			break
		}
		c.large = large.bytes
	}
	if batch.Size() == 0 {
		d.reader.gate.closeChunk(gated)
		return nil, nil
	}
	c.high = batch.lastKey(j.layout)
	if err := j.advances(batch); err != nil {
		d.reader.gate.closeChunk(gated)
		return nil, j.failed(err)
	}
	lease.collect()
	d.checkpoint.noteRead(j.table, c.readEnd)
	batch.chunk = c
	if err := d.callListeners(ctx, batch); err != nil {
		return nil, d.failedChunk(ctx, gated, err)
	}
	d.reader.gate.closeChunk(gated)
	return c.high, nil
}

func (j *filteredJob) advances(batch *RowBatch) error {
	_, err := j.layout.endOfPage(j.table, j.last, batch.Size(), func(row int) keyTuple { return batch.keyAt(j.layout, row) })
	return err
}

// endOfPage returns the key of the last of the rows that a host's query has returned after a key.
// It makes sure that it is behind that one, or the table would be read for ever, and the highest of
// all: rows behind that would be left out.
func (l *tableLayout) endOfPage(table *TableSchema, after keyTuple, rows int, keyAt func(row int) keyTuple) (keyTuple, error) {
	last := keyAt(rows - 1)
	if after != nil && (slices.EqualFunc(last, after, bytes.Equal) || l.keyOrdered && l.compareKeys(last, after) < 0) {
		return nil, errStandsStill(l.paginationKey(table, last), table)
	}
	if !l.keyOrdered {
		return last, nil
	}
	before := keyAt(0)
	for row := 1; row < rows; row++ {
		key := keyAt(row)
		if l.compareKeys(before, key) > 0 {
			return nil, fmt.Errorf("its row %s comes after the row %s: they must be in the order of the pagination key %s", l.describeKey(key), l.describeKey(before), l.keyNames())
		}
		before = key
	}
	return last, nil
}

// beyond tells whether all rows of a batch lie beyond the highest key at the start: they come by
// the stream.
func (j *filteredJob) beyond(batch *RowBatch) bool {
	return j.layout.keyOrdered && j.layout.compareKeys(batch.keyAt(j.layout, 0), j.high) > 0
}

// again has the batch read once more, from where it began.
func (j *filteredJob) again() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.busy = false
}

// query returns the host's query for the next batch, bounded when upper is set.
func (j *filteredJob) query(size uint64, upper keyTuple, columns []string) (string, []any, error) {
	last := j.layout.belowAll(j.table)
	if j.last != nil {
		last = j.layout.paginationKey(j.table, j.last)
	}
	builder, err := j.d.CursorConfig.BuildSelect(columns, j.table, last, size)
	if err != nil {
		return "", nil, err
	}
	if upper != nil {
		builder = builder.Where(j.layout.upTo(upper))
	}
	return builder.ToSql()
}

func (j *filteredJob) fetch(ctx context.Context, s *session, size uint64, upper keyTuple, columns []string, fp *fingerprint, room func(bytes int) bool) (*RowBatch, error) {
	query, args, err := j.query(size, upper, columns)
	if err != nil {
		return nil, err
	}
	rows, err := s.conn.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	batch, err := scanBatch(rows, j.table, j.layout, fp, batchLimits{bytes: batchBytes(j.d.chunkBytes), room: room, stop: s.cutResult})
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
