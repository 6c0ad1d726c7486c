package ghostferry

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// MetricsCollector returns the run's metrics for a Prometheus registry of the host's; they
// carry the run's id as label "run". The control server serves them at /metrics. Nothing is
// registered anywhere by itself. Call it after Initialize.
func (f *Ferry) MetricsCollector() prometheus.Collector {
	f.ensureInitialized()
	view := &ControlServer{F: f, Verifier: f.Verifier, scripts: newScriptRunner(&ControlServerConfig{}, f.baseLogger())}
	view.view = newRunView(view)
	return newMetricsCollector(view.view)
}

// metricsCollector reads a run when it is asked: the engine does nothing for it meanwhile.
type metricsCollector struct {
	view *runView
	run  prometheus.Labels

	metrics []runMetric

	info, tables, waits, waited, waiting *prometheus.Desc // with labels of their own
}

// runMetric is one metric without further labels.
type runMetric struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(o *ControlServerOverview) (value float64, known bool)
}

func newMetricsCollector(view *runView) *metricsCollector {
	c := &metricsCollector{view: view, run: prometheus.Labels{"run": view.current().overview.RunID}}
	add := func(name, help string, kind prometheus.ValueType, value func(o *ControlServerOverview) (float64, bool)) {
		c.metrics = append(c.metrics, runMetric{c.desc(name, help), kind, value})
	}
	counter := func(name, help string, value func(o *ControlServerOverview) uint64) {
		add(name, help, prometheus.CounterValue, func(o *ControlServerOverview) (float64, bool) { return float64(value(o)), true })
	}
	gauge := func(name, help string, value func(o *ControlServerOverview) float64) {
		add(name, help, prometheus.GaugeValue, func(o *ControlServerOverview) (float64, bool) { return value(o), true })
	}
	optional := func(name, help string, value func(o *ControlServerOverview) *float64) {
		add(name, help, prometheus.GaugeValue, func(o *ControlServerOverview) (float64, bool) {
			if v := value(o); v != nil {
				return *v, true
			}
			return 0, false
		})
	}
	counter("rows_copied_total", "Rows that this process has copied.", func(o *ControlServerOverview) uint64 { return o.RowsCopied })
	counter("bytes_copied_total", "Bytes of rows that this process has copied.", func(o *ControlServerOverview) uint64 { return o.BytesCopied })
	counter("row_changes_applied_total", "Row changes of the binary log that this process has applied.", func(o *ControlServerOverview) uint64 { return o.BinlogRowsApplied })
	gauge("rows_remaining", "Rows that the run has still to copy, by the source's own estimate.", func(o *ControlServerOverview) float64 { return float64(o.RowsRemaining) })
	optional("eta_seconds", "Until the last row is copied; absent while it is not known.", func(o *ControlServerOverview) *float64 { return o.ETASeconds })
	optional("read_lag_seconds", "Age of the last event read from the source.", func(o *ControlServerOverview) *float64 { return o.ReadLagSeconds })
	optional("apply_lag_seconds", "Age of changes when they reach the target.", func(o *ControlServerOverview) *float64 { return o.ApplyLagSeconds })
	gauge("write_block_seconds", "How long the writers have been kept waiting by the present cutover, or were by the last one.", func(o *ControlServerOverview) float64 { return o.Cutover.WriteBlock })
	optional("predicted_write_block_seconds", "What the last rehearsal of the cutover has found; absent before the first.", func(o *ControlServerOverview) *float64 {
		if o.Cutover.PredictedWriteBlock == 0 {
			return nil
		}
		return &o.Cutover.PredictedWriteBlock
	})
	counter("cutover_attempts_total", "Cutovers begun.", func(o *ControlServerOverview) uint64 { return uint64(o.Cutover.Attempts) })
	counter("cutover_aborts_total", "Cutovers given up.", func(o *ControlServerOverview) uint64 { return uint64(o.Cutover.Aborts) })
	gauge("throttled", "1 while the run pauses.", func(o *ControlServerOverview) float64 { return oneIf(o.Throttle != nil) })
	gauge("failed", "1 when the run, or the cutover that ended it, has failed.", func(o *ControlServerOverview) float64 { return oneIf(o.Failed) })
	gauge("cutover_allowed", "1 when the cutover begins by itself.", func(o *ControlServerOverview) float64 { return oneIf(o.CutoverAllowed) })
	counter("verifier_rows_compared_total", "Rows compared by the verifier.", func(o *ControlServerOverview) uint64 { return o.Verification.RowsCompared })
	gauge("verifier_keys_queued", "Keys to be compared again.", func(o *ControlServerOverview) float64 { return float64(o.Verification.KeysQueued) })
	gauge("verifier_mismatches", "Rows found to differ.", func(o *ControlServerOverview) float64 { return float64(o.Verification.Mismatches) })
	c.info = c.desc("info", "What runs: always 1.", "version", "state", "phase")
	c.tables = c.desc("tables", "Tables by what happens to them.", "status")
	c.waits = c.desc("waits_total", "How often a part of the run has waited.", "cause")
	c.waited = c.desc("wait_seconds_total", "How long parts of the run have waited.", "cause")
	c.waiting = c.desc("waiting", "How many parts of the run wait now.", "cause")
	return c
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (c *metricsCollector) desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("ghostferry_"+name, help, labels, c.run)
}

// Describe tells of everything that there can be: unknown values are left out.
func (c *metricsCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		descs <- m.desc
	}
	for _, desc := range []*prometheus.Desc{c.info, c.tables, c.waits, c.waited, c.waiting} {
		descs <- desc
	}
}

// Collect reads the run.
func (c *metricsCollector) Collect(metrics chan<- prometheus.Metric) {
	o := &c.view.current().overview
	for _, m := range c.metrics {
		if value, known := m.value(o); known {
			metrics <- prometheus.MustNewConstMetric(m.desc, m.kind, value)
		}
	}
	metrics <- prometheus.MustNewConstMetric(c.info, prometheus.GaugeValue, 1, o.GhostferryVersion, o.State, o.Phase)
	for _, t := range []struct {
		status string
		count  int
	}{{TableActionWaiting, o.TablesWaiting}, {TableActionCopying, o.TablesCopying}, {TableActionCompleted, o.TablesCompleted}} {
		metrics <- prometheus.MustNewConstMetric(c.tables, prometheus.GaugeValue, float64(t.count), t.status)
	}
	for _, w := range o.Waits {
		metrics <- prometheus.MustNewConstMetric(c.waits, prometheus.CounterValue, float64(w.Count), w.Cause)
		metrics <- prometheus.MustNewConstMetric(c.waited, prometheus.CounterValue, w.Seconds, w.Cause)
		metrics <- prometheus.MustNewConstMetric(c.waiting, prometheus.GaugeValue, float64(w.Waiting), w.Cause)
	}
}

// metricsHandler serves the run's metrics and those of the Go process, from a registry of
// its own.
func (s *ControlServer) metricsHandler() (http.Handler, error) {
	registry := prometheus.NewRegistry()
	for _, c := range []prometheus.Collector{newMetricsCollector(s.view), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{}), nil
}

func (s *ControlServer) handleMetrics(w http.ResponseWriter, r *http.Request) {
	s.metrics.ServeHTTP(w, r)
}
