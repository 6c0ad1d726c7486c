package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMedian(t *testing.T) {
	require.Zero(t, median(nil))
	require.InDelta(t, 2.0, median([]float64{9, 1, 2}), 0)
	require.InDelta(t, 2.5, median([]float64{3, 1, 9, 2}), 0)
}

func TestRatiosAreOfMediansAndLeaveOutWhatWasNotMeasured(t *testing.T) {
	r := &report{}
	for run, seconds := range []float64{10, 50, 20} {
		r.all = append(r.all,
			measurement{Bench: "copy", System: verifiedSystem, Run: run, Rows: 2_000_000, Seconds: seconds},
			measurement{Bench: "copy", System: limitSystem, Run: run, Rows: 2_000_000, Seconds: seconds / 2},
			measurement{Bench: "copy", System: ghostferrySystem, Run: run, Rows: 2_000_000, Seconds: seconds, MoverCPU: 3, PeakRSSMB: seconds},
			measurement{Bench: "copy", System: mysqldumpSystem, Run: run, Rows: 2_000_000, Seconds: 2 * seconds},
			measurement{Bench: "copy", System: "further", Run: run, Rows: 2_000_000, Seconds: 5})
	}
	require.Equal(t, ratios{CopyVsMysqldump: 2, CopyVsLimit: 0.5, CopyCPUPerRow: 1.5, PeakRSSMB: 50, CopyVs: map[string]float64{"further": 0.25}}, r.ratios())
}

func TestPlaceholdersAreFilledIn(t *testing.T) {
	require.Equal(t, "load -P 3307 'x' {unknown}", fillIn("load -P {target_port} '{table}' {unknown}", map[string]string{"target_port": "3307", "table": "x"}))
}

func TestCommandLine(t *testing.T) {
	o, err := parse([]string{"-quick", "-rows", "5000", "-mover", "a=b=c", "-ours", "-lanes 2"})
	require.NoError(t, err)
	require.Equal(t, options{rows: 5000, updates: quickUpdates, runs: 1, scaleTables: 1000, scaleRows: 500_000, scaleTransactionMB: 20, movers: []mover{{"a", "b=c"}}, ours: []string{"-defer", "all", "-lanes", "2"}, results: "bench/results", patience: 30 * time.Second}, o)
	for _, args := range [][]string{{"-only", "everything"}, {"-rows", "-1"}, {"surplus"}} {
		_, err := parse(args)
		require.Error(t, err, "%v", args)
	}
}
