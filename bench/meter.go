package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

// measurement is what one run of one system took: a line of the results.
type measurement struct {
	Bench  string `json:"bench"` // the part: "copy", "drain" and others
	System string `json:"system"`
	Run    int    `json:"run"`
	Rows   int    `json:"rows"`
	// Seconds until the last row was on the target, the number that counts.
	Seconds float64 `json:"seconds"`
	// WallSeconds from the start of the process; 0 for a system that is no process.
	WallSeconds float64 `json:"wall_seconds,omitempty"`
	SourceCPU   float64 `json:"source_cpu_s"`
	TargetCPU   float64 `json:"target_cpu_s"`
	MoverCPU    float64 `json:"mover_cpu_s"`
	// OtherCPU is what the rest of the machine used meanwhile: noise.
	OtherCPU float64 `json:"other_cpu_s"`
	// PeakRSSMB is our mover's; 0 for the others.
	PeakRSSMB float64 `json:"peak_rss_mb,omitempty"`
	// LoadSeconds is what our mover took from its start to Run: connecting, checks, schemas.
	LoadSeconds float64 `json:"load_seconds,omitempty"`
	// LinkMB is what a slow link carried from the source.
	LinkMB float64 `json:"link_mb,omitempty"`
	// LagCopyMax, LagMax and LagFinal are how old the target's changes were, in seconds:
	// at most while rows were copied, at most after, and at the end.
	LagCopyMax float64 `json:"lag_copy_max_s,omitempty"`
	LagMax     float64 `json:"lag_max_s,omitempty"`
	LagFinal   float64 `json:"lag_final_s,omitempty"`
	// DumpThreads is how many connections read the source's log at once, and
	// RowEventsDecoded how many row events a shared one decoded.
	DumpThreads      int    `json:"dump_threads,omitempty"`
	RowEventsDecoded uint64 `json:"row_events_decoded,omitempty"`
	// WritesPerS is how many changes the source's writers made meanwhile.
	WritesPerS float64 `json:"writes_per_s,omitempty"`
	// Busy is what part of the time each processor was busy while ours moved, whoever used it.
	Busy []float64 `json:"busy,omitempty"`
	// DataMB is how many megabytes of values the rows have.
	DataMB float64 `json:"data_mb,omitempty"`
	// LargestRowMB and AllowedRSSMB: what the mover's memory may be with such a row, in MiB
	// as PeakRSSMB.
	LargestRowMB float64 `json:"largest_row_mb,omitempty"`
	AllowedRSSMB float64 `json:"allowed_rss_mb,omitempty"`
	// RSSGrowth and LagGrowth are medians of the last third of the time / of the first.
	RSSGrowth float64 `json:"rss_last_vs_first,omitempty"`
	LagGrowth float64 `json:"lag_last_vs_first,omitempty"`
}

// meter holds what the CPU clocks said at the beginning.
type meter struct {
	source, target       *servers.Server
	sourceCPU, targetCPU float64
	machine              float64
}

// startMeter waits for a quiet machine, within limits, and reads the clocks.
func startMeter(ctx context.Context, source, target *servers.Server, patience time.Duration) (*meter, error) {
	m := &meter{source: source, target: target}
	err := waitUntilQuiet(ctx, patience)
	if err != nil {
		return nil, err
	}
	m.sourceCPU, m.targetCPU, m.machine, err = m.read()
	return m, err
}

func (m *meter) read() (source, target, machine float64, err error) {
	if source, err = m.source.CPUSeconds(); err != nil {
		return
	}
	if target, err = m.target.CPUSeconds(); err != nil {
		return
	}
	machine, err = machineCPU()
	return
}

// stop fills the CPU times in; MoverCPU has been set.
func (m *meter) stop(to *measurement) error {
	source, target, machine, err := m.read()
	if err != nil {
		return err
	}
	to.SourceCPU, to.TargetCPU = source-m.sourceCPU, target-m.targetCPU
	to.OtherCPU = max(0, machine-m.machine-to.SourceCPU-to.TargetCPU-to.MoverCPU)
	return nil
}

// waitUntilQuiet returns when the machine has had nearly nothing to do for a second, so
// that neither other programs nor what the servers still do for the run before are
// measured. It gives up when patience has passed.
func waitUntilQuiet(ctx context.Context, patience time.Duration) error {
	const (
		interval = time.Second
		quiet    = 0.15 // CPU seconds in an interval
	)
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for begun := time.Now(); time.Since(begun) < patience; {
		before, err := machineCPU()
		if err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		after, err := machineCPU()
		if err != nil {
			return err
		}
		if after-before < quiet {
			return nil
		}
	}
	if patience > 0 {
		progress("the machine has been busy with something else for %s: measuring all the same, see other_cpu_s", patience)
	}
	return nil
}

// machineCPU returns the seconds that all processors were busy since boot.
func machineCPU() (float64, error) {
	all, _, err := cpuClocks()
	return all.busy, err
}

// cpuClock is what a processor did since boot, in seconds.
type cpuClock struct{ busy, idle float64 }

// cpuClocks returns what all processors did together, and each.
func cpuClocks() (all cpuClock, each []cpuClock, err error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return all, nil, err
	}
	for line := range strings.Lines(string(stat)) {
		if !strings.HasPrefix(line, "cpu") {
			break // those of the processors are the first
		}
		clock, err := parseCPU(line)
		if err != nil {
			return all, nil, err
		}
		if strings.HasPrefix(line, "cpu ") {
			all = clock
		} else {
			each = append(each, clock)
		}
	}
	return all, each, nil
}

// parseCPU reads a line of /proc/stat: cpu user nice system idle iowait irq softirq steal …,
// in 1/100 s (proc_stat(5)).
func parseCPU(line string) (c cpuClock, err error) {
	const idle, iowait, last = 4, 5, 8
	fields := strings.Fields(line)
	if len(fields) <= last {
		return c, fmt.Errorf("/proc/stat: unexpected text %q", line)
	}
	for i := 1; i <= last; i++ {
		ticks, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return c, fmt.Errorf("/proc/stat: %w", err)
		}
		if i == idle || i == iowait {
			c.idle += ticks / 100
		} else {
			c.busy += ticks / 100
		}
	}
	return c, nil
}

// busyShares is what part of the time between two readings each processor was busy.
func busyShares(before, after []cpuClock) []float64 {
	if len(before) != len(after) {
		return nil // one was switched on or off meanwhile
	}
	shares := make([]float64, len(before))
	for i := range before {
		busy, idle := after[i].busy-before[i].busy, after[i].idle-before[i].idle
		if busy+idle > 0 {
			shares[i] = round(busy / (busy + idle))
		}
	}
	return shares
}

// cpuOf is the CPU time of ended processes, with that of the children they waited for.
func cpuOf(commands ...*exec.Cmd) float64 {
	var sum float64
	for _, c := range commands {
		sum += (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds()
	}
	return sum
}
