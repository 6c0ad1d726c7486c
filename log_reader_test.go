package ghostferry

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// A place by file and offset says which transactions came before it.
func TestGTIDsUpToAPlace(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, running *servers.Server) {
		freshSchema(t, db, "gtids_up_to")
		mustExec(t, db, "CREATE TABLE gtids_up_to.t (id INT PRIMARY KEY)", "FLUSH BINARY LOGS")
		srv, err := server.Detect(t.Context(), db)
		require.NoError(t, err)
		s := &BinlogStreamer{DB: db, DBConfig: testDatabaseConfig(running), MyServerId: 4711, srv: srv}
		upTo := func(file string, pos uint64) string {
			set, err := s.gtidsUpTo(t.Context(), BinlogCoordinate{File: file, Pos: pos})
			require.NoError(t, err)
			return set
		}
		end, err := srv.LogEnd(t.Context(), db)
		require.NoError(t, err)
		head, before := end.GTIDSet, ""
		for n := range 3 {
			before = end.GTIDSet
			mustExec(t, db, "INSERT INTO gtids_up_to.t VALUES ("+strconv.Itoa(n)+")")
			end, err = srv.LogEnd(t.Context(), db)
			require.NoError(t, err)
			require.Equal(t, end.GTIDSet, upTo(end.File, end.Pos))
		}
		require.Equal(t, head, upTo(end.File, fileHeader))
		if srv.IsMariaDB() {
			return
		}
		// Upstream's places may be inside the last transaction, behind its GTID: it is not executed.
		var name, kind, info string
		var begins, serverID, ends, last uint64
		rows, err := db.Query("SHOW BINLOG EVENTS IN '" + end.File + "'")
		require.NoError(t, err)
		for rows.Next() {
			require.NoError(t, rows.Scan(&name, &begins, &kind, &serverID, &ends, &info))
			if kind == "Gtid" {
				last = ends
			}
		}
		require.NoError(t, rows.Err())
		require.NoError(t, rows.Close())
		require.Equal(t, before, upTo(end.File, last))

		_, err = s.gtidsUpTo(t.Context(), BinlogCoordinate{File: end.File, Pos: end.Pos + 1000})
		var lost *LostTransactionsError
		require.ErrorAs(t, err, &lost)
	})
}
