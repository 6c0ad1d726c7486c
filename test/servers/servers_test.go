package servers_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
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

func TestStartedServerIsConfiguredAsAsked(t *testing.T) {
	for _, f := range flavours {
		t.Run(string(f), func(t *testing.T) {
			s := start(t, servers.Options{
				Flavour: f, Name: "source", GTID: true, LocalInfile: true, SemiSync: true, RowsQueryEvents: true,
				BufferPoolMB: 80, RedoLogMB: 48, Flags: []string{"--max-binlog-size=1M"},
			})
			db := open(t, s)
			require.Equal(t, s.Version, text(t, db, "SELECT @@version"))
			require.Equal(t, f == servers.MariaDB, strings.Contains(s.Version, "MariaDB"))
			expect := map[string]string{
				"log_bin": "1", "binlog_format": "ROW", "binlog_row_image": "FULL", "local_infile": "1",
				"max_binlog_size": "1048576", "innodb_buffer_pool_size": fmt.Sprint(80 << 20), "sync_binlog": "0",
				"performance_schema": "0", "character_set_server": "utf8mb4", "character_set_connection": "utf8mb4",
			}
			if f == servers.MySQL {
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
		})
	}
}

func TestMySQLWithoutGTID(t *testing.T) {
	db := open(t, start(t, servers.Options{Flavour: servers.MySQL}))
	require.Equal(t, "OFF", text(t, db, "SELECT @@gtid_mode"))
	require.Equal(t, "0", text(t, db, "SELECT @@local_infile"))
}

// The replication client logs in over plain TCP, as an account that the server has
// not cached (caching_sha2_password then wants the password itself, encrypted with
// the server's RSA key), and sees a row that was written.
func TestBinlogSyncer(t *testing.T) {
	for _, f := range flavours {
		t.Run(string(f), func(t *testing.T) {
			s := start(t, servers.Options{Flavour: f})
			db := open(t, s)
			for _, q := range []string{
				"CREATE USER replica IDENTIFIED BY 'throwaway'", "GRANT REPLICATION SLAVE ON *.* TO replica",
			} {
				_, err := db.ExecContext(t.Context(), q)
				require.NoError(t, err)
			}
			syncer := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
				ServerID: 4242, Flavor: string(f), Host: s.Host, Port: uint16(s.Port), User: "replica", Password: "throwaway",
			})
			defer syncer.Close()
			stream, err := syncer.StartSync(gomysql.Position{Name: "binlog.000001", Pos: 4})
			require.NoError(t, err)
			for _, q := range []string{"CREATE DATABASE d", "CREATE TABLE d.t (id INT PRIMARY KEY)", "INSERT INTO d.t VALUES (7)"} {
				_, err := db.ExecContext(t.Context(), q)
				require.NoError(t, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			for {
				event, err := stream.GetEvent(ctx)
				require.NoError(t, err)
				if rows, ok := event.Event.(*replication.RowsEvent); ok {
					require.Equal(t, "t", string(rows.Table.Table))
					require.Equal(t, [][]any{{int32(7)}}, rows.Rows)
					return
				}
			}
		})
	}
}

func TestKillAndRestartKeepData(t *testing.T) {
	for _, f := range flavours {
		t.Run(string(f), func(t *testing.T) {
			s := start(t, servers.Options{Flavour: f, GTID: true})
			db := open(t, s)
			_, err := db.ExecContext(t.Context(), "CREATE DATABASE d")
			require.NoError(t, err)
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
			require.Equal(t, "d", text(t, db, "SELECT schema_name FROM information_schema.schemata WHERE schema_name = 'd'"))
			require.NoError(t, s.Restart(t.Context()), "a running server is shut down first")
		})
	}
}

func TestStopLeavesNothing(t *testing.T) {
	source, target, err := servers.StartPair(t.Context(),
		servers.Options{Flavour: servers.MySQL, Log: t.Output()}, servers.Options{Flavour: servers.MariaDB, Log: t.Output()})
	require.NoError(t, err)
	require.Equal(t, "source", source.Name)
	require.Equal(t, "target", target.Name)
	for _, s := range []*servers.Server{source, target} {
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
}

func TestServersHaveTheirOwnIdentity(t *testing.T) {
	a, b, err := servers.StartPair(t.Context(),
		servers.Options{Flavour: servers.MySQL, Log: t.Output()}, servers.Options{Flavour: servers.MySQL, Log: t.Output()})
	require.NoError(t, err)
	defer func() { require.NoError(t, errors.Join(a.Stop(), b.Stop())) }()
	for _, variable := range []string{"server_uuid", "server_id", "port"} {
		query := "SELECT @@" + variable
		require.NotEqual(t, text(t, open(t, a), query), text(t, open(t, b), query), variable)
	}
}

func TestFailedStartLeavesNothing(t *testing.T) {
	s, err := servers.Start(t.Context(), servers.Options{
		Flavour: servers.MySQL, Name: "broken", Flags: []string{"--no-such-flag"}, Log: t.Output(),
	})
	require.Nil(t, s)
	require.ErrorContains(t, err, "no-such-flag", "the server's own words are in the error")
	other := start(t, servers.Options{Flavour: servers.MySQL})
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
