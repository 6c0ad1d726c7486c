package integration

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// Everything over Unix sockets, the binary log too: nobody can listen, so a password
// may travel as it is.
func TestMoveOverUnixSockets(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, "sockets", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, "sockets", "INSERT INTO t VALUES (1,1),(2,2)")
		config := p.Config("sockets")
		for _, side := range []struct {
			config *ghostferry.DatabaseConfig
			server *servers.Server
		}{{config.Source, p.Source}, {config.Target, p.Target}} {
			side.config.Net, side.config.Host, side.config.Port = "unix", side.server.Socket, 0
		}
		f := &ghostferry.Ferry{Config: config}
		require.NoError(t, harness.Move(t.Context(), f, func() error {
			p.In(t, p.SourceDB, "sockets", "UPDATE t SET v=3 WHERE id=1")
			return nil
		}))
		require.NoError(t, f.Close())
		p.MustEqual(t, "sockets")
	})
}

// The password of an account that is in use is changed, first where it is read from or
// first on the server; every connection is lost. The run goes on.
func TestPasswordIsRotatedDuringARun(t *testing.T) {
	const user = "rotated"
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p.Create(t, "rotation", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, "rotation", "INSERT INTO t VALUES (1,1),(2,2)")
		harness.Exec(t, p.SourceDB, "DROP USER IF EXISTS '"+user+"'@'%';\nCREATE USER '"+user+"'@'%' IDENTIFIED BY 'first secret';\nGRANT ALL ON *.* TO '"+user+"'@'%'")
		t.Cleanup(func() { harness.Exec(t, p.SourceDB, "DROP USER '"+user+"'@'%'") })

		file := filepath.Join(t.TempDir(), "password")
		require.NoError(t, os.WriteFile(file, []byte("first secret\n"), 0o600))
		config := p.Config("rotation")
		config.Source.User, config.Source.Pass, config.Source.PassFile = user, "", file
		var asked atomic.Int64 // connections are made at once
		config.Target.Pass, config.Target.Password = "", func(context.Context) (string, error) {
			asked.Add(1)
			return p.Target.Password(), nil
		}
		config.AutomaticCutover = false
		f := &ghostferry.Ferry{Config: config}
		mustStart(t, ctx, f)
		ran := make(chan error, 1)
		go func() { ran <- harness.RunStarted(ctx, f, func() error { return nil }) }()
		awaitRows(t, p.TargetDB, "rotation.t", 2, f)

		harness.Exec(t, p.SourceDB, "ALTER USER '"+user+"'@'%' IDENTIFIED BY 'second secret'")
		p.KillConnections(t, p.SourceDB, user)
		p.In(t, p.SourceDB, "rotation", "UPDATE t SET v=5")
		require.NoError(t, os.WriteFile(file, []byte("second secret"), 0o600))
		f.AllowCutover()
		require.NoError(t, <-ran)
		require.NoError(t, f.Close())
		require.Positive(t, asked.Load())
		p.MustEqual(t, "rotation")
	})
}
