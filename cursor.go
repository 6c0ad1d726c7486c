package ghostferry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Masterminds/squirrel"
	"github.com/go-mysql-org/go-mysql/schema"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/retry"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// defaultCursorBatch is how many rows a cursor reads at once when nothing is configured.
const defaultCursorBatch = 200

// SqlPreparerAndRollbacker is a transaction for reading.
type SqlPreparerAndRollbacker interface {
	SqlPreparer
	Rollback() error
}

// SqlDBWithFakeRollback dresses a pool up as a transaction, for reading without locks.
type SqlDBWithFakeRollback struct{ *sql.DB }

// Rollback does nothing.
func (*SqlDBWithFakeRollback) Rollback() error { return nil }

// CursorConfig is the template of the cursors over a server's tables.
type CursorConfig struct {
	// DB is the server to read.
	DB *sql.DB
	// Throttler is waited on before each batch; nil never waits.
	Throttler Throttler
	// ColumnsToSelect are expressions; empty means every column.
	ColumnsToSelect []string
	// BuildSelect makes the query of the next batch; nil means DefaultBuildSelect.
	BuildSelect func([]string, *TableSchema, PaginationKey, uint64) (squirrel.SelectBuilder, error)
	// BatchSize is the rows of a batch, read before each one; nil or 0 means a default.
	BatchSize *uint64
	// BatchSizePerTableOverride wins over BatchSize.
	BatchSizePerTableOverride *DataIterationBatchSizePerTableOverride
	// ReadRetries is how often a batch is tried in total.
	ReadRetries int
}

// NewCursor returns a cursor that keeps the rows of a batch share-locked until the
// callback has returned. A nil start begins at the first row.
func (c *CursorConfig) NewCursor(table *TableSchema, startPaginationKey, maxPaginationKey PaginationKey) *Cursor {
	return &Cursor{CursorConfig: *c, Table: table, MaxPaginationKey: maxPaginationKey, RowLock: true, lastKey: startPaginationKey}
}

// NewCursorWithoutRowLock returns a cursor that reads without transaction and lock.
func (c *CursorConfig) NewCursorWithoutRowLock(table *TableSchema, startPaginationKey, maxPaginationKey PaginationKey) *Cursor {
	cursor := c.NewCursor(table, startPaginationKey, maxPaginationKey)
	cursor.RowLock = false
	return cursor
}

// GetBatchSize returns the rows of a batch of a table; 0 when nothing is configured.
func (c CursorConfig) GetBatchSize(schemaName string, tableName string) uint64 {
	if c.BatchSizePerTableOverride != nil {
		if size, ok := c.BatchSizePerTableOverride.TableOverride[schemaName][tableName]; ok {
			return size
		}
	}
	if c.BatchSize == nil {
		return 0
	}
	return atomic.LoadUint64(c.BatchSize)
}

// Cursor walks one table in the order of its pagination key, a batch at a time, on one
// connection of the pool, which is closed at the end; of a pool that the host has bounded it
// takes another one for each batch when others need it. It is used by one goroutine.
type Cursor struct {
	CursorConfig

	// Table is the table walked.
	Table *TableSchema
	// MaxPaginationKey ends the walk: the last batch is the one that reaches it. Where only the
	// server knows the order of keys (text, DECIMAL, TIME and others), that one ends with it.
	// nil walks to the end of the table.
	MaxPaginationKey PaginationKey
	// RowLock keeps the rows of a batch share-locked until the callback has returned.
	RowLock bool

	lastKey    PaginationKey  // nil: at the beginning
	server     *server.Server // nil before Each
	session    *session       // of the walk; nil: none is open
	print      *fingerprint   // nil: rows are read without digests
	chunkBytes int            // 0: the default
	fit        uint64         // rows of a batch, where less than configured fit into its bytes; else 0
	poolWait   time.Duration  // how long a connection of a bounded pool is waited for; 0: the default
}

// Each calls f for every batch until the highest key is reached or no rows are left. A batch may
// have fewer rows than BatchSize, also when it is not the last one: large rows end it early.
func (c *Cursor) Each(f func(*RowBatch) error) error {
	return c.EachContext(context.Background(), func(_ context.Context, b *RowBatch) error { return f(b) })
}

// EachContext is Each with a context. With RowLock the rows stay locked on the source
// while f runs: no change to them can be committed, hence none delivered, meanwhile.
func (c *Cursor) EachContext(ctx context.Context, f func(context.Context, *RowBatch) error) error {
	l, err := c.Table.layout()
	if err != nil {
		return err
	}
	high, err := c.highest(l)
	if err != nil {
		return err
	}
	if err := c.detect(ctx); err != nil {
		return err
	}
	defer c.endSession()
	for {
		if c.Throttler != nil {
			if err := WaitForThrottleContext(ctx, c.Throttler); err != nil {
				return err
			}
		}
		last, n, err := c.step(ctx, f)
		if err != nil {
			return &TableError{Schema: c.Table.Schema, Table: c.Table.Name, Err: err}
		}
		if n == 0 {
			return nil
		}
		if c.lastKey != nil && last.String() == c.lastKey.String() {
			return errStandsStill(last, c.Table)
		}
		c.lastKey = last
		if high != nil && l.keyOrdered && l.compareKeys(l.keyTupleOf(last), high) >= 0 {
			return nil
		}
	}
}

// errStandsStill is about a host's query that does not heed the key that it is given.
func errStandsStill(last PaginationKey, table *TableSchema) error {
	return fmt.Errorf("pagination key %s of %s does not advance: the query's rows must be after the last key", last, table)
}

// highest returns MaxPaginationKey as a key of the table's layout; nil when every row is below it.
func (c *Cursor) highest(l *tableLayout) (keyTuple, error) {
	if c.MaxPaginationKey == nil {
		return nil, nil
	}
	parts := []PaginationKey{c.MaxPaginationKey}
	if composite, ok := c.MaxPaginationKey.(CompositeKey); ok {
		parts = slices.Clone(composite.Parts)
	}
	wrong := func(why string) error {
		return fmt.Errorf("MaxPaginationKey %s is no key of %s, whose pagination key is %s%s", c.MaxPaginationKey, c.Table, l.keyNames(), why)
	}
	if len(parts) != len(l.keys) {
		return nil, wrong("")
	}
	for i, k := range l.keys {
		column, kind := &c.Table.Columns[k], l.columns[k].Kind
		top := parts[i].String() == MaxPaginationKey(column).String()
		if top && !l.columns[k].OrderedInGo() { // in the server's order it may be anywhere
			if len(parts) > 1 {
				return nil, wrong(": give the highest value of `" + column.Name + "` that is wanted")
			}
			return nil, nil
		}
		text, isText := parts[i].(TextKey)
		if !isText || kind != codec.Enum && kind != codec.Set {
			continue
		}
		number, err := uint64(math.MaxUint64), error(nil)
		if !top {
			number, err = numberOfMember(text.Value, column)
		}
		if err != nil {
			return nil, wrong(": " + err.Error())
		}
		parts[i] = NewUint64Key(number)
	}
	high := l.keyTupleOf(CompositeKey{Parts: parts})
	if high == nil {
		return nil, wrong("")
	}
	return high, nil
}

// numberOfMember returns the number of an ENUM or SET value: a key read by MaxPaginationKeys has
// its text, one of a batch its number.
func numberOfMember(text string, column *schema.TableColumn) (uint64, error) {
	number, err := strconv.ParseUint(text, 10, 64)
	top := uint64(len(column.EnumValues))
	if n := len(column.SetValues); n > 0 {
		top = 1<<n - 1
	}
	isNumber := err == nil && number <= top
	named, isText := uint64(0), text == ""
	for i, value := range column.EnumValues {
		if value == text {
			named, isText = uint64(i)+1, true
		}
	}
	if len(column.SetValues) > 0 && text != "" {
		isText = true
		for _, member := range strings.Split(text, ",") {
			at := slices.Index(column.SetValues, member)
			isText = isText && at >= 0
			named |= 1 << max(at, 0)
		}
	}
	switch {
	case isNumber && isText && named != number:
		return 0, fmt.Errorf("%q is a value and the number of another one; give a Uint64Key with the number", text)
	case isText:
		return named, nil
	case isNumber:
		return number, nil
	}
	return 0, fmt.Errorf("%q is none of the values of `%s`", text, column.Name)
}

func (c *Cursor) detect(ctx context.Context) error {
	if c.server != nil {
		return nil
	}
	conn, err := freeConn(ctx, c.DB, c.longestPoolWait())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	c.server, err = server.Detect(ctx, conn)
	return err
}

// longestPoolWait is how long a connection of a bounded pool is waited for: as long as a run waits
// for a server that is away. A cursor that waits holds nothing that others need meanwhile.
func (c *Cursor) longestPoolWait() time.Duration {
	return cmp.Or(c.poolWait, defaultMaxOutageSeconds*time.Second)
}

// step reads one batch and calls f, both inside one read transaction.
func (c *Cursor) step(ctx context.Context, f func(context.Context, *RowBatch) error) (last PaginationKey, n int, err error) {
	policy := retry.Policy{Attempts: max(1, c.ReadRetries), First: 50 * time.Millisecond, Max: time.Second}
	read := func(ctx context.Context) (err error) {
		defer func() {
			if err != nil {
				c.endSession()
			}
			c.leavePool()
		}()
		tx, batch, key, err := c.readFitting(ctx)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		last, n = key, batch.Size()
		if n == 0 {
			return nil
		}
		var returned atomic.Bool
		if c.RowLock {
			batch.held = func() error { return stillLocked(tx, &returned) }
		}
		defer returned.Store(true)
		if !c.RowLock {
			c.leavePool() // f may ask the same pool
		}
		if err := f(ctx, batch); err != nil {
			return &listenerError{err}
		}
		return nil
	}
	err = retry.Do(ctx, policy, retryableRead, nil, read)
	return last, n, err
}

// readFitting reads a batch and leaves its transaction open. Rows that are too large for so many
// of them are read again, as many as fit: to read on to the end of the result may take
// gigabytes, and what ends it at once ends the transaction with its locks.
func (c *Cursor) readFitting(ctx context.Context) (tx SqlPreparerAndRollbacker, batch *RowBatch, last PaginationKey, err error) {
	for again := false; ; again = true {
		tx, err := c.begin(ctx)
		if err != nil {
			return nil, nil, nil, err
		}
		stop := c.session.cutResult
		if again { // a query of the host's may not obey
			stop = nil
		}
		batch, last, err := c.fetchBatch(tx, stop)
		if err == nil && !c.session.spent {
			c.adapt(batch)
			return tx, batch, last, nil
		}
		_ = tx.Rollback()
		if err != nil {
			return nil, nil, nil, err
		}
		c.fit = uint64(batch.Size())
		c.endSession()
	}
}

// adapt lets batches grow again when rows have become smaller.
func (c *Cursor) adapt(batch *RowBatch) {
	switch {
	case c.fit == 0 || batch.rows == nil || 2*batch.rows.Bytes() > c.maxBytes():
	case 2*c.fit >= cmp.Or(c.GetBatchSize(c.Table.Schema, c.Table.Name), defaultCursorBatch):
		c.fit = 0
	default:
		c.fit *= 2
	}
}

// maxBytes is about how many bytes a batch may have, beside its last row.
func (c *Cursor) maxBytes() int { return batchBytes(c.chunkBytes) }

// batchBytes is that for the chunks of so many bytes as are configured, 0 for the default.
func batchBytes(chunkBytes int) int {
	return max(4*cmp.Or(chunkBytes, defaultDataIterationChunkBytes), largeRow)
}

// batchSize is how many rows a batch has at most.
func (c *Cursor) batchSize() uint64 {
	size := cmp.Or(c.GetBatchSize(c.Table.Schema, c.Table.Name), defaultCursorBatch)
	if c.fit > 0 {
		size = min(size, c.fit)
	}
	return size
}

// stillLocked asks whether the reading transaction lives. With its connection, which may
// die unnoticed, it loses its row locks, and what was read may be changed, and the change
// applied, before the rows are written. A listener that hands rows on and returns is on
// its own.
func stillLocked(tx SqlPreparer, returned *atomic.Bool) error {
	if returned.Load() {
		return nil
	}
	stmt, err := tx.Prepare("SELECT 1")
	if err != nil {
		return &lostLocksError{err.Error()}
	}
	return stmt.Close() //nolint:sqlclosecheck // its error counts
}

// lostLocksError says that nothing was written because the locks of the read were gone.
// It does not wrap its cause: writing the same rows again would not help, reading does.
type lostLocksError struct{ cause string }

func (e *lostLocksError) Error() string {
	return "the transaction that read the rows was gone, and its locks with it, before they were committed on the target: " + e.cause
}

// listenerError marks an error of a listener: reading again would not help.
type listenerError struct{ err error }

func (e *listenerError) Error() string { return e.err.Error() }
func (e *listenerError) Unwrap() error { return e.err }

func retryableRead(err error) bool {
	var lost *lostLocksError
	if errors.As(err, &lost) {
		return true // what was written is rolled back
	}
	var listener *listenerError
	if errors.As(err, &listener) {
		return false
	}
	var barrier *barrierError
	if errors.As(err, &barrier) || errors.Is(err, errReadAgain) {
		return true
	}
	return mysqlerr.Retryable(mysqlerr.Classify(err))
}
