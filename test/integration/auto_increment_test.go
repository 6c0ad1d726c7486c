package integration

import (
	"database/sql"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// F30: the next AUTO_INCREMENT value of the target is the source's, of empty tables and
// used-up values too, also when it advances during the move without leaving a row. The
// accounts have the documented privileges and no others, foreign keys included.
func TestF30AutoIncrementWithLeastPrivileges(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		const schema = "copydb_numbers"
		const many = "copydb_counters" // so many that they are asked for by their schema
		freshSchemas(t, p, schema, many)
		for i := range 12 {
			p.In(t, p.SourceDB, "", "CREATE DATABASE IF NOT EXISTS "+many, fmt.Sprintf("CREATE TABLE %s.c%d (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY) AUTO_INCREMENT=%d", many, i, 10+i))
		}
		p.In(t, p.SourceDB, "", "CREATE DATABASE "+schema, "USE "+schema,
			"CREATE TABLE nothing (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY) AUTO_INCREMENT=100",
			"CREATE TABLE fresh (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY)",
			"CREATE TABLE used (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, v INT)", "INSERT INTO used (v) VALUES (1),(2),(3)", "DELETE FROM used WHERE id > 1",
			"CREATE TABLE late (n BIGINT NOT NULL AUTO_INCREMENT, id INT NOT NULL PRIMARY KEY, UNIQUE KEY (n))", "INSERT INTO late (id) VALUES (1)",
			"CREATE TABLE greatest (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY)", "INSERT INTO greatest VALUES (18446744073709551615)",
			"CREATE TABLE tiny (id TINYINT NOT NULL AUTO_INCREMENT PRIMARY KEY)", "INSERT INTO tiny VALUES (-5),(127)",
			"CREATE TABLE child (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, u INT, FOREIGN KEY (u) REFERENCES used (id))", "INSERT INTO child VALUES (7,1)",
			"SET sql_mode='NO_AUTO_VALUE_ON_ZERO'", "CREATE TABLE zero (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY)", "INSERT INTO zero VALUES (0),(-1)")
		hooks := serveHooks(t, func() error { // the last writes before the fence
			return p.TryIn(t.Context(), p.SourceDB, schema, "INSERT INTO late (id) VALUES (2),(3)", "DELETE FROM late WHERE id > 1", "INSERT INTO nothing VALUES (500)", "DELETE FROM nothing")
		})
		config := copydbSettings(p, []string{schema, many}, hooks.settings())
		documentedAccounts(t, p, config, schema, many)
		status, run := runCopydb(t, "-json", config.file(t))
		require.Zero(t, status)
		require.Equal(t, copydb.Equal, run.result().Outcome)
		p.MustEqual(t, schema, many)
		for _, table := range []string{"nothing", "fresh", "used", "late", "greatest", "tiny", "child", "zero"} {
			require.Equal(t, nextNumber(t, p, p.SourceDB, schema, table), nextNumber(t, p, p.TargetDB, schema, table), table)
		}
		for i := range 12 {
			require.EqualValues(t, 10+i, nextNumber(t, p, p.TargetDB, many, fmt.Sprintf("c%d", i)))
		}
		require.EqualValues(t, 501, nextNumber(t, p, p.TargetDB, schema, "nothing"))
	})
}

// nextNumber is a table's next AUTO_INCREMENT value.
func nextNumber(t *testing.T, p *harness.Pair, db *sql.DB, schema, table string) (next uint64) {
	t.Helper()
	conn, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	if !p.IsMariaDB() {
		_, err = conn.ExecContext(t.Context(), "SET SESSION information_schema_stats_expiry=0")
		require.NoError(t, err)
	}
	query := fmt.Sprintf("SELECT AUTO_INCREMENT FROM information_schema.tables WHERE table_schema='%s' AND table_name='%s'", schema, table)
	require.NoError(t, conn.QueryRowContext(t.Context(), query).Scan(&next))
	return next
}
