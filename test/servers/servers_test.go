package servers_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

var flavours = []servers.Flavour{servers.MySQL, servers.MariaDB}

// start starts a server that ends with the test.
func start(t *testing.T, o servers.Options) *servers.Server {
	t.Helper()
	o.Log = t.Output()
	s, err := servers.Start(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	return s
}

func open(t *testing.T, s *servers.Server) *sql.DB {
	t.Helper()
	db, err := s.DB(t.Context())
	require.NoError(t, err)
	return db
}

func text(t *testing.T, db *sql.DB, query string) string {
	t.Helper()
	var v string
	require.NoError(t, db.QueryRowContext(t.Context(), query).Scan(&v))
	return v
}

func execute(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, q := range statements {
		_, err := db.ExecContext(t.Context(), q)
		require.NoError(t, err, q)
	}
}

// One server of each flavour goes through its whole life.
func TestServer(t *testing.T) {
	for _, f := range flavours {
		t.Run(string(f), func(t *testing.T) {
			s := start(t, servers.Options{
				Flavour: f, Name: "source", GTID: true, LocalInfile: true, SemiSync: true,
				BufferPoolMB: 80, RedoLogMB: 48, Flags: []string{"--max-binlog-size=256M"},
			})
			t.Run("is configured as asked", func(t *testing.T) { testConfiguration(t, s) })
			t.Run("serves the replication client", func(t *testing.T) { testBinlogSyncer(t, s) })
			t.Run("can be used through the environment", func(t *testing.T) { testNamedServer(t, s) })
			t.Run("serves the tools", func(t *testing.T) { testTools(t, s) })
			t.Run("survives a kill", func(t *testing.T) { testKillAndRestart(t, s) })
			t.Run("leaves nothing", func(t *testing.T) { testStop(t, s) })
		})
	}
}

func testConfiguration(t *testing.T, s *servers.Server) {
	db := open(t, s)
	require.Equal(t, "source", s.Name)
	require.Equal(t, s.Version, text(t, db, "SELECT @@version"))
	require.Equal(t, s.Flavour == servers.MariaDB, strings.Contains(s.Version, "MariaDB"))
	expect := map[string]string{
		"log_bin": "1", "binlog_format": "ROW", "binlog_row_image": "FULL", "local_infile": "1",
		"max_binlog_size": fmt.Sprint(256 << 20), "innodb_buffer_pool_size": fmt.Sprint(80 << 20), "sync_binlog": "0",
		"performance_schema": "0", "character_set_server": "utf8mb4", "character_set_connection": "utf8mb4",
	}
	if s.Flavour == servers.MySQL {
		expect["gtid_mode"] = "ON"
		expect["binlog_rows_query_log_events"] = "1"
		expect["rpl_semi_sync_source_enabled"] = "0"
		expect["innodb_redo_log_capacity"] = fmt.Sprint(48 << 20)
	} else {
		expect["binlog_annotate_row_events"] = "1"
		expect["rpl_semi_sync_master_enabled"] = "0"
		expect["innodb_log_file_size"] = fmt.Sprint(48 << 20)
	}
	for name, want := range expect {
		require.Equal(t, want, text(t, db, "SELECT @@"+name), name)
	}
	cpu, err := s.CPUSeconds()
	require.NoError(t, err)
	require.Positive(t, cpu)
}

// The replication client logs in over plain TCP, as an account that the server has
// not cached (caching_sha2_password then wants the password itself, encrypted with
// the server's RSA key), and sees a row that was written.
func testBinlogSyncer(t *testing.T, s *servers.Server) {
	db := open(t, s)
	execute(t, db, "CREATE USER replica IDENTIFIED BY 'throwaway'", "GRANT REPLICATION SLAVE ON *.* TO replica")
	syncer := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: 4242, Flavor: string(s.Flavour), Host: s.Host, Port: uint16(s.Port), User: "replica", Password: "throwaway",
		Logger: slog.New(slog.DiscardHandler),
	})
	defer syncer.Close()
	stream, err := syncer.StartSync(gomysql.Position{Name: "binlog.000001", Pos: 4})
	require.NoError(t, err)
	execute(t, db, "CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)", "INSERT INTO d.t VALUES (7)")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		event, err := stream.GetEvent(ctx)
		require.NoError(t, err)
		if rows, ok := event.Event.(*replication.RowsEvent); ok {
			require.Equal(t, "t", string(rows.Table.Table))
			require.Equal(t, [][]any{{int32(7)}}, rows.Rows)
			break
		}
	}
	execute(t, db, "DROP DATABASE d")
}

func testKillAndRestart(t *testing.T, s *servers.Server) {
	db := open(t, s)
	execute(t, db, "CREATE DATABASE d")
	port, pid := s.Port, s.PID()
	require.Positive(t, pid)

	require.NoError(t, s.Kill())
	require.Zero(t, s.PID())
	require.NoDirExists(t, fmt.Sprintf("/proc/%d", pid))
	require.DirExists(t, s.DataDir)
	require.Error(t, db.PingContext(t.Context()))

	require.NoError(t, s.Restart(t.Context()))
	require.Equal(t, port, s.Port)
	require.NotEqual(t, pid, s.PID())
	const query = "SELECT schema_name FROM information_schema.schemata WHERE schema_name = 'd'"
	require.Equal(t, "d", text(t, db, query))

	require.NoError(t, s.Restart(t.Context()), "a running server is shut down first")
	require.Equal(t, "d", text(t, db, query))
}

func testStop(t *testing.T, s *servers.Server) {
	db, pid := open(t, s), s.PID()
	require.NoError(t, s.Stop())
	require.NoError(t, s.Stop(), "stopping twice is allowed")
	require.NoDirExists(t, fmt.Sprintf("/proc/%d", pid))
	require.NoDirExists(t, filepath.Dir(s.DataDir))
	require.NoDirExists(t, filepath.Dir(s.Socket))
	require.Error(t, db.PingContext(t.Context()), "Stop closes the pools")
	require.Error(t, s.Restart(t.Context()))
	require.Error(t, s.Kill())
}

// Two servers of one template share neither port nor identity; by default a MySQL
// server has no GTIDs and refuses local files.
func TestPair(t *testing.T) {
	log := t.Output()
	a, b, err := servers.StartPair(t.Context(),
		servers.Options{Flavour: servers.MySQL, Log: log}, servers.Options{Flavour: servers.MySQL, Log: log})
	require.NoError(t, err)
	defer func() { require.NoError(t, errors.Join(a.Stop(), b.Stop())) }()
	require.Equal(t, "source", a.Name)
	require.Equal(t, "target", b.Name)
	for _, variable := range []string{"server_uuid", "server_id", "port"} {
		query := "SELECT @@" + variable
		require.NotEqual(t, text(t, open(t, a), query), text(t, open(t, b), query), variable)
	}
	require.Equal(t, "OFF", text(t, open(t, a), "SELECT @@gtid_mode"))
	require.Equal(t, "0", text(t, open(t, a), "SELECT @@local_infile"))
}

func TestPairStartsBothOrNone(t *testing.T) {
	source, target, err := servers.StartPair(t.Context(),
		servers.Options{Flavour: servers.MariaDB, Log: t.Output()}, servers.Options{Flavour: "oracle", Log: t.Output()})
	require.ErrorContains(t, err, "unknown flavour")
	require.Nil(t, source)
	require.Nil(t, target)
}

func TestFailedStartLeavesNothing(t *testing.T) {
	s, err := servers.Start(t.Context(), servers.Options{
		Flavour: servers.MariaDB, Name: "broken", Flags: []string{"--no-such-flag"}, Log: t.Output(),
	})
	require.Nil(t, s)
	require.ErrorContains(t, err, "no-such-flag", "the server's own words are in the error")
	other := start(t, servers.Options{Flavour: servers.MariaDB})
	leftovers, err := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(other.DataDir)), "broken-*"))
	require.NoError(t, err)
	require.Empty(t, leftovers)
}

func TestWrongBinaryIsRefused(t *testing.T) {
	impostor := filepath.Join(t.TempDir(), "mysqld")
	script := "#!/bin/sh\necho 'mysqld  Ver 10.11.6-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)'\n"
	require.NoError(t, os.WriteFile(impostor, []byte(script), 0o755))
	t.Setenv("GHOSTFERRY_MYSQLD", impostor)
	_, err := servers.Start(t.Context(), servers.Options{Flavour: servers.MySQL, Log: t.Output()})
	require.ErrorContains(t, err, "wanted mysql but the server says")
	t.Setenv("GHOSTFERRY_MYSQLD", filepath.Join(t.TempDir(), "missing"))
	_, err = servers.Start(t.Context(), servers.Options{Flavour: servers.MySQL, Log: t.Output()})
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestBadOptions(t *testing.T) {
	_, err := servers.Start(t.Context(), servers.Options{})
	require.ErrorContains(t, err, "unknown flavour")
	_, err = servers.Start(t.Context(), servers.Options{Flavour: servers.MySQL, Name: "../up"})
	require.ErrorContains(t, err, "no slashes")
}
