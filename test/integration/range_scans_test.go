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
	{"tagged", "id INT NOT NULL, s SET('p','q','r') NOT NULL, n INT NOT NULL, v INT, PRIMARY KEY (id,s,n)", numbers(60, "id,s,n,v", "i DIV 10,i MOD 8,i,i")},
	{"bits", "b BIT(13) PRIMARY KEY, v INT", numbers(60, "b,v", "i*i,i")},
	{"wide_bits", "b BIT(64) PRIMARY KEY, v INT", numbers(60, "b,v", "18446744073709551615-i*i,i")},
	{"days", "d DATE PRIMARY KEY, v INT", numbers(60, "d,v", "DATE_ADD('1969-12-01', INTERVAL i DAY),i")},
	{"times", "t TIME(3) PRIMARY KEY, v INT", numbers(60, "t,v", "SEC_TO_TIME((i-30)*1000.125),i")},
	{"stamps", "m TIMESTAMP(3) PRIMARY KEY, v INT", numbers(60, "m,v", "FROM_UNIXTIME(1600000000.5+i*1000),i")},
	{"years", "y YEAR PRIMARY KEY, v INT", numbers(60, "y,v", "1950+i,i")},
	{"digests", "b BINARY(16) PRIMARY KEY, v INT", numbers(60, "b,v", "UNHEX(LEFT(SHA2(i,256),32)),i")},
	{"latin1_words", "w VARCHAR(40) CHARACTER SET latin1 COLLATE latin1_swedish_ci PRIMARY KEY, v INT", numbers(60, "w,v", odd("é"))},
	{"gbk_words", "w VARCHAR(40) CHARACTER SET gbk COLLATE gbk_chinese_ci PRIMARY KEY, v INT", numbers(60, "w,v", odd("中"))},
	{"utf16_words", "w VARCHAR(40) CHARACTER SET utf16 COLLATE utf16_general_ci PRIMARY KEY, v INT", numbers(60, "w,v", odd("é"))},
	{"bin_words", "w VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY, v INT", numbers(60, "w,v", odd("é"))},
	{"latin1_bin_words", "w VARCHAR(40) CHARACTER SET latin1 COLLATE latin1_bin PRIMARY KEY, v INT", numbers(60, "w,v", odd("é"))},
}

// countedTables have a key that begins with an ENUM or SET. MySQL may rather read such an
// index from its beginning when that seems shorter, so the rows that are read are counted.
var countedTables = []scannedTable{
	{"kinds", "k ENUM('new','paid','sent','back','gone','kept','lost','void') NOT NULL, id INT NOT NULL, v INT, PRIMARY KEY (k,id)", numbers(countedRows, "k,id,v", "1+i MOD 8,i,i")},
	{"last_kind", "k ENUM('new','paid') NOT NULL, id INT NOT NULL, v INT, PRIMARY KEY (k,id)", numbers(countedRows, "k,id,v", "2,i,i")},
	{"flags", "s SET('a','b','c') NOT NULL, id INT NOT NULL, v INT, PRIMARY KEY (s,id)", numbers(countedRows, "s,id,v", "i MOD 8,i,i")},
}

// countedRows are at most what a recursion makes without being asked to.
const countedRows = 1000

// scannedOnMySQL have collations that MySQL alone has.
var scannedOnMySQL = []scannedTable{
	{"words_0900_ai", "w VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci PRIMARY KEY, v INT", numbers(60, "w,v", odd("é"))},
	{"words_0900_as", "w VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_as_cs PRIMARY KEY, v INT", numbers(60, "w,v", odd("é"))},
	{"words_0900_bin", "w VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin PRIMARY KEY, v INT", numbers(60, "w,v", odd("é"))},
}

// scannedOnMariaDB are of types, or under collations, that MariaDB alone has.
var scannedOnMariaDB = []scannedTable{
	{"uuids", "u UUID PRIMARY KEY, v INT", numbers(60, "u,v", "INSERT(INSERT(MD5(i),13,1,'4'),17,1,'8'),i")},
	{"short_addresses", "a INET4 PRIMARY KEY, v INT", numbers(60, "a,v", "CONCAT('10.0.',i,'.',i+100),i")},
	{"nopad_words", "w VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_nopad_ci PRIMARY KEY, v INT", numbers(60, "w,v", odd("é"))},
	{"nopad_bin_words", "w VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin PRIMARY KEY, v INT", numbers(60, "w,v", odd("é"))},
	{"addresses", "a INET6 PRIMARY KEY, v INT", numbers(60, "a,v", "CONCAT('2001:db8::',HEX(i*i)),i")},
}

// odd are a word with a character outside ASCII, and a number.
func odd(character string) string {
	return "CONCAT(CHAR(65+MOD(i,26) USING utf8mb4),'" + character + " ',i),i"
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
		} else {
			tables = slices.Concat(tables, scannedOnMySQL)
		}
		for _, table := range slices.Concat(tables, countedTables) {
			ddl = append(ddl, "CREATE TABLE "+table.name+" ("+table.columns+")")
		}
		p.Create(t, scanned, ddl...)
		for _, table := range slices.Concat(tables, countedTables) {
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
			for _, table := range countedTables {
				harness.Exec(t, db, "ANALYZE TABLE "+scanned+"."+table.name)
				mustReadFewRows(t, db, readsOf(statements[i], table.name), p.IsMariaDB())
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

// mustReadFewRows executes statements anew and fails when together they read the rows of
// a table more than some times. If each began at the index's beginning, every statement
// would read three quarters of it on average. MySQL does begin there as long as what is left
// is nearly everything: a third of that is read.
func mustReadFewRows(t *testing.T, db *sql.DB, statements []string, isMariaDB bool) {
	t.Helper()
	require.NotEmpty(t, statements)
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	_, err = conn.ExecContext(t.Context(), "FLUSH STATUS")
	require.NoError(t, err)
	for _, statement := range statements {
		_, err := conn.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	var name string
	var read int
	require.NoError(t, conn.QueryRowContext(t.Context(), "SHOW SESSION STATUS LIKE 'Handler_read_next'").Scan(&name, &read))
	limit := 12 * countedRows
	if !isMariaDB {
		limit = max(limit, len(statements)*countedRows*3/8)
	}
	require.Less(t, read, limit, "%d statements like %s", len(statements), statements[len(statements)-1])
}
