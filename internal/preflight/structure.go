package preflight

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/server"
)

// structure is a table as a server's information_schema describes it.
type structure struct {
	kind    string // BASE TABLE, VIEW, SYSTEM VERSIONED, SEQUENCE
	engine  string
	columns []column
	uniques []index
}

type column struct {
	name       string
	columnType string // canonical, see canonicalType
	charset    string // canonical, empty when the type has none
	collation  string
	nullable   bool
	generated  bool
	// fills: a row that does not mention the column gets a value for it.
	fills bool
}

// index is a unique index, the primary key included.
type index struct {
	name  string
	parts []part
}

// part is one column of an index. prefix is the number of leading characters, 0 for all.
type part struct {
	column string
	prefix int
}

func (s *structure) column(name string) (column, bool) {
	for _, c := range s.columns {
		if strings.EqualFold(c.name, name) { // as the server compares column names
			return c, true
		}
	}
	return column{}, false
}

// inUnique tells whether the column is part of a unique index.
func (s *structure) inUnique(name string) bool {
	for _, u := range s.uniques {
		for _, p := range u.parts {
			if strings.EqualFold(p.column, name) {
				return true
			}
		}
	}
	return false
}

// structures are the tables of some schemas of one server.
type structures struct {
	byName map[string]*structure
	// foldCase: the server does not tell table names apart by case.
	foldCase bool
}

// id is a table name as this server tells it from others. A NUL cannot be part of a name.
func (s structures) id(schema, table string) string {
	id := schema + "\x00" + table
	if s.foldCase {
		id = strings.ToLower(id)
	}
	return id
}

// table returns nil when the server has no such table, or does not show it to the account.
func (s structures) table(schema, table string) *structure { return s.byName[s.id(schema, table)] }

func readStructures(ctx context.Context, q server.Querier, on *server.Server, schemas []string) (structures, error) {
	s := structures{byName: map[string]*structure{}, foldCase: on.LowerCaseTableNames != 0}
	for _, schema := range schemas {
		for _, read := range []func(context.Context, server.Querier, string) error{s.readTables, s.readColumns, s.readUniques} {
			if err := read(ctx, q, schema); err != nil {
				return structures{}, fmt.Errorf("schema %s: %w", schema, err)
			}
		}
	}
	return s, nil
}

func (s structures) readTables(ctx context.Context, q server.Querier, schema string) error {
	rows, err := q.QueryContext(ctx, `SELECT TABLE_NAME, TABLE_TYPE, COALESCE(ENGINE, '')
		FROM information_schema.TABLES WHERE TABLE_SCHEMA = ?`, schema)
	return each(rows, err, func(scan func(...any) error) error {
		var name string
		t := &structure{}
		if err := scan(&name, &t.kind, &t.engine); err != nil {
			return err
		}
		s.byName[s.id(schema, name)] = t
		return nil
	})
}

func (s structures) readColumns(ctx context.Context, q server.Querier, schema string) error {
	rows, err := q.QueryContext(ctx, `SELECT TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, COALESCE(CHARACTER_SET_NAME, ''),
		COALESCE(COLLATION_NAME, ''), IS_NULLABLE, COLUMN_DEFAULT IS NOT NULL, EXTRA
		FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? ORDER BY TABLE_NAME, ORDINAL_POSITION`, schema)
	return each(rows, err, func(scan func(...any) error) error {
		var (
			table, nullable, extra string
			c                      column
			hasDefault             bool
		)
		if err := scan(&table, &c.name, &c.columnType, &c.charset, &c.collation, &nullable, &hasDefault, &extra); err != nil {
			return err
		}
		extra = strings.ToUpper(extra)
		c.columnType = canonicalType(c.columnType)
		c.charset, c.collation = canonicalCharset(c.charset), canonicalCharset(c.collation)
		c.nullable = nullable == "YES"
		// "STORED GENERATED", but not the "DEFAULT_GENERATED" of an expression as default.
		c.generated = strings.Contains(extra, " GENERATED")
		c.fills = hasDefault || c.nullable || c.generated || strings.Contains(extra, "AUTO_INCREMENT")
		if t := s.table(schema, table); t != nil {
			t.columns = append(t.columns, c)
		}
		return nil
	})
}

func (s structures) readUniques(ctx context.Context, q server.Querier, schema string) error {
	// A part without a column is an expression.
	rows, err := q.QueryContext(ctx, `SELECT TABLE_NAME, INDEX_NAME, COALESCE(COLUMN_NAME, '(expression)'), COALESCE(SUB_PART, 0)
		FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND NON_UNIQUE = 0
		ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX`, schema)
	return each(rows, err, func(scan func(...any) error) error {
		var (
			table, name string
			p           part
		)
		if err := scan(&table, &name, &p.column, &p.prefix); err != nil {
			return err
		}
		t := s.table(schema, table)
		if t == nil {
			return nil
		}
		if n := len(t.uniques); n == 0 || t.uniques[n-1].name != name {
			t.uniques = append(t.uniques, index{name: name})
		}
		last := &t.uniques[len(t.uniques)-1]
		last.parts = append(last.parts, p)
		return nil
	})
}

// each calls f for every row and closes rows; err is the query's.
func each(rows *sql.Rows, err error, f func(scan func(...any) error) error) error {
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

var (
	displayWidth = regexp.MustCompile(`^(tinyint|smallint|mediumint|int|bigint|year)\(\d+\)`)
	comment      = regexp.MustCompile(`\s*/\*.*?\*/`)
)

// canonicalType removes from a column type what does not change its values: the display width,
// which MySQL no longer reports, and MariaDB's comment about compression.
func canonicalType(columnType string) string {
	lower := columnType
	if !strings.HasPrefix(columnType, "enum(") && !strings.HasPrefix(columnType, "set(") { // members are data
		lower = comment.ReplaceAllString(strings.ToLower(columnType), "")
	}
	return displayWidth.ReplaceAllString(lower, "$1")
}

// canonicalCharset gives MySQL's new names of 3-byte UTF-8 and its collations the old ones.
func canonicalCharset(name string) string {
	if rest, ok := strings.CutPrefix(name, "utf8mb3"); ok {
		return "utf8" + rest
	}
	return name
}
