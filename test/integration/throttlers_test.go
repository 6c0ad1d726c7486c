package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// eventually waits until a throttler's report says what is wanted.
func eventually(t *testing.T, throttler ghostferry.ReportingThrottler, want string) *ghostferry.ThrottleReport {
	t.Helper()
	var report *ghostferry.ThrottleReport
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		report = throttler.ThrottleReport()
		if want == "" {
			if report != nil {
				c.Errorf("it pauses: %s", report.Why)
			}
			return
		}
		if report == nil {
			c.Errorf("it does not pause, want %q", want)
			return
		}
		assert.Contains(c, report.Why, want)
	}, 30*time.Second, 20*time.Millisecond)
	return report
}

// Each throttler says why it pauses and goes on by itself; what cannot be observed pauses
// and is no error; a limit can be changed while it runs.
func TestThrottlersOnRealServers(t *testing.T) {
	onSomeSettings(t, func(t *testing.T, p *harness.Pair) {
		const often = ghostferry.Duration(20 * time.Millisecond)
		server := p.Config().Source
		p.Create(t, "throttled")
		p.In(t, p.SourceDB, "throttled", "CREATE TABLE heartbeat (id INT PRIMARY KEY, ts DATETIME(6) NOT NULL)", "CREATE TABLE answer (n INT)", "INSERT INTO answer VALUES (0)")

		busy := atomic.Bool{}
		endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if busy.Load() {
				http.Error(w, "a sale is on", http.StatusTooManyRequests)
			}
		}))
		defer endpoint.Close()

		self, err := ghostferry.NewReplicaLagThrottler(&ghostferry.ReplicaLagThrottlerConfig{Name: "self", Replicas: []*ghostferry.DatabaseConfig{server}, UpdateInterval: often})
		require.NoError(t, err)
		heartbeat, err := ghostferry.NewReplicaLagThrottler(&ghostferry.ReplicaLagThrottlerConfig{
			Replicas: []*ghostferry.DatabaseConfig{server, p.Config().Source}, HeartbeatTable: "throttled.heartbeat", MaxLag: 5, UpdateInterval: often,
		})
		require.NoError(t, err)
		load, err := ghostferry.NewLoadThrottler(&ghostferry.LoadThrottlerConfig{Connection: server, MaxThreadsRunning: 500, MaxHistoryListLength: 1 << 30, UpdateInterval: often})
		require.NoError(t, err)
		query, err := ghostferry.NewQueryThrottler(&ghostferry.QueryThrottlerConfig{Connection: server, Query: "SELECT n FROM throttled.answer", UpdateInterval: often})
		require.NoError(t, err)
		asked, err := ghostferry.NewHTTPThrottler(&ghostferry.HTTPThrottlerConfig{URI: endpoint.URL, UpdateInterval: often}, nil)
		require.NoError(t, err)
		all := ghostferry.NewCombinedThrottler(self, heartbeat, load, query, asked)
		require.True(t, all.Throttled(), "nothing has been observed yet")

		ctx, cancel := context.WithCancel(cutoverContext(t))
		ran := make(chan error, 1)
		go func() { ran <- all.Run(ctx) }()
		defer func() {
			cancel()
			require.ErrorIs(t, <-ran, context.Canceled)
			require.NoError(t, all.Close())
		}()

		eventually(t, self, "replication does not run")
		self.SetDisabled(true)
		eventually(t, heartbeat, "NULL")
		p.In(t, p.SourceDB, "throttled", "INSERT INTO heartbeat VALUES (1, UTC_TIMESTAMP(6) - INTERVAL 60 SECOND)")
		first := eventually(t, heartbeat, "behind, at most 5 s are allowed")
		p.In(t, p.SourceDB, "throttled", "UPDATE heartbeat SET ts = UTC_TIMESTAMP(6) + INTERVAL 1 DAY")
		eventually(t, heartbeat, "")
		eventually(t, all, "")
		require.WithinDuration(t, time.Now(), first.Since, time.Minute)

		p.In(t, p.SourceDB, "throttled", "UPDATE answer SET n = 3")
		report := eventually(t, all, "query: the query returned 3")
		require.Equal(t, "query", report.Who)
		p.In(t, p.SourceDB, "throttled", "DROP TABLE answer")
		eventually(t, all, "query cannot be observed")
		query.SetDisabled(true)
		eventually(t, all, "")

		busy.Store(true)
		eventually(t, all, "a sale is on")
		busy.Store(false)
		eventually(t, all, "")

		// A run's limits win, also when they change while it runs.
		config := p.Config("throttled")
		f := &ghostferry.Ferry{Config: config, Throttler: all}
		require.NoError(t, f.InitializeContext(ctx))
		defer f.Close()
		require.Nil(t, f.Progress().Throttle)
		connections := make(chan error, 3)
		sleeping, wake := context.WithCancel(ctx)
		for range cap(connections) {
			go func() {
				_, err := p.SourceDB.ExecContext(sleeping, "SELECT SLEEP(60)")
				connections <- err
			}()
		}
		f.Update(ghostferry.UpdatableConfig{MaxThreadsRunning: 2})
		eventually(t, all, "threads, at most 2 are allowed")
		require.Equal(t, "load", f.Progress().Throttle.Who)
		require.True(t, f.Progress().Throttled)
		f.Update(ghostferry.UpdatableConfig{MaxThreadsRunning: -1})
		eventually(t, all, "")
		wake()
		for range cap(connections) {
			<-connections
		}
		all.SetPaused(true)
		require.Equal(t, "pauser", f.Progress().Throttle.Who)
		all.SetPaused(false)
	})
}

// Throttlers of the configuration hold the copy back, and not the changes; adaptive pacing
// goes on beside them.
func TestConfiguredThrottlersHoldTheCopy(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := cutoverContext(t)
		o := p.Shop(t, "held_copy", 400)
		p.Create(t, "held_answer", "CREATE TABLE answer (n INT)")
		p.In(t, p.SourceDB, "held_answer", "INSERT INTO answer VALUES (1)")
		writer := p.Write(t, o, 60)
		config := p.Config(o.Database)
		text, err := json.Marshal(map[string]any{
			"Query": []any{map[string]any{
				"Connection": map[string]any{"Host": p.Source.Host, "Port": p.Source.Port, "User": p.Source.User(), "Pass": p.Source.Password()},
				"Query":      "SELECT n FROM held_answer.answer", "UpdateInterval": "20ms",
			}},
			"Adaptive": map[string]any{},
		})
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &config.Throttlers))
		f := &ghostferry.Ferry{Config: config}
		mustStart(t, ctx, f)
		ended := make(chan error, 1)
		go func() { ended <- harness.RunStarted(ctx, f, harness.StopWriter(writer)) }()
		harness.Await(t, "changes are applied", func() bool { return f.Progress().BinlogRowsApplied > 20 })
		progress := f.Progress()
		require.Zero(t, progress.RowsCopied)
		require.Equal(t, "query", progress.Throttle.Who)
		p.In(t, p.SourceDB, "held_answer", "UPDATE answer SET n = 0")
		require.NoError(t, <-ended)
		require.Positive(t, f.Progress().RowsCopied)
		require.NoError(t, f.Close())
		p.MustEqual(t, o.Database)
	})
}

// A replica that is behind holds the run back until it has caught up.
func TestReplicaLagOfARealReplica(t *testing.T) {
	t.Parallel()
	for _, s := range harness.OneFlavour(t) {
		t.Run(string(s.Flavour), func(t *testing.T) {
			t.Parallel()
			p := harness.New(t, s)
			server, replica := p.StartReplica(t)
			p.Create(t, "lagging", "CREATE TABLE t (id INT PRIMARY KEY)")
			throttler, err := ghostferry.NewReplicaLagThrottler(&ghostferry.ReplicaLagThrottlerConfig{
				Replicas: []*ghostferry.DatabaseConfig{{Host: server.Host, Port: uint16(server.Port), User: server.User(), Pass: server.Password()}}, UpdateInterval: ghostferry.Duration(20 * time.Millisecond),
			})
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(cutoverContext(t))
			ran := make(chan error, 1)
			go func() { ran <- throttler.Run(ctx) }()
			defer func() {
				cancel()
				require.ErrorIs(t, <-ran, context.Canceled)
				require.NoError(t, throttler.Close())
			}()
			eventually(t, throttler, "")
			delay := func(seconds int) {
				if s.Flavour == servers.MariaDB {
					p.In(t, replica, "", "STOP SLAVE", fmt.Sprintf("CHANGE MASTER TO MASTER_DELAY=%d", seconds), "START SLAVE")
					return
				}
				p.In(t, replica, "", "STOP REPLICA SQL_THREAD", fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_DELAY=%d", seconds), "START REPLICA SQL_THREAD")
			}
			delay(600)
			p.In(t, p.SourceDB, "lagging", "INSERT INTO t VALUES (1)")
			eventually(t, throttler, "behind, at most 1 s are allowed")
			delay(0)
			eventually(t, throttler, "")
		})
	}
}
