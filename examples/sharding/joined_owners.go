package sharding

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/ghostferry-go/ghostferry"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// pointer is a table on the target whose rows use joined rows: it joins them, or has a foreign
// key to them.
type pointer struct {
	table   string      // quoted, with its schema
	columns [][2]string // quoted: its column, and the joined table's that has the same value
	ours    string      // the condition of rows that are this move's
	self    bool        // it is the joined table itself
}

// findPointers adds the tables that have foreign keys to joined tables on the target. Their rows
// use joined rows, too, whether or not the configuration knows of them. Of a table on which the
// account has no privilege at all the server does not tell.
func (j *joinedTables) findPointers(ctx context.Context, config *Config, moved map[string]*ghostferry.TableSchema) error {
	for _, t := range j.tables {
		byName := map[string]*pointer{}
		var names []string
		err := each(ctx, j.target, "SELECT CONSTRAINT_SCHEMA, CONSTRAINT_NAME, TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, REFERENCED_COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE"+
			" WHERE REFERENCED_TABLE_SCHEMA=? AND REFERENCED_TABLE_NAME=? ORDER BY CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, ORDINAL_POSITION",
			[]any{config.TargetDB, t.schema.Name}, func(row [][]byte) {
				schema, table := string(row[2]), string(row[3])
				name := fmt.Sprintf("%q %q %q", row[0], row[3], row[1])
				p := byName[name]
				if p == nil {
					p = &pointer{table: ghostferry.QuotedTableNameFromString(schema, table), ours: "FALSE"}
					byName[name], names = p, append(names, name)
					if strings.EqualFold(schema, config.TargetDB) {
						p.ours, p.self = j.movesOf(table, moved), strings.EqualFold(table, t.schema.Name)
					}
				}
				p.columns = append(p.columns, [2]string{ghostferry.QuoteField(string(row[4])), ghostferry.QuoteField(string(row[5]))})
			})
		if err != nil {
			return fmt.Errorf("looking for foreign keys to joined table %s on the target: %w", t.onTarget, err)
		}
		for _, name := range names {
			p := byName[name]
			known := func(q pointer) bool { return strings.EqualFold(q.table, p.table) && slices.Equal(q.columns, p.columns) }
			if slices.ContainsFunc(t.pointers, known) {
				continue
			}
			err := each(ctx, j.target, "SELECT 1 FROM "+p.table+" LIMIT 0", nil, func([][]byte) {})
			if err != nil {
				return fmt.Errorf("table %s of the target refers to joined table %s by a foreign key, and its rows have to be read (GRANT SELECT): %w", p.table, t.onTarget, err)
			}
			t.pointers = append(t.pointers, *p)
		}
	}
	return nil
}

// movesOf is the condition of a table's rows on the target that are this move's.
func (j *joinedTables) movesOf(table string, moved map[string]*ghostferry.TableSchema) string {
	for _, t := range j.tables {
		if strings.EqualFold(t.schema.Name, table) {
			return fmt.Sprintf("EXISTS (SELECT 1 FROM %s AS r WHERE r.run_id=_ascii X'%X' AND r.name=_utf8mb4 X'%X' AND r.row_key=CAST(p.%s AS BINARY))", j.record, j.run, t.schema.Name, t.key)
		}
	}
	for name, t := range moved {
		if strings.EqualFold(name, table) {
			if predicate, err := (&ghostferry.RowFilter{}).Predicate(t); err == nil {
				return predicate
			}
		}
	}
	return "FALSE"
}

// siblings are the other moves that bring a joined table from the same source, and whose tenants'
// traffic has not left it. A row that only they and this move share is one row of the source, and
// what it is there is right for all of them: each of them may bring it up to date. It is no longer
// when the traffic of one of them has left, because its application may change the row on the
// target then; until the transaction has ended none can leave.
type siblings struct {
	runs       []any
	predicates map[string][]string // of their rows, by the pointing table
}

// siblings looks for them.
func (j *joinedTables) siblings(ctx context.Context, tx *sql.Tx, t *joinedTable) (*siblings, error) {
	s := &siblings{predicates: map[string][]string{}}
	ids, err := j.ferry.RunsOfSameSource(ctx, tx)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		rows := map[string]string{}
		if err := each(ctx, tx, "SELECT name, predicate FROM "+j.movers+" WHERE run_id=? LOCK IN SHARE MODE", []any{id}, func(row [][]byte) { rows[string(row[0])] = string(row[1]) }); err != nil {
			return nil, err
		}
		if rows[t.origin()] != t.onSource {
			continue
		}
		s.runs = append(s.runs, id)
		for table, predicate := range rows {
			s.predicates[table] = append(s.predicates[table], predicate)
		}
	}
	return s, nil
}

// register tells other moves what this one is, before it brings a row.
func (j *joinedTables) register(ctx context.Context, config *Config, moved map[string]*ghostferry.TableSchema) (err error) {
	rows := map[string]string{}
	for name, table := range moved {
		if rows[ghostferry.QuotedTableNameFromString(config.TargetDB, name)], err = (&ghostferry.RowFilter{}).Predicate(table); err != nil {
			return err
		}
	}
	for _, t := range j.tables {
		rows[t.onTarget], rows[t.origin()] = j.movesOf(t.schema.Name, nil), t.onSource
	}
	for name, predicate := range rows {
		if err := j.tell(ctx, "INSERT INTO "+j.movers+" (run_id, name, predicate) VALUES (?,?,?) ON DUPLICATE KEY UPDATE predicate=?", j.run, name, predicate, predicate); err != nil {
			return err
		}
	}
	return nil
}

// origin is under what name a move tells from which table of the source it brings a joined one.
func (t *joinedTable) origin() string { return "from: " + t.onTarget }

// belongs is the condition that a row of the tenant points to a joined row, on the source. locking
// stands in each subquery: behind the query it locks no rows of the tables in them.
func (t *joinedTable) belongs(alias, locking string) string {
	terms := make([]string, len(t.joins))
	for i, from := range t.joins {
		terms[i] = "EXISTS (SELECT 1 FROM " + from.onSource + " AS p WHERE p." + from.quoted + " = " + alias + "." + t.key + " AND " + from.predicate + locking + ")"
	}
	return "(" + strings.Join(terms, " OR ") + ")"
}

// shared is the condition that a row on the target which is neither this move's nor, unless nil, of
// the siblings uses a joined row. A statement that changes the table cannot look for rows of the
// table itself; who locks the row has looked for these before.
func (t *joinedTable) shared(alias string, with *siblings, changes bool) string {
	var terms []string
	for _, p := range t.pointers {
		if p.self && changes {
			continue
		}
		mine := "COALESCE(" + p.ours + ",FALSE)"
		if with != nil {
			for _, predicate := range with.predicates[p.table] {
				mine += " OR COALESCE(" + predicate + ",FALSE)"
			}
		}
		var equal []string
		for _, columns := range p.columns {
			equal = append(equal, "p."+columns[0]+" = "+alias+"."+columns[1])
		}
		terms = append(terms, "EXISTS (SELECT 1 FROM "+p.table+" AS p WHERE "+strings.Join(equal, " AND ")+" AND NOT ("+mine+"))")
	}
	return "(" + strings.Join(terms, " OR ") + ")"
}

// forget removes the record of an earlier move of the tenant to the same target, which stays after
// the end, so that the move can still be taken back. A run that another process has begun
// meanwhile has a record of its own.
func (j *joinedTables) forget(ctx context.Context, config *Config) error {
	runs := ghostferry.QuotedTableNameFromString(config.CheckpointSchema, "runs")
	for _, of := range []string{j.record, j.movers} {
		err := j.tell(ctx, "DELETE FROM "+of+" WHERE run_id=? AND NOT EXISTS (SELECT 1 FROM "+runs+" AS r WHERE r.run_id=?)", j.run, j.run)
		var refused *mysql.MySQLError
		if errors.As(err, &refused) && refused.Number == noSuchTable {
			return nil // the first run of the schema
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tell executes a statement about the record, again when it collides with one of another move.
func (j *joinedTables) tell(ctx context.Context, statement string, args ...any) error {
	return again(func() error {
		_, err := j.target.ExecContext(ctx, statement, args...)
		return err
	})
}

// again repeats what collides with other work.
func again(do func() error) (err error) {
	for range alignAttempts {
		if err = do(); !collided(err) {
			break
		}
	}
	return err
}

// collided reports whether an error of a server passes when the work is repeated.
func collided(err error) bool {
	var refused *mysql.MySQLError
	return errors.As(err, &refused) && slices.Contains([]uint16{deadlock, lockTimeout, duplicate, changedSince}, refused.Number)
}
