package integration

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// A replica is copied from while its primary is written: what the primary had when its
// writers stopped is on the target.
func TestCopydbFromAReplica(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		replica, replicaDB := p.StartReplica(t)

		o := sourceShop(t, p, "copydb_replica", 4000)
		position := p.Heartbeat(t, "copydb_heartbeat", replicaDB)

		writer := p.Write(t, o, 60)
		h := serveHooks(t, func() error { return writer.Pause(context.Background()) })
		s := copydbSettings(&harness.Pair{Source: replica, Target: p.Target}, []string{o.Database}, with(h.settings(), settings{
			"RunFerryFromReplica":           true,
			"SourceReplicationMaster":       settings{"Host": p.Source.Host, "Port": p.Source.Port, "User": p.Source.User(), "Pass": p.Source.Password()},
			"ReplicatedMasterPositionQuery": position,
			"WaitForReplicationTimeout":     "1m",
		}))
		status, run := runCopydb(t, "-json", s.file(t))
		require.Zero(t, status)
		require.Equal(t, copydb.Equal, run.result().Outcome)
		p.MustEqual(t, o.Database)

		_, err := writer.Stop()
		require.NoError(t, err)
	})
}
