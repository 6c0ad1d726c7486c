package server_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/server"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// One server of each flavour serves all tests of the package; each test has its own schema.
var shared = map[servers.Flavour]*servers.Server{}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		ctx := context.Background()
		for _, o := range []servers.Options{{Flavour: servers.MySQL, GTID: true}, {Flavour: servers.MariaDB}} {
			s, err := servers.Start(ctx, o)
			if err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
			defer s.Stop()
			shared[o.Flavour] = s
		}
		return m.Run()
	}())
}

// onBoth runs f against both flavours, with an empty schema named after the test.
func onBoth(t *testing.T, f func(t *testing.T, db *sql.DB, s *server.Server)) {
	for _, flavour := range []servers.Flavour{servers.MySQL, servers.MariaDB} {
		t.Run(string(flavour), func(t *testing.T) {
			db, err := sql.Open("mysql", shared[flavour].DSN(""))
			require.NoError(t, err)
			defer db.Close()
			s, err := server.Detect(t.Context(), db)
			require.NoError(t, err)
			exec(t, db, "DROP DATABASE IF EXISTS gf", "CREATE DATABASE gf", "CREATE TABLE gf.t (id INT PRIMARY KEY, v INT)")
			f(t, db, s)
		})
	}
}

func exec(t *testing.T, db server.Execer, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
}

func conn(t *testing.T, db *sql.DB, setup ...string) *sql.Conn {
	c, err := db.Conn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	exec(t, c, setup...)
	return c
}

func TestDetect(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sql.DB, s *server.Server) {
		running := shared[servers.Flavour(s.NativeFlavour())]
		require.Equal(t, running.Version, s.Version)
		require.Equal(t, running.Port, s.Port)
		require.EqualValues(t, running.Port, s.ServerID)
		require.NotEmpty(t, s.Identity)
		require.NotEmpty(t, s.Hostname)
		require.True(t, s.LogBin)
		require.True(t, s.GTIDMode)
		require.Equal(t, "ROW", s.BinlogFormat)
		require.Equal(t, "FULL", s.BinlogRowImage)
		require.Empty(t, s.BinlogRowValueOptions)
		require.Positive(t, s.MaxAllowedPacket)
		require.False(t, s.ReadOnly)
		require.False(t, s.SuperReadOnly)
		if s.IsMariaDB() {
			require.True(t, s.AtLeast(10, 11, 0))
			require.Empty(t, s.GTIDModeSetting)
			require.Zero(t, s.BinlogRetention)
			require.False(t, s.CascadesLogged)
		} else {
			require.True(t, s.AtLeast(9, 7, 0))
			require.Equal(t, "ON", s.GTIDModeSetting)
			require.Equal(t, 30*24*time.Hour, s.BinlogRetention)
			require.True(t, s.CascadesLogged)
		}

		exec(t, db, "SET GLOBAL read_only=1")
		defer exec(t, db, "SET GLOBAL read_only=0")
		again, err := server.Detect(t.Context(), db)
		require.NoError(t, err)
		require.True(t, again.ReadOnly)
		require.Equal(t, s.Identity, again.Identity)
	})
}

func TestDetectSaysWhatFailed(t *testing.T) {
	db, err := sql.Open("mysql", "root@tcp(127.0.0.1:1)/")
	require.NoError(t, err)
	defer db.Close()
	_, err = server.Detect(t.Context(), db)
	require.ErrorContains(t, err, "detect the server")
	require.Equal(t, mysqlerr.ConnectionLost, mysqlerr.Classify(err))
}

func TestLogEndIsBehindEveryChange(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sql.DB, s *server.Server) {
		before, err := s.LogEnd(t.Context(), db)
		require.NoError(t, err)
		exec(t, db, "INSERT INTO gf.t VALUES (1, 1)")
		after, err := s.LogEnd(t.Context(), db)
		require.NoError(t, err)
		require.Equal(t, before.File, after.File)
		require.Greater(t, after.Pos, before.Pos)
		require.NotEqual(t, before.GTIDSet, after.GTIDSet)
		require.NotContains(t, after.GTIDSet, "\n")

		logs, err := s.LogFiles(t.Context(), db)
		require.NoError(t, err)
		require.Equal(t, after.File, logs[len(logs)-1].Name)

		do, ignore, err := s.BinlogFilters(t.Context(), db)
		require.NoError(t, err)
		require.Empty(t, do)
		require.Empty(t, ignore)

		ids, err := s.ReplicaServerIDs(t.Context(), db)
		require.NoError(t, err)
		require.Empty(t, ids)
	})
}

func TestWithoutBinaryLog(t *testing.T) {
	off, err := servers.Start(t.Context(), servers.Options{Flavour: servers.MariaDB, Flags: []string{"--skip-log-bin"}})
	require.NoError(t, err)
	defer off.Stop()
	db, err := off.DB(t.Context())
	require.NoError(t, err)
	s, err := server.Detect(t.Context(), db)
	require.NoError(t, err)
	require.False(t, s.LogBin)
	require.False(t, s.GTIDMode)
	_, err = s.LogEnd(t.Context(), db)
	require.ErrorIs(t, err, server.ErrBinlogOff)
	c := conn(t, db, s.SessionSetup(server.SourceSnapshot)...)
	_, err = s.Snapshot(t.Context(), c)
	require.ErrorIs(t, err, server.ErrBinlogOff)
}

func TestWaitForGTIDs(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sql.DB, s *server.Server) {
		if s.IsMariaDB() {
			_, err := s.ExecutedGTIDSet(t.Context(), db)
			require.ErrorIs(t, err, server.ErrUnsupported)
			_, err = s.PurgedGTIDSet(t.Context(), db)
			require.ErrorIs(t, err, server.ErrUnsupported)
			_, err = s.GTIDSetBefore(t.Context(), db, "nosuch.000001")
			require.ErrorIs(t, err, server.ErrUnsupported)
			require.ErrorIs(t, s.WaitForGTIDSet(t.Context(), db, "0-1-1", time.Second), server.ErrUnsupported)
			return
		}
		exec(t, db, "INSERT INTO gf.t VALUES (1, 1)")
		set, err := s.ExecutedGTIDSet(t.Context(), db)
		require.NoError(t, err)
		require.Contains(t, set, s.Identity)
		require.NoError(t, s.WaitForGTIDSet(t.Context(), db, set, time.Minute))
		require.NoError(t, s.WaitForGTIDSet(t.Context(), db, "", 0))
		purged, err := s.PurgedGTIDSet(t.Context(), db)
		require.NoError(t, err)
		require.Empty(t, purged)
		exec(t, db, "FLUSH BINARY LOGS")
		end, err := s.LogEnd(t.Context(), db)
		require.NoError(t, err)
		before, err := s.GTIDSetBefore(t.Context(), db, end.File)
		require.NoError(t, err)
		require.Equal(t, set, before)
		_, err = s.GTIDSetBefore(t.Context(), db, "nosuch.000001")
		require.Error(t, err)

		err = s.WaitForGTIDSet(t.Context(), db, s.Identity+":1000000", 0)
		require.ErrorIs(t, err, server.ErrBarrierTimeout)
		require.ErrorContains(t, err, s.Identity+":1000000")

		require.ErrorContains(t, s.WaitForGTIDSet(t.Context(), db, "x'; DROP TABLE t", time.Second), "unexpected character")
		require.Error(t, s.WaitForGTIDSet(t.Context(), db, "not-a-set", time.Second))
	})
}

func TestSnapshotStandsAtItsPosition(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sql.DB, s *server.Server) {
		exec(t, db, "INSERT INTO gf.t VALUES (1, 1)")
		c := conn(t, db, s.SessionSetup(server.SourceSnapshot)...)
		if !s.IsMariaDB() {
			_, err := s.ConsistentSnapshot(t.Context(), c)
			require.ErrorIs(t, err, server.ErrUnsupported)
			_, err = s.GTIDsAt(t.Context(), db, "binlog.000001", 4)
			require.ErrorIs(t, err, server.ErrUnsupported)
			return
		}
		end, err := s.LogEnd(t.Context(), db)
		require.NoError(t, err)
		at, err := s.ConsistentSnapshot(t.Context(), c)
		require.NoError(t, err)
		require.Equal(t, end, at)

		exec(t, db, "INSERT INTO gf.t VALUES (2, 2)")
		var rows int
		require.NoError(t, c.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM gf.t").Scan(&rows))
		require.Equal(t, 1, rows, "the snapshot must not see what follows its position")

		again, err := s.Snapshot(t.Context(), c)
		require.NoError(t, err)
		require.Greater(t, again.Pos, at.Pos)
		require.NoError(t, c.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM gf.t").Scan(&rows))
		require.Equal(t, 2, rows)

		_, err = s.GTIDsAt(t.Context(), db, "nosuch.000001", 4)
		require.ErrorContains(t, err, "nosuch.000001:4")

		_, err = s.Snapshot(t.Context(), conn(t, db, s.SessionSetup(server.Source)...))
		require.ErrorContains(t, err, "REPEATABLE-READ")
	})
}

// An event larger than max_allowed_packet keeps MariaDB from telling the GTIDs at any later place
// of the file. The stream's beginning is found all the same.
func TestSnapshotBehindALargeEvent(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sql.DB, s *server.Server) {
		if !s.IsMariaDB() {
			return // asks for nothing of that kind
		}
		var packet int
		require.NoError(t, db.QueryRow("SELECT @@max_allowed_packet").Scan(&packet))
		exec(t, db, "CREATE TABLE gf.long_rows (id INT PRIMARY KEY, v LONGBLOB)")
		for _, statement := range []string{
			"INSERT INTO gf.long_rows VALUES (1, REPEAT('a', @@max_allowed_packet - 1024))", "UPDATE gf.long_rows SET v = REPEAT('b', @@max_allowed_packet - 1024)",
		} {
			exec(t, db, statement)
		}
		defer exec(t, db, "DROP TABLE gf.long_rows", "FLUSH BINARY LOGS")
		c := conn(t, db, s.SessionSetup(server.SourceSnapshot)...)
		plain, err := s.Snapshot(t.Context(), c)
		require.NoError(t, err)
		_, err = s.GTIDsAt(t.Context(), c, plain.File, plain.Pos)
		require.ErrorContains(t, err, "does not know this position", "or the test tests nothing")
		at, err := s.ConsistentSnapshot(t.Context(), c)
		require.NoError(t, err)
		end, err := s.LogEnd(t.Context(), db)
		require.NoError(t, err)
		require.Equal(t, end, at)
	})
}

func TestPreparedXA(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sql.DB, s *server.Server) {
		none, err := s.PreparedXA(t.Context(), db)
		require.NoError(t, err)
		require.Empty(t, none)

		const xid = "X'0027ff60',X'5c',7"
		// MySQL detaches a prepared transaction from its session, MariaDB when that ends.
		c, err := db.Conn(t.Context())
		require.NoError(t, err)
		exec(t, c, "XA START "+xid, "INSERT INTO gf.t VALUES (5, 5)", "XA END "+xid, "XA PREPARE "+xid)
		prepared, err := s.PreparedXA(t.Context(), db)
		require.NoError(t, err)
		require.Equal(t, []string{xid}, prepared)
		exec(t, c, "XA ROLLBACK "+prepared[0])
		require.NoError(t, c.Close())

		poor := account(t, db, s, "USAGE ON *.*")
		prepared, err = s.PreparedXA(t.Context(), poor)
		if s.IsMariaDB() {
			require.NoError(t, err)
			require.Empty(t, prepared)
		} else {
			require.ErrorIs(t, err, server.ErrXARecoverDenied)
		}
	})
}

// account makes an account with exactly the given grants and returns a pool of it.
func account(t *testing.T, db *sql.DB, s *server.Server, grants ...string) *sql.DB {
	exec(t, db, "DROP USER IF EXISTS poor", "CREATE USER poor IDENTIFIED BY 'secret'")
	for _, grant := range grants {
		exec(t, db, "GRANT "+grant+" TO poor")
	}
	config, err := mysql.ParseDSN(shared[servers.Flavour(s.NativeFlavour())].DSN(""))
	require.NoError(t, err)
	config.User, config.Passwd = "poor", "secret"
	pool, err := sql.Open("mysql", config.FormatDSN())
	require.NoError(t, err)
	t.Cleanup(func() { pool.Close() })
	return pool
}

// An account without any privilege can take on every role; the settings arrive both as statements
// and as the driver's parameters, whatever the server gives to new sessions.
func TestSessions(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sql.DB, s *server.Server) {
		exec(t, db, "SET GLOBAL sql_select_limit=2", "SET GLOBAL autocommit=0")
		defer exec(t, db, "SET GLOBAL sql_select_limit="+server.NoSelectLimit, "SET GLOBAL autocommit=1")
		poor := account(t, db, s, "USAGE ON *.*")
		for role, want := range map[server.Role]string{
			server.Target:         "READ-COMMITTED 0 1",
			server.Source:         "READ-COMMITTED 1 1",
			server.SourceSnapshot: "REPEATABLE-READ 1 1",
		} {
			config, err := mysql.ParseDSN(shared[servers.Flavour(s.NativeFlavour())].DSN(""))
			require.NoError(t, err)
			config.Params = s.SessionVariables(role)
			byDriver, err := sql.Open("mysql", config.FormatDSN())
			require.NoError(t, err)
			t.Cleanup(func() { byDriver.Close() })
			for _, c := range []*sql.Conn{conn(t, poor, s.SessionSetup(role)...), conn(t, byDriver)} {
				require.Equal(t, want, show(t, c, "CONCAT_WS(' ', @@%isolation, IF(@@foreign_key_checks, 1, 0), IF(@@unique_checks, 1, 0))", s))
				require.Equal(t, "+00:00 1 600 600", show(t, c, "CONCAT_WS(' ', @@time_zone, IF(@@autocommit, 1, 0), @@net_write_timeout, @@net_read_timeout)", s))
				if s.IsMariaDB() {
					require.Equal(t, role != server.Target, show(t, c, "@@check_constraint_checks", s) == "1")
				}
				require.Equal(t, "none", show(t, c, "COALESCE(@@character_set_results, 'none')", s))
				require.Equal(t, server.NoSelectLimit, show(t, c, "@@sql_select_limit", s))
				mode := show(t, c, "@@sql_mode", s)
				require.Contains(t, mode, "STRICT_ALL_TABLES")
				require.Contains(t, mode, "NO_BACKSLASH_ESCAPES")
				require.NotContains(t, mode, "ZERO_DATE")
				require.NotContains(t, mode, "ANSI_QUOTES")
				require.Equal(t, role == server.Target, strings.Contains(mode, "NO_AUTO_VALUE_ON_ZERO"))
				require.Equal(t, "utf8mb4", show(t, c, "@@character_set_client", s))
			}
		}
	})
}

func show(t *testing.T, c *sql.Conn, expression string, s *server.Server) string {
	isolation := "transaction_isolation"
	if s.IsMariaDB() {
		isolation = "tx_isolation"
	}
	var value string
	expression = strings.Replace(expression, "%isolation", isolation, 1)
	require.NoError(t, c.QueryRowContext(t.Context(), "SELECT "+expression).Scan(&value))
	return value
}

func TestStatementForms(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sql.DB, s *server.Server) {
		c := conn(t, db, s.SessionSetup(server.Target)...)
		for _, v := range []int{1, 2} {
			insert := fmt.Sprintf("INSERT INTO gf.t VALUES (1, %d) ON DUPLICATE KEY UPDATE v=VALUES(v)", v)
			if s.UpsertRowAlias() {
				insert = fmt.Sprintf("INSERT INTO gf.t VALUES (1, %d) AS new ON DUPLICATE KEY UPDATE v=new.v", v)
			}
			exec(t, c, insert)
			var got, warnings int
			require.NoError(t, c.QueryRowContext(t.Context(), "SELECT @@warning_count").Scan(&warnings))
			require.Zero(t, warnings)
			require.NoError(t, c.QueryRowContext(t.Context(), "SELECT v FROM gf.t WHERE id=1"+s.LockingReadSuffix()).Scan(&got))
			require.Equal(t, v, got)
		}
	})
}

// The classes of errors that a server really sends.
func TestErrorsOfRealServers(t *testing.T) {
	onBoth(t, func(t *testing.T, db *sql.DB, s *server.Server) {
		exec(t, db, "INSERT INTO gf.t VALUES (1, 1)")
		fails := func(c server.Execer, statement string) error {
			_, err := c.ExecContext(t.Context(), statement)
			require.Error(t, err, statement)
			return err
		}
		root := conn(t, db)
		require.Equal(t, mysqlerr.Duplicate, mysqlerr.Classify(fails(root, "INSERT INTO gf.t VALUES (1, 2)")))
		require.Equal(t, mysqlerr.UnknownObject, mysqlerr.Classify(fails(root, "INSERT INTO gf.nosuch VALUES (1)")))
		require.Equal(t, mysqlerr.UnknownObject, mysqlerr.Classify(fails(root, "USE nosuch")))
		require.Equal(t, mysqlerr.UnknownObject, mysqlerr.Classify(fails(root, "UPDATE gf.t SET nosuch=1")))
		require.Equal(t, mysqlerr.Permanent, mysqlerr.Classify(fails(root, "NOT SQL")))

		poor := conn(t, account(t, db, s, "SELECT, INSERT ON gf.*"))
		require.Equal(t, mysqlerr.AccessDenied, mysqlerr.Classify(fails(poor, "DELETE FROM gf.t")))
		require.Equal(t, mysqlerr.AccessDenied, mysqlerr.Classify(fails(poor, "SET GLOBAL read_only=0")))
		exec(t, db, "SET GLOBAL read_only=1")
		require.Equal(t, mysqlerr.ReadOnly, mysqlerr.Classify(fails(poor, "INSERT INTO gf.t VALUES (9, 9)")))
		exec(t, db, "SET GLOBAL read_only=0")
		exec(t, poor, "START TRANSACTION READ ONLY")
		require.Equal(t, mysqlerr.ReadOnly, mysqlerr.Classify(fails(poor, "INSERT INTO gf.t VALUES (9, 9)")))
		exec(t, poor, "ROLLBACK")

		exec(t, root, "BEGIN", "UPDATE gf.t SET v=2 WHERE id=1")
		waiter := conn(t, db, "SET innodb_lock_wait_timeout=1")
		require.Equal(t, mysqlerr.LockWait, mysqlerr.Classify(fails(waiter, "UPDATE gf.t SET v=3 WHERE id=1")))
		exec(t, root, "ROLLBACK")

		var id int
		victim := conn(t, db)
		require.NoError(t, victim.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&id))
		exec(t, root, fmt.Sprintf("KILL %d", id))
		err := fails(victim, "DO 1")
		require.Equal(t, mysqlerr.ConnectionLost, mysqlerr.Classify(err), "%v", err)

		config, err := mysql.ParseDSN(shared[servers.Flavour(s.NativeFlavour())].DSN(""))
		require.NoError(t, err)
		config.Passwd = "wrong"
		wrong, err := sql.Open("mysql", config.FormatDSN())
		require.NoError(t, err)
		defer wrong.Close()
		require.Equal(t, mysqlerr.AccessDenied, mysqlerr.Classify(wrong.PingContext(t.Context())))
	})
}
