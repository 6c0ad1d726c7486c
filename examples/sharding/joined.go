package sharding

import (
	"context"
	sqlorig "database/sql"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-mysql-org/go-mysql/schema"

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
	lockTimeout, deadlock, duplicate, noSuchTable = 1205, 1213, 1062, 1146
	changedSince                                  = 1020 // MariaDB with innodb_snapshot_isolation
)

// errTogether says that the rows have to be looked at with what other moves have brought.
var errTogether = errors.New("another move has brought the row, too")

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
// tenant on the target, or of any other table there by a foreign key, point to: where such a
// row differs the move ends with a *[ghostferry.TargetConflictError]. Other moves of the same
// source whose tenants' traffic has not left it are no others in this: what they share is one row of
// the source, which counts for all of them (see siblings).
type joinedTables struct {
	// immutable after begin
	ferry          *ghostferry.Ferry
	source, target *sql.DB
	tables         []*joinedTable
	record         string // quoted table of the rows brought
	movers         string // quoted table of what the moves are that bring them
	run            string
	// locking is what makes a read of the source wait for transactions that are in the log and
	// not visible yet: set for finish, when nobody reads behind it any more, and before where nothing
	// but locks could tell.
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
	pointers []pointer // on the target, the joins and others
}

// joinedFrom is a table of the tenant's that points to a joined table.
type joinedFrom struct {
	table     *ghostferry.TableSchema
	column    int
	tenant    int // the sharding key's column; below zero: not known
	onSource  string
	quoted    string // the column
	predicate string // the tenant's rows of it
}

// readsAsUTF8 tells of a column's values, as the log has them, whether they can be given to a server
// as text of a connection or as numbers and bytes.
func readsAsUTF8(collation string) bool {
	return collation == "" || collation == "binary" || strings.HasPrefix(collation, "utf8") || strings.HasPrefix(collation, "ascii")
}

// newJoinedTables takes the joined tables out of what the library copies; its stream still
// tells of them.
func newJoinedTables(config *Config, ferry *ghostferry.Ferry) (*joinedTables, error) {
	j := &joinedTables{ferry: ferry, source: ferry.SourceDB, target: ferry.TargetDB, run: ferry.CheckpointRunID()}
	j.record = ghostferry.QuotedTableNameFromString(config.CheckpointSchema, "joined_rows")
	j.movers = ghostferry.QuotedTableNameFromString(config.CheckpointSchema, "joined_movers")
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
		if collation := table.GetPaginationColumn().Collation; !readsAsUTF8(collation) {
			return nil, fmt.Errorf("joined table %s.%s: its key %s is text with collation %s, and joined tables may have keys of numbers, bytes, or text in utf8mb4, utf8mb3 or ascii: leave it out and copy it by itself", config.SourceDB, name, table.GetPaginationColumn().Name, collation)
		}
		for i := range table.Columns {
			c := &table.Columns[i]
			if c.Type == schema.TYPE_JSON && !c.IsVirtual && !c.IsStored {
				return nil, fmt.Errorf("joined table %s.%s: its column %s is JSON, of which joined rows would carry the text without the types of its values (DECIMAL, dates): leave the table out and copy it by itself", config.SourceDB, name, c.Name)
			}
			if !c.IsVirtual && !c.IsStored {
				t.columns, t.ordinals = append(t.columns, ghostferry.QuoteField(c.Name)), append(t.ordinals, i)
			}
		}
		for _, join := range joins {
			from := ferry.Tables.Get(config.SourceDB, join.TableName)
			if from == nil || from.FindColumn(join.JoinColumn) < 0 {
				return nil, fmt.Errorf("table %s.%s with column %s, which joins %s, does not move: it needs the sharding key %s, and must not be left out", config.SourceDB, join.TableName, join.JoinColumn, name, config.ShardingKey)
			}
			if collation := from.Columns[from.FindColumn(join.JoinColumn)].Collation; !readsAsUTF8(collation) {
				return nil, fmt.Errorf("column %s of table %s.%s, which joins %s, is text with collation %s: what the log has of it is not text in utf8mb4, utf8mb3 or ascii: leave %s out and copy it by itself", join.JoinColumn, config.SourceDB, join.TableName, name, collation, name)
			}
			predicate, err := (&ghostferry.RowFilter{}).Predicate(from)
			if err != nil {
				return nil, err
			}
			quoted := ghostferry.QuoteField(join.JoinColumn)
			t.joins = append(t.joins, joinedFrom{
				table: from, column: from.FindColumn(join.JoinColumn), tenant: from.FindColumn(config.ShardingKey), quoted: quoted, predicate: predicate,
				onSource: ghostferry.QuotedTableName(from),
			})
			t.pointers = append(t.pointers, pointer{
				table: ghostferry.QuotedTableNameFromString(config.TargetDB, join.TableName), columns: [][2]string{{quoted, t.key}}, ours: predicate,
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

// pointed notes the keys to which rows of the tenant point by a change, or did before it; it is
// a listener of the stream. A row that stays the tenant's and points to the same says nothing.
func (j *joinedTables) pointed(events []ghostferry.DMLEvent) error {
	for _, t := range j.tables {
		for _, from := range t.joins {
			for _, event := range events {
				if event.TableSchema() == from.table && !from.pointsAsBefore(event) {
					j.note(t, event, from.column)
				}
			}
		}
	}
	return nil
}

func (f *joinedFrom) pointsAsBefore(event ghostferry.DMLEvent) bool {
	old, row := event.OldValues(), event.NewValues()
	if old == nil || row == nil || f.tenant < 0 {
		return false
	}
	same := func(column int) bool { return fmt.Sprint(old[column]) == fmt.Sprint(row[column]) }
	return same(f.column) && same(f.tenant)
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
			" row_key VARBINARY(500) NOT NULL, PRIMARY KEY (run_id, name, row_key), KEY by_row (name, row_key)) ENGINE=InnoDB",
		"CREATE TABLE IF NOT EXISTS " + j.movers + " (run_id VARCHAR(191) CHARACTER SET ascii COLLATE ascii_bin NOT NULL, name VARCHAR(300) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL," +
			" predicate LONGBLOB NOT NULL, PRIMARY KEY (run_id, name)) ENGINE=InnoDB",
	} {
		if _, err := j.target.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("preparing the record of joined rows: %w", err)
		}
	}
	return nil
}

// copyAll looks at every joined row of the tenant, and at those that were brought before. What the log
// had before the stream's start, or before an earlier process ended, names no keys to this one: it has to
// be visible first.
func (j *joinedTables) copyAll(ctx context.Context) error {
	visible, err := j.ferry.WaitUntilReadsCatchUp(ctx)
	if err == nil && !visible {
		err = j.waitForPointers(ctx)
	}
	if err != nil {
		return err
	}
	for _, t := range j.tables {
		if err := j.copyTable(ctx, t); err != nil {
			return fmt.Errorf("joined table %s: %w", t.schema, err)
		}
	}
	return nil
}

// waitForPointers returns when every read sees the tenant's rows that point to joined ones as the log had
// them, and has the joined rows themselves read with locks. It keeps none: under READ COMMITTED a row that
// the condition refuses is unlocked at once.
func (j *joinedTables) waitForPointers(ctx context.Context) (err error) {
	if j.locking, err = sharedLock(ctx, j.source); err != nil {
		return err
	}
	for _, t := range j.tables {
		for _, from := range t.joins {
			// The column, and not 1: read in an index without it, a row does not wait for a change of it.
			query := "SELECT " + from.quoted + " FROM " + from.onSource + " WHERE " + from.predicate + " AND RAND() < 0" + j.locking
			err := again(func() error {
				tx, err := j.source.BeginTx(ctx, &sqlorig.TxOptions{Isolation: sqlorig.LevelReadCommitted})
				if err != nil {
					return err
				}
				defer func() { _ = tx.Rollback() }()
				return each(ctx, tx, query, nil, func([][]byte) {})
			})
			if err != nil {
				return fmt.Errorf("waiting for rows of %s that are being committed: %w", from.onSource, err)
			}
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
	var met *ghostferry.TargetConflictError
	for range alignAttempts {
		before := met
		err = j.align(ctx, t, args)
		if errors.As(err, &met) && before == nil { // another move may just have recorded its row
			continue
		}
		if !errors.Is(err, errLookAgain) && !collided(err) {
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

// catchUp looks at the keys that have changed, again and again while the source is written,
// until few are left: finish, for which the writers wait, then has these and what changes until
// the lock. Where only locks tell whether a change is visible yet all are left to it: changes of
// the log are looked at here only when any read would see them.
func (j *joinedTables) catchUp(ctx context.Context) error {
	for before := math.MaxInt; ; {
		changed, n := j.takeChanged()
		visible, err := j.ferry.WaitUntilReadsCatchUp(ctx)
		if err != nil {
			return err
		}
		if !visible {
			for t, noted := range changed {
				for _, key := range noted {
					j.noteKey(t, key)
				}
			}
			return nil
		}
		if err := j.alignChanged(ctx, changed); err != nil {
			return err
		}
		if n <= joinedPage || n > before/2 {
			return nil
		}
		before = n
	}
}

// finish looks at the keys that are left, when nothing changes any more, until the two sides
// agree on all of them.
func (j *joinedTables) finish(ctx context.Context) error {
	var err error
	if j.locking, err = sharedLock(ctx, j.source); err != nil {
		return err
	}
	for {
		changed, n := j.takeChanged()
		if n == 0 {
			return nil
		}
		if err := j.alignChanged(ctx, changed); err != nil {
			return err
		}
	}
}

// changedTables are the joined tables of which changes were noted, of rows that are the tenant's or were
// brought for it: those of others concern nobody here.
func (j *joinedTables) changedTables(ctx context.Context) (names []string, err error) {
	if j.locking, err = sharedLock(ctx, j.source); err != nil {
		return nil, err
	}
	changed, _ := j.takeChanged()
	for t, noted := range changed {
		for keys := range slices.Chunk(slices.Collect(maps.Values(noted)), joinedPage) {
			concerned, err := j.concerned(ctx, t, keys)
			if err != nil {
				return nil, fmt.Errorf("joined table %s: %w", t.schema, err)
			}
			if concerned {
				names = append(names, t.schema.String())
				break
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// concerned reports whether a row with one of the keys is the tenant's, or was brought by this move.
func (j *joinedTables) concerned(ctx context.Context, t *joinedTable, keys []any) (bool, error) {
	args := make([]any, 0, len(keys)+2)
	for _, key := range keys {
		args = append(args, t.number(key))
	}
	marks := placeholders(len(args))
	wanted, err := j.sourceRows(ctx, t, marks, args)
	if err != nil || len(wanted) > 0 {
		return err == nil, err
	}
	brought, err := column(ctx, j.target, "SELECT 1 FROM "+t.onTarget+" AS j WHERE j."+t.key+" IN ("+marks+") AND EXISTS (SELECT 1 FROM "+j.record+
		" WHERE name=? AND row_key=CAST(j."+t.key+" AS BINARY) AND run_id=?) LIMIT 1", append(args, t.schema.Name, j.run)...)
	return len(brought) > 0, err
}

func (j *joinedTables) takeChanged() (changed map[*joinedTable]map[string]any, n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	changed, j.mu.changed = j.mu.changed, map[*joinedTable]map[string]any{}
	for _, noted := range changed {
		n += len(noted)
	}
	return changed, n
}

func (j *joinedTables) alignChanged(ctx context.Context, changed map[*joinedTable]map[string]any) error {
	for t, noted := range changed {
		if err := j.alignAll(ctx, t, slices.Collect(maps.Values(noted))); err != nil {
			return fmt.Errorf("joined table %s: %w", t.schema, err)
		}
	}
	return nil
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
