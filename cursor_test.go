package ghostferry

import (
	"testing"

	"github.com/stretchr/testify/require"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// A batch is read in the order of the key's index, also where the key has columns that are
// read by number: otherwise all the rows that are left were read, sorted and locked for each.
func TestCursorsReadOnlyTheirBatch(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, server *servers.Server) {
		status := "performance_schema"
		if server.Flavour == servers.MariaDB {
			status = "information_schema"
		}
		freshSchema(t, db, "batches")
		const rows = " WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 900) "
		mustExec(t, db,
			"CREATE TABLE batches.kinds (k ENUM('x','b','c') NOT NULL, id INT, PRIMARY KEY (k, id))", "INSERT INTO batches.kinds"+rows+"SELECT 1+i MOD 3, i FROM n",
			"CREATE TABLE batches.flags (id INT, s SET('x','b','c') NOT NULL, PRIMARY KEY (s, id))", "INSERT INTO batches.flags"+rows+"SELECT i, i MOD 8 FROM n",
			"CREATE TABLE batches.bits (b BIT(20) PRIMARY KEY)", "INSERT INTO batches.bits"+rows+"SELECT i FROM n")
		tables, err := LoadTables(db, &namedTables{schemas: []string{"batches"}}, nil, nil, nil, nil)
		require.NoError(t, err)
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		for _, table := range tables.AsSlice() {
			l, err := table.layout()
			require.NoError(t, err)
			_, err = conn.ExecContext(t.Context(), "FLUSH STATUS")
			require.NoError(t, err)
			query, args, err := DefaultBuildSelect(l.selectColumns(nil, noLeaves), table, nil, 20).ToSql()
			require.NoError(t, err)
			read, err := conn.QueryContext(t.Context(), query, args...)
			require.NoError(t, err, query)
			for read.Next() {
			}
			require.NoError(t, read.Err())
			require.NoError(t, read.Close())
			var handled int
			require.NoError(t, conn.QueryRowContext(t.Context(), "SELECT SUM(variable_value) FROM "+status+".session_status WHERE variable_name LIKE 'Handler_read%next'").Scan(&handled))
			require.Less(t, handled, 30, query)
		}
	})
}
