package harness

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

// StartReplica starts a read-only replica of the pair's source, from its present end, until the
// test ends.
func (p *Pair) StartReplica(t *testing.T) (*servers.Server, *sql.DB) {
	t.Helper()
	replica, err := servers.Start(t.Context(), servers.Options{Flavour: p.Flavour, Name: "replica", GTID: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, replica.Stop()) })
	db, err := replica.DB(t.Context())
	require.NoError(t, err)
	p.Replicate(t, db)
	return replica, db
}

// Replicate makes a new server a read-only replica of the pair's source, from its present end.
func (p *Pair) Replicate(t *testing.T, replica *sql.DB) {
	t.Helper()
	if p.Flavour == servers.MySQL {
		var executed string
		require.NoError(t, p.SourceDB.QueryRow("SELECT @@GLOBAL.gtid_executed").Scan(&executed))
		Exec(t, replica, fmt.Sprintf("RESET BINARY LOGS AND GTIDS;\nSET GLOBAL gtid_purged = '%s';\n"+
			"CHANGE REPLICATION SOURCE TO SOURCE_HOST='%s', SOURCE_PORT=%d, SOURCE_USER='%s', SOURCE_PASSWORD='%s', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1;\n"+
			"START REPLICA;\nSET GLOBAL super_read_only = ON", executed, p.Source.Host, p.Source.Port, p.Source.User(), p.Source.Password()))
		return
	}
	var executed string
	require.NoError(t, p.SourceDB.QueryRow("SELECT @@GLOBAL.gtid_binlog_pos").Scan(&executed))
	Exec(t, replica, fmt.Sprintf("SET GLOBAL gtid_slave_pos = '%s';\n"+
		"CHANGE MASTER TO MASTER_HOST='%s', MASTER_PORT=%d, MASTER_USER='%s', MASTER_PASSWORD='%s', MASTER_USE_GTID=slave_pos;\n"+
		"START SLAVE;\nSET GLOBAL read_only = ON", executed, p.Source.Host, p.Source.Port, p.Source.User(), p.Source.Password()))
}

// Heartbeat writes the source's position into a table of a schema of its own until the test
// ends, and returns when it has reached the replica: with the query that asks the replica what
// it has of the source's log.
func (p *Pair) Heartbeat(t *testing.T, schema string, replica *sql.DB) (query string) {
	t.Helper()
	query = "SELECT file, pos FROM " + schema + ".beat"
	Exec(t, p.SourceDB, "DROP DATABASE IF EXISTS "+schema+";\nCREATE DATABASE "+schema+";\n"+
		"CREATE TABLE "+schema+".beat (id INT PRIMARY KEY, file VARCHAR(100), pos BIGINT);\nINSERT INTO "+schema+".beat VALUES (1, '', 4)")
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
			if file, pos, err := p.SourceLogEnd(ctx); err == nil {
				_, _ = p.SourceDB.ExecContext(ctx, "UPDATE "+schema+".beat SET file = ?, pos = ? WHERE id = 1", file, pos)
			}
		}
	}()
	require.Eventually(t, func() bool {
		var file string
		var pos int64
		return replica.QueryRow(query).Scan(&file, &pos) == nil && pos > 4
	}, time.Minute, 10*time.Millisecond, "the replica follows")
	return query
}

// SourceLogEnd is where the source's binary log ends.
func (p *Pair) SourceLogEnd(ctx context.Context) (file string, pos int64, err error) {
	var unused sql.NullString
	if p.Flavour == servers.MySQL {
		err = p.SourceDB.QueryRowContext(ctx, "SHOW BINARY LOG STATUS").Scan(&file, &pos, &unused, &unused, &unused)
	} else {
		err = p.SourceDB.QueryRowContext(ctx, "SHOW MASTER STATUS").Scan(&file, &pos, &unused, &unused)
	}
	return file, pos, err
}
