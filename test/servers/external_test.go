package servers_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

// A running server named by the environment is used instead of a new one, set up as
// asked, and given back empty.
func testNamedServer(t *testing.T, host *servers.Server) {
	f, db := host.Flavour, open(t, host)
	t.Setenv(map[servers.Flavour]string{
		servers.MySQL: "GHOSTFERRY_MYSQL_SERVERS", servers.MariaDB: "GHOSTFERRY_MARIADB_SERVERS",
	}[f], "not-a-dsn "+host.DSN(""))
	o := servers.Options{
		Flavour: f, GTID: true, SemiSync: true,
		Flags: []string{"--max-binlog-size=1M"}, Log: t.Output(),
	}
	s, err := servers.Start(t.Context(), o)
	require.NoError(t, err)
	require.Equal(t, host.Port, s.Port)
	require.Equal(t, host.Version, s.Version)
	require.Equal(t, "1048576", text(t, db, "SELECT @@GLOBAL.max_binlog_size"))
	require.Equal(t, "0", text(t, db, "SELECT @@GLOBAL.local_infile"))
	require.Zero(t, s.PID())
	require.ErrorContains(t, s.Kill(), "not started here")
	require.ErrorContains(t, s.Restart(t.Context()), "not started here")
	_, err = s.CPUSeconds()
	require.ErrorContains(t, err, "not started here")

	_, err = servers.Start(t.Context(), o)
	require.ErrorContains(t, err, "in use")

	execute(t, open(t, s), "CREATE DATABASE `a``b`", "CREATE USER visitor")
	require.NoError(t, s.Stop())
	require.NoError(t, s.Stop())
	require.Equal(t, "0", text(t, db, "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'a`b'"))
	require.Equal(t, "0", text(t, db, "SELECT COUNT(*) FROM mysql.user WHERE user = 'visitor'"))
	require.Equal(t, "268435456", text(t, db, "SELECT @@GLOBAL.max_binlog_size"))
	require.Equal(t, "1", text(t, db, "SELECT @@GLOBAL.local_infile"))

	execute(t, db, "CREATE DATABASE precious")
	_, err = servers.Start(t.Context(), o)
	require.ErrorContains(t, err, "not empty (schema precious)")
	execute(t, db, "DROP DATABASE precious")

	if f == servers.MySQL {
		o.GTID = false
		_, err = servers.Start(t.Context(), o)
		require.ErrorContains(t, err, "gtid_mode is ON")
	}
}
