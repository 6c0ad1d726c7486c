package integration

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// Clients that begin requests and do not end them, more than the control server lets in, delay
// neither the copy nor the cutover.
func TestSlowClientsDelayNothing(t *testing.T) {
	const clients, rows = 300, 500
	p := harness.Shared(t, harness.Settings[0])
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p.Create(t, "slow_clients", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
	p.In(t, p.SourceDB, "slow_clients", "INSERT INTO t WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i+1 FROM n WHERE i < 500) SELECT i, i FROM n")
	f := shopFerry(p, "slow_clients", 10)
	f.Config.ControlServerConfig = &ghostferry.ControlServerConfig{Enabled: true, ServerBindAddr: "127.0.0.1:0", Token: strings.Repeat("t", 32)}
	mustStart(t, ctx, f)
	for range clients {
		conn, err := net.Dial("tcp", f.ControlServer.Addr())
		require.NoError(t, err)
		defer conn.Close() //nolint:revive // they are there until the end
		_, err = conn.Write([]byte("POST /api/pause HTTP/1.1\r\nHost: localhost\r\nContent-Le"))
		require.NoError(t, err)
	}
	require.NoError(t, harness.RunStarted(ctx, f, func() error { return nil }))
	require.Equal(t, rows, harness.Count(t, p.TargetDB, "slow_clients.t"))
	require.NoError(t, f.Close())
	p.MustEqual(t, "slow_clients")
}
