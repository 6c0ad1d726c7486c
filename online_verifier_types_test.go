package ghostferry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
	"github.com/ghostferry-go/ghostferry/test/typed"
)

// typedTables makes the statements of tables of every type: one table of all, and one
// for each short string, where no other string but a TEXT is beside its character set. A row of a table is
// changed in one column on the target, or not at all.
type typedTables struct {
	create         []string // "name (columns)"
	source, target []string // rows: "name VALUES (…)"
	changed        []string // "table id" of the rows that differ
	rows           int
}

func newTypedTables(values []typed.Value) *typedTables {
	tables := &typedTables{}
	var decls []string
	for i, v := range values {
		decls = append(decls, fmt.Sprintf("c%d %s", i, v.Decl))
		if strings.Contains(v.Decl, "CHAR") {
			tables.add(fmt.Sprintf("only_%d", i), []typed.Value{v, {Decl: "TEXT", Value: "'a'", Other: "'A'"}}, []string{"c " + v.Decl, "t TEXT"})
		}
	}
	tables.add("every", values, decls)
	return tables
}

func (x *typedTables) add(name string, columns []typed.Value, decls []string) {
	x.create = append(x.create, name+" (id INT PRIMARY KEY, "+strings.Join(decls, ", ")+")")
	id := 0
	row := func(filled bool, changed int, value string) {
		id++
		source := make([]string, len(columns))
		for i, c := range columns {
			source[i] = "NULL"
			if filled {
				source[i] = c.Value
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
		row(true, i, c.Other)
		row(true, i, "NULL")
		row(false, i, c.Value)
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
		values := typed.Values
		if server.Flavour == servers.MySQL {
			values = append(typed.NegativeZeros, values...)
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
	tables := newTypedTables(typed.Values)
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

// A -0 that MariaDB has made a 0 is found, from either side.
func TestOnlineVerifierFindsNegativeZerosAcrossFlavours(t *testing.T) {
	var sides [2]*sql.DB
	for i, flavour := range []servers.Flavour{servers.MySQL, servers.MariaDB} {
		db, err := testDatabaseConfig(testServer(t, flavour)).SqlDB(nil)
		require.NoError(t, err)
		defer db.Close()
		verifySides(t, db, "zeros (id INT PRIMARY KEY, f FLOAT, d DOUBLE)")
		fill(t, db, verifySource, []string{"zeros VALUES (1,'-0',0)", "zeros VALUES (2,0,'-0')", "zeros VALUES (3,0,0)", "zeros VALUES (4,'-0','-0')", "zeros VALUES (5,NULL,-1)"})
		sides[i] = db
	}
	for i := range sides {
		v := newTestVerifier(t, sides[i])
		v.TargetDB, v.DatabaseRewrites = sides[1-i], nil
		requireMismatches(t, v, "other flavour", "zeros 1: "+string(MismatchRowChecksumDifference), "zeros 2: "+string(MismatchRowChecksumDifference), "zeros 4: "+string(MismatchRowChecksumDifference))
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
