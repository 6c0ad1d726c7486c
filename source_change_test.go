package ghostferry

import (
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/stretchr/testify/require"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// A stream that is connected again asks whether it is the same server, and whether it has
// what was read from it.
func TestStreamChecksTheServer(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, running *servers.Server) {
		s := &BinlogStreamer{DB: db, DBConfig: testDatabaseConfig(running)}
		_, err := s.ConnectBinlogStreamerToMysql()
		require.NoError(t, err)
		require.NoError(t, s.checkServer(t.Context()))

		s.start.Pos += 1 << 20
		var lost *LostTransactionsError
		require.ErrorAs(t, s.checkServer(t.Context()), &lost)
		require.Contains(t, lost.Missing, s.start.File)
		require.False(t, Resumable(lost))

		// A watch on the target can begin anew: its run goes on, and compares.
		s.own = func([]byte) bool { return true }
		var unwatched *UnwatchedError
		require.ErrorAs(t, s.cannotWatch(s.checkServer(t.Context())), &unwatched)
		require.True(t, Resumable(unwatched))
		watch := &BinlogStreamer{DB: db, DBConfig: s.DBConfig, own: s.own}
		_, err = watch.ConnectBinlogStreamerToMysqlFrom(mysql.Position{Name: s.start.File, Pos: 5}) // no event begins there
		require.NoError(t, err)
		require.ErrorAs(t, watch.RunContext(t.Context()), &unwatched)
		require.Equal(t, uint32(5), unwatched.Coordinate.Pos)
		require.Contains(t, unwatched.Error(), "start the same command again")
		s.own = nil

		other := *s.srv
		other.Identity = "another"
		s.srv = &other
		var changed *ServerChangedError
		require.ErrorAs(t, s.checkServer(t.Context()), &changed)
		require.Equal(t, "another", changed.Was)
		require.True(t, Resumable(changed))
		require.False(t, changed.Target)
		s.own = watch.own
		require.ErrorAs(t, s.checkServer(t.Context()), &changed)
		require.True(t, changed.Target)

		const foreign = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"
		lacked, err := other.LackedGTIDs(t.Context(), db, foreign)
		if other.IsMariaDB() {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.Equal(t, foreign, lacked)
	})
}
