package sharding

import (
	"bytes"
	"context"
	sqlorig "database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/go-sql-driver/mysql"

	"github.com/ghostferry-go/ghostferry"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

const (
	// joinedPage is how many keys of a joined table are looked at in one transaction,
	// pointedPage how many are asked for at once.
	joinedPage  = 500
	pointedPage = 10000
	// alignAttempts is how often a transaction is tried that collides with others.
	alignAttempts = 10
	// Errors of servers.
	lockTimeout, deadlock, duplicate = 1205, 1213, 1062
)

// errLookAgain says that a row that was to be changed is not what it was when it was looked at:
// somebody else points to it by now.
var errLookAgain = errors.New("the row on the target does not take its values from the source: somebody else uses it, or a trigger changes it")

// joinedTables moves the rows of tables without a sharding key that rows of the tenant
// point to. Whether such a row belongs to the tenant changes with rows of other tables, so
// the library, which judges a row by itself, cannot do it.
//
// All rows are copied while the source is written. The binary log tells which keys change,
// as do the rows that point to them, from before the first read on; these keys, and only
// these, are looked at again when the writers have stopped. Then nothing of them can change
// any more, and a key that no event has named is as it was when it was read: a change that
// a read did not see yet is delivered after the start of the stream, and so named.
//
// Rows that this move has brought are recorded beside its checkpoint, in the transaction
// that writes them. Only those are ever changed or removed, and none that rows of another
// tenant on the target point to: where such a row differs the move ends with a
// *[ghostferry.TargetConflictError].
type joinedTables struct {
	// immutable after begin
	source, target *sql.DB
	tables         []*joinedTable
	record         string // quoted table of the rows brought
	run            string
	// locking is what makes a read of the source wait for transactions that are in the log and
	// not visible yet: set for finish, when nobody reads behind it any more.
	locking string

	mu struct {
		sync.Mutex
		changed map[*joinedTable]map[string]any // keys, by their text
	}
}

// joinedTable is one joined table and who points to it.
type joinedTable struct {
	schema   *ghostferry.TableSchema
	onSource string
	onTarget string
	key      string   // quoted column
	columns  []string // quoted, those that can be written
	ordinals []int    // of these in the schema
	joins    []joinedFrom
}

// joinedFrom is a table of the tenant's that points to a joined table.
type joinedFrom struct {
	table              *ghostferry.TableSchema
	column             int
	onSource, onTarget string
	quoted             string // the column
	predicate          string // the tenant's rows of it
}

// newJoinedTables takes the joined tables out of what the library copies; its stream still
// tells of them.
func newJoinedTables(config *Config, ferry *ghostferry.Ferry, run string) (*joinedTables, error) {
	j := &joinedTables{source: ferry.SourceDB, target: ferry.TargetDB, run: run}
	j.record = ghostferry.QuotedTableNameFromString(config.CheckpointSchema, "joined_rows")
	j.mu.changed = map[*joinedTable]map[string]any{}
	streamed := ghostferry.TableSchemaCache{}
	for name, table := range ferry.Tables {
		streamed[name] = table
	}
	ferry.BinlogStreamer.TableSchema = streamed
	for name, joins := range config.JoinedTables {
		table := ferry.Tables.Get(config.SourceDB, name)
		if table == nil {
			return nil, fmt.Errorf("joined table %s.%s is not on the source, or left out of the move", config.SourceDB, name)
		}
		t := &joinedTable{
			schema: table, onSource: ghostferry.QuotedTableName(table), onTarget: ghostferry.QuotedTableNameFromString(config.TargetDB, name),
			key: ghostferry.QuoteField(table.GetPaginationColumn().Name),
		}
		if !isUnique(table, table.GetPaginationColumn().Name) {
			return nil, fmt.Errorf("joined table %s.%s: its key has further columns than %s, and joined tables may have keys of one column: leave it out and copy it by itself", config.SourceDB, name, t.key)
		}
		if collation := table.GetPaginationColumn().Collation; collation != "" && collation != "binary" && !strings.HasPrefix(collation, "utf8") && !strings.HasPrefix(collation, "ascii") {
			return nil, fmt.Errorf("joined table %s.%s: its key %s is text with collation %s, and joined tables may have keys of numbers, bytes, or text in utf8mb4, utf8mb3 or ascii: leave it out and copy it by itself", config.SourceDB, name, table.GetPaginationColumn().Name, collation)
		}
		for i := range table.Columns {
			if c := &table.Columns[i]; !c.IsVirtual && !c.IsStored {
				t.columns, t.ordinals = append(t.columns, ghostferry.QuoteField(c.Name)), append(t.ordinals, i)
			}
		}
		for _, join := range joins {
			from := ferry.Tables.Get(config.SourceDB, join.TableName)
			if from == nil || from.FindColumn(join.JoinColumn) < 0 {
				return nil, fmt.Errorf("table %s.%s with column %s, which joins %s, does not move: it needs the sharding key %s, and must not be left out", config.SourceDB, join.TableName, join.JoinColumn, name, config.ShardingKey)
			}
			predicate, err := (&ghostferry.RowFilter{}).Predicate(from)
			if err != nil {
				return nil, err
			}
			t.joins = append(t.joins, joinedFrom{
				table: from, column: from.FindColumn(join.JoinColumn), quoted: ghostferry.QuoteField(join.JoinColumn), predicate: predicate,
				onSource: ghostferry.QuotedTableName(from), onTarget: ghostferry.QuotedTableNameFromString(config.TargetDB, join.TableName),
			})
		}
		j.tables = append(j.tables, t)
		delete(ferry.Tables, table.String())
	}
	return j, nil
}

// follow notes the key of a changed row of a joined table.
func (j *joinedTables) follow(event ghostferry.DMLEvent) error {
	for _, t := range j.tables {
		if t.schema == event.TableSchema() {
			j.note(t, event, t.schema.GetPaginationKeyIndex())
		}
	}
	return nil
}

// pointed notes the keys that changed rows of the tenant point to, or did; it is a listener
// of the stream.
func (j *joinedTables) pointed(events []ghostferry.DMLEvent) error {
	for _, t := range j.tables {
		for _, from := range t.joins {
			for _, event := range events {
				if event.TableSchema() == from.table {
					j.note(t, event, from.column)
				}
			}
		}
	}
	return nil
}

func (j *joinedTables) note(t *joinedTable, event ghostferry.DMLEvent, column int) {
	for _, row := range []ghostferry.RowData{event.OldValues(), event.NewValues()} {
		if row != nil && row[column] != nil {
			j.noteKey(t, row[column])
		}
	}
}

// noteKey has finish look at a key once more.
func (j *joinedTables) noteKey(t *joinedTable, key any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.mu.changed[t] == nil {
		j.mu.changed[t] = map[string]any{}
	}
	j.mu.changed[t][fmt.Sprint(key)] = key
}

// prepare makes the record, before the first row.
func (j *joinedTables) prepare(ctx context.Context, config *Config) error {
	for _, statement := range []string{
		"CREATE DATABASE IF NOT EXISTS " + ghostferry.QuoteField(config.CheckpointSchema),
		"CREATE TABLE IF NOT EXISTS " + j.record + " (run_id VARCHAR(191) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL," +
			" row_key VARBINARY(500) NOT NULL, PRIMARY KEY (run_id, name, row_key)) ENGINE=InnoDB",
	} {
		if _, err := j.target.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("preparing the record of joined rows: %w", err)
		}
	}
	return nil
}

// copyAll looks at every joined row of the tenant, and at those that were brought before.
func (j *joinedTables) copyAll(ctx context.Context) error {
	for _, t := range j.tables {
		if err := j.copyTable(ctx, t); err != nil {
			return fmt.Errorf("joined table %s: %w", t.schema, err)
		}
	}
	return nil
}

func (j *joinedTables) copyTable(ctx context.Context, t *joinedTable) error {
	for after := any(nil); ; {
		query, args := t.pointedKeys(after)
		keys, err := column(ctx, j.source, query, args...)
		if err == nil {
			err = j.alignAll(ctx, t, keys)
		}
		if err != nil {
			return err
		}
		if len(keys) < pointedPage {
			break
		}
		after = keys[len(keys)-1]
	}
	brought, err := column(ctx, j.target, "SELECT row_key FROM "+j.record+" WHERE run_id=? AND name=?", j.run, t.schema.Name)
	if err != nil {
		return err
	}
	return j.alignAll(ctx, t, brought) // an earlier process's may be the tenant's no longer
}

// pointedKeys is the query of the next keys that rows of the tenant point to: it reads the
// tenant's rows, not the joined table.
func (t *joinedTable) pointedKeys(after any) (query string, args []any) {
	parts := make([]string, len(t.joins))
	for i, from := range t.joins {
		// By bytes: what is equal to the collation of this column may be two keys of the joined table.
		key := "CAST(" + from.quoted + " AS BINARY)"
		if collation := from.table.Columns[from.column].Collation; collation != "" && collation != "binary" {
			key = "CAST(CONVERT(" + from.quoted + " USING utf8mb4) AS BINARY)"
		}
		where := from.quoted + " IS NOT NULL"
		if after != nil {
			where = key + " > ?"
			args = append(args, after)
		}
		parts[i] = fmt.Sprintf("(SELECT DISTINCT %s AS k FROM %s WHERE %s AND %s ORDER BY k LIMIT %d)", key, from.onSource, from.predicate, where, pointedPage)
	}
	return fmt.Sprintf("SELECT k FROM (%s) AS pointed ORDER BY k LIMIT %d", strings.Join(parts, " UNION DISTINCT "), pointedPage), args
}

// alignAll aligns any number of keys.
func (j *joinedTables) alignAll(ctx context.Context, t *joinedTable, keys []any) error {
	for len(keys) > 0 {
		n := min(len(keys), joinedPage)
		if err := j.alignAgain(ctx, t, keys[:n]); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// alignAgain repeats what collided with other work on the target.
func (j *joinedTables) alignAgain(ctx context.Context, t *joinedTable, keys []any) (err error) {
	args := make([]any, len(keys))
	for i, key := range keys {
		args[i] = t.number(key)
	}
	for range alignAttempts {
		err = j.align(ctx, t, args)
		var refused *mysql.MySQLError
		if errors.Is(err, errLookAgain) {
			continue
		}
		if !errors.As(err, &refused) || refused.Number != deadlock && refused.Number != lockTimeout && refused.Number != duplicate {
			break
		}
	}
	return err
}

// number makes an integer key of its text, so that it is compared as one, and a string of
// that of a character column: bytes would be compared as bytes.
func (t *joinedTable) number(key any) any {
	text, ok := key.([]byte)
	if !ok {
		return key
	}
	column := t.schema.GetPaginationColumn()
	if column.Collation != "" && column.Collation != "binary" {
		return string(text)
	}
	if column.Type != schema.TYPE_NUMBER && column.Type != schema.TYPE_MEDIUM_INT {
		return key
	}
	if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
		return n
	}
	if n, err := strconv.ParseUint(string(text), 10, 64); err == nil {
		return n
	}
	return key
}

// finish looks at the keys that have changed since the start, when nothing changes any
// more, until the two sides agree on all of them.
func (j *joinedTables) finish(ctx context.Context) error {
	var err error
	if j.locking, err = sharedLock(ctx, j.source); err != nil {
		return err
	}
	for {
		j.mu.Lock()
		changed := j.mu.changed
		j.mu.changed = map[*joinedTable]map[string]any{}
		j.mu.Unlock()
		if len(changed) == 0 {
			return nil
		}
		for t, noted := range changed {
			keys := make([]any, 0, len(noted))
			for _, key := range noted {
				keys = append(keys, key)
			}
			if err := j.alignAll(ctx, t, keys); err != nil {
				return fmt.Errorf("joined table %s: %w", t.schema, err)
			}
		}
	}
}

// sharedLock is how a SELECT takes shared locks of rows. MySQL's newer form asks for no other
// privilege than SELECT.
func sharedLock(ctx context.Context, db *sql.DB) (string, error) {
	var version string
	if err := db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return "", fmt.Errorf("asking the source for its version: %w", err)
	}
	if strings.Contains(version, "MariaDB") || strings.HasPrefix(version, "5.") {
		return " LOCK IN SHARE MODE", nil
	}
	return " FOR SHARE", nil
}

// belongs is the condition that a row of the tenant points to a joined row.
func (t *joinedTable) belongs(alias string, onSource bool) string {
	return t.pointedBy(alias, onSource, func(from joinedFrom) string { return from.predicate })
}

// shared is the condition that a row of somebody else points to it, on the target.
func (t *joinedTable) shared(alias string) string {
	return t.pointedBy(alias, false, func(from joinedFrom) string { return "NOT COALESCE(" + from.predicate + ",FALSE)" })
}

func (t *joinedTable) pointedBy(alias string, onSource bool, which func(joinedFrom) string) string {
	terms := make([]string, len(t.joins))
	for i, from := range t.joins {
		table := from.onTarget
		if onSource {
			table = from.onSource
		}
		terms[i] = "EXISTS (SELECT 1 FROM " + table + " AS p WHERE p." + from.quoted + " = " + alias + "." + t.key + " AND " + which(from) + ")"
	}
	return "(" + strings.Join(terms, " OR ") + ")"
}

// joinedRow is a row on the target.
type joinedRow struct {
	values         [][]byte
	brought, other bool // by this move; other tenants point to it
}

// align makes the rows with the keys what they are on the source, in one transaction.
func (j *joinedTables) align(ctx context.Context, t *joinedTable, keys []any) error {
	marks := strings.TrimSuffix(strings.Repeat("?,", len(keys)), ",")
	wanted, err := j.sourceRows(ctx, t, marks, keys)
	if err != nil {
		return err
	}
	return j.onTarget(ctx, func(tx *sql.Tx) error { return j.alignWith(ctx, tx, t, marks, keys, wanted) })
}

func (j *joinedTables) alignWith(ctx context.Context, tx *sql.Tx, t *joinedTable, marks string, keys []any, wanted map[string][][]byte) error {
	present, err := j.targetRows(ctx, tx, t, marks, keys)
	if err != nil {
		return err
	}
	// First: a key that only looks different, by its case, is the same for the target.
	for key, row := range present {
		if _, stays := wanted[key]; !stays && row.brought {
			if err := j.drop(ctx, tx, t, key, row); err != nil {
				return err
			}
		}
	}
	for key, values := range wanted {
		if err := j.put(ctx, tx, t, key, values, present); err != nil {
			return err
		}
	}
	return nil
}

// onTarget runs f in a transaction that checks no foreign keys: rows that refer to these are
// brought by others, and nothing may cascade to them while a row is away. Its connection does
// not go back to the pool.
func (j *joinedTables) onTarget(ctx context.Context, f func(tx *sql.Tx) error) error {
	conn, err := j.target.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		_ = conn.Close()
	}()
	if _, err := conn.ExecContext(ctx, "SET SESSION foreign_key_checks=0"); err != nil {
		return err
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// sourceRows reads the tenant's rows with the keys, by the key's text.
func (j *joinedTables) sourceRows(ctx context.Context, t *joinedTable, marks string, keys []any) (map[string][][]byte, error) {
	rows := map[string][][]byte{}
	err := each(ctx, j.source, "SELECT "+t.selected("j")+" FROM "+t.onSource+" AS j WHERE j."+t.key+" IN ("+marks+") AND "+t.belongs("j", true)+j.locking, keys,
		func(values [][]byte) { rows[string(values[0])] = values[1:] })
	return rows, err
}

// targetRows reads the rows with the keys, whosever, and locks them.
func (j *joinedTables) targetRows(ctx context.Context, tx *sql.Tx, t *joinedTable, marks string, keys []any) (map[string]*joinedRow, error) {
	rows := map[string]*joinedRow{}
	args := append([]any{j.run, t.schema.Name}, keys...)
	err := each(ctx, tx, "SELECT EXISTS (SELECT 1 FROM "+j.record+" WHERE run_id=? AND name=? AND row_key=CAST(j."+t.key+" AS BINARY)),"+t.shared("j")+","+t.selected("j")+
		" FROM "+t.onTarget+" AS j WHERE j."+t.key+" IN ("+marks+") FOR UPDATE", args, func(values [][]byte) {
		rows[string(values[2])] = &joinedRow{brought: string(values[0]) == "1", other: string(values[1]) == "1", values: values[3:]}
	})
	return rows, err
}

// selected is the key as bytes and all columns, FLOAT as the exact number that it is.
func (t *joinedTable) selected(alias string) string {
	exprs := []string{"CAST(" + alias + "." + t.key + " AS BINARY)"}
	for i, quoted := range t.columns {
		expr := alias + "." + quoted
		if strings.HasPrefix(strings.ToLower(t.schema.Columns[t.ordinals[i]].RawType), "float") {
			expr += "*1e0"
		}
		exprs = append(exprs, expr)
	}
	return strings.Join(exprs, ",")
}

// put inserts a row, or changes one that this move has brought.
func (j *joinedTables) put(ctx context.Context, tx *sql.Tx, t *joinedTable, key string, values [][]byte, present map[string]*joinedRow) error {
	for {
		err := j.write(ctx, tx, t, key, values, present[key])
		index, is := t.duplicateOf(err)
		if !is {
			return err
		}
		if index == "PRIMARY" { // somebody was faster, and the whole transaction looks again; or it is the same by collation only
			return fmt.Errorf("%w: %w", t.conflict(key, index), err)
		}
		if made, failed := j.makeWay(ctx, tx, t, key, index, values, present); failed != nil {
			return failed
		} else if !made {
			return t.conflict(key, index)
		}
	}
}

// write is put for a row whose unique values are free.
func (j *joinedTables) write(ctx context.Context, tx *sql.Tx, t *joinedTable, key string, values [][]byte, row *joinedRow) error {
	args := make([]any, len(values))
	for i, v := range values {
		if v != nil {
			args[i] = v
		}
	}
	var err error
	switch {
	case row == nil:
		marks := strings.TrimSuffix(strings.Repeat("?,", len(args)), ",")
		if _, err = tx.ExecContext(ctx, "INSERT INTO "+t.onTarget+" ("+strings.Join(t.columns, ",")+") VALUES ("+marks+")", args...); err == nil {
			_, err = tx.ExecContext(ctx, "INSERT INTO "+j.record+" (run_id,name,row_key) VALUES (?,?,?) ON DUPLICATE KEY UPDATE run_id=run_id", j.run, t.schema.Name, []byte(key))
		}
	case equal(values, row.values):
		return nil
	case !row.brought || row.other:
		return t.conflict(key, "PRIMARY")
	default:
		args = append(args, t.number([]byte(key)), j.run, t.schema.Name, []byte(key)) //nolint:makezero // the values come first
		var result sqlorig.Result
		if result, err = tx.ExecContext(ctx, "UPDATE "+t.onTarget+" SET "+strings.Join(t.columns, "=?,")+"=?"+j.ours(t), args...); err == nil {
			if n, counted := result.RowsAffected(); counted == nil && n == 0 {
				err = errLookAgain
			}
		}
	}
	if err != nil {
		return fmt.Errorf("row %s: %w", t.shown(key), err)
	}
	return nil
}

// ours is the condition of every statement that changes joined rows: one of this move, and
// of nobody else.
func (j *joinedTables) ours(t *joinedTable) string {
	return " WHERE " + t.onTarget + "." + t.key + "=? AND EXISTS (SELECT 1 FROM " + j.record + " WHERE run_id=? AND name=? AND row_key=?) AND NOT " + t.shared(t.onTarget)
}

// drop removes a row that this move has brought and that is no longer the tenant's. One
// that others point to by now is theirs.
func (j *joinedTables) drop(ctx context.Context, tx *sql.Tx, t *joinedTable, key string, row *joinedRow) error {
	if !row.other {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+t.onTarget+j.ours(t), t.number([]byte(key)), j.run, t.schema.Name, []byte(key)); err != nil {
			return fmt.Errorf("row %s: %w", t.shown(key), err)
		}
	}
	_, err := tx.ExecContext(ctx, "DELETE FROM "+j.record+" WHERE run_id=? AND name=? AND row_key=?", j.run, t.schema.Name, []byte(key))
	return err
}

// removeAll removes every row that this move has brought and nobody else points to, and
// returns how many.
func (j *joinedTables) removeAll(ctx context.Context) (removed int64, err error) {
	for _, t := range j.tables {
		keys, err := column(ctx, j.target, "SELECT row_key FROM "+j.record+" WHERE run_id=? AND name=?", j.run, t.schema.Name)
		if err != nil {
			return removed, err
		}
		for some := range slices.Chunk(keys, joinedPage) {
			n, err := j.remove(ctx, t, some)
			if err != nil {
				return removed, err
			}
			removed += n
		}
	}
	return removed, nil
}

func (j *joinedTables) remove(ctx context.Context, t *joinedTable, keys []any) (removed int64, err error) {
	args := make([]any, len(keys))
	for i, key := range keys {
		args[i] = t.number(key)
	}
	err = j.onTarget(ctx, func(tx *sql.Tx) error {
		rows, err := j.targetRows(ctx, tx, t, strings.TrimSuffix(strings.Repeat("?,", len(keys)), ","), args)
		if err != nil {
			return err
		}
		for text, row := range rows {
			if err := j.drop(ctx, tx, t, text, row); err != nil {
				return err
			}
			if !row.other {
				removed++
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}

// forget removes the record of an earlier move of the tenant to the same target. It stays
// after the end, so that the move can still be taken back.
func (j *joinedTables) forget(ctx context.Context) error {
	_, err := j.target.ExecContext(ctx, "DELETE FROM "+j.record+" WHERE run_id=?", j.run)
	return err
}

func equal(a, b [][]byte) bool {
	for i := range a {
		if !bytes.Equal(a[i], b[i]) || (a[i] == nil) != (b[i] == nil) {
			return false
		}
	}
	return len(a) == len(b)
}

// isUnique reports whether a column by itself tells a table's rows apart.
func isUnique(table *ghostferry.TableSchema, column string) bool {
	return slices.ContainsFunc(table.Indexes, func(index *schema.Index) bool {
		return index.NoneUnique == 0 && len(index.Columns) == 1 && strings.EqualFold(index.Columns[0], column)
	})
}
