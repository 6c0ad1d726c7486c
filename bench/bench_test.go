package main

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/test/servers"
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
	f := r.figures()
	require.Equal(t, figures{headline: headline{CopyVsMysqldump: some(2), CopyVsLimit: some(0.5), CopyCPUPerRow: some(1.5), PeakRSSMB: some(50)}, CopyVs: map[string]float64{"further": 0.25}}, f)
	line, err := json.Marshal(f.headline)
	require.NoError(t, err)
	require.Equal(t, `{"copy_vs_mysqldump":2,"copy_vs_myloader":null,"copy_vs_limit":0.5,"copy_cpu_us_per_row":1.5,"peak_rss_mb":50,"drain_rows_per_s":null,"drain_vs_replica":null,"drain_vs_decode":null}`, string(line))
}

func TestReportHasEveryPartThatWasMeasured(t *testing.T) {
	r, err := newReport(t.TempDir())
	require.NoError(t, err)
	for _, m := range []measurement{
		{Bench: "drain", System: ghostferrySystem, Rows: 10, Seconds: 1},
		{Bench: "hot", System: ghostferrySystem, Rows: 30, Seconds: 1},
		{Bench: "lag", System: ghostferrySystem, Rows: 1, Seconds: 1, LagMax: 1.25},
		{Bench: "scale", System: scaleSystem(1), Rows: 1, Seconds: 2},
		{Bench: "scale", System: scaleLimit(1), Rows: 1, Seconds: 1},
		{Bench: "scale", System: scaleLimit(10), Rows: 10, Seconds: 11},
		{Bench: "scale", System: scaleSystem(10), Rows: 10, Seconds: 21, Busy: []float64{0.75, 0.5}},
		memoryCase("9 tables", 5, 1<<20),
		{Bench: soakPart, System: ghostferrySystem, Rows: 1, Seconds: 1},
	} {
		require.NoError(t, r.add(m))
	}
	for at := range 9 {
		r.samples = append(r.samples, sample{At: float64(at), RSSMB: float64(100 + at)})
	}
	f := r.figures()
	require.Equal(t, 3.0, f.HotVsDrain)
	require.Equal(t, []float64{10.5}, f.ScaleTimes)
	require.Equal(t, []float64{11}, f.ScaleLimitTimes)
	require.Equal(t, 0.5, f.ScaleBusy)
	require.NoError(t, errors.Join(r.writeMarkdown(f), r.close()))
	text, err := os.ReadFile(strings.TrimSuffix(r.path, "jsonl") + "md")
	require.NoError(t, err)
	for _, said := range []string{"## hot", "| `hot_vs_drain` | 3 |", "1.25 s after", "| `scale_times` | [10.5] |", "cpu1 50 % busy", "allowed 100 MB", "-soak-lag.svg"} {
		require.Contains(t, string(text), said)
	}
	require.InDelta(t, 1.06, growth(r.samples, func(s sample) float64 { return s.RSSMB }), 0)
}

func TestBusyShares(t *testing.T) {
	c, err := parseCPU("cpu0 100 0 100 700 100 0 0 0 0 0\n")
	require.NoError(t, err)
	require.Equal(t, cpuClock{busy: 2, idle: 8}, c)
	require.Equal(t, []float64{0.2}, busyShares([]cpuClock{{}}, []cpuClock{c}))
	_, err = parseCPU("cpu0 1")
	require.Error(t, err)
}

func TestPlaceholdersAreFilledIn(t *testing.T) {
	require.Equal(t, "load -P 3307 'x' {unknown}", fillIn("load -P {target_port} '{table}' {unknown}", map[string]string{"target_port": "3307", "table": "x"}))
}

func TestCommandLine(t *testing.T) {
	o, err := parse([]string{"-quick", "-rows", "5000", "-mover", "a=b=c", "-ours", "-lanes 2"})
	require.NoError(t, err)
	require.Equal(t, options{
		rows: 5000, updates: defaultUpdates, runs: 1, flavour: servers.MySQL, parts: quickParts,
		wideRows: 4000, scaleRows: 2_000_000, memoryRows: 5_000_000, memoryTables: 1000, memoryMB: 20, memoryRowMB: 4, duration: defaultDuration,
		movers: []mover{{"a", "b=c"}}, ours: []string{"-defer", "all", "-lanes", "2"}, results: "bench/results", patience: 30 * time.Second,
	}, o)
	o, err = parse(nil)
	require.NoError(t, err)
	require.NotContains(t, o.parts, soakPart)
	o, err = parse([]string{"-duration", "1m"})
	require.NoError(t, err)
	require.Contains(t, o.parts, soakPart)
	for _, args := range [][]string{{"-only", "everything"}, {"-only", "copy,"}, {"-rows", "-1"}, {"-duration", "1s"}, {"-flavour", "oracle"}, {"surplus"}} {
		_, err := parse(args)
		require.Error(t, err, "%v", args)
	}
}
