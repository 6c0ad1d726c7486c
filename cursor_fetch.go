package ghostferry

import (
	"context"
	sqlorig "database/sql"
	"database/sql/driver"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/Masterminds/squirrel"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/server"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// begin begins the read of a batch on the walk's own session, in which text is given as it is
// stored and times in UTC. In those of the pool, text is converted to the character set of
// statements.
func (c *Cursor) begin(ctx context.Context) (SqlPreparerAndRollbacker, error) {
	if c.session != nil {
		tx, err := c.beginOn(ctx, c.session)
		if err == nil {
			return tx, nil
		}
		c.endSession() // the server may have ended it while the throttler or the callback took their time
	}
	s, err := openSessionWithin(ctx, c.longestPoolWait(), c.DB, c.server, server.Source)
	if err != nil {
		return nil, err
	}
	c.session = s
	return c.beginOn(ctx, s)
}

func (c *Cursor) beginOn(ctx context.Context, s *session) (SqlPreparerAndRollbacker, error) {
	if !c.RowLock {
		return &unlockedRead{ctx, s}, s.conn.PingContext(ctx)
	}
	return s.conn.BeginTx(ctx, nil) // READ COMMITTED
}

// leavePool ends the walk's session where others may need its connection: until the next batch the
// throttler or the callback may take their time, and other cursors wait.
func (c *Cursor) leavePool() {
	if c.session != nil && !c.session.mayRest() {
		c.endSession()
	}
}

// endSession discards the walk's session, so that the pool never hands it out with our settings.
func (c *Cursor) endSession() {
	if c.session != nil {
		c.session.discard()
		c.session = nil
	}
}

// unlockedRead dresses a session up as a transaction, for reading without locks.
type unlockedRead struct {
	ctx     context.Context //nolint:containedctx // of one batch; SqlPreparer has none
	session *session
}

func (r *unlockedRead) Prepare(query string) (*sqlorig.Stmt, error) {
	return r.session.conn.PrepareContext(r.ctx, query)
}

func (*unlockedRead) Rollback() error { return nil }

// Fetch reads one batch and returns it with its last key. It may have fewer rows than BatchSize, also
// when it is not the last one: large rows end it early. Of a table with text in another
// character set than the statements', db's sessions must have character_set_results=NULL, as
// those of Each have: the server would convert what a batch has to hold as it is stored.
func (c *Cursor) Fetch(db SqlPreparer) (batch *RowBatch, paginationKeypos PaginationKey, err error) {
	l, err := c.Table.layout()
	if err != nil {
		return nil, nil, err
	}
	if err := l.readAsStored(db, c.Table); err != nil {
		return nil, nil, err
	}
	return c.fetchBatch(db, nil)
}

// fetchBatch calls stop, when there is one, before it leaves a result in the middle.
func (c *Cursor) fetchBatch(db SqlPreparer, stop func()) (batch *RowBatch, last PaginationKey, err error) {
	l, err := c.Table.layout()
	if err != nil {
		return nil, nil, err
	}
	err = withLeaves(func(leaves leafReports) error {
		batch, last, err = c.fetch(db, l, leaves, stop)
		return err
	})
	return batch, last, err
}

// readAsStored refuses a session that gives text of the table otherwise than it is stored.
func (l *tableLayout) readAsStored(db SqlPreparer, table *TableSchema) error {
	at := slices.IndexFunc(l.columns, convertedText)
	if at < 0 {
		return nil
	}
	stmt, err := db.Prepare("SELECT @@character_set_results")
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	var results sqlorig.NullString
	if err := stmt.QueryRow().Scan(&results); err != nil { //nolint:noctx // as the query of the batch
		return err
	}
	if !results.Valid || results.String == "binary" {
		return nil
	}
	return fmt.Errorf("column `%s` of %s is in %s, and the session converts it to %s: use Each, or SET character_set_results=NULL in the session given to Fetch", l.columns[at].Name, table, l.columns[at].Charset, results.String)
}

// convertedText is true for text that a session of ours which is not set up as a reader converts.
func convertedText(c codec.Column) bool {
	if c.Kind != codec.Text {
		return false
	}
	switch c.Charset {
	case "", "binary", "ascii", "utf8", "utf8mb3", "utf8mb4":
		return false
	}
	return true
}

func (c *Cursor) fetch(db SqlPreparer, l *tableLayout, leaves leafReports, stop func()) (batch *RowBatch, last PaginationKey, err error) {
	builder, err := c.buildSelect(l, leaves)
	if err != nil {
		return nil, nil, err
	}
	if c.RowLock && c.server != nil {
		builder = builder.Suffix(strings.TrimSpace(c.server.LockingReadSuffix()))
	}
	query, args, err := builder.ToSql()
	if err != nil {
		return nil, nil, err
	}
	stmt, err := db.Prepare(query)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = stmt.Close() }()
	rows, err := stmt.Query(args...) //nolint:noctx // the transaction ends with the context
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = rows.Close() }()
	batch, err = scanBatch(rows, c.Table, l, c.print, batchLimits{bytes: c.maxBytes(), stop: stop})
	if err != nil || batch.Size() == 0 {
		return batch, nil, err
	}
	if !batch.containsKey(l) {
		return nil, nil, fmt.Errorf("the query for %s does not select its pagination key %s", c.Table, l.keyNames())
	}
	return batch, l.paginationKey(c.Table, batch.lastKey(l)), nil
}

func (c *Cursor) buildSelect(l *tableLayout, leaves leafReports) (squirrel.SelectBuilder, error) {
	size := c.batchSize()
	columns := c.ColumnsToSelect
	if len(columns) == 0 {
		columns = l.selectColumns(c.print, leaves)
	}
	var builder squirrel.SelectBuilder
	var err error
	if c.BuildSelect != nil {
		builder, err = c.BuildSelect(columns, c.Table, c.keyOrBelowAll(l), size)
	} else {
		builder = defaultBuildSelect(columns, c.Table, l, c.lastKey, size)
	}
	if err != nil || l.keyOrdered {
		return builder, err
	}
	high, err := c.highest(l)
	if high != nil {
		builder = builder.Where(l.upTo(high))
	}
	return builder, err
}

// upTo is appendUpTo for a builder.
func (l *tableLayout) upTo(key keyTuple) squirrel.Sqlizer {
	return squirrel.Expr(strings.ReplaceAll(string(l.appendUpTo(nil, key)), "?", "??"))
}

func (c *Cursor) keyOrBelowAll(l *tableLayout) PaginationKey {
	if c.lastKey == nil {
		return l.belowAll(c.Table)
	}
	return c.lastKey
}

// DefaultBuildSelect returns `SELECT columns FROM table WHERE key > ? ORDER BY key LIMIT
// n`, for filters to build on; without WHERE after no key, and after the one that a copy
// begins with.
func DefaultBuildSelect(columns []string, table *TableSchema, lastPaginationKey PaginationKey, batchSize uint64) squirrel.SelectBuilder {
	l, err := table.layout()
	if err != nil { // a literal without columns: only the key's name is needed
		key := QuoteField(table.GetPaginationColumn().Name)
		return squirrel.Select(columns...).From(QuotedTableName(table)).
			Where(squirrel.Gt{key: lastPaginationKey.SQLValue()}).OrderBy(key).Limit(batchSize)
	}
	return defaultBuildSelect(columns, table, l, lastPaginationKey, batchSize)
}

func defaultBuildSelect(columns []string, table *TableSchema, l *tableLayout, last PaginationKey, size uint64) squirrel.SelectBuilder {
	b := squirrel.Select(columns...).From(QuotedTableName(table)).OrderBy(l.keyOrderOfRows(table)).Limit(size)
	kind := l.columns[l.keys[0]].Kind
	// Of these only the value of a TextKey without text, MinPaginationKey's, is none of theirs.
	others := kind != codec.Int && kind != codec.Uint && kind != codec.Text && kind != codec.Binary
	if last == nil || begins(last) || others && last.SQLValue() == "" {
		return b
	}
	// A placeholder's value is compared as a string by ENUM, SET and temporal columns, and by
	// DECIMAL as a double.
	if len(l.keys) == 1 && !others && kind != codec.Text {
		return b.Where(squirrel.Gt{sqlesc.Ident(l.columns[l.keys[0]].Name): last.SQLValue()})
	}
	if tuple := l.keyTupleOf(last); tuple != nil {
		return b.Where(squirrel.Expr(strings.ReplaceAll(string(l.appendAfter(nil, tuple)), "?", "??")))
	}
	return b
}

// batchLimits say where a batch ends before its result does.
type batchLimits struct {
	bytes int // the row that exceeds them is the last one
	// room is asked for each large row; without room it is left out. nil: there is room.
	room func(bytes int) bool
	// stop ends the result, whose rest is read otherwise. nil: it is.
	stop func()
}

// scanBatch reads a result up to the limits into canonical rows. The result's columns are
// matched to the table's by name.
func scanBatch(rows *sqlorig.Rows, table *TableSchema, l *tableLayout, fp *fingerprint, limits batchLimits) (*RowBatch, error) {
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var columns, places []int // of the table, and in the result
	reports := map[int]int{}  // place of the report by column
	digest := -1
	for i, name := range names {
		if number, ok := strings.CutPrefix(name, leafReportAlias); ok {
			if c, err := strconv.Atoi(number); err == nil && slices.Contains(l.documents, c) {
				reports[c] = i
				continue
			}
		}
		if fp != nil && name == rowDigestAlias {
			digest = i
			continue
		}
		c := columnByName(table.Columns, name)
		if c < 0 {
			return nil, fmt.Errorf("the query for %s selects %q, which is not a column of it", table, name)
		}
		columns, places = append(columns, c), append(places, i)
	}
	if fp != nil && digest < 0 {
		return nil, fmt.Errorf("the query for %s does not select %s, which it was given as a column: row digests need it", table, rowDigestAlias)
	}
	out := codec.NewRows(len(columns), 0, 0)
	stop := func(why error) error {
		if limits.stop != nil {
			limits.stop()
		}
		return why
	}
	var digests []byte
	err = eachRow(rows, func(_ []string, values []driver.Value) error {
		if out.Bytes() > limits.bytes {
			return stop(errEnough)
		}
		if size := valueBytes(values); size > largeRow {
			if limits.room != nil && !limits.room(size) {
				if out.Len() == 0 {
					return stop(&largeRowError{size})
				}
				return stop(errEnough)
			}
			out.Grow(size)
		}
		for i, c := range columns {
			var err error
			if at, ok := reports[c]; ok {
				err = out.AddJSON(&l.columns[c], values[places[i]], values[at])
			} else { // a query of a host's with columns of its own has no reports
				err = out.AddDriver(&l.columns[c], values[places[i]])
			}
			if err != nil {
				return err
			}
		}
		if fp == nil {
			return nil
		}
		var err error
		digests, err = fp.appendDigest(digests, values[digest], func(column int) driver.Value {
			if at := slices.Index(columns, column); at >= 0 {
				return values[places[at]]
			}
			return nil
		})
		return err
	})
	if err != nil && err != errEnough { //nolint:errorlint // what wraps it is an error
		return nil, err
	}
	batch := newCanonicalBatch(table, l, columns, out)
	batch.digests = digests
	return batch, nil
}

// lastKey returns the key of the batch's last row.
func (b *RowBatch) lastKey(l *tableLayout) keyTuple { return b.keyAt(l, b.rows.Len()-1) }

// containsKey reports whether the rows hold every column of the key.
func (b *RowBatch) containsKey(l *tableLayout) bool {
	for _, k := range l.keys {
		found := false
		for _, c := range b.columns {
			found = found || c == k
		}
		if !found {
			return false
		}
	}
	return true
}

// keyAt returns the key of one row of a canonical batch.
func (b *RowBatch) keyAt(l *tableLayout, row int) keyTuple {
	key := make(keyTuple, len(l.keys))
	for i, k := range l.keys {
		for j, c := range b.columns {
			if c == k {
				key[i] = append([]byte{}, b.rows.Value(row, j)...)
			}
		}
	}
	return key
}

// ScanGenericRow scans a row into Go values of the driver's types.
func ScanGenericRow(rows *sqlorig.Rows, columnCount int) (RowData, error) {
	values := make(RowData, columnCount)
	pointers := make([]any, columnCount)
	for i := range values {
		pointers[i] = &values[i]
	}
	return values, rows.Scan(pointers...)
}

// ScanByteRow scans a row into byte slices, nil for NULL.
func ScanByteRow(rows *sqlorig.Rows, columnCount int) ([][]byte, error) {
	values := make([][]byte, columnCount)
	pointers := make([]any, columnCount)
	for i := range values {
		pointers[i] = &values[i]
	}
	return values, rows.Scan(pointers...)
}
