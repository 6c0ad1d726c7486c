package ghostferry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// typedValue is a type with a value and another one as near as can be, in SQL.
type typedValue struct{ decl, value, other string }

var typedValues = []typedValue{
	{"TINYINT", "-128", "-127"},
	{"TINYINT UNSIGNED", "255", "254"},
	{"SMALLINT", "-32768", "32767"},
	{"SMALLINT UNSIGNED", "65535", "65534"},
	{"MEDIUMINT", "-8388608", "-8388607"},
	{"MEDIUMINT UNSIGNED", "16777215", "0"},
	{"INT", "1", "-1"},
	{"INT UNSIGNED", "4294967295", "4294967294"},
	{"INT(8) ZEROFILL", "42", "43"},
	{"BIGINT", "-9223372036854775808", "-9223372036854775807"},
	{"BIGINT UNSIGNED", "18446744073709551615", "18446744073709551614"},
	{"DECIMAL(65,30)", "12345678901234567890.000000000000000000000000000001", "12345678901234567890.000000000000000000000000000002"},
	{"DECIMAL(5,0)", "-1", "1"},
	{"FLOAT", "1.1", "1.1000001"},
	{"FLOAT", "16777216", "16777218"},
	{"FLOAT(10,2)", "1.25", "1.26"},
	{"DOUBLE", "0.1", "0.10000000000000002"},
	{"DOUBLE", "1.7976931348623157e308", "1.7976931348623155e308"},
	{"DOUBLE", "5e-324", "1e-323"},
	{"BIT(1)", "1", "0"},
	{"BIT(64)", "9223372036854775809", "9223372036854775808"},
	{"ENUM('a','b','')", "1", "2"},
	{"ENUM('1','2','3')", "'1'", "'2'"},
	{"SET(" + sixtyFourMembers() + ")", "9223372036854775809", "9223372036854775808"},
	{"YEAR", "2155", "1901"},
	{"DATE", "'9999-12-31'", "'9999-12-30'"},
	{"DATE", "'0000-00-00'", "'0001-01-01'"},
	{"DATETIME", "'2024-02-29 23:59:59'", "'2024-02-29 23:59:58'"},
	{"DATETIME(6)", "'1000-01-01 00:00:00.123456'", "'1000-01-01 00:00:00.123457'"},
	{"TIMESTAMP NULL", "'1970-01-01 00:00:01'", "'1970-01-01 00:00:02'"},
	{"TIMESTAMP(6) NULL", "'2037-01-01 00:00:00.000001'", "'2037-01-01 00:00:00.000002'"},
	{"TIME", "'-838:59:59'", "'838:59:59'"},
	{"TIME(3)", "'-00:00:00.001'", "'00:00:00.001'"},
	{"CHAR(10)", "'a'", "'A'"},
	{"CHAR(10) CHARACTER SET latin1", "_latin1 X'e9'", "'e'"},
	{"VARCHAR(10)", "'a'", "'a '"},
	{"VARCHAR(10)", "''", "' '"},
	{"VARCHAR(10)", "'N'", "'NULL'"},
	{"VARCHAR(10) CHARACTER SET utf8mb4", "'😀'", "'😁'"},
	{"VARCHAR(10) CHARACTER SET utf8mb3", "'é'", "'É'"},
	{"VARCHAR(10) CHARACTER SET latin1", "_latin1 X'80'", "_latin1 X'81'"},
	{"VARCHAR(10) CHARACTER SET utf16", "'aé'", "'aè'"},
	{"VARCHAR(10) CHARACTER SET ucs2", "'a'", "'b'"},
	{"VARCHAR(10) CHARACTER SET gbk", "_gbk X'bf5c'", "_gbk X'bf5d'"},
	{"VARCHAR(10) CHARACTER SET sjis", "_sjis X'835c'", "_sjis X'835d'"},
	{"TINYTEXT", "'a'", "'A'"},
	{"TEXT CHARACTER SET latin1", "_latin1 X'e9'", "_latin1 X'e8'"},
	{"MEDIUMTEXT", "'a'", "'a\n'"},
	{"LONGTEXT", "REPEAT('ab', 3000)", "CONCAT(REPEAT('ab', 2999), 'aB')"},
	{"BINARY(4)", "X'00010000'", "X'00010001'"},
	{"VARBINARY(10)", "X'00'", "X'0000'"},
	{"TINYBLOB", "X''", "X'00'"},
	{"BLOB", "X'ff00'", "X'ff01'"},
	{"MEDIUMBLOB", "X'27'", "X'5c'"},
	{"LONGBLOB", "REPEAT(X'00', 9000)", "REPEAT(X'00', 8999)"},
	{"JSON", `'{"a": [1, 2]}'`, `'{"a": [1, 3]}'`},
	{"JSON", `'null'`, `'"null"'`},
	{"POINT", "ST_GeomFromText('POINT(1 2)')", "ST_GeomFromText('POINT(2 1)')"},
	{"GEOMETRY", "ST_GeomFromText('LINESTRING(0 0,1 1)')", "ST_GeomFromText('LINESTRING(0 0,1 1.0000000000000002)')"},
}

// negativeZeros are values that MariaDB cannot store.
var negativeZeros = []typedValue{{"FLOAT", "'-0'", "0"}, {"DOUBLE", "'-0'", "0"}}

func sixtyFourMembers() string {
	members := make([]string, 64)
	for i := range members {
		members[i] = fmt.Sprintf("'m%d'", i)
	}
	return strings.Join(members, ",")
}

// typedTables makes the statements of tables of every type: one table of all, and one
// for each short string, where that is alone with its character set. A row of a table is
// changed in one column on the target, or not at all.
type typedTables struct {
	create         []string // "name (columns)"
	source, target []string // rows: "name VALUES (…)"
	changed        []string // "table id" of the rows that differ
	rows           int
}

func newTypedTables(values []typedValue) *typedTables {
	tables := &typedTables{}
	var decls []string
	for i, v := range values {
		decls = append(decls, fmt.Sprintf("c%d %s", i, v.decl))
		if strings.Contains(v.decl, "CHAR") {
			tables.add(fmt.Sprintf("only_%d", i), []typedValue{v}, []string{"c " + v.decl})
		}
	}
	tables.add("every", values, decls)
	return tables
}

func (x *typedTables) add(name string, columns []typedValue, decls []string) {
	x.create = append(x.create, name+" (id INT PRIMARY KEY, "+strings.Join(decls, ", ")+")")
	id := 0
	row := func(filled bool, changed int, value string) {
		id++
		source := make([]string, len(columns))
		for i, c := range columns {
			source[i] = "NULL"
			if filled {
				source[i] = c.value
			}
		}
		target := append([]string(nil), source...)
		if changed >= 0 {
			target[changed] = value
			x.changed = append(x.changed, fmt.Sprintf("%s.%s %d", verifySource, name, id))
		}
		insert := func(values []string) string {
			return fmt.Sprintf("%s VALUES (%d, %s)", name, id, strings.Join(values, ", "))
		}
		x.source, x.target = append(x.source, insert(source)), append(x.target, insert(target))
		x.rows++
	}
	for i, c := range columns {
		row(true, -1, "")
		row(true, i, c.other)
		row(true, i, "NULL")
		row(false, i, c.value)
		row(false, -1, "")
	}
}

// fill inserts the rows into a schema in few transactions.
func fill(t *testing.T, db *sql.DB, schemaName string, rows []string) {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	for _, row := range rows {
		_, err := tx.Exec("INSERT INTO " + schemaName + "." + row)
		require.NoError(t, err, row)
	}
	require.NoError(t, tx.Commit())
}

func TestOnlineVerifierKnowsEveryType(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, server *servers.Server) {
		values := typedValues
		if server.Flavour == servers.MySQL {
			values = append(negativeZeros, values...)
		}
		tables := newTypedTables(values)
		t.Logf("%d mutations", len(tables.changed))
		verifySides(t, db, tables.create...)
		fill(t, db, verifySource, tables.source)
		fill(t, db, verifyTarget, tables.source)
		v := newTestVerifier(t, db)
		requireEqual(t, v, "equal data")
		require.Equal(t, uint64(tables.rows), v.Stats().RowsCompared)

		for _, table := range v.Tables {
			mustExec(t, db, "DELETE FROM "+verifyTarget+"."+table.Name)
		}
		fill(t, db, verifyTarget, tables.target)
		v = newTestVerifier(t, db)
		result, err := v.VerifyDuringCutoverContext(t.Context())
		require.NoError(t, err)
		require.False(t, result.DataCorrect)
		var found []string
		for _, m := range v.Mismatches() {
			require.Equal(t, MismatchRowChecksumDifference, m.Kind)
			found = append(found, m.Table+" "+m.Key)
		}
		require.ElementsMatch(t, tables.changed, found)
	})
}

// Equal data have equal digests on MySQL and on MariaDB.
func TestOnlineVerifierAcrossFlavours(t *testing.T) {
	tables := newTypedTables(typedValues)
	var sides [2]*sql.DB
	for i, flavour := range []servers.Flavour{servers.MySQL, servers.MariaDB} {
		db, err := testDatabaseConfig(testServer(t, flavour)).SqlDB(nil)
		require.NoError(t, err)
		defer db.Close()
		verifySides(t, db, tables.create...)
		fill(t, db, verifySource, tables.source)
		sides[i] = db
	}
	for i := range sides {
		v := newTestVerifier(t, sides[i])
		v.TargetDB, v.DatabaseRewrites = sides[1-i], nil
		requireEqual(t, v, "other flavour")
	}
}

// Generated columns are compared as others are; ignored ones are not, unless they are
// the key.
func TestOnlineVerifierColumnSelection(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		verifySides(t, db)
		const table = ".t (id INT PRIMARY KEY, a INT, b INT, c INT GENERATED ALWAYS AS (a + %d) VIRTUAL)"
		mustExec(t, db,
			"CREATE TABLE "+verifySource+fmt.Sprintf(table, 1), "CREATE TABLE "+verifyTarget+fmt.Sprintf(table, 2),
			"INSERT INTO "+verifySource+".t (id, a, b) VALUES (1,1,1)", "INSERT INTO "+verifyTarget+".t (id, a, b) VALUES (1,1,2)")
		v := newTestVerifier(t, db)
		v.Tables[0].IgnoredColumnsForVerification = map[string]struct{}{"b": {}, "id": {}}
		requireMismatches(t, v, "generated differently", "t 1: "+string(MismatchRowChecksumDifference))
		v = newTestVerifier(t, db)
		v.Tables[0].IgnoredColumnsForVerification = map[string]struct{}{"b": {}, "c": {}, "id": {}}
		requireEqual(t, v, "ignored")
		mustExec(t, db, "UPDATE "+verifyTarget+".t SET id = 2")
		v = newTestVerifier(t, db)
		v.Tables[0].IgnoredColumnsForVerification = map[string]struct{}{"b": {}, "c": {}, "id": {}}
		requireMismatches(t, v, "another key", "t 1: "+string(MismatchRowMissingOnTarget), "t 2: "+string(MismatchRowMissingOnSource))

		mustExec(t, db, "CREATE TABLE "+verifySource+".u (id INT PRIMARY KEY, a INT NOT NULL, b VARCHAR(5) NOT NULL)",
			"CREATE TABLE "+verifyTarget+".u (id INT PRIMARY KEY, a INT, b VARCHAR(5))", "DROP TABLE "+verifySource+".t",
			"INSERT INTO "+verifySource+".u VALUES (1,0,''),(2,0,''),(3,0,'')", "INSERT INTO "+verifyTarget+".u VALUES (1,NULL,''),(2,0,NULL),(3,0,'')")
		requireMismatches(t, newTestVerifier(t, db), "NULL where the source has none",
			"u 1: "+string(MismatchRowChecksumDifference), "u 2: "+string(MismatchRowChecksumDifference))
	})
}
