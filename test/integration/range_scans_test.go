package integration

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

const scanned = "scanned"

// scannedTable is a table whose key is read in ranges.
type scannedTable struct{ name, columns, rows string }

// scannedTables have keys of every kind that is ordered in its own way, and rows for
// several chunks.
var scannedTables = []scannedTable{
	{"numbers", "id BIGINT PRIMARY KEY, v INT", numbers(60, "id,v", "i-30,i")},
	{"sparse", "id BIGINT UNSIGNED PRIMARY KEY, v INT", "INSERT INTO %s VALUES (1,1),(2,2),(3,3),(1000000000000000000,4),(18446744073709551614,5)"},
	{"pairs", "a INT, b BIGINT UNSIGNED, v INT, PRIMARY KEY (a,b)", numbers(60, "a,b,v", "i DIV 25,i,i")},
	{"mixed", "a INT, b VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci, c DATE, v INT, PRIMARY KEY (a,b,c)",
		numbers(60, "a,b,c,v", "i DIV 25,CONCAT('Key ',i MOD 5),DATE_ADD('2020-01-01', INTERVAL i DAY),i")},
	{"words", "w VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY, v INT", numbers(60, "w,v", "CONCAT(CHAR(65+MOD(i,26)),'é ',i),i")},
	{"bytes", "b VARBINARY(20) PRIMARY KEY, v INT", numbers(60, "b,v", "UNHEX(LEFT(SHA2(i,256),40)),i")},
	{"decimals", "d DECIMAL(30,10) PRIMARY KEY, v INT", numbers(60, "d,v", "(i-30)/7,i")},
	{"moments", "m DATETIME(6) PRIMARY KEY, v INT", numbers(60, "m,v", "DATE_ADD('2020-01-01', INTERVAL i*7 MINUTE),i")},
	{"second", "code INT NOT NULL, v INT NOT NULL, UNIQUE KEY by_code (code)", numbers(60, "code,v", "i*3,i")},
	{"chars", "c CHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci PRIMARY KEY, v INT", numbers(60, "c,v", "CONCAT(CHAR(65+MOD(i,26)),' é',i),i")},
}

// scannedOnMariaDB are of types that MariaDB alone has.
var scannedOnMariaDB = []scannedTable{
	{"uuids", "u UUID PRIMARY KEY, v INT", numbers(60, "u,v", "INSERT(INSERT(MD5(i),13,1,'4'),17,1,'8'),i")},
	{"addresses", "a INET6 PRIMARY KEY, v INT", numbers(60, "a,v", "CONCAT('2001:db8::',HEX(i*i)),i")},
}

// Every statement of a copy and of a verification that reads a range or list of keys does
// so by the index of the key, on both servers; and keys that lie far apart cost no more
// statements than others.
func TestReadsAreRangeScans(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		var ddl []string
		tables := scannedTables
		if p.IsMariaDB() {
			tables = slices.Concat(tables, scannedOnMariaDB)
		}
		for _, table := range tables {
			ddl = append(ddl, "CREATE TABLE "+table.name+" ("+table.columns+")")
		}
		p.Create(t, scanned, ddl...)
		for _, table := range tables {
			p.In(t, p.SourceDB, scanned, fmt.Sprintf(table.rows, table.name))
		}
		logged := logStatements(t, p.SourceDB, p.TargetDB)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		config := p.Config(scanned)
		config.UpdatableConfig.DataIterationBatchSize, config.VerifierType = 10, ghostferry.VerifierTypeOnline
		f := &ghostferry.Ferry{Config: config}
		require.NoError(t, harness.Move(ctx, f, func() error { return nil }))
		require.NoError(t, f.Close())
		statements := [][]string{logged(p.SourceDB), logged(p.TargetDB)}
		p.MustEqual(t, scanned)
		explain := "EXPLAIN FORMAT=TRADITIONAL "
		if p.IsMariaDB() {
			explain = "EXPLAIN "
		}
		for i, db := range []*sql.DB{p.SourceDB, p.TargetDB} {
			for _, table := range tables {
				reads := readsOf(statements[i], table.name)
				require.NotEmpty(t, reads, "no range of %s was read on server %d", table.name, i)
				for _, read := range reads {
					mustScanRanges(t, db, explain+read)
				}
				if table.name == "sparse" {
					require.LessOrEqual(t, len(reads), 10, "%s", strings.Join(reads, "\n"))
				}
			}
		}
	})
}

// logStatements begins to log the statements of servers; what it returns ends that for a
// server, and returns the mover's.
func logStatements(t *testing.T, dbs ...*sql.DB) func(db *sql.DB) []string {
	t.Helper()
	for _, db := range dbs {
		harness.Exec(t, db, "SET GLOBAL log_output='TABLE';\nTRUNCATE mysql.general_log;\nSET GLOBAL general_log=ON")
		t.Cleanup(func() { harness.Exec(t, db, "SET GLOBAL general_log=OFF;\nSET GLOBAL log_output='FILE'") })
	}
	return func(db *sql.DB) []string {
		harness.Exec(t, db, "SET GLOBAL general_log=OFF")
		rows, err := db.QueryContext(t.Context(), "SELECT argument FROM mysql.general_log WHERE command_type IN ('Query','Execute')")
		require.NoError(t, err)
		defer func() { _ = rows.Close() }()
		var statements []string
		for rows.Next() {
			var statement string
			require.NoError(t, rows.Scan(&statement))
			statements = append(statements, statement)
		}
		require.NoError(t, rows.Err())
		return statements
	}
}

// readsOf returns the statements that read rows of a table by their keys. Those without a
// condition look for the first or last key.
func readsOf(statements []string, table string) (reads []string) {
	for _, statement := range statements {
		from := strings.Index(statement, "FROM `"+scanned+"`.`"+table+"`")
		if from >= 0 && strings.Contains(statement[from:], " WHERE ") && strings.Contains(statement[:from], "SELECT ") && !strings.Contains(statement, "INSERT") &&
			!strings.Contains(statement[from:], " WHERE TRUE") {
			reads = append(reads, statement)
		}
	}
	return reads
}

// mustScanRanges looks at the plan of an EXPLAIN.
func mustScanRanges(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), statement)
	require.NoError(t, err, statement)
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	require.NoError(t, err)
	at := func(name string) int { return slices.Index(columns, name) }
	for rows.Next() {
		cells, plan := make([]any, len(columns)), make([]sql.NullString, len(columns))
		for i := range cells {
			cells[i] = &plan[i]
		}
		require.NoError(t, rows.Scan(cells...))
		if strings.HasPrefix(plan[at("table")].String, "<") {
			continue // what a subquery has read
		}
		switch plan[at("type")].String {
		case "range", "const", "eq_ref", "ref", "": // "": no row can match
		default:
			t.Errorf("%v\nis how this is read: %s", plan, statement)
		}
	}
	require.NoError(t, rows.Err())
}
