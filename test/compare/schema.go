package compare

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
)

// table is what a server says about one of its tables.
type table struct {
	schema, name string
	columns      []column
	indexes      []index
}

type column struct {
	name       string
	dataType   string // "bigint"
	definition string // "bigint unsigned NOT NULL", with the collation
}

type index struct {
	name      string
	unique    bool
	countable bool // a B-tree, so that its entries can be counted
	nullable  bool // has a column that may be NULL
	whole     bool // made of whole columns, not of prefixes or expressions
	columns   []string
}

func (t *table) String() string { return t.schema + "." + t.name }

func (t *table) quoted() string { return quote(t.schema) + "." + quote(t.name) }

func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// countable lists the indexes beside the primary key whose entries can be counted.
func (t *table) countable() []string {
	var names []string
	for _, i := range t.indexes {
		if i.countable && i.name != "PRIMARY" {
			names = append(names, i.name)
		}
	}
	return names
}

// readTables reads the definitions of all base tables of a schema.
func readTables(ctx context.Context, s side, schema string) (map[string]*table, error) {
	tables := map[string]*table{}
	get := func(name string) *table {
		if tables[name] == nil {
			tables[name] = &table{schema: schema, name: name}
		}
		return tables[name]
	}
	err := query(ctx, s.db, `
		SELECT c.TABLE_NAME, c.COLUMN_NAME, LOWER(c.DATA_TYPE),
		       CONCAT_WS(' ', c.COLUMN_TYPE, c.COLLATION_NAME, IF(c.IS_NULLABLE = 'YES', NULL, 'NOT NULL'))
		FROM information_schema.COLUMNS c
		JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME
		WHERE c.TABLE_SCHEMA = ? AND t.TABLE_TYPE = 'BASE TABLE'
		ORDER BY c.TABLE_NAME, c.ORDINAL_POSITION`, schema,
		func(scan func(...any) error) error {
			var name string
			var c column
			if err := scan(&name, &c.name, &c.dataType, &c.definition); err != nil {
				return err
			}
			t := get(name)
			t.columns = append(t.columns, c)
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("reading the columns of schema %s on the %s: %w", schema, s.name, err)
	}
	err = query(ctx, s.db, `
		SELECT TABLE_NAME, INDEX_NAME, NON_UNIQUE = 0, INDEX_TYPE = 'BTREE', NULLABLE = 'YES',
		       COALESCE(COLUMN_NAME, ''), COLUMN_NAME IS NOT NULL AND SUB_PART IS NULL
		FROM information_schema.STATISTICS
		WHERE TABLE_SCHEMA = ?
		ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX`, schema,
		func(scan func(...any) error) error {
			var name, columnName string
			var i index
			if err := scan(&name, &i.name, &i.unique, &i.countable, &i.nullable, &columnName, &i.whole); err != nil {
				return err
			}
			t := get(name)
			if last := len(t.indexes) - 1; last >= 0 && t.indexes[last].name == i.name {
				known := &t.indexes[last]
				known.columns = append(known.columns, columnName)
				known.nullable = known.nullable || i.nullable
				known.whole = known.whole && i.whole
				return nil
			}
			i.columns = []string{columnName}
			t.indexes = append(t.indexes, i)
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("reading the indexes of schema %s on the %s: %w", schema, s.name, err)
	}
	return tables, nil
}

func query(ctx context.Context, db *sql.DB, statement, schema string, each func(scan func(...any) error) error) error {
	rows, err := db.QueryContext(ctx, statement, schema)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// plan is how one table is compared, and how far that has come.
type plan struct {
	source, target *table
	columns        []rendered
	// key are the positions in columns of the columns that identify a row and
	// order both scans.
	key []int
	// unique is false for a table without a usable key: the key is the whole row
	// then, and a row may occur several times.
	unique bool

	sourceRows, targetRows        int64        // as counted
	sourceRead, targetRead, equal atomic.Int64 // as compared
}

// newPlan returns nil if the tables cannot be compared row by row, and says in
// which way the definitions differ, if they do.
func newPlan(source, target *table) (*plan, string) {
	names := func(t *table) (names []string) {
		for _, c := range t.columns {
			names = append(names, c.name)
		}
		return names
	}
	if s, t := names(source), names(target); !slices.Equal(s, t) {
		return nil, fmt.Sprintf("the source has the columns %s, the target %s", strings.Join(s, ", "), strings.Join(t, ", "))
	}
	p := &plan{source: source, target: target}
	for _, c := range source.columns {
		p.columns = append(p.columns, render(c))
	}
	p.chooseKey()
	return p, definitionDifference(source, target)
}

// chooseKey takes the primary key, else the first unique key without NULLs that
// both sides have, else all columns.
func (p *plan) chooseKey() {
	candidates := slices.Clone(p.source.indexes)
	slices.SortStableFunc(candidates, func(a, b index) int {
		return primaryFirst(a) - primaryFirst(b)
	})
	for _, i := range candidates {
		same := func(other index) bool { return other.unique && slices.Equal(other.columns, i.columns) }
		if i.unique && !i.nullable && i.whole && slices.ContainsFunc(p.target.indexes, same) {
			for _, name := range i.columns {
				p.key = append(p.key, slices.IndexFunc(p.columns, func(c rendered) bool { return c.name == name }))
			}
			p.unique = true
			return
		}
	}
	for i := range p.columns {
		p.key = append(p.key, i)
	}
}

func primaryFirst(i index) int {
	if i.name == "PRIMARY" {
		return 0
	}
	return 1
}

func definitionDifference(source, target *table) string {
	var found []string
	for i, c := range source.columns {
		if t := target.columns[i]; c.definition != t.definition {
			found = append(found, fmt.Sprintf("column %s is %s on the source, %s on the target", c.name, c.definition, t.definition))
		}
	}
	describe := func(t *table) string {
		var all []string
		for _, i := range t.indexes {
			all = append(all, fmt.Sprintf("%s(%s) unique=%t", i.name, strings.Join(i.columns, ","), i.unique))
		}
		return strings.Join(all, ", ")
	}
	if s, t := describe(source), describe(target); s != t {
		found = append(found, fmt.Sprintf("the source has the indexes %s, the target %s", s, t))
	}
	return strings.Join(found, "; ")
}
