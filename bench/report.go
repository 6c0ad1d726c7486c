package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// report writes measurements as JSON lines and knows the medians.
type report struct {
	path       string
	profiles   string // directory of our mover's CPU profiles
	conditions conditions
	file       *os.File
	all        []measurement
	samples    []sample // of the part soak
}

func newReport(dir string) (*report, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	base := filepath.Join(dir, time.Now().UTC().Format("20060102-150405"))
	r := &report{path: base + ".jsonl", profiles: base + "-profiles"}
	if err := os.MkdirAll(r.profiles, 0o755); err != nil {
		return nil, err
	}
	var err error
	r.file, err = os.Create(r.path)
	return r, err
}

func (r *report) close() error { return r.file.Close() }

// write adds a line to the file.
func (r *report) write(line any) error { return json.NewEncoder(r.file).Encode(line) }

// add keeps a measurement and shows it.
func (r *report) add(m measurement) error {
	r.all = append(r.all, m)
	progress("%-5s %-18s run %d: %6.1f s, %7.0f rows/s; CPU s of source %.1f, target %.1f, mover %.1f, others %.1f; peak RSS %.0f MB; %s",
		m.Bench, m.System, m.Run, m.Seconds, float64(m.Rows)/m.Seconds, m.SourceCPU, m.TargetCPU, m.MoverCPU, m.OtherCPU, m.PeakRSSMB, m.further())
	return r.write(m)
}

// values returns one number of every run of a system.
func (r *report) values(bench, system string, of func(measurement) float64) []float64 {
	var values []float64
	for _, m := range r.all {
		if m.Bench == bench && m.System == system {
			values = append(values, of(m))
		}
	}
	return values
}

// median is 0 without values.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func (r *report) seconds(bench, system string) float64 {
	return median(r.values(bench, system, func(m measurement) float64 { return m.Seconds }))
}
