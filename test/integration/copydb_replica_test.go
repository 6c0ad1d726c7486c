package integration

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// A replica is copied from while its primary is written: what the primary had when its
// writers stopped is on the target.
func TestCopydbFromAReplica(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		replica, err := servers.Start(t.Context(), servers.Options{Flavour: p.Flavour, Name: "replica", GTID: true})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, replica.Stop()) })
		replicaDB, err := replica.DB(t.Context())
		require.NoError(t, err)
		replicate(t, p, replicaDB)

		o := sourceShop(t, p, "copydb_replica", 4000)
		freshSchemas(t, p, "copydb_heartbeat")
		harness.Exec(t, p.SourceDB, "CREATE DATABASE copydb_heartbeat;\nCREATE TABLE copydb_heartbeat.beat (id INT PRIMARY KEY, file VARCHAR(100), pos BIGINT);\nINSERT INTO copydb_heartbeat.beat VALUES (1, '', 4)")
		beat(t, p)
		require.Eventually(t, func() bool {
			var pos int64
			return replicaDB.QueryRow("SELECT pos FROM copydb_heartbeat.beat").Scan(&pos) == nil && pos > 4
		}, time.Minute, 10*time.Millisecond, "the replica follows")

		writer := p.Write(t, o, 60)
		h := serveHooks(t, func() error { return writer.Pause(context.Background()) })
		s := copydbSettings(&harness.Pair{Source: replica, Target: p.Target}, []string{o.Database}, with(h.settings(), settings{
			"RunFerryFromReplica":           true,
			"SourceReplicationMaster":       settings{"Host": p.Source.Host, "Port": p.Source.Port, "User": p.Source.User(), "Pass": p.Source.Password()},
			"ReplicatedMasterPositionQuery": "SELECT file, pos FROM copydb_heartbeat.beat",
			"WaitForReplicationTimeout":     "1m",
		}))
		status, run := runCopydb(t, "-json", s.file(t))
		require.Zero(t, status)
		require.Equal(t, copydb.Equal, run.result().Outcome)
		p.MustEqual(t, o.Database)

		_, err = writer.Stop()
		require.NoError(t, err)
	})
}

// replicate makes the replica follow the pair's source, from its present end.
func replicate(t *testing.T, p *harness.Pair, replica *sql.DB) {
	t.Helper()
	if p.Flavour == servers.MySQL {
		var executed string
		require.NoError(t, p.SourceDB.QueryRow("SELECT @@GLOBAL.gtid_executed").Scan(&executed))
		harness.Exec(t, replica, fmt.Sprintf("RESET BINARY LOGS AND GTIDS;\nSET GLOBAL gtid_purged = '%s';\n"+
			"CHANGE REPLICATION SOURCE TO SOURCE_HOST='%s', SOURCE_PORT=%d, SOURCE_USER='%s', SOURCE_PASSWORD='%s', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1;\n"+
			"START REPLICA;\nSET GLOBAL super_read_only = ON", executed, p.Source.Host, p.Source.Port, p.Source.User(), p.Source.Password()))
		return
	}
	var executed string
	require.NoError(t, p.SourceDB.QueryRow("SELECT @@GLOBAL.gtid_binlog_pos").Scan(&executed))
	harness.Exec(t, replica, fmt.Sprintf("SET GLOBAL gtid_slave_pos = '%s';\n"+
		"CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%d, MASTER_USER='%s', MASTER_PASSWORD='%s', MASTER_USE_GTID=slave_pos;\n"+
		"START SLAVE;\nSET GLOBAL read_only = ON", executed, p.Source.Host, p.Source.Port, p.Source.User(), p.Source.Password()))
}

// beat writes the primary's position into the heartbeat table until the test ends.
func beat(t *testing.T, p *harness.Pair) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	go func() {
		defer close(ended)
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			if file, pos, err := logEnd(ctx, p.SourceDB, p.Flavour); err == nil {
				_, _ = p.SourceDB.ExecContext(ctx, "UPDATE copydb_heartbeat.beat SET file = ?, pos = ? WHERE id = 1", file, pos)
			}
		}
	}()
}

// logEnd is where a server's binary log ends.
func logEnd(ctx context.Context, db *sql.DB, flavour servers.Flavour) (file string, pos int64, err error) {
	var unused sql.NullString
	if flavour == servers.MySQL {
		err = db.QueryRowContext(ctx, "SHOW BINARY LOG STATUS").Scan(&file, &pos, &unused, &unused, &unused)
	} else {
		err = db.QueryRowContext(ctx, "SHOW MASTER STATUS").Scan(&file, &pos, &unused, &unused)
	}
	return file, pos, err
}
