package ghostferry

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// A batch is read in the order of the key's index, also where the key has columns that are
// read by number: otherwise all the rows that are left were read, sorted and locked for each.
func TestCursorsReadOnlyTheirBatch(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, running *servers.Server) {
		status := "performance_schema"
		if running.Flavour == servers.MariaDB {
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

// A cursor that finds no connection in a bounded pool says so, whether it is its first one or the
// next; before that it waits as long as for a server that is away.
func TestCursorOfAFullPool(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		freshSchema(t, db, "full")
		mustExec(t, db, "CREATE TABLE full.t (id INT PRIMARY KEY)", "INSERT INTO full.t VALUES (1),(2)")
		tables, err := LoadTables(db, &namedTables{schemas: []string{"full"}}, nil, nil, nil, nil)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		db.SetMaxOpenConns(1)
		size := uint64(1)
		config := &CursorConfig{DB: db, BatchSize: &size, ReadRetries: 3}
		for _, first := range []bool{true, false} {
			cursor := config.NewCursorWithoutRowLock(tables.Get("full", "t"), nil, nil)
			require.Equal(t, 5*time.Minute, cursor.longestPoolWait())
			var taken *sql.Conn
			take := func() (err error) {
				cursor.poolWait = time.Millisecond
				taken, err = db.Conn(ctx)
				return err
			}
			if first {
				require.NoError(t, take())
			}
			err := cursor.EachContext(ctx, func(context.Context, *RowBatch) error { return take() })
			require.ErrorContains(t, err, "bounded to 1 (SetMaxOpenConns)")
			require.NoError(t, taken.Close())
		}
	})
}

// A query whose first row has to wait for the budget of large rows is cut there: what is left of its
// result may be gigabytes.
func TestQueryIsCutAtALargeRow(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		freshSchema(t, db, "cut")
		mustExec(t, db, "CREATE TABLE cut.t (id INT PRIMARY KEY, b MEDIUMBLOB)", "INSERT INTO cut.t VALUES (1,REPEAT('a',2000000)),(2,'b')")
		tables, err := LoadTables(db, &namedTables{schemas: []string{"cut"}}, nil, nil, nil, nil)
		require.NoError(t, err)
		table := tables.Get("cut", "t")
		l, err := table.layout()
		require.NoError(t, err)
		srv, err := server.Detect(t.Context(), db)
		require.NoError(t, err)
		s, err := openSession(t.Context(), db, srv, server.Source)
		require.NoError(t, err)
		defer s.discard()
		rows, err := s.conn.QueryContext(t.Context(), "SELECT id, b FROM cut.t ORDER BY id")
		require.NoError(t, err)
		_, err = scanBatch(rows, table, l, nil, batchLimits{bytes: largeRow, room: func(int) bool { return false }, stop: s.cutResult})
		var large *largeRowError
		require.ErrorAs(t, err, &large)
		require.True(t, s.spent, "the connection was closed before the rows were")
	})
}
