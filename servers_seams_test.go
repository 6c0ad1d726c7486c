package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

func TestSqlDBSessions(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		var timeZone, sqlMode, client, connection, results string
		require.NoError(t, db.QueryRow("SELECT @@time_zone, @@sql_mode, @@character_set_client, @@character_set_connection, @@character_set_results").
			Scan(&timeZone, &sqlMode, &client, &connection, &results))
		require.Equal(t, "+00:00", timeZone)
		for _, mode := range []string{"STRICT_ALL_TABLES", "NO_BACKSLASH_ESCAPES", "NO_AUTO_VALUE_ON_ZERO"} {
			require.Contains(t, sqlMode, mode)
		}
		require.Equal(t, []string{"utf8mb4", "utf8mb4", "utf8mb4"}, []string{client, connection, results})

		_, err := db.Exec("SELECT 1; SELECT 2")
		require.Error(t, err, "one statement at a time")
	})
}

func TestLagThrottler(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, running *servers.Server) {
		freshSchema(t, db, "lag")
		mustExec(t, db, "CREATE TABLE lag.heartbeat (id INT PRIMARY KEY, behind DECIMAL(10,2))", "INSERT INTO lag.heartbeat VALUES (1, 1.5)")

		throttler, err := NewLagThrottler(&LagThrottlerConfig{
			Connection: testDatabaseConfig(running), MaxLag: 2, Query: "SELECT behind FROM lag.heartbeat WHERE id = 1", UpdateInterval: "1ms",
		})
		require.NoError(t, err)
		defer throttler.DB.Close()
		require.True(t, throttler.Throttled(), "what was never observed is not small")

		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- throttler.Run(ctx) }()
		eventually := func(reason string) {
			t.Helper()
			require.Eventually(t, func() bool { return throttler.ThrottleReason() == reason }, 30*time.Second, time.Millisecond)
		}

		eventually("")
		_, err = queryNumber(ctx, throttler.DB, "SELECT 'nan'")
		require.ErrorContains(t, err, "not a number")
		throttler.SetPaused(true)
		require.True(t, throttler.Throttled())
		throttler.SetPaused(false)
		mustExec(t, db, "UPDATE lag.heartbeat SET behind = 2.01")
		eventually("the lag is 2.01, at most 2 is allowed")
		mustExec(t, db, "UPDATE lag.heartbeat SET behind = 2")
		eventually("")
		mustExec(t, db, "UPDATE lag.heartbeat SET behind = NULL")
		require.Eventually(t, throttler.Throttled, 30*time.Second, time.Millisecond)
		require.Contains(t, throttler.ThrottleReason(), "NULL")
		mustExec(t, db, "DELETE FROM lag.heartbeat")
		eventually("the lag cannot be observed: sql: no rows in result set")
		throttler.SetDisabled(true)
		require.True(t, throttler.Disabled())
		mustExec(t, db, "INSERT INTO lag.heartbeat VALUES (1, 0)")
		eventually("")

		cancel()
		require.ErrorIs(t, <-ended, context.Canceled)
	})
}

func TestLagThrottlerRefusesItsConfigurationAtOnce(t *testing.T) {
	_, err := NewLagThrottler(&LagThrottlerConfig{UpdateInterval: "x"})
	require.Len(t, ConfigErrors(err), 3)
	_, err = NewLagThrottler(&LagThrottlerConfig{Query: "SELECT 1", Connection: &DatabaseConfig{Host: "h", Port: 1}})
	require.ErrorContains(t, err, "user is empty")
}

func TestPositions(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		before, err := ShowMasterStatusBinlogPosition(db)
		require.NoError(t, err)
		freshSchema(t, db, "positions")
		after, err := ShowMasterStatusBinlogPosition(db)
		require.NoError(t, err)
		require.Equal(t, 1, after.Compare(before))

		replica, err := CheckDbIsAReplica(db)
		require.NoError(t, err)
		require.False(t, replica)
	})

	position, err := NewMysqlPosition("b.000001", 4, nil, nil)
	require.NoError(t, err)
	require.Equal(t, mysql.Position{Name: "b.000001", Pos: 4}, position)
	_, err = NewMysqlPosition("", 0, nil, nil)
	require.ErrorIs(t, err, server.ErrBinlogOff)
	require.ErrorContains(t, err, "SHOW BINARY LOG STATUS")
	failure := errors.New("x")
	_, err = NewMysqlPosition("", 0, failure, nil)
	require.Equal(t, failure, err)
}

func TestWaitUntilReplicaIsCaughtUpToMaster(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		freshSchema(t, db, "replica")
		mustExec(t, db, "CREATE TABLE replica.heartbeat (file VARCHAR(100), pos BIGINT)")
		wait := &WaitUntilReplicaIsCaughtUpToMaster{
			MasterDB: db, ReplicaDB: db,
			ReplicatedMasterPositionFetcher: ReplicatedMasterPositionViaCustomQuery{Query: "SELECT file, pos FROM replica.heartbeat"},
		}

		_, err := wait.IsCaughtUp(mysql.Position{}, 1)
		require.ErrorIs(t, err, server.ErrBinlogOff, "no row")

		end, err := ShowMasterStatusBinlogPosition(db)
		require.NoError(t, err)
		mustExec(t, db, fmt.Sprintf("INSERT INTO replica.heartbeat VALUES ('%s', %d)", end.Name, end.Pos))
		caughtUp, err := wait.IsCaughtUp(end, 1)
		require.NoError(t, err)
		require.True(t, caughtUp)
		caughtUp, err = wait.IsCaughtUp(mysql.Position{Name: end.Name, Pos: end.Pos + 1}, 1)
		require.NoError(t, err)
		require.False(t, caughtUp)

		wait.Timeout = time.Millisecond
		require.ErrorContains(t, wait.Wait(), "timeout reached before replica is caught up to master")
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, wait.WaitContext(ended), context.Canceled)

		wait.Timeout = 0
		mustExec(t, db, "UPDATE replica.heartbeat SET file = CONCAT(file, '9')") // a file that is yet to come
		require.NoError(t, wait.Wait())

		mustExec(t, db, fmt.Sprintf("UPDATE replica.heartbeat SET file = '%s', pos = 4", end.Name)) // stands still
		changed := &PrimaryChangedError{}
		require.ErrorIs(t, wait.wait(t.Context(), Logger.Debugf, 1, func(context.Context) error { return changed }), changed)

		require.Error(t, (&WaitUntilReplicaIsCaughtUpToMaster{}).Wait())
	})
}

func TestStmtCache(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		cache := NewStmtCache()
		first, err := cache.StmtFor(db, "SELECT 0")
		require.NoError(t, err)
		again, err := cache.StmtFor(db, "SELECT 0")
		require.NoError(t, err)
		require.Same(t, first, again)

		for i := range stmtCacheSize {
			statement, err := cache.StmtFor(db, fmt.Sprintf("SELECT %d", i+1))
			require.NoError(t, err)
			var number int
			require.NoError(t, statement.QueryRow().Scan(&number))
			require.Equal(t, i+1, number)
		}
		require.Error(t, first.QueryRow().Scan(new(int)), "the oldest was closed")
		reprepared, err := cache.StmtFor(db, "SELECT 0")
		require.NoError(t, err)
		require.NotSame(t, first, reprepared)

		_, err = cache.StmtFor(db, "not SQL")
		require.Error(t, err)
		require.NoError(t, cache.Close())
		_, err = cache.StmtFor(db, "SELECT 0")
		require.NoError(t, err)
		require.NoError(t, cache.Close())
	})
}
