package integration

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
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
	onEachSetting(t, func(t *testing.T, p *harness.Pair) {
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
