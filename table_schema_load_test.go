package ghostferry

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/stretchr/testify/require"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// namedTables selects tables by name in the given schemas; no names means all.
type namedTables struct {
	schemas []string
	tables  []string
	err     error
	offered map[string][]string
}

func (f *namedTables) ApplicableDatabases(names []string) ([]string, error) {
	f.offered = map[string][]string{"": names}
	return f.schemas, nil
}

func (f *namedTables) ApplicableTables(tables []*TableSchema) ([]*TableSchema, error) {
	var selected []*TableSchema
	for _, table := range tables {
		f.offered[table.Schema] = append(f.offered[table.Schema], table.Name)
		if len(f.tables) == 0 {
			selected = append(selected, table)
		}
		for _, name := range f.tables {
			if table.Name == name {
				selected = append(selected, table)
			}
		}
	}
	return selected, f.err
}

func load(db *sql.DB, filter TableFilter, cascading *CascadingPaginationColumnConfig) (TableSchemaCache, error) {
	return LoadTables(db, filter, nil, nil, nil, cascading)
}

func TestLoadTablesDescribesColumns(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		freshSchema(t, db, "load_columns")
		mustExec(t, db, `CREATE TABLE load_columns.t (
			id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
			small SMALLINT NOT NULL,
			price DECIMAL(12,4) UNSIGNED,
			ratio DOUBLE,
			code CHAR(3) CHARACTER SET latin1,
			name VARCHAR(20) COLLATE utf8mb4_bin,
			raw BINARY(16), var VARBINARY(20), body TEXT, flags BIT(7), y YEAR, doc JSON, at_point POINT,
			kind ENUM('a''b','c,d','e)f','','g\h','i\\') NOT NULL,
			tags SET('x','y''z'),
			made DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
			changed TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
			during TIME(2),
			twice INT AS (small * 2) VIRTUAL,
			thrice INT AS (small * 3) STORED,
			hidden INT INVISIBLE,
			med MEDIUMINT UNSIGNED)`,
			"INSERT INTO load_columns.t (small, kind) VALUES (1, 'c,d'), (2, 'a''b')")

		cache, err := load(db, &namedTables{schemas: []string{"load_columns"}}, nil)
		require.NoError(t, err)
		table := cache.Get("load_columns", "t")
		require.NotNil(t, table)
		require.Equal(t, "load_columns.t", table.String())
		require.Len(t, table.columnInfos, len(table.Columns))
		require.Equal(t, "InnoDB", table.engine)
		require.NotZero(t, table.dataLength)

		column := func(name string) (schema.TableColumn, columnInfo) {
			index := table.FindColumn(name)
			require.GreaterOrEqual(t, index, 0, name)
			require.Equal(t, name, table.columnInfos[index].Name)
			return table.Columns[index], table.columnInfos[index]
		}

		for name, columnType := range map[string]int{
			"id": schema.TYPE_NUMBER, "price": schema.TYPE_DECIMAL, "ratio": schema.TYPE_FLOAT, "code": schema.TYPE_STRING,
			"raw": schema.TYPE_BINARY, "var": schema.TYPE_BINARY, "body": schema.TYPE_STRING, "flags": schema.TYPE_BIT, "y": schema.TYPE_NUMBER,
			"at_point": schema.TYPE_POINT, "kind": schema.TYPE_ENUM, "tags": schema.TYPE_SET, "made": schema.TYPE_DATETIME,
			"changed": schema.TYPE_TIMESTAMP, "during": schema.TYPE_TIME, "med": schema.TYPE_MEDIUM_INT,
		} {
			described, _ := column(name)
			require.Equal(t, columnType, described.Type, name)
		}

		id, idInfo := column("id")
		require.True(t, id.IsAuto && id.IsUnsigned)
		require.True(t, idInfo.AutoIncrement && idInfo.Unsigned && !idInfo.Nullable)
		require.Equal(t, []int{table.FindColumn("id"), table.FindColumn("price"), table.FindColumn("med")}, table.UnsignedColumns)

		_, price := column("price")
		require.Equal(t, [2]int{12, 4}, [2]int{price.Precision, price.Scale})
		require.True(t, price.Nullable)
		code, codeInfo := column("code")
		require.Equal(t, uint(3), code.FixedSize)
		require.Equal(t, [2]string{"latin1", "latin1_swedish_ci"}, [2]string{codeInfo.Charset, codeInfo.Collation})
		name, nameInfo := column("name")
		require.Equal(t, "utf8mb4_bin", name.Collation)
		require.Equal(t, [2]uint64{20, 80}, [2]uint64{nameInfo.CharLength, nameInfo.OctetLength})
		raw, _ := column("raw")
		require.Equal(t, uint(16), raw.FixedSize)
		variable, _ := column("var")
		require.Equal(t, [2]uint{0, 20}, [2]uint{variable.FixedSize, variable.MaxSize})

		kind, _ := column("kind")
		require.Equal(t, []string{"a'b", "c,d", "e)f", "", `g\h`, `i\\`}, kind.EnumValues, "%s", kind.RawType)
		tags, _ := column("tags")
		require.Equal(t, []string{"x", "y'z"}, tags.SetValues)

		made, madeInfo := column("made")
		require.False(t, made.IsAutoUpdating)
		require.Equal(t, 3, madeInfo.FractionalDigits)
		changed, _ := column("changed")
		require.True(t, changed.IsAutoUpdating)

		twice, twiceInfo := column("twice")
		require.True(t, twice.IsVirtual && !twice.IsStored && twiceInfo.Generated)
		thrice, thriceInfo := column("thrice")
		require.True(t, thrice.IsStored && !thrice.IsVirtual && thriceInfo.Generated)
		_, hidden := column("hidden")
		require.True(t, hidden.Invisible && !hidden.Generated)

		// Nothing private in the state dump, and it reads back.
		text, err := json.Marshal(table)
		require.NoError(t, err)
		var read TableSchema
		require.NoError(t, json.Unmarshal(text, &read))
		require.Equal(t, table.Columns, read.Columns)
		require.Equal(t, []int{0}, read.keyColumnIndexes())
	})
}

func TestLoadTablesDescribesIndexes(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, server *servers.Server) {
		freshSchema(t, db, "load_indexes")
		invisible := "INVISIBLE"
		if server.Flavour == servers.MariaDB {
			invisible = "IGNORED"
		}
		mustExec(t, db, `CREATE TABLE load_indexes.t (a INT NOT NULL, b INT NOT NULL, c VARCHAR(50) NOT NULL, d INT,
			KEY a_c (a, c), UNIQUE u_prefix (c(5)), UNIQUE u_null (d), UNIQUE u (b, a), KEY gone (d) `+invisible+`, PRIMARY KEY (b, c))`)
		if server.Flavour == servers.MySQL {
			mustExec(t, db, "ALTER TABLE load_indexes.t ADD UNIQUE u_expr ((a + 1))")
		}

		cache, err := load(db, &namedTables{schemas: []string{"load_indexes"}}, nil)
		require.NoError(t, err)
		table := cache.Get("load_indexes", "t")

		byName := map[string]indexInfo{}
		for _, index := range table.indexInfos {
			byName[index.Name] = index
		}
		require.Equal(t, "PRIMARY", table.indexInfos[0].Name)
		require.Equal(t, indexInfo{Name: "PRIMARY", Unique: true, Columns: []int{1, 2}, SubParts: []int{0, 0}, Visible: true}, byName["PRIMARY"])
		require.Equal(t, indexInfo{Name: "u", Unique: true, Columns: []int{1, 0}, SubParts: []int{0, 0}, Visible: true}, byName["u"])
		require.Equal(t, indexInfo{Name: "u_prefix", Unique: true, Columns: []int{2}, SubParts: []int{5}, Visible: true}, byName["u_prefix"])
		require.Equal(t, indexInfo{Name: "u_null", Unique: true, Columns: []int{3}, SubParts: []int{0}, Nullable: true, Visible: true}, byName["u_null"])
		require.Equal(t, indexInfo{Name: "a_c", Columns: []int{0, 2}, SubParts: []int{0, 0}, Visible: true}, byName["a_c"])
		require.False(t, byName["gone"].Visible)
		if server.Flavour == servers.MySQL {
			require.Equal(t, indexInfo{Name: "u_expr", Unique: true, Columns: []int{-1}, SubParts: []int{0}, Nullable: true, HasExpression: true, Visible: true}, byName["u_expr"])
		}

		require.Equal(t, []int{1, 2}, table.PKColumns)
		for _, index := range table.Indexes {
			require.NotEqual(t, "gone", index.Name, "invisible indexes are not listed")
			require.True(t, index.Visible)
			require.Equal(t, !byName[index.Name].Unique, index.NoneUnique == 1, index.Name)
		}
		require.Len(t, table.Indexes, len(table.indexInfos)-1)
		require.Equal(t, []string{"b", "c"}, table.Indexes[0].Columns)
		require.Equal(t, []int{1, 2}, table.keyColumns)
		require.Equal(t, "PRIMARY", table.keyIndexName)
		require.Equal(t, "b", table.PaginationKeyColumn.Name)
	})
}

func TestLoadTablesChoosesTheKey(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		freshSchema(t, db, "load_keys")
		mustExec(t, db,
			"CREATE TABLE load_keys.pk (a INT NOT NULL, id INT NOT NULL PRIMARY KEY, u INT NOT NULL UNIQUE, n INT UNIQUE, p INT NOT NULL)",
			// The server stores the rows of this one by z, which was named first.
			"CREATE TABLE load_keys.promoted (n INT, a INT NOT NULL, b INT NOT NULL, UNIQUE z (b, a), UNIQUE y (a), UNIQUE x (n))",
			"CREATE TABLE load_keys.text_pk (id VARCHAR(20) COLLATE utf8mb4_general_ci PRIMARY KEY)",
			"CREATE TABLE load_keys.decimals (id DECIMAL(5,2), at DATETIME NOT NULL, PRIMARY KEY (at, id))",
			"CREATE TABLE load_keys.float_pk (f FLOAT NOT NULL PRIMARY KEY, n INT UNIQUE, a INT NOT NULL, b INT NOT NULL, UNIQUE u (a), UNIQUE v (b))",
			"CREATE TABLE load_keys.prefix_pk (s VARCHAR(20) NOT NULL, id INT NOT NULL, PRIMARY KEY (s(5)), UNIQUE u (id))",
			// The server stores the rows of this one by the first index.
			"CREATE TABLE load_keys.float_first (f DOUBLE NOT NULL, id INT NOT NULL, UNIQUE a (f), UNIQUE b (id))",
			"CREATE TABLE load_keys.floats (f DOUBLE NOT NULL, g FLOAT NOT NULL, UNIQUE a (g), UNIQUE b (f))")

		keyOf := func(table string, config *CascadingPaginationColumnConfig) (string, []string, error) {
			cache, err := load(db, &namedTables{schemas: []string{"load_keys"}, tables: []string{table}}, config)
			if err != nil {
				return "", nil, err
			}
			loaded := cache.Get("load_keys", table)
			require.Equal(t, loaded.keyColumns[0], loaded.PaginationKeyIndex)
			require.Same(t, &loaded.Columns[loaded.PaginationKeyIndex], loaded.PaginationKeyColumn)
			return loaded.keyIndexName, loaded.keyColumnNames(), nil
		}
		perTable := func(table, column string) *CascadingPaginationColumnConfig {
			return &CascadingPaginationColumnConfig{PerTable: map[string]map[string]string{"load_keys": {table: column}}}
		}

		for _, test := range []struct {
			table   string
			config  *CascadingPaginationColumnConfig
			index   string
			columns []string
		}{
			{"pk", nil, "PRIMARY", []string{"id"}},
			{"pk", &CascadingPaginationColumnConfig{FallbackColumn: "u"}, "PRIMARY", []string{"id"}},
			{"pk", perTable("pk", "u"), "u", []string{"u"}},
			{"promoted", nil, "z", []string{"b", "a"}},
			{"promoted", &CascadingPaginationColumnConfig{FallbackColumn: "a"}, "y", []string{"a"}},
			{"text_pk", nil, "PRIMARY", []string{"id"}},
			{"decimals", nil, "PRIMARY", []string{"at", "id"}},
			{"float_pk", nil, "u", []string{"a"}},
			{"float_pk", &CascadingPaginationColumnConfig{FallbackColumn: "b"}, "v", []string{"b"}},
			{"float_pk", &CascadingPaginationColumnConfig{FallbackColumn: "nope"}, "u", []string{"a"}},
			{"float_pk", perTable("float_pk", "b"), "v", []string{"b"}},
			{"prefix_pk", nil, "u", []string{"id"}},
			{"float_first", nil, "b", []string{"id"}},
		} {
			index, columns, err := keyOf(test.table, test.config)
			require.NoError(t, err, test.table)
			require.Equal(t, test.index, index, test.table)
			require.Equal(t, test.columns, columns, test.table)
		}

		for column, reason := range map[string]string{
			"nope": "does not exist", "n": "not unique and NOT NULL", "p": "not unique and NOT NULL",
		} {
			_, _, err := keyOf("pk", perTable("pk", column))
			var unusable *NoUsableKeyError
			require.ErrorAs(t, err, &unusable)
			require.Equal(t, column, unusable.Column)
			require.ErrorContains(t, err, reason)
		}
		_, _, err := keyOf("pk", perTable("pk", "nope"))
		require.EqualError(t, err, NonExistingPaginationKeyColumnError("load_keys", "pk", "nope").Error())

		var unusable *NoUsableKeyError
		for table, fault := range map[string]struct {
			config *CascadingPaginationColumnConfig
			column string
		}{
			"floats":   {nil, "g"},                                                         // of the first
			"promoted": {&CascadingPaginationColumnConfig{FallbackColumn: "nope"}, "nope"}, // it is meant for this one
			"float_pk": {perTable("float_pk", "f"), "f"},                                   // nothing else is asked for
		} {
			_, _, err := keyOf(table, fault.config)
			require.ErrorAs(t, err, &unusable, table)
			require.Equal(t, fault.column, unusable.Column, table)
		}
	})
}

func TestLoadTablesRefusesAllUnusableTablesTogether(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, server *servers.Server) {
		freshSchema(t, db, "load_refused")
		mustExec(t, db,
			"CREATE TABLE load_refused.none (a INT, UNIQUE (a))",
			"CREATE TABLE load_refused.prefix (b BLOB NOT NULL, PRIMARY KEY (b(10)))",
			"CREATE TABLE load_refused.approximate (a INT NOT NULL, f FLOAT NOT NULL, PRIMARY KEY (a, f))",
			"CREATE TABLE load_refused.not_asked_for (a INT)",
			"CREATE TABLE load_refused.fine (a INT PRIMARY KEY)",
			"CREATE VIEW load_refused.a_view AS SELECT * FROM load_refused.fine")
		selected := []string{"none", "prefix", "approximate", "fine", "a_view", "versioned"}
		if server.Flavour == servers.MariaDB {
			mustExec(t, db, "CREATE TABLE load_refused.versioned (a INT PRIMARY KEY) WITH SYSTEM VERSIONING", "CREATE SEQUENCE load_refused.a_sequence")
		}

		filter := &namedTables{schemas: []string{"load_refused"}, tables: selected}
		cache, err := load(db, filter, nil)
		require.Nil(t, cache)
		require.NotContains(t, filter.offered["load_refused"], "a_view")
		require.NotContains(t, filter.offered["load_refused"], "a_sequence")
		for _, system := range []string{"mysql", "information_schema", "performance_schema", "sys"} {
			require.NotContains(t, filter.offered[""], system)
		}

		var unusable []*NoUsableKeyError
		var unsupported []*UnsupportedTableError
		for _, fault := range err.(interface{ Unwrap() []error }).Unwrap() {
			require.False(t, Retryable(fault))
			switch fault := fault.(type) {
			case *NoUsableKeyError:
				unusable = append(unusable, fault)
			case *UnsupportedTableError:
				unsupported = append(unsupported, fault)
			}
		}
		require.Len(t, unusable, 3)
		require.Equal(t, [3]string{"approximate", "none", "prefix"}, [3]string{unusable[0].Table, unusable[1].Table, unusable[2].Table})
		require.Equal(t, [3]string{"f", "", "b"}, [3]string{unusable[0].Column, unusable[1].Column, unusable[2].Column})
		require.EqualError(t, unusable[1], NonExistingPaginationKeyError("load_refused", "none").Error())
		require.NotContains(t, err.Error(), "not_asked_for")
		if server.Flavour == servers.MariaDB {
			require.Len(t, unsupported, 1)
			require.Equal(t, "versioned", unsupported[0].Table)
		}
	})
}

func TestLoadTablesAndFilters(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		freshSchema(t, db, "load_filter")
		freshSchema(t, db, "LOAD_FILTER")
		freshSchema(t, db, "we`ird.schema")
		mustExec(t, db, "CREATE TABLE load_filter.t (id INT PRIMARY KEY)", "CREATE TABLE LOAD_FILTER.u (id INT PRIMARY KEY)",
			"CREATE TABLE `we``ird.schema`.`ta``b.le` (`i``d` INT PRIMARY KEY, `select` TEXT)")

		var empty *EmptySelectionError
		_, err := load(db, &namedTables{}, nil)
		require.ErrorAs(t, err, &empty)
		require.Empty(t, empty.Databases)
		_, err = load(db, &namedTables{schemas: []string{"load_filter"}, tables: []string{"other"}}, nil)
		require.ErrorAs(t, err, &empty)
		require.Equal(t, []string{"load_filter"}, empty.Databases)

		refusal := errors.New("the filter's own error")
		cache, err := load(db, &namedTables{schemas: []string{"load_filter"}, err: refusal}, nil)
		require.ErrorIs(t, err, refusal)
		require.Nil(t, cache)

		_, err = load(db, &namedTables{schemas: []string{"load_filter", "missing", "missing_too"}}, nil)
		require.ErrorContains(t, err, "schema `missing`, which does not exist")
		require.ErrorContains(t, err, "schema `missing_too`, which does not exist")

		_, err = load(db, inventingFilter{}, nil)
		require.ErrorContains(t, err, "a table that it was not given: load_filter.invented")

		// Names that differ in case only, and names that need quoting.
		cache, err = load(db, &namedTables{schemas: []string{"load_filter", "LOAD_FILTER", "we`ird.schema", "load_filter"}}, nil)
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"load_filter.t", "LOAD_FILTER.u", "we`ird.schema.ta`b.le"}, cache.AllTableNames())
		weird := cache.Get("we`ird.schema", "ta`b.le")
		require.Equal(t, []string{"i`d"}, weird.keyColumnNames())

		keys, none, err := MaxPaginationKeys(db, []*TableSchema{weird}, nil)
		require.NoError(t, err)
		require.Empty(t, keys)
		require.Equal(t, []*TableSchema{weird}, none)

		cache, err = LoadTables(db, &namedTables{schemas: []string{"load_filter"}}, ColumnCompressionConfig{"load_filter": {"t": {"id": "SNAPPY"}}},
			ColumnIgnoreConfig{"load_filter": {"t": {"id": {}}}}, ForceIndexConfig{"load_filter": {"t": "PRIMARY"}}, nil)
		require.NoError(t, err)
		table := cache.Get("load_filter", "t")
		require.Equal(t, map[string]string{"id": "SNAPPY"}, table.CompressedColumnsForVerification)
		require.Contains(t, table.IgnoredColumnsForVerification, "id")
		require.Equal(t, "PRIMARY", table.ForcedIndexForVerification)

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = LoadTablesContext(ended, db, &namedTables{}, nil, nil, nil, nil)
		require.ErrorIs(t, err, context.Canceled)
	})
}

type inventingFilter struct{}

func (inventingFilter) ApplicableDatabases([]string) ([]string, error) {
	return []string{"load_filter"}, nil
}

func (inventingFilter) ApplicableTables([]*TableSchema) ([]*TableSchema, error) {
	return []*TableSchema{{Table: &schema.Table{Schema: "load_filter", Name: "invented"}}}, nil
}

func TestLoadTablesSeesRowsWrittenSinceSomebodyLastAsked(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		freshSchema(t, db, "load_sizes")
		mustExec(t, db, "CREATE TABLE load_sizes.t (id INT PRIMARY KEY, pad CHAR(200))")
		filter := &namedTables{schemas: []string{"load_sizes"}}
		var before int
		require.NoError(t, db.QueryRow("SELECT TABLE_ROWS FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'load_sizes'").Scan(&before))

		mustExec(t, db, "INSERT INTO load_sizes.t VALUES "+strings.TrimSuffix(strings.Repeat("(@n := COALESCE(@n, 0) + 1, 'x'),", 500), ","),
			"ANALYZE TABLE load_sizes.t")
		cache, err := load(db, filter, nil)
		require.NoError(t, err)
		require.Positive(t, cache.Get("load_sizes", "t").approxRows)

		override := &DataIterationBatchSizePerTableOverride{MinRowSize: 1, MaxRowSize: 100000, ControlPoints: map[int]uint64{1: 100000, 100000: 1}}
		require.NoError(t, override.UpdateBatchSizes(db, cache))
		require.LessOrEqual(t, override.TableOverride["load_sizes"]["t"], uint64(MySQLNumParamsLimit/2))
		override.TableOverride["load_sizes"]["t"] = 7
		require.NoError(t, override.UpdateBatchSizes(db, cache))
		require.Equal(t, uint64(7), override.TableOverride["load_sizes"]["t"], "explicit sizes are kept")
	})
}

func TestMaxPaginationKeys(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		freshSchema(t, db, "max_keys")
		mustExec(t, db,
			"CREATE TABLE max_keys.huge (id BIGINT UNSIGNED PRIMARY KEY)", "INSERT INTO max_keys.huge VALUES (0), (18446744073709551615)",
			"CREATE TABLE max_keys.negative (id INT PRIMARY KEY)", "INSERT INTO max_keys.negative VALUES (-7), (-3)",
			"CREATE TABLE max_keys.pair (a INT, b VARCHAR(9) COLLATE utf8mb4_bin, PRIMARY KEY (b, a))", "INSERT INTO max_keys.pair VALUES (1, 'x'), (2, 'x'), (9, 'a')",
			"CREATE TABLE max_keys.none (id INT PRIMARY KEY)")
		cache, err := load(db, &namedTables{schemas: []string{"max_keys"}}, nil)
		require.NoError(t, err)
		table := func(name string) *TableSchema { return cache.Get("max_keys", name) }

		keys, none, err := MaxPaginationKeys(db, cache.AsSlice(), LogWithField("tag", "test"))
		require.NoError(t, err)
		require.Equal(t, map[*TableSchema]PaginationKey{
			table("huge"):     NewUint64KeyWithColumn("id", 18446744073709551615),
			table("negative"): NewInt64KeyWithColumn("id", -3),
			table("pair"):     NewCompositeKey(NewBinaryKeyWithColumn("b", []byte("x")), NewUint64KeyWithColumn("a", 2)),
		}, keys)
		require.Equal(t, []*TableSchema{table("none")}, none)

		key, err := table("pair").keyOfValues(RowData{int64(2), "x"}, []int{1, 0})
		require.NoError(t, err)
		require.Equal(t, 0, keys[table("pair")].Compare(key))
	})
}

// Two tables that read the same in one: neither is lost in silence.
func TestLoadTablesRefusesTablesThatReadTheSame(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		for _, name := range []string{"same", "same.a", "same.a.b"} {
			freshSchema(t, db, name)
		}
		mustExec(t, db, "CREATE TABLE `same`.`a.b.c` (id INT PRIMARY KEY)", "CREATE TABLE `same.a`.`b.c` (id INT PRIMARY KEY)",
			"CREATE TABLE `same.a.b`.`c` (id INT PRIMARY KEY)", "CREATE TABLE `same`.`a.b` (id INT PRIMARY KEY)")

		filter := &namedTables{schemas: []string{"same", "same.a", "same.a.b"}}
		cache, faults, err := loadSelectedTables(t.Context(), db, filter, nil, nil, nil, nil)
		require.NoError(t, err)
		require.Equal(t, []string{"same.a.b"}, cache.AllTableNames())
		var refused []string
		for _, fault := range faults {
			var unsupported *UnsupportedTableError
			require.ErrorAs(t, fault, &unsupported)
			require.ErrorContains(t, fault, "in separate runs")
			refused = append(refused, QuotedTableNameFromString(unsupported.Schema, unsupported.Table))
		}
		require.Equal(t, []string{"`same`.`a.b.c`", "`same.a`.`b.c`", "`same.a.b`.`c`"}, refused)
		for i, other := range []string{"`same.a`.`b.c`", "`same`.`a.b.c`", "`same`.`a.b.c`"} {
			require.ErrorContains(t, faults[i], refused[i])
			require.ErrorContains(t, faults[i], other)
		}

		// One of them alone moves, and a resumed run takes up no other.
		filter = &namedTables{schemas: []string{"same", "same.a"}, tables: []string{"a.b", "b.c"}}
		cache, err = load(db, filter, nil)
		require.NoError(t, err)
		require.ElementsMatch(t, []string{"same.a.b", "same.a.b.c"}, cache.AllTableNames())
		require.Nil(t, cache.Get("same", "a.b.c"), "a namesake")
		require.NotNil(t, cache.Get("same.a", "b.c"))
		live, err := reloadTables(t.Context(), db, cache, &Config{})
		require.NoError(t, err)
		require.Equal(t, "same.a", live["same.a.b.c"].Schema)
		require.Len(t, live, 2)
	})
}

func TestReloadTablesNoticesChanges(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		freshSchema(t, db, "reload")
		mustExec(t, db, "CREATE TABLE reload.t (a INT, b INT, c VARCHAR(10), PRIMARY KEY (a, b))", "CREATE TABLE reload.other (a INT PRIMARY KEY)")
		cache, err := load(db, &namedTables{schemas: []string{"reload"}, tables: []string{"t"}}, nil)
		require.NoError(t, err)
		text, err := json.Marshal(cache)
		require.NoError(t, err)
		var known TableSchemaCache
		require.NoError(t, json.Unmarshal(text, &known))

		live, err := reloadTables(t.Context(), db, known, &Config{})
		require.NoError(t, err)
		require.Equal(t, []string{"reload.t"}, live.AllTableNames())
		require.NotEmpty(t, live["reload.t"].columnInfos)
		require.Equal(t, []int{0, 1}, known["reload.t"].keyColumnIndexes())

		for _, test := range []struct{ change, undo, want string }{
			{"RENAME COLUMN c TO d", "RENAME COLUMN d TO c", "column 3 was `c` and is `d`"},
			{"MODIFY c VARCHAR(11)", "MODIFY c VARCHAR(10)", "column `c` was varchar(10)"},
			{"ADD d INT", "DROP d", "it had 3 columns and has 4"},
			{"DROP PRIMARY KEY, ADD PRIMARY KEY (b, a)", "DROP PRIMARY KEY, ADD PRIMARY KEY (a, b)", "primary key"},
		} {
			mustExec(t, db, "ALTER TABLE reload.t "+test.change)
			_, err := reloadTables(t.Context(), db, known, &Config{})
			var changed *SchemaChangedError
			require.ErrorAs(t, err, &changed, test.change)
			require.ErrorContains(t, err, test.want)
			require.False(t, Resumable(err))
			mustExec(t, db, "ALTER TABLE reload.t "+test.undo)
		}

		mustExec(t, db, "DROP TABLE reload.t")
		_, err = reloadTables(t.Context(), db, known, &Config{})
		require.Error(t, err)
	})
}
