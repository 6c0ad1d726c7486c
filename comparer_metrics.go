package ghostferry

import (
	"strconv"
	"sync/atomic"
)

// queueMetricEvery is after how many queued keys the queue's length is sent.
const queueMetricEvery = 10000

// comparerMetrics are what older hosts' dashboards know of the verifiers. A nil one sends
// nothing.
type comparerMetrics struct {
	// immutable
	metrics *Metrics                                // nil: the process's
	rows    bool                                    // rows are counted as they are compared
	queue   func(m *Metrics, current, total uint64) // tells the queue's length

	added atomic.Uint64
	still atomic.Bool // the writers have stopped
}

// queued counts a key that was put into the queue.
func (m *comparerMetrics) queued(c *comparer) {
	if m == nil {
		return
	}
	if total := m.added.Add(1); total%queueMetricEvery == 0 {
		keys, _ := c.queue.counts()
		m.queue(metricsOrGlobal(m.metrics), uint64(keys), total)
	}
}

// fenced says that the comparison goes on while the writers have stopped, until the
// function returned is called.
func (m *comparerMetrics) fenced() (over func()) {
	if m == nil {
		return func() {}
	}
	m.still.Store(true)
	return func() { m.still.Store(false) }
}

// compared counts rows: of a walk, or, with its number, of a pass over changed rows.
func (m *comparerMetrics) compared(table *TableSchema, n int, pass uint64) {
	switch {
	case m == nil || !m.rows:
	case m.still.Load():
		metricsOrGlobal(m.metrics).countRows(table, "iterative_verifier_during_cutover", n)
	case pass > 0:
		metricsOrGlobal(m.metrics).countRows(table, "reverification_before_cutover", n, MetricTag{"iteration", strconv.FormatUint(pass, 10)})
	default:
		metricsOrGlobal(m.metrics).countRows(table, "iterative_verifier_before_cutover", n)
	}
}
