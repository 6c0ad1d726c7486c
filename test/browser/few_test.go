//go:build browser

package browser

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// controlled is a control server of a test's own.
func controlled() *ghostferry.ControlServerConfig {
	return &ghostferry.ControlServerConfig{ServerBindAddr: "127.0.0.1:0", Token: operateToken, ReadToken: readToken}
}

const noTables = `document.getElementById("tables-empty").textContent.includes("no tables")`

// Without tables, before a run and in each of its states. A real run has some, or fails.
func TestNoTables(t *testing.T) {
	f := &ghostferry.Ferry{Config: &ghostferry.Config{ControlServerConfig: controlled()}, Throttler: &ghostferry.PauserThrottler{}}
	server := &ghostferry.ControlServer{Config: f.ControlServerConfig, F: f}
	require.NoError(t, server.Initialize())
	serving := httptest.NewServer(server)
	t.Cleanup(serving.Close)
	shots(t, serving.URL+"/", "idle-0", noTables)
	f.OverallState.Store(ghostferry.StateCopying)
	shots(t, serving.URL+"/", "running-0", phase("copying")+" && "+noTables)
	f.Throttler.SetPaused(true)
	shots(t, serving.URL+"/", "throttled-0", `document.getElementById("alerts").textContent.includes("Paused by hand")`)
	f.Throttler.SetPaused(false)
	f.OverallState.Store(ghostferry.StateDone)
	shots(t, serving.URL+"/", "done-0", phase("done")+" && "+noTables)

	pair := harness.Shared(t, harness.Settings[0])
	pair.Create(t, "hollow", "CREATE TABLE t (id INT PRIMARY KEY)")
	config := pair.Config("hollow")
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	config.Logger, config.ControlServerConfig = logger, controlled()
	config.ControlServerConfig.Enabled = true
	failed := &ghostferry.Ferry{Config: config}
	require.NoError(t, failed.InitializeContext(t.Context()))
	defer failed.Close()
	require.NoError(t, failed.StartContext(t.Context()))
	clear(failed.Tables)
	require.ErrorContains(t, failed.RunContext(context.Background()), "nothing to move")
	shots(t, failed.ControlServer.URL(), "failed-0", phase("failed")+" && "+noTables)
}

// moody pauses the run for a reason that is never the same.
type moody struct {
	ghostferry.PauserThrottler
	since time.Time
	looks atomic.Int64
}

func (m *moody) Throttled() bool { return true }

func (m *moody) ThrottleReport() *ghostferry.ThrottleReport {
	return &ghostferry.ThrottleReport{Who: "lag", Why: fmt.Sprintf("the lag is %d", m.looks.Add(1)), Since: m.since}
}

// The page goes on with the next process at the same address: its log begins again. A reason
// that changes every second is shown and not announced again.
func TestTheNextProcess(t *testing.T) {
	pair := harness.Shared(t, harness.Settings[0])
	pair.Create(t, "next", "CREATE TABLE t (id INT PRIMARY KEY)")
	began := time.Now()
	process := func(n int) *ghostferry.Ferry {
		config := pair.Config("next")
		logger := logrus.New()
		logger.SetOutput(io.Discard)
		config.Logger, config.ControlServerConfig = logger, controlled()
		f := &ghostferry.Ferry{Config: config, Throttler: &moody{since: began}}
		require.NoError(t, f.InitializeContext(t.Context()))
		t.Cleanup(func() { _ = f.Close() })
		f.StartTime = began.Add(time.Duration(n) * time.Minute).Truncate(time.Second)
		return f
	}
	var now atomic.Pointer[ghostferry.ControlServer]
	serving := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { now.Load().ServeHTTP(w, r) }))
	t.Cleanup(serving.Close)
	serve := func(f *ghostferry.Ferry) {
		server, err := f.NewControlServer()
		require.NoError(t, err)
		now.Store(server)
	}
	first, second := process(0), process(1)
	for n := range 50 {
		first.RunLogger().Warnf("line %d of the first process", n)
	}
	second.RunLogger().Warn("a line of the second process")
	serve(first)
	p := openTab(t, serving.URL+"/", 1440, false)
	p.signIn(operateToken)
	p.until(`document.getElementById("log").textContent.includes("line 49 of the first process")`)
	p.until(`document.querySelector("#alerts .alert [aria-live=off]") !== null`)
	p.run(chromedp.Evaluate(`window.firstAlert = document.querySelector("#alerts .alert"); window.firstReason = firstAlert.textContent`, nil))
	p.until(`firstAlert.textContent !== firstReason`)
	require.Equal(t, "true", p.eval(`document.querySelector("#alerts .alert") === firstAlert`))

	require.Error(t, first.RunContext(t.Context())) // it was not started
	p.until(phase("failed"))
	serve(second)
	serving.CloseClientConnections()
	p.until(`document.getElementById("alerts").textContent.includes("The process before this one has failed")`)
	p.until(`document.getElementById("log").textContent.includes("a line of the second process")`)
	require.Equal(t, "1", p.eval(`document.getElementById("log").textContent.split("a line of the second process").length - 1`))
	p.close() // a connection that was cut is a problem of its own
}

// A connection that has fallen silent, as when the way to the server is gone, is made anew.
func TestASilentConnection(t *testing.T) {
	f := &ghostferry.Ferry{Config: &ghostferry.Config{ControlServerConfig: controlled()}, Throttler: &ghostferry.PauserThrottler{}}
	f.OverallState.Store(ghostferry.StateCopying)
	server := &ghostferry.ControlServer{Config: f.ControlServerConfig, F: f}
	require.NoError(t, server.Initialize())
	var streams atomic.Int64
	serving := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/events" && streams.Add(1) == 1 {
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		}
		server.ServeHTTP(w, r)
	}))
	t.Cleanup(serving.Close)
	p := openTab(t, serving.URL+"/", 1440, false)
	p.signIn(operateToken)
	require.Empty(t, p.eval(`document.getElementById("page-text").textContent`))
	p.until(`document.getElementById("page-text").textContent !== ""`)
	require.EqualValues(t, 2, streams.Load())
	p.clean()
}
