package server

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseVersion(t *testing.T) {
	for version, want := range map[string]Server{
		"8.0.36":                               {Flavour: MySQL, Major: 8, Minor: 0, Patch: 36},
		"8.0.35-27":                            {Flavour: MySQL, Major: 8, Minor: 0, Patch: 35},
		"9.7.4-2":                              {Flavour: MySQL, Major: 9, Minor: 7, Patch: 4},
		"5.7.44-log":                           {Flavour: MySQL, Major: 5, Minor: 7, Patch: 44},
		"10.11.18-MariaDB-0+deb12u1-log":       {Flavour: MariaDB, Major: 10, Minor: 11, Patch: 18},
		"5.5.5-10.6.21-MariaDB-log":            {Flavour: MariaDB, Major: 10, Minor: 6, Patch: 21},
		"11.8.3-MariaDB-ubu2404":               {Flavour: MariaDB, Major: 11, Minor: 8, Patch: 3},
		"8.0.mysql_aurora.3.08.0 (compatible)": {Flavour: MySQL, Major: 8, Minor: 0, Patch: 3},
	} {
		var got Server
		require.NoError(t, got.parseVersion(version))
		want.Version = version
		require.Equal(t, want, got)
	}
	require.Error(t, new(Server).parseVersion(""))
	require.Error(t, new(Server).parseVersion("8.4"))
	require.Error(t, new(Server).parseVersion("99999999999999999999.1.1"))
}

func TestVersionsOlderAndNewer(t *testing.T) {
	s := &Server{Major: 8, Minor: 2, Patch: 5}
	require.True(t, s.AtLeast(8, 2, 5))
	require.True(t, s.AtLeast(7, 9, 9))
	require.True(t, s.AtLeast(8, 1, 9))
	require.False(t, s.AtLeast(8, 2, 6))
	require.False(t, s.AtLeast(8, 3, 0))
	require.False(t, s.AtLeast(9, 0, 0))
}

// The statements of versions that the tests cannot start.
func TestStatementsByVersion(t *testing.T) {
	mysql := func(major, minor, patch int) *Server {
		return &Server{Flavour: MySQL, Major: major, Minor: minor, Patch: patch}
	}
	maria := func(major, minor, patch int) *Server {
		return &Server{Flavour: MariaDB, Major: major, Minor: minor, Patch: patch}
	}
	require.Equal(t, "SHOW SLAVE HOSTS", mysql(8, 0, 21).ReplicaHostsQuery())
	require.Equal(t, "SHOW REPLICAS", mysql(8, 0, 22).ReplicaHostsQuery())
	require.Equal(t, "SHOW SLAVE HOSTS", maria(11, 8, 0).ReplicaHostsQuery())
	require.Equal(t, " LOCK IN SHARE MODE", mysql(5, 7, 44).LockingReadSuffix())
	require.Equal(t, " FOR SHARE", mysql(8, 0, 11).LockingReadSuffix())
	require.Equal(t, " LOCK IN SHARE MODE", maria(11, 8, 0).LockingReadSuffix())
	require.False(t, mysql(8, 0, 18).UpsertRowAlias())
	require.True(t, mysql(8, 0, 19).UpsertRowAlias())
	require.False(t, maria(11, 8, 0).UpsertRowAlias())
	require.Equal(t, "SHOW MASTER STATUS", mysql(8, 1, 0).binlogStatusStatement())
	require.Equal(t, "SHOW BINARY LOG STATUS", mysql(8, 4, 0).binlogStatusStatement())
	require.Equal(t, "SHOW MASTER STATUS", maria(11, 8, 0).binlogStatusStatement())
	require.Contains(t, mysql(5, 7, 19).SessionVariables(Source), "tx_isolation")
	require.Contains(t, mysql(5, 7, 20).SessionVariables(Source), "transaction_isolation")
	require.Contains(t, maria(10, 11, 0).SessionVariables(Source), "tx_isolation")
	require.Contains(t, maria(11, 1, 1).SessionVariables(Source), "transaction_isolation")
}

func TestRetention(t *testing.T) {
	for want, vars := range map[time.Duration]map[string]string{
		30 * 24 * time.Hour: {"binlog_expire_logs_seconds": "2592000", "expire_logs_days": "0", "binlog_expire_logs_auto_purge": "ON"},
		36 * time.Hour:      {"expire_logs_days": "1.5"},
		0:                   {"binlog_expire_logs_seconds": "2592000", "binlog_expire_logs_auto_purge": "OFF"},
	} {
		require.Equal(t, want, binlogRetention(vars))
	}
	require.Zero(t, binlogRetention(nil))
}

func TestIdentityNeedsMoreThanTheNetworkCard(t *testing.T) {
	s := &Server{Hostname: "h", Port: 3306, ServerID: 7}
	require.Equal(t, "u-u-i-d", s.identity(map[string]string{"server_uuid": "u-u-i-d"}))
	require.Equal(t, "digest:7", s.identity(map[string]string{"server_uid": "digest"}))
	require.Equal(t, "h:3306:7", s.identity(nil))
}
