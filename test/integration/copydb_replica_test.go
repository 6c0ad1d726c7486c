package integration

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// fromReplica are the settings of a move whose source is a replica of the pair's.
func fromReplica(p *harness.Pair, replica *servers.Server, position, schema string, more settings) settings {
	return copydbSettings(&harness.Pair{Source: replica, Target: p.Target}, []string{schema}, with(more, settings{
		"RunFerryFromReplica":           true,
		"SourceReplicationMaster":       settings{"Host": p.Source.Host, "Port": p.Source.Port, "User": p.Source.User(), "Pass": p.Source.Password()},
		"ReplicatedMasterPositionQuery": position,
		"WaitForReplicationTimeout":     "1m",
	}))
}

// A replica is copied from while its primary is written: what the primary had when its
// writers stopped is on the target.
func TestCopydbFromAReplica(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		replica, replicaDB := p.StartReplica(t)

		o := sourceShop(t, p, "copydb_replica", 4000)
		position := p.Heartbeat(t, "copydb_heartbeat", replicaDB)

		writer := p.Write(t, o, 60)
		h := serveHooks(t, func() error { return writer.Pause(context.Background()) })
		status, run := runCopydb(t, "-json", fromReplica(p, replica, position, o.Database, h.settings()).file(t))
		require.Zero(t, status)
		require.Equal(t, copydb.Equal, run.result().Outcome)
		p.MustEqual(t, o.Database)

		_, err := writer.Stop()
		require.NoError(t, err)
	})
}

// insertBehindFence is a row that the application wants to write at once.
func insertBehindFence(ctx context.Context, app *sql.DB) error {
	conn, err := app.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if _, err = conn.ExecContext(ctx, "SET SESSION lock_wait_timeout = 1"); err == nil {
		_, err = conn.ExecContext(ctx, "INSERT INTO rows_ VALUES (3, 0)")
	}
	return err
}

// A ready-made fence closes on the primary, which is where the application writes, not on the
// replica that is copied from.
func TestCopydbFencesThePrimaryOfAReplica(t *testing.T) {
	for _, setting := range flavours() {
		for _, kind := range []string{ghostferry.FenceLockTables, ghostferry.FenceAccounts} {
			t.Run(string(setting.Flavour)+"/"+kind, func(t *testing.T) {
				p := harness.Shared(t, setting)
				replica, replicaDB := p.StartReplica(t)
				freshSchemas(t, p, "fence_primary")
				app := fencedApplication(t, p, "fence_primary")
				defer openByHand(t, p)
				position := p.Heartbeat(t, "fence_primary_beat", replicaDB)
				written := make(chan error, 1)
				unlock := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { written <- insertBehindFence(r.Context(), app) }))
				defer unlock.Close()

				status, run := runCopydb(t, "-json", fromReplica(p, replica, position, "fence_primary",
					settings{"CutoverFence": fenceOf(kind), "CutoverUnlock": settings{"URI": unlock.URL}, "AllowExistingTargetTable": true}).file(t))
				require.Zero(t, status)
				require.Equal(t, copydb.Equal, run.result().Outcome)
				require.Error(t, <-written, "the application wrote to the primary behind the fence")
				p.MustEqual(t, "fence_primary")
			})
		}
	}
}

// A process that died behind its fence has left the primary read-only: the next one does not take
// that for a primary that is none any more, and opens the fence.
func TestCopydbOpensTheFenceOfAReplicasPrimary(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	replica, replicaDB := p.StartReplica(t)
	freshSchemas(t, p, "fence_left")
	fencedApplication(t, p, "fence_left")
	defer openByHand(t, p)
	position := p.Heartbeat(t, "fence_left_beat", replicaDB)
	fencedBy := func(kind string) string {
		return fromReplica(p, replica, position, "fence_left", settings{"CutoverFence": fenceOf(kind), "AllowExistingTargetTable": true}).file(t)
	}
	dies := startCopydb(t, fencedBy(ghostferry.FenceReadOnly)) // which stops the heartbeat, too
	dies.stderr.until(t, "waiting for the replica to reach")
	require.NoError(t, dies.cmd.Process.Kill())
	require.Equal(t, -1, dies.ended())
	require.Equal(t, 1, harness.Count(t, p.SourceDB, "(SELECT 1) AS one WHERE @@GLOBAL.read_only"))

	status, run := runCopydb(t, "-json", fencedBy(ghostferry.FenceLockTables))
	require.Zero(t, status)
	require.Equal(t, copydb.Equal, run.result().Outcome)
	require.Contains(t, run.stderr.String(), "died with the fence closed: it was opened")
	p.MustEqual(t, "fence_left")
}

// The library, which does not know how the primary is reached, refuses a fence that would close
// on a replica: first of all, and whoever asks.
func TestFenceOfAReplicaIsRefused(t *testing.T) {
	ctx := cutoverContext(t)
	p := harness.Shared(t, harness.Settings[0])
	p.Create(t, "fence_replica", "CREATE TABLE t (id INT PRIMARY KEY)")
	primary, err := p.Config().Target.SqlDB(nil) // nothing is asked here that would show that it is none
	require.NoError(t, err)
	defer func() { _ = primary.Close() }()
	made := func(fence *ghostferry.FenceConfig) *ghostferry.Ferry {
		f := &ghostferry.Ferry{Config: p.Config("fence_replica")}
		f.CutoverFence = fence
		f.WaitUntilReplicaIsCaughtUpToMaster = &ghostferry.WaitUntilReplicaIsCaughtUpToMaster{
			MasterDB: primary, ReplicatedMasterPositionFetcher: ghostferry.ReplicatedMasterPositionViaCustomQuery{Query: "SELECT 'log.000001', 4"},
		}
		return f
	}
	refused := func(err error) {
		t.Helper()
		faults := ghostferry.ConfigErrors(err)
		require.Len(t, faults, 1, "%v", err)
		require.Equal(t, "CutoverFence.Connection", faults[0].Field)
		require.Contains(t, err.Error(), "set CutoverFence.Connection to the primary")
	}
	onSource := fenceOf(ghostferry.FenceLockTables)
	onSource.Connection = p.Config().Source
	for _, fence := range []*ghostferry.FenceConfig{fenceOf(ghostferry.FenceLockTables), onSource} {
		refused(made(fence).InitializeContext(ctx))
		_, err := made(fence).Preflight(ctx)
		refused(err)
	}
	onPrimary := fenceOf(ghostferry.FenceLockTables)
	onPrimary.Connection = p.Config().Target
	f := made(onPrimary)
	require.NoError(t, f.InitializeContext(ctx))
	defer f.Close()
	_, err = f.NewFence(fenceOf(ghostferry.FenceLockTables))
	refused(err)
	onSource.Connection.Host = "localhost" // the same server by another name
	byName, err := f.NewFence(onSource)
	require.NoError(t, err)
	refused(byName.Fence(ctx))
	require.NoError(t, byName.Close(ctx))
}

// What a fence kills is the application's, never what applies another server's log: that would
// end replication.
func TestFencesSpareReplication(t *testing.T) {
	for _, setting := range flavours() {
		t.Run(string(setting.Flavour), func(t *testing.T) {
			ctx := cutoverContext(t)
			p := harness.Shared(t, setting)
			replica, replicaDB := p.StartReplica(t)
			fencedApplication(t, p, "fence_applier")
			defer openByHand(t, p)
			f := &ghostferry.Ferry{Config: p.Config("fence_applier")}
			require.NoError(t, f.InitializeContext(ctx))
			defer f.Close()
			fenceOfReplica := func(kind string) ghostferry.Fence {
				config := p.Config().Source
				config.Host, config.Port, config.User, config.Pass = replica.Host, uint16(replica.Port), replica.User(), replica.Password() //nolint:gosec // a port
				fence, err := f.NewFence(&ghostferry.FenceConfig{Kind: kind, Connection: config, KillAfter: 1})
				require.NoError(t, err)
				return fence
			}
			arrived := func(n int) {
				t.Helper()
				harness.Await(t, "the replica has the change", func() bool {
					return harness.Count(t, replicaDB, fmt.Sprintf("fence_applier.rows_ WHERE n = %d", n)) == 2
				})
			}

			// The applier is in a transaction that has changed a row and waits for another.
			arrived(0)
			tx, err := replicaDB.BeginTx(ctx, nil)
			require.NoError(t, err)
			_, err = tx.ExecContext(ctx, "SELECT n FROM fence_applier.rows_ WHERE id = 2 LOCK IN SHARE MODE")
			require.NoError(t, err)
			p.In(t, p.SourceDB, "fence_applier", "UPDATE rows_ SET n = 1")
			harness.Await(t, "the applier waits for a row", func() bool {
				time.Sleep(110 * time.Millisecond) // the table is made anew only when nobody has asked for 100 ms
				return harness.Count(t, replicaDB, "information_schema.INNODB_TRX WHERE trx_rows_modified > 0") > 0
			})
			readOnly := fenceOfReplica(ghostferry.FenceReadOnly)
			require.NoError(t, readOnly.Fence(ctx))
			require.NoError(t, readOnly.Close(ctx))
			locks := fenceOfReplica(ghostferry.FenceLockTables)
			closed := make(chan error, 1)
			go func() { closed <- locks.Fence(ctx) }()
			harness.Await(t, "the fence has waited for a while", func() bool {
				return harness.Count(t, replicaDB, "information_schema.PROCESSLIST WHERE INFO LIKE '%LOCK TABLES %READ' AND TIME >= 1") > 0
			})
			require.NoError(t, tx.Rollback())
			require.NoError(t, <-closed)
			arrived(1)

			// The applier waits for the fence's locks.
			p.In(t, p.SourceDB, "fence_applier", "UPDATE rows_ SET n = 2")
			harness.Await(t, "the applier waits for a table", func() bool {
				return harness.Count(t, replicaDB, "information_schema.PROCESSLIST WHERE STATE LIKE 'Waiting for table%lock'") > 0
			})
			require.NoError(t, locks.Close(ctx))
			arrived(2)
		})
	}
}
