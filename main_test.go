package ghostferry

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// testServers are the servers of this package's tests, one of each flavour, started
// by the first test that asks for it. Every test has schemas of its own.
var testServers = struct {
	sync.Mutex
	running map[servers.Flavour]*servers.Server
}{running: make(map[servers.Flavour]*servers.Server)}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, server := range testServers.running {
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func testServer(tb testing.TB, flavour servers.Flavour) *servers.Server {
	tb.Helper()
	testServers.Lock()
	defer testServers.Unlock()
	if server := testServers.running[flavour]; server != nil {
		return server
	}
	server, err := servers.Start(context.Background(), servers.Options{Flavour: flavour, GTID: true})
	require.NoError(tb, err)
	testServers.running[flavour] = server
	return server
}

// testDatabaseConfig is how a run would reach the server.
func testDatabaseConfig(server *servers.Server) *DatabaseConfig {
	return &DatabaseConfig{Host: server.Host, Port: uint16(server.Port), User: server.User(), Pass: server.Password()}
}

// onBothFlavours runs f against MySQL and MariaDB, with a pool as a run has it.
func onBothFlavours(t *testing.T, f func(t *testing.T, db *sql.DB, server *servers.Server)) {
	t.Helper()
	for _, flavour := range []servers.Flavour{servers.MySQL, servers.MariaDB} {
		t.Run(string(flavour), func(t *testing.T) {
			server := testServer(t, flavour)
			config := testDatabaseConfig(server)
			require.NoError(t, config.Validate())
			db, err := config.SqlDB(nil)
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, db.Close()) })
			f(t, db, server)
		})
	}
}

// freshSchema makes an empty schema that is dropped after the test.
func freshSchema(t *testing.T, db *sql.DB, name string) {
	t.Helper()
	mustExec(t, db, "DROP DATABASE IF EXISTS "+QuoteField(name), "CREATE DATABASE "+QuoteField(name))
	t.Cleanup(func() { _, _ = db.Exec("DROP DATABASE IF EXISTS " + QuoteField(name)) })
}

func mustExec(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, statement := range statements {
		_, err := db.Exec(statement)
		require.NoError(t, err, statement)
	}
}
