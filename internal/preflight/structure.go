package preflight

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"regexp"
	"strings"
	"unique"

	"github.com/ghostferry-go/ghostferry/internal/intern"
	"github.com/ghostferry-go/ghostferry/internal/server"
)

// structure is a table as a server's information_schema describes it. Ten thousand tables of both
// servers are held at once: what is equal among them, most columns and names, is held once.
type structure struct {
	kind       string // BASE TABLE, VIEW, SYSTEM VERSIONED, SEQUENCE
	engine     string
	collation  string // the default of columns that are added, as the server calls it
	columns    []unique.Handle[column]
	uniques    []index
	indexes    []index // the others
	partitions string  // how rows are spread over partitions; empty for a table without
	checks     []check // CHECK constraints that are enforced
}

type column struct {
	name       string
	dataType   string // DATA_TYPE in lower case
	columnType string // canonical, see canonicalType
	fullType   string // COLUMN_TYPE as the server tells it
	charset    string // canonical, empty when the type has none
	collation  string // as the server calls it
	nullable   bool
	unsigned   bool
	generated  bool
	stored     bool   // generated, and stored with the row
	expression string // of a generated column
	byDefault  string // the default and ON UPDATE, as the server tells them
	increments bool   // AUTO_INCREMENT
	// fills: a row that does not mention the column gets a value for it.
	fills bool
	// longest is the greatest length of a value in bytes, 0 where the type has no length.
	longest uint64
}

// index is an index; the primary key is one of the unique ones.
type index struct {
	name  string
	kind  string // BTREE, FULLTEXT, SPATIAL, …
	parts []part
}

// part is one column or expression of an index. prefix is the number of leading characters, 0 for
// all. An expression that the server does not tell is "(expression)" by name.
type part struct {
	column     string
	prefix     int
	expression string
	descending bool
}

// same tells whether two parts look at the same values. Expressions are compared by their text.
func (p part) same(o part) bool {
	if p.expression != "" || o.expression != "" {
		return p.expression == o.expression
	}
	return strings.EqualFold(p.column, o.column) && p.column != unknownExpression
}

const unknownExpression = "(expression)"

// allColumns gives the columns in their order.
func (s *structure) allColumns() iter.Seq[column] {
	return func(yield func(column) bool) {
		for _, c := range s.columns {
			if !yield(c.Value()) {
				return
			}
		}
	}
}

func (s *structure) column(name string) (column, bool) {
	for c := range s.allColumns() {
		if strings.EqualFold(c.name, name) { // as the server compares column names
			return c, true
		}
	}
	return column{}, false
}

// sameInAllZones is what expressions ask of a TIMESTAMP whose answer no time zone changes.
var sameInAllZones = regexp.MustCompile("`(?:[^`]|``)+` is (?:not )?null|unix_timestamp\\(`(?:[^`]|``)+`\\)")

// timestampIn names a TIMESTAMP column from which an expression is computed by the session's time zone,
// perhaps by way of virtual columns; empty without.
func (s *structure) timestampIn(expression string) string {
	if expression == "" {
		return ""
	}
	text, followed := strings.ToLower(expression), map[string]bool{}
	for more := true; more; {
		more = false
		for c := range s.allColumns() {
			if c.generated && !c.stored && !followed[c.name] && c.isIn(text) {
				text += " " + strings.ToLower(c.expression)
				followed[c.name], more = true, true
			}
		}
	}
	text = sameInAllZones.ReplaceAllString(text, "")
	for c := range s.allColumns() {
		if c.dataType == "timestamp" && c.isIn(text) {
			return c.name
		}
	}
	return ""
}

// isIn tells whether an expression in lower case mentions the column.
func (c column) isIn(expression string) bool {
	return strings.Contains(expression, "`"+strings.ReplaceAll(strings.ToLower(c.name), "`", "``")+"`")
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
	names  intern.Strings
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
	s := structures{byName: map[string]*structure{}, names: intern.Strings{}, foldCase: on.LowerCaseTableNames != 0}
	for _, schema := range schemas {
		for _, read := range []func(context.Context, server.Querier, *server.Server, string) error{
			s.readTables, s.readColumns, s.readIndexes, s.readPartitions, s.readChecks,
		} {
			if err := read(ctx, q, on, schema); err != nil {
				return structures{}, fmt.Errorf("schema %s: %w", schema, err)
			}
		}
	}
	return s, nil
}

func (s structures) readTables(ctx context.Context, q server.Querier, _ *server.Server, schema string) error {
	rows, err := q.QueryContext(ctx, `SELECT TABLE_NAME, TABLE_TYPE, COALESCE(ENGINE, ''), COALESCE(TABLE_COLLATION, '')
		FROM information_schema.TABLES WHERE TABLE_SCHEMA = ?`, schema)
	return each(rows, err, func(scan func(...any) error) error {
		var name string
		t := &structure{}
		if err := scan(&name, &t.kind, &t.engine, &t.collation); err != nil {
			return err
		}
		t.kind, t.engine, t.collation = s.names.Of(t.kind), s.names.Of(t.engine), s.names.Of(t.collation)
		s.byName[s.id(schema, name)] = t
		return nil
	})
}

func (s structures) readColumns(ctx context.Context, q server.Querier, _ *server.Server, schema string) error {
	rows, err := q.QueryContext(ctx, `SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE, COLUMN_TYPE, COALESCE(CHARACTER_SET_NAME, ''),
		COALESCE(COLLATION_NAME, ''), IS_NULLABLE, COLUMN_DEFAULT, EXTRA, COALESCE(GENERATION_EXPRESSION, ''), COALESCE(CHARACTER_OCTET_LENGTH, 0)
		FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? ORDER BY TABLE_NAME, ORDINAL_POSITION`, schema)
	return each(rows, err, func(scan func(...any) error) error {
		var (
			table, nullable, extra string
			c                      column
			byDefault              sql.NullString
		)
		if err := scan(&table, &c.name, &c.dataType, &c.fullType, &c.charset, &c.collation, &nullable, &byDefault, &extra, &c.expression, &c.longest); err != nil {
			return err
		}
		extra = strings.ToUpper(extra)
		c.dataType = strings.ToLower(c.dataType)
		c.unsigned = strings.Contains(strings.ToLower(c.fullType), "unsigned")
		c.columnType = canonicalType(c.fullType)
		c.charset = canonicalCharset(c.charset)
		c.nullable = nullable == "YES"
		// "STORED GENERATED", but not the "DEFAULT_GENERATED" of an expression as default.
		c.generated = strings.Contains(extra, " GENERATED")
		c.stored = strings.Contains(extra, "STORED GENERATED")
		c.increments = strings.Contains(extra, "AUTO_INCREMENT")
		c.fills = byDefault.Valid || c.nullable || c.generated || c.increments
		if c.byDefault = byDefault.String; c.nullable && c.byDefault == "NULL" {
			c.byDefault = "" // MariaDB names the default that every such column has
		}
		if i := strings.Index(extra, "ON UPDATE"); i >= 0 {
			c.byDefault += " " + extra[i:]
		}
		if t := s.table(schema, table); t != nil {
			t.columns = append(t.columns, unique.Make(c))
		}
		return nil
	})
}

func (s structures) readIndexes(ctx context.Context, q server.Querier, on *server.Server, schema string) error {
	rows, err := q.QueryContext(ctx, `SELECT TABLE_NAME, INDEX_NAME, NON_UNIQUE, INDEX_TYPE, COALESCE(COLUMN_NAME, '`+unknownExpression+`'), COALESCE(SUB_PART, 0), COALESCE(COLLATION, '')='D', `+
		on.IndexExpressionColumn()+`
		FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ?
		ORDER BY TABLE_NAME, NON_UNIQUE, INDEX_NAME, SEQ_IN_INDEX`, schema)
	return each(rows, err, func(scan func(...any) error) error {
		var (
			table     string
			i         index
			p         part
			nonUnique bool
		)
		if err := scan(&table, &i.name, &nonUnique, &i.kind, &p.column, &p.prefix, &p.descending, &p.expression); err != nil {
			return err
		}
		t := s.table(schema, table)
		if t == nil {
			return nil
		}
		i.name, i.kind, p.column = s.names.Of(i.name), s.names.Of(i.kind), s.names.Of(p.column)
		list := &t.uniques
		if nonUnique {
			list = &t.indexes
		}
		if n := len(*list); n == 0 || (*list)[n-1].name != i.name {
			*list = append(*list, i)
		}
		last := &(*list)[len(*list)-1]
		if i.kind == "SPATIAL" {
			p.prefix = 0 // an artefact
		}
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
	if lower == "geomcollection" { // MySQL's newer name
		lower = "geometrycollection"
	}
	return displayWidth.ReplaceAllString(lower, "$1")
}

// canonicalCollation is canonicalCharset for the name of a collation, and gives MySQL's collation
// of 4-byte UTF-8 that compares code points without padding the name that MariaDB has for it.
func canonicalCollation(name string) string {
	if name == "utf8mb4_0900_bin" {
		return "utf8mb4_nopad_bin"
	}
	return canonicalCharset(name)
}

// canonicalCharset gives MySQL's new names of 3-byte UTF-8 and its collations the old ones.
func canonicalCharset(name string) string {
	if rest, ok := strings.CutPrefix(name, "utf8mb3"); ok {
		return "utf8" + rest
	}
	return name
}
