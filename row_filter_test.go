package ghostferry

import (
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/Masterminds/squirrel"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// filteredColumns are columns by which rows can be filtered, with values that are near
// each other under some collation.
var filteredColumns = []struct {
	sqlType string
	values  []any
	mysql   bool // MySQL only
}{
	{"TINYINT", []any{-128, 0, 7, 127, 300, "-1"}, false},
	{"BIGINT UNSIGNED", []any{0, uint64(1 << 63), "18446744073709551615", -1, 9007199254740993}, false},
	{"VARCHAR(12) CHARACTER SET utf8mb4", []any{"a", "A", "á", "a ", "", "ß", "ss", "Ⅷ", "😀", "a\tb", "'", "?"}, false},
	{"CHAR(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin", []any{"a", "A", "á", "", "ß", "?"}, false},
	{"VARCHAR(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin", []any{"a", "A", "a ", ""}, true},
	{"VARCHAR(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_as_cs", []any{"a", "A", "á", "a ", ""}, true},
	{"VARCHAR(12) CHARACTER SET latin1", []any{"a", "A", "á", "a ", "ß", "ss", "ä", "ae"}, false},
	{"VARCHAR(12) CHARACTER SET ucs2", []any{"a", "A", "á", "a ", "ж"}, false},
	{"TEXT CHARACTER SET utf8mb3", []any{"a", "A", "á", "a ", "日本"}, false},
	{"VARCHAR(12) CHARACTER SET sjis", []any{"a", "A", "表", "ソ", "ー"}, false},
	{"BINARY(4)", []any{[]byte{}, []byte{0}, []byte("a"), []byte("a\x00\x00\x00"), "A", "0xff00"}, false},
	{"BINARY(16)", []any{"00112233-4455-6677-8899-aabbccddeeff", []byte{1}, "0x00112233445566778899AABBCCDDEEFF"}, false},
	{"VARBINARY(8)", []any{[]byte{}, []byte("a"), []byte("a "), []byte("a\x00"), "A", []byte{0x5c, 0x27}}, false},
	{"BLOB", []any{"a", []byte("A"), []byte{0xff}}, false},
}

// Whatever the column, the condition in SQL and the condition in Go agree on every row,
// those with NULL included.
func TestRowFilterAgreesWithTheServer(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, running *servers.Server) {
		freshSchema(t, db, "filtered")
		srv, err := server.Detect(t.Context(), db)
		require.NoError(t, err)
		s, err := openSession(t.Context(), db, srv, server.Source)
		require.NoError(t, err)
		defer s.discard()
		tables := map[int]*TableSchema{}
		var places []int
		for i, column := range filteredColumns {
			if column.mysql && running.Flavour != servers.MySQL {
				continue
			}
			tables[i] = makeFiltered(t, db, fmt.Sprintf("t%d", i), column.sqlType, column.values)
			places = append(places, i)
		}
		for _, i := range places { // every value by itself
			for _, v := range filteredColumns[i].values {
				require.Empty(t, disagreement(t.Context(), s, db, tables[i], []any{v}))
			}
		}
		rapid.Check(t, func(rt *rapid.T) {
			i := rapid.SampledFrom(places).Draw(rt, "column")
			values := rapid.SliceOfN(rapid.SampledFrom(filteredColumns[i].values), 1, 3).Draw(rt, "values")
			if problem := disagreement(t.Context(), s, db, tables[i], values); problem != "" {
				rt.Fatal(problem)
			}
		})
	})
}

// makeFiltered makes a table with a row for each pair of values, and NULLs.
func makeFiltered(t *testing.T, db *sql.DB, name, sqlType string, values []any) *TableSchema {
	t.Helper()
	mustExec(t, db, fmt.Sprintf("CREATE TABLE filtered.%s (id INT AUTO_INCREMENT PRIMARY KEY, c %s, n INT)", name, sqlType))
	ctx := t.Context()
	table := loadFiltered(t, db, name)
	l, err := table.layout()
	require.NoError(t, err)
	literals := []string{"NULL"}
	for _, v := range values {
		canonical, err := scopeValue(ctx, &l.columns[1], v, &collationRules{db: db})
		require.NoError(t, err)
		if l.columns[1].Kind == codec.Int && string(canonical) == "300" || l.columns[1].Kind == codec.Uint && canonical[0] == '-' {
			continue // no row can have it
		}
		literals = append(literals, string(l.columns[1].AppendLiteral(nil, canonical)))
	}
	var rows []string
	for _, v := range literals {
		for _, n := range []string{"NULL", "1", "2"} {
			rows = append(rows, "("+v+","+n+")")
		}
	}
	mustExec(t, db, fmt.Sprintf("INSERT INTO filtered.%s (c,n) VALUES %s", name, strings.Join(rows, ",")))
	return table
}

func loadFiltered(t *testing.T, db *sql.DB, name string) *TableSchema {
	t.Helper()
	tables, err := LoadTables(db, &namedTables{schemas: []string{"filtered"}}, nil, nil, nil, nil)
	require.NoError(t, err)
	require.NotNil(t, tables.Get("filtered", name))
	return tables.Get("filtered", name)
}

// disagreement compares the two answers for every row of a table.
func disagreement(ctx context.Context, s *session, db *sql.DB, table *TableSchema, values []any) (problem string) {
	l, err := table.layout()
	if err != nil {
		return err.Error()
	}
	scope, err := newTableScope(ctx, table, l, RowCondition{"c": values, "n": {1}}, &collationRules{db: db})
	if err != nil {
		return err.Error()
	}
	seen := 0
	rows := codec.NewRows(len(l.columns), 64, 1024)
	var inSQL []bool
	err = s.query(ctx, append(s.statement(), "SELECT "+l.selectList+",COALESCE("+scope.predicate+",0) FROM "+QuotedTableName(table)...), func(raw []driver.Value) error {
		for i := range l.columns {
			if err := rows.AddDriver(&l.columns[i], raw[i]); err != nil {
				return err
			}
		}
		inSQL = append(inSQL, holderOf(raw[len(l.columns)]) == ours)
		return nil
	})
	if err != nil {
		return err.Error()
	}
	for i := range inSQL {
		holds, err := scope.holds(ctx, rows, i)
		if err != nil {
			return err.Error()
		}
		if inSQL[i] != holds {
			return fmt.Sprintf("row %q and %s: %t in SQL, %t in Go", rows.Value(i, 1), scope.predicate, inSQL[i], holds)
		}
		if holds {
			seen++
		}
	}
	if seen == 0 && !slices.ContainsFunc(values, func(v any) bool { return v == 300 || v == -1 }) {
		return fmt.Sprintf("no row satisfies %s", scope.predicate)
	}
	return ""
}

// A tenant's key ranges are read by the index that begins with the condition's columns,
// and nothing but its rows; without such an index the table is read in key order.
func TestRowFilterReadsByIndex(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		freshSchema(t, db, "filtered")
		for name, want := range map[string]struct{ definition, index string }{
			"implicit":  {"id INT PRIMARY KEY, c INT, v INT, KEY by_v (v), KEY by_c (c)", "by_c"},
			"explicit":  {"id INT PRIMARY KEY, c INT, v INT, KEY by_c (c), KEY by_c_id (c,id)", "by_c_id"},
			"composite": {"c INT, id INT, v INT, KEY by_c (c), PRIMARY KEY (c,id)", "PRIMARY"},
			"other key": {"c INT, id INT NOT NULL, v INT, UNIQUE KEY k (id), KEY by_c (c,id,v)", "by_c"},
			"none":      {"id INT PRIMARY KEY, c INT, v INT, KEY other (v,c)", "PRIMARY"},
		} {
			t.Run(name, func(t *testing.T) {
				mustExec(t, db, "CREATE TABLE filtered.`"+name+"` ("+want.definition+")",
					"INSERT INTO filtered.`"+name+"` (id,c,v) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<900) SELECT i,MOD(i,90),i FROM n",
					"ANALYZE TABLE filtered.`"+name+"`")
				table := loadFiltered(t, db, name)
				plain, err := table.layout()
				require.NoError(t, err)
				s, err := newTableScope(t.Context(), table, plain, RowCondition{"c": {7}}, nil)
				require.NoError(t, err)
				table.setScope(plain, s)
				require.Equal(t, name == "none", s.slow(table))
				l, err := table.layout()
				require.NoError(t, err)
				low, high := keyTuple{[]byte("97")}, keyTuple{[]byte("800")}
				if name == "composite" {
					low, high = keyTuple{[]byte("7"), []byte("97")}, keyTuple{[]byte("7"), []byte("800")}
				}
				query := "SELECT " + l.selectList + " FROM " + QuotedTableName(table) + l.forceRangeIndex() + " WHERE "
				query = string(l.appendRange([]byte(query), keyRange{low, high})) + " ORDER BY " + l.keyOrder(false) + " LIMIT 100"
				plan := explained(t, db, query)
				require.Equal(t, want.index, plan["key"])
				require.NotContains(t, plan["Extra"], "filesort")
				if name != "none" {
					examined, err := strconv.Atoi(plan["rows"])
					require.NoError(t, err)
					require.LessOrEqual(t, examined, 10, "%s: %v", query, plan)
				}
				if name != "none" { // what gives a move up reads no others either
					plan = explained(t, db, removal("filtered", name, l)+" LIMIT 5000")
					require.NotEmpty(t, plan["key"])
					examined, err := strconv.Atoi(plan["rows"])
					require.NoError(t, err)
					require.LessOrEqual(t, examined, 20, "%v", plan)
				}
				filter := &RowFilter{Where: RowCondition{"c": {7}}}
				builder, err := filter.BuildSelect([]string{"id"}, table, l.paginationKey(table, low), 100)
				require.NoError(t, err)
				if name != "composite" { // where any of the two will do
					require.Equal(t, want.index, explained(t, db, builder)["key"])
				}
			})
		}
	})
}

// explained returns the only row of a query's plan.
func explained(t *testing.T, db *sql.DB, query any) map[string]string {
	t.Helper()
	text, args := fmt.Sprint(query), []any(nil)
	if b, ok := query.(squirrel.SelectBuilder); ok {
		var err error
		text, args, err = b.ToSql()
		require.NoError(t, err)
	}
	rows, err := db.QueryContext(t.Context(), "EXPLAIN FORMAT=TRADITIONAL "+text, args...)
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	require.NoError(t, err)
	require.True(t, rows.Next())
	values, err := ScanByteRow(rows, len(names))
	require.NoError(t, err)
	plan := map[string]string{}
	for i, name := range names {
		plan[name] = string(values[i])
	}
	return plan
}
