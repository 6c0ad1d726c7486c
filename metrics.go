package ghostferry

import (
	"sync"
	"sync/atomic"
	"time"
)

// MetricTag is a name and a value that a sample carries.
type MetricTag struct {
	Name  string
	Value string
}

// MetricBase is what all samples have in common.
type MetricBase struct {
	// Key is "prefix.name".
	Key string
	// Tags are the sample's own tags, then the default tags of other names.
	Tags []MetricTag
	// SampleRate is passed through as it was given.
	SampleRate float64
}

// CountMetric is a number of occurrences.
type CountMetric struct {
	MetricBase
	Value int64
}

// GaugeMetric is a level.
type GaugeMetric struct {
	MetricBase
	Value float64
}

// TimerMetric is a duration.
type TimerMetric struct {
	MetricBase
	Value time.Duration
}

// Metrics sends samples ([CountMetric], [GaugeMetric], [TimerMetric]) into a channel.
// It never blocks: what does not fit into the channel is dropped, with one warning
// until samples fit again. Without a Sink, and as a nil pointer, it does nothing.
//
// Prefix, DefaultTags and Sink are set before the first sample and not changed after.
type Metrics struct {
	// Prefix begins every key.
	Prefix string
	// DefaultTags are added to every sample that has no tag of the same name.
	DefaultTags []MetricTag
	// Sink receives the samples.
	Sink chan interface{}

	consumers sync.WaitGroup
	dropping  atomic.Bool

	// closing guards the channel against a send after its close.
	closing struct {
		sync.RWMutex
		closed bool
	}
}

// Count sends a number of occurrences.
func (m *Metrics) Count(key string, value int64, tags []MetricTag, sampleRate float64) {
	if m.enabled() {
		m.send(CountMetric{m.base(key, tags, sampleRate), value})
	}
}

// Gauge sends a level.
func (m *Metrics) Gauge(key string, value float64, tags []MetricTag, sampleRate float64) {
	if m.enabled() {
		m.send(GaugeMetric{m.base(key, tags, sampleRate), value})
	}
}

// Timer sends a duration.
func (m *Metrics) Timer(key string, duration time.Duration, tags []MetricTag, sampleRate float64) {
	if m.enabled() {
		m.send(TimerMetric{m.base(key, tags, sampleRate), duration})
	}
}

// Measure runs f and sends how long it took.
func (m *Metrics) Measure(key string, tags []MetricTag, sampleRate float64, f func()) {
	start := time.Now()
	defer func() { m.Timer(key, time.Since(start), tags, sampleRate) }()
	f()
}

// AddConsumer announces a reader of the Sink that StopAndFlush has to wait for.
func (m *Metrics) AddConsumer() { m.consumers.Add(1) }

// DoneConsumer says that a reader of the Sink has ended.
func (m *Metrics) DoneConsumer() { m.consumers.Done() }

// StopAndFlush closes the Sink and waits until its readers have read everything.
// Samples sent afterwards are dropped. It may be called more than once.
func (m *Metrics) StopAndFlush() {
	if m == nil {
		return
	}
	m.closing.Lock()
	if !m.closing.closed && m.Sink != nil {
		close(m.Sink)
	}
	m.closing.closed = true
	m.closing.Unlock()
	m.consumers.Wait()
}

// countRows sends how many rows came from a source of rows: "table" (the copy), "binlog",
// or a verifier. It costs next to nothing while nobody listens.
func (m *Metrics) countRows(table *TableSchema, source string, n int, more ...MetricTag) {
	if n > 0 && m.enabled() {
		m.Count("RowEvent", int64(n), append([]MetricTag{{"table", table.Name}, {"source", source}}, more...), 1)
	}
}

func (m *Metrics) enabled() bool { return m != nil && m.Sink != nil }

func (m *Metrics) base(key string, tags []MetricTag, sampleRate float64) MetricBase {
	merged := make([]MetricTag, 0, len(tags)+len(m.DefaultTags))
	merged = append(merged, tags...)
	for _, tag := range m.DefaultTags {
		if !hasTag(tags, tag.Name) {
			merged = append(merged, tag)
		}
	}
	return MetricBase{Key: m.Prefix + "." + key, Tags: merged, SampleRate: sampleRate}
}

func (m *Metrics) send(sample interface{}) {
	m.closing.RLock()
	defer m.closing.RUnlock()
	if m.closing.closed {
		return
	}
	select {
	case m.Sink <- sample:
		m.dropping.Store(false)
	default:
		if !m.dropping.Swap(true) {
			LogWithField("tag", "metrics").Warn("metrics sink is full, dropping samples")
		}
	}
}

func hasTag(tags []MetricTag, name string) bool {
	for _, tag := range tags {
		if tag.Name == name {
			return true
		}
	}
	return false
}

// globalMetrics is what components without Metrics of their own send to.
var globalMetrics atomic.Pointer[Metrics]

// SetGlobalMetrics replaces the emitter of components that were given none and
// returns it. A run's own emitter is Config.Metrics.
func SetGlobalMetrics(prefix string, sink chan interface{}) *Metrics {
	metrics := &Metrics{Prefix: prefix, Sink: sink}
	globalMetrics.Store(metrics)
	return metrics
}

// metricsOrGlobal returns the given emitter, or the process's, which may be nil.
func metricsOrGlobal(metrics *Metrics) *Metrics {
	if metrics != nil {
		return metrics
	}
	return globalMetrics.Load()
}
