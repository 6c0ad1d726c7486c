package ghostferry

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/faultproxy"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// onBrokenConnections is onBothFlavours through a proxy.
func onBrokenConnections(t *testing.T, f func(t *testing.T, db *sql.DB, srv *server.Server, proxy *faultproxy.Proxy)) {
	t.Helper()
	onBothFlavours(t, func(t *testing.T, _ *sql.DB, s *servers.Server) {
		proxy, err := faultproxy.Start(net.JoinHostPort(s.Host, strconv.Itoa(s.Port)))
		require.NoError(t, err)
		defer func() { require.NoError(t, proxy.Close()) }()
		config := testDatabaseConfig(s)
		config.Host, config.Port = "127.0.0.1", uint16(proxy.Port())
		require.NoError(t, config.Validate())
		db, err := config.SqlDB(nil)
		require.NoError(t, err)
		defer db.Close()
		srv, err := server.Detect(t.Context(), db)
		require.NoError(t, err)
		f(t, db, srv, proxy)
	})
}

// A connection that breaks while the checkpoint's tables are made ends no run, and only who was
// refused is told to grant something.
func TestCheckpointIsCreatedThroughOutages(t *testing.T) {
	onBrokenConnections(t, func(t *testing.T, db *sql.DB, srv *server.Server, proxy *faultproxy.Proxy) {
		freshSchema(t, db, "created_runs")
		c := &checkpoint{db: db, server: srv, schema: "created_runs", attempts: 1, patience: &patience{server: "target", logger: quietLogger()}}
		on := func(do faultproxy.Action, number uint16) *faultproxy.Trigger {
			return proxy.On(faultproxy.Rule{Do: do, Match: faultproxy.Query("^CREATE TABLE IF NOT EXISTS .created_runs...lanes."), Error: number})
		}
		broken := on(faultproxy.LoseAnswer, 0)
		require.NoError(t, c.create(t.Context()))
		require.Equal(t, 1, broken.Taken())
		on(faultproxy.Refuse, 1142) // ER_TABLEACCESS_DENIED_ERROR
		require.ErrorContains(t, c.create(t.Context()), "grant CREATE")
		on(faultproxy.Refuse, 1118) // ER_TOO_BIG_ROWSIZE
		err := c.create(t.Context())
		require.ErrorContains(t, err, "creating the checkpoint in schema `created_runs`")
		require.NotContains(t, err.Error(), "grant")
	})
}

// The next AUTO_INCREMENT values are carried over connections that break, too: the writers wait for that.
// The target's table never had a row, of which MySQL 8 tells no value.
func TestAutoIncrementsThroughOutages(t *testing.T) {
	onBrokenConnections(t, func(t *testing.T, db *sql.DB, srv *server.Server, proxy *faultproxy.Proxy) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, name := range []string{"numbers", "numbers_moved"} {
			freshSchema(t, db, name)
			mustExec(t, db, "CREATE TABLE "+name+".t (id INT AUTO_INCREMENT PRIMARY KEY)")
		}
		mustExec(t, db, "ALTER TABLE numbers.t AUTO_INCREMENT=77")
		f := &Ferry{
			Config:   &Config{DatabaseRewrites: map[string]string{"numbers": "numbers_moved"}},
			SourceDB: db, TargetDB: db, sourceServer: srv, targetServer: srv, logger: quietLogger(),
			sourcePatience: &patience{server: "source", logger: quietLogger()}, targetPatience: &patience{server: "target", logger: quietLogger()},
			Tables: TableSchemaCache{"numbers.t": {Table: &schema.Table{Schema: "numbers", Name: "t", Columns: []schema.TableColumn{{Name: "id", IsAuto: true}}}}},
		}
		read := proxy.On(faultproxy.Rule{Do: faultproxy.Reset, Match: faultproxy.Query("^SELECT 0, .*AUTO_INCREMENT"), Times: 2})
		raised := proxy.On(faultproxy.Rule{Do: faultproxy.LoseAnswer, Match: faultproxy.Query("^ALTER TABLE")})
		require.NoError(t, f.carryAutoIncrement(ctx))
		require.Equal(t, []int{2, 1}, []int{read.Taken(), raised.Taken()})
		mustExec(t, db, "INSERT INTO numbers_moved.t VALUES (NULL)")
		require.Equal(t, 77, count(t, db, "SELECT id FROM numbers_moved.t"))
	})
}
