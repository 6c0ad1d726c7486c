package ghostferry

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// metricName finds names of metrics in expressions and in text.
var metricName = regexp.MustCompile(`\b(?:ghostferry|go|process)_[a-z_]*[a-z]\b`)

// exportedMetrics are the names of all that /metrics can say of a run.
func exportedMetrics(t *testing.T) map[string]bool {
	t.Helper()
	s := testControlServer(t, nil)
	one, block := 1.0, CutoverStatus{PredictedWriteBlock: 1}
	s.view.mu.Lock()
	// Everything is known of it, and it does not get old.
	s.view.mu.latest = &runSnapshot{at: time.Now().Add(time.Hour), overview: ControlServerOverview{
		ETASeconds: &one, ReadLagSeconds: &one, ApplyLagSeconds: &one, Cutover: block, Waits: (&waitLog{}).stats(),
	}}
	s.view.mu.Unlock()
	status, body, _ := send(t, s.request(t, "GET", "/metrics", ""))
	require.Equal(t, 200, status)
	names := map[string]bool{}
	for _, line := range strings.Split(body, "\n") {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			names[strings.Fields(name)[0]] = true
		}
	}
	require.True(t, names["ghostferry_eta_seconds"] && names["ghostferry_waiting"], body)
	return names
}

// A strict registry of a host's takes what a run says.
func TestMetricsAreWhatWasDescribed(t *testing.T) {
	s := testControlServer(t, nil)
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(newMetricsCollector(s.view)))
	_, err := registry.Gather()
	require.NoError(t, err)
}

// The dashboard for Grafana shows every metric of a run, and none that there is not.
func TestDashboardShowsTheMetrics(t *testing.T) {
	text, err := os.ReadFile("docs/grafana/ghostferry.json")
	require.NoError(t, err)
	var dashboard struct {
		Title, UID string
		Templating struct {
			List []struct{ Name, Query string }
		}
		Panels []struct {
			ID                       int
			Type, Title, Description string
			GridPos                  struct{ H, W, X, Y int }
			Targets                  []struct{ Expr, LegendFormat, RefID string }
		}
	}
	require.NoError(t, json.Unmarshal(text, &dashboard))
	require.NotEmpty(t, dashboard.Title)
	require.NotEmpty(t, dashboard.UID)
	exported, shown := exportedMetrics(t), map[string]bool{}
	expressions := []string{}
	for _, v := range dashboard.Templating.List {
		expressions = append(expressions, v.Query)
	}
	taken, ids := map[[2]int]string{}, map[int]bool{}
	for _, p := range dashboard.Panels {
		require.False(t, ids[p.ID], p.Title)
		ids[p.ID] = true
		require.NotEmpty(t, p.Title)
		require.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				require.Empty(t, taken[at], "%s covers %s", p.Title, taken[at])
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		require.NotEmpty(t, p.Description, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			require.NotEmpty(t, metricName.FindString(target.Expr), p.Title)
			expressions = append(expressions, target.Expr)
		}
	}
	for _, e := range expressions {
		require.Equal(t, strings.Count(e, "("), strings.Count(e, ")"), e)
		for _, name := range metricName.FindAllString(e, -1) {
			require.True(t, exported[name], "%s: there is no metric %s", e, name)
			shown[name] = true
		}
	}
	for name := range exported {
		if strings.HasPrefix(name, "ghostferry_") {
			require.True(t, shown[name], "%s is not on the dashboard", name)
		}
	}
}

// What the operator's page says of metrics and alerts exists, and every metric is there.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("docs/operations.md")
	require.NoError(t, err)
	exported, told := exportedMetrics(t), map[string]bool{}
	for _, name := range metricName.FindAllString(string(text), -1) {
		require.True(t, exported[name], "there is no metric %s", name)
		told[name] = true
	}
	for name := range exported {
		if strings.HasPrefix(name, "ghostferry_") {
			require.True(t, told[name], "%s is not in docs/operations.md", name)
		}
	}
}
