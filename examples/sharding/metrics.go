package sharding

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"

	"github.com/ghostferry-go/ghostferry"
)

// metricsQueue is how many samples wait to be sent.
const metricsQueue = 4096

// emitter is the process's, for hosts that use the functions below.
var emitter atomic.Pointer[ghostferry.Metrics]

// InitializeMetrics sends samples of the configuration's moves to its statsd server,
// tagged with its two schemas, until StopAndFlushMetrics. Without an address it does
// nothing.
func InitializeMetrics(prefix string, config *Config) error {
	if config.StatsDAddress == "" {
		return nil
	}
	metrics, err := newStatsD(prefix, config)
	if err == nil {
		config.Metrics = metrics
		emitter.Store(metrics)
	}
	return err
}

// SetGlobalMetrics makes a channel the sink of this package and of the library, for
// components that have no emitter of their own.
func SetGlobalMetrics(prefix string, metricsChan chan interface{}) {
	emitter.Store(ghostferry.SetGlobalMetrics(prefix, metricsChan))
}

// StopAndFlushMetrics ends the emitter that was set last and returns when everything was
// sent.
func StopAndFlushMetrics() { emitter.Load().StopAndFlush() }

func newStatsD(prefix string, config *Config) (*ghostferry.Metrics, error) {
	conn, err := net.Dial("udp", config.StatsDAddress)
	if err != nil {
		return nil, &ghostferry.ConfigError{Field: "StatsDAddress", Problem: fmt.Sprintf("StatsDAddress %q: %v", config.StatsDAddress, err), Remedy: "it is host:port", Err: err}
	}
	metrics := &ghostferry.Metrics{
		Prefix: prefix, Sink: make(chan interface{}, metricsQueue),
		DefaultTags: []ghostferry.MetricTag{{Name: "SourceDB", Value: config.SourceDB}, {Name: "TargetDB", Value: config.TargetDB}},
	}
	metrics.AddConsumer()
	go func() {
		defer metrics.DoneConsumer()
		defer func() { _ = conn.Close() }()
		for sample := range metrics.Sink {
			_, _ = conn.Write(statsdLine(sample)) // statsd is told what it can be
		}
	}()
	return metrics, nil
}

// statsdLine is a sample in the text form that statsd servers read, with tags as most of
// them take them: key:value|type|@rate|#tag:value,tag:value.
func statsdLine(sample interface{}) []byte {
	var base ghostferry.MetricBase
	var value string
	switch s := sample.(type) {
	case ghostferry.CountMetric:
		base, value = s.MetricBase, fmt.Sprintf("%d|c", s.Value)
	case ghostferry.GaugeMetric:
		base, value = s.MetricBase, fmt.Sprintf("%g|g", s.Value)
	case ghostferry.TimerMetric:
		base, value = s.MetricBase, fmt.Sprintf("%g|ms", s.Value.Seconds()*1000)
	default:
		return nil
	}
	line := base.Key + ":" + value
	if base.SampleRate > 0 && base.SampleRate < 1 {
		line += fmt.Sprintf("|@%g", base.SampleRate)
	}
	tags := make([]string, len(base.Tags))
	for i, tag := range base.Tags {
		tags[i] = tag.Name + ":" + tag.Value
	}
	if len(tags) > 0 {
		line += "|#" + strings.Join(tags, ",")
	}
	return []byte(line)
}
