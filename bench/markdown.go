package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// benches are the parts that were measured, in the order of their first line.
func (r *report) benches() (benches []string) {
	for _, m := range r.all {
		if !slices.Contains(benches, m.Bench) {
			benches = append(benches, m.Bench)
		}
	}
	return benches
}

// systemsOf are the systems of a part in the order in which they were first measured.
func (r *report) systemsOf(bench string) (systems []string) {
	for _, m := range r.all {
		if m.Bench == bench && !slices.Contains(systems, m.System) {
			systems = append(systems, m.System)
		}
	}
	return systems
}

// further is what a measurement has beside the numbers that all have, as text.
func (m measurement) further() string {
	var said []string
	add := func(value float64, format string) {
		if value != 0 {
			said = append(said, fmt.Sprintf(format, value))
		}
	}
	add(m.DataMB/m.Seconds, "%.0f MB/s")
	add(m.LoadSeconds, "start %.2f s")
	add(m.LinkMB, "%.1f MB over the link")
	add(m.LagCopyMax, "lag %.2f s at most while rows were copied")
	add(m.LagMax, "%.2f s after")
	add(m.LagFinal, "%.2f s at the end")
	add(m.WritesPerS, "%.0f changes/s")
	add(float64(m.DumpThreads), "%.0f readers of the log")
	add(float64(m.RowEventsDecoded), "%.0f row events decoded")
	add(m.AllowedRSSMB, "allowed %.0f MB")
	add(m.RSSGrowth, "memory of the last third %.2f times the first's")
	add(m.LagGrowth, "lag of the last third %.2f times the first's")
	for i, share := range m.Busy {
		add(100*share, fmt.Sprintf("cpu%d %%.0f %%%% busy", i))
	}
	return strings.Join(said, ", ")
}

// middle is the run of a system whose seconds are the median, or just above it.
func (r *report) middle(bench, system string) measurement {
	var runs []measurement
	for _, m := range r.all {
		if m.Bench == bench && m.System == system {
			runs = append(runs, m)
		}
	}
	slices.SortFunc(runs, func(a, b measurement) int { return int(1e6 * (a.Seconds - b.Seconds)) })
	return runs[len(runs)/2]
}

// writeMarkdown writes the medians as a Markdown file with a chart a part beside the results.
func (r *report) writeMarkdown(f figures) error {
	base := strings.TrimSuffix(r.path, ".jsonl")
	c := r.conditions
	var b strings.Builder
	fmt.Fprintf(&b, "# Benchmark\n\n%s, %d processors, %s; %d rows, %d updates, medians of %d runs. What is measured: bench/README.md. CPU profiles of our runs: %s.\n",
		c.Server, c.Processors, c.Go, c.Rows, c.Updates, c.Runs, filepath.Base(r.profiles))
	if err := writeFigures(&b, f); err != nil {
		return err
	}
	for _, bench := range r.benches() {
		r.writePart(&b, bench)
		if err := writeChart(&b, base+"-"+bench+".svg", "seconds", r.chart(bench, r.systemsOf(bench))); err != nil {
			return err
		}
	}
	if len(r.samples) > 0 {
		memory := lineChart("soak: resident memory, MB", r.samples, func(s sample) float64 { return s.RSSMB })
		lag := lineChart("soak: lag, s", r.samples, func(s sample) float64 { return s.Lag })
		if err := errors.Join(writeChart(&b, base+"-soak-memory.svg", "memory", memory), writeChart(&b, base+"-soak-lag.svg", "lag", lag)); err != nil {
			return err
		}
	}
	return os.WriteFile(base+".md", []byte(b.String()), 0o644)
}

// writePart writes a part's table.
func (r *report) writePart(b *strings.Builder, bench string) {
	fmt.Fprintf(b, "\n## %s\n\n| system | rows | seconds | CPU s source / target / mover | others | peak RSS MB | further, of the middle run |\n|---|---|---|---|---|---|---|\n", bench)
	for _, s := range r.systemsOf(bench) {
		number := func(of func(measurement) float64) float64 { return median(r.values(bench, s, of)) }
		fmt.Fprintf(b, "| %s | %.0f | %.2f | %.1f / %.1f / %.1f | %.1f | %.0f | %s |\n", strings.ReplaceAll(s, "|", "\\|"),
			number(func(m measurement) float64 { return float64(m.Rows) }), r.seconds(bench, s),
			number(func(m measurement) float64 { return m.SourceCPU }), number(func(m measurement) float64 { return m.TargetCPU }),
			number(func(m measurement) float64 { return m.MoverCPU }), number(func(m measurement) float64 { return m.OtherCPU }),
			number(func(m measurement) float64 { return m.PeakRSSMB }), r.middle(bench, s).further())
	}
}

// writeFigures writes the last line of the results as a table, in its order.
func writeFigures(b *strings.Builder, f figures) error {
	line, err := json.Marshal(f)
	if err != nil {
		return err
	}
	b.WriteString("\n| figure | |\n|---|---|\n")
	decoder := json.NewDecoder(strings.NewReader(string(line)))
	if _, err := decoder.Token(); err != nil { // the brace
		return err
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return err
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", name, value)
	}
	return nil
}

func writeChart(b *strings.Builder, path, alt, svg string) error {
	fmt.Fprintf(b, "\n![%s](%s)\n", alt, filepath.Base(path))
	return os.WriteFile(path, []byte(svg), 0o644)
}
