package tenants

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/sharding"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// callbacks is the host's side of a cutover: it keeps what was posted.
type callbacks struct {
	url    string
	locked func() error // called by /lock

	mu     sync.Mutex
	posted []string
	fail   string // the path that is answered 500
}

func startCallbacks(t *testing.T) *callbacks {
	t.Helper()
	c := &callbacks{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.posted = append(c.posted, r.URL.Path)
		if r.URL.Path == "/lock" {
			if err := c.locked(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		}
		if r.URL.Path == c.fail {
			http.Error(w, "no", http.StatusInternalServerError)
		}
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// moveTenant is one process of the tenant's move. locked is called while CutoverLock waits
// for its answer; fail is the path that is answered 500. It returns what was posted.
func (c *callbacks) moveTenant(t *testing.T, p *harness.Pair, locked func(cancel context.CancelFunc) error, fail string) (posted []string, err error) {
	t.Helper()
	ctx, cancel := context.WithCancel(minutes(t))
	defer cancel()
	config := shardConfig(p)
	config.CutoverLock, config.CutoverUnlock = ghostferry.HTTPCallback{URI: c.url + "/lock"}, ghostferry.HTTPCallback{URI: c.url + "/unlock"}
	config.CutoverAbort = ghostferry.HTTPCallback{URI: c.url + "/abort"}
	c.posted, c.fail, c.locked = nil, fail, func() error { return locked(cancel) }
	ferry, err := sharding.NewFerry(config)
	require.NoError(t, err)
	require.NoError(t, ferry.InitializeContext(ctx))
	require.NoError(t, ferry.StartContext(ctx))
	err = ferry.RunContext(ctx)
	require.NoError(t, ferry.Close())
	return c.posted, err
}

// A tenant's writers go on when the move fails after CutoverLock: after a difference, and
// when the process is told to end. They do not when another process has taken the move over,
// nor when it is not known whether CutoverUnlock was obeyed. The same command goes on after
// each of these, although the tenant's own row has been copied and has changed since.
func TestShardingGivesACutoverUp(t *testing.T) {
	withGTIDs(t, func(t *testing.T, p *harness.Pair) {
		fillShard(t, p)
		before := shardRows(t, p, true, false)
		hooks := startCallbacks(t)
		must := func(posted []string, err error, want []string, traffic ghostferry.TrafficOwner, blocked bool, says string) {
			t.Helper()
			var failed *ghostferry.CutoverError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, want, posted)
			require.Equal(t, traffic, failed.Traffic)
			require.Equal(t, blocked, failed.Blocked)
			require.ErrorContains(t, err, says)
		}
		onTarget := func(statements ...string) func(context.CancelFunc) error {
			return func(context.CancelFunc) error {
				for _, statement := range statements {
					if _, err := p.TargetDB.ExecContext(t.Context(), statement); err != nil {
						return err
					}
				}
				return nil
			}
		}
		stop := func(cancel context.CancelFunc) error { cancel(); return nil }
		posted, err := hooks.moveTenant(t, p, onTarget("INSERT INTO shard.tenants VALUES ('ACME',77)"), "")
		must(posted, err, []string{"/lock", "/abort"}, ghostferry.TrafficOnSource, false, "unblocked by CutoverAbort")
		var differs ghostferry.BatchWriterVerificationFailed
		require.ErrorAs(t, err, &differs)

		harness.Exec(t, p.TargetDB, "DELETE FROM shard.tenants WHERE name='acme'")
		posted, err = hooks.moveTenant(t, p, stop, "")
		must(posted, err, []string{"/lock", "/abort"}, ghostferry.TrafficOnSource, false, "unblocked by CutoverAbort")
		require.ErrorIs(t, err, context.Canceled)
		require.True(t, ghostferry.Resumable(err))

		posted, err = hooks.moveTenant(t, p, stop, "/abort")
		must(posted, err, []string{"/lock", "/abort"}, ghostferry.TrafficOnSource, true, "may still be blocked")

		posted, err = hooks.moveTenant(t, p, onTarget("UPDATE _ghostferry.runs SET epoch=epoch+1", "UPDATE _ghostferry.lanes SET epoch=epoch+1"), "")
		must(posted, err, []string{"/lock"}, ghostferry.TrafficOnSource, true, "taken the run over")

		posted, err = hooks.moveTenant(t, p, onTarget(), "/unlock")
		must(posted, err, []string{"/lock", "/unlock"}, ghostferry.TrafficUnknown, true, "not known")
		require.False(t, ghostferry.Resumable(err))

		p.In(t, p.TargetDB, shard, "ALTER TABLE labels ADD FOREIGN KEY (tenant) REFERENCES tenants (name) ON DELETE CASCADE")
		p.In(t, p.SourceDB, shard, "UPDATE tenants SET v=v+1 WHERE name='acme'", "UPDATE orders SET v=v+1 WHERE tenant='acme'")
		posted, err = hooks.moveTenant(t, p, onTarget(), "")
		require.NoError(t, err)
		require.Equal(t, []string{"/lock", "/unlock"}, posted)
		require.Equal(t, shardRows(t, p, false, true), shardRows(t, p, true, true))
		require.Equal(t, before["orders"], shardRows(t, p, true, false)["orders"])
		require.Equal(t, before["tenants"], shardRows(t, p, true, false)["tenants"])
	})
}
