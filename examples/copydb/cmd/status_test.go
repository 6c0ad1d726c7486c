package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
)

func TestFormatting(t *testing.T) {
	for n, wants := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		require.Equal(t, wants, count(n))
	}
	for bytes, wants := range map[float64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 12_345_678: "12.3 MB", 345e9: "345 GB", 5e15: "5000 TB"} {
		require.Equal(t, wants, size(bytes))
	}
	for d, wants := range map[time.Duration]string{
		300 * time.Millisecond: "0s", 9 * time.Second: "9s", 250 * time.Second: "4m10s", 2*time.Hour + 3*time.Minute: "2h03m",
	} {
		require.Equal(t, wants, duration(d))
	}
	require.Equal(t, "?%", percent(3, 0))
	require.Equal(t, "99%", percent(999, 1000), "only everything is 100%")
	require.Equal(t, "100%", percent(1000, 1000))
	require.Equal(t, "a�b", printable("a\x1bb"))
}

// tablesAt has one table half copied, one complete and one waiting.
func tablesAt(rows uint64) map[string]ghostferry.TableProgress {
	return map[string]ghostferry.TableProgress{
		"shop.orders":    {CurrentAction: ghostferry.TableActionCopying, RowsWritten: rows, RowsEstimate: 10_000},
		"shop.customers": {CurrentAction: ghostferry.TableActionCompleted, RowsWritten: 20, RowsWrittenBefore: 30, RowsEstimate: 70},
		"shop.products":  {CurrentAction: ghostferry.TableActionWaiting, RowsEstimate: 950},
	}
}

// at is the status of a run that copies.
func at(o ghostferry.ControlServerOverview, tables map[string]ghostferry.TableProgress) status {
	m := &meter{began: time.Now()}
	return m.read(time.Now(), ghostferry.StateCopying, o, tables)
}

func TestTotals(t *testing.T) {
	seconds, lag := 6.0, 0.25
	o := ghostferry.ControlServerOverview{RowsCopied: 50, RowsRemaining: 10_950, ETAReason: "no row was copied in the last seconds"}
	require.Equal(t, "50 of about 11,000 rows (0%), 0 rows/s, 0 B/s, no row was copied in the last seconds", copied(&o))
	require.Equal(t, "0 changes applied (0/s), lag unknown", changeTotals(&o))

	o = ghostferry.ControlServerOverview{
		RowsCopied: 5050, RowsRemaining: 5950, CopyRowsPerSecond: 1000, CopyBytesPerSecond: 100_000, ETASeconds: &seconds,
		BinlogRowsApplied: 500, ApplyRowsPerSecond: 100, ApplyLagSeconds: &lag,
	}
	s := at(o, nil)
	require.Equal(t, "5,050 of about 11,000 rows (45%), 1,000 rows/s, 100 kB/s, about 6s left", s.rowTotals())
	require.Equal(t, "500 changes applied (100/s), lag 0.2 s", changeTotals(&o))
	s.phase = ghostferry.StateWaitingForCutover
	require.Equal(t, "5,050 rows copied", s.rowTotals())

	o.RowsCopiedBefore = 11_000
	s = at(o, nil)
	require.Equal(t, "16,050 of about 22,000 rows (72%), 1,000 rows/s, 100 kB/s, about 6s left", s.rowTotals())
	s.phase = ghostferry.StateWaitingForCutover
	require.Equal(t, "16,050 rows copied, 11,000 of them by earlier processes", s.rowTotals())

	o = ghostferry.ControlServerOverview{TablesTotal: 2, TablesCompleted: 1, RowsCopied: 5050, ETAReason: "more rows than estimated"}
	require.Equal(t, "5,050 rows (?%), 0 rows/s, 0 B/s, more rows than estimated", copied(&o))
}

// The lines below the totals are what the page shows: who pauses the run, the comparison, and
// where the cutover is.
func TestFacts(t *testing.T) {
	since := time.Date(2024, 5, 6, 7, 8, 9, 0, time.Local)
	equal := true
	for name, test := range map[string]struct {
		o     ghostferry.ControlServerOverview
		wants []fact
	}{
		"begun": {
			ghostferry.ControlServerOverview{},
			[]fact{{"cutover", "held back, write block not predicted yet, no budget"}},
		},
		"waiting": {
			ghostferry.ControlServerOverview{
				CutoverPhase: ghostferry.PhaseReady, Cutover: ghostferry.CutoverStatus{PredictedWriteBlock: 3, MaxWriteBlock: 2},
				Throttle:     &ghostferry.ThrottleReport{Who: "lag of replica 1", Why: "12 s", Since: since},
				Verification: ghostferry.ControlServerVerification{Type: "Online", Detailed: true, RowsCompared: 1200, TablesDone: 1, TablesTotal: 3, KeysQueued: 7, Mismatches: 2, Repaired: 1},
			},
			[]fact{
				{"throttled", "by lag of replica 1 since 07:08:09: 12 s"},
				{"verification", "1,200 rows compared in 1 of 3 tables, 7 keys to compare again, 2 rows DIFFER, 1 repaired"},
				{"cutover", "ready, held back, write block predicted: 3.000 s, MORE than the budget of 2.000 s"},
			},
		},
		"given up": {
			ghostferry.ControlServerOverview{
				CutoverAllowed: true, CutoverPhase: ghostferry.PhaseUnfenced,
				Cutover: ghostferry.CutoverStatus{Attempts: 2, Aborts: 2, WriteBlock: 0.5, MaxWriteBlock: 0.5, LastError: "the drain\nwas slow"},
			},
			[]fact{
				{"cutover", "given up, the writers go on, allowed, attempt 2, 2 given up, write block 0.500 s, budget 0.500 s"},
				{"given up", "the drain�was slow"},
			},
		},
		"done": {
			ghostferry.ControlServerOverview{
				CutoverAllowed: true, CutoverPhase: ghostferry.PhaseDone, Cutover: ghostferry.CutoverStatus{Attempts: 3, Aborts: 2, WriteBlock: 0.12, LastError: "slow"},
				Verification: ghostferry.ControlServerVerification{Type: "custom", Message: "all seen", Correct: &equal},
			},
			[]fact{{"verification", "all seen, equal"}, {"cutover", "done, attempt 3, 2 given up, write block 0.120 s, no budget"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.wants, facts(&test.o))
			shown := strings.Join(at(test.o, tablesAt(1)).lines(300), "\n")
			for _, f := range test.wants {
				require.Contains(t, shown, f.name+": "+f.text)
				require.Contains(t, overviewText(&test.o), f.text)
			}
		})
	}
}

func TestTableLines(t *testing.T) {
	s := at(ghostferry.ControlServerOverview{}, tablesAt(5000))
	require.Equal(t, []string{
		"shop.orders     ███████████████░░░░░░░░░░░░░░░  50%  5,000 of about 10,000 rows, copying",
		"shop.products   ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░   0%  0 of about 950 rows, waiting",
		"shop.customers  ██████████████████████████████ 100%  50 rows, completed",
	}, s.lines(100)[:3])
}

func TestLinesFitTheTerminal(t *testing.T) {
	tables := tablesAt(5000)
	for i := range 40 {
		action := ghostferry.TableActionWaiting
		if i >= 30 {
			action = ghostferry.TableActionCopying
		}
		name := fmt.Sprintf("倉庫.a_table_with_quite_a_long_name_%02d", i)
		tables[name] = ghostferry.TableProgress{CurrentAction: action, RowsEstimate: uint64(i) * 1000}
	}
	why := strings.Repeat("a long story ", 40)
	s := at(ghostferry.ControlServerOverview{
		Throttle: &ghostferry.ThrottleReport{Who: "lag", Why: why}, Verification: ghostferry.ControlServerVerification{Type: "custom", Message: why},
		Cutover: ghostferry.CutoverStatus{LastError: why},
	}, tables)
	for _, width := range []int{20, 40, 60, 80, 120, 200} {
		lines := s.lines(width)
		require.LessOrEqual(t, len(lines), 24-2, "with the two lines below it fills a screen")
		for _, line := range lines {
			require.LessOrEqual(t, runewidth.StringWidth(line), width, "%q", line)
		}
	}
	lines := strings.Join(s.lines(120), "\n")
	for i := 30; i < 40; i++ {
		require.Contains(t, lines, fmt.Sprintf("name_%02d", i), "tables being copied are shown first")
	}
	require.Contains(t, lines, "… 33 more: 1 copying, 31 waiting, 1 completed")
}

func TestPlanIsPrinted(t *testing.T) {
	found := &rehearsal{
		Plan: &ghostferry.Plan{
			Tables: []ghostferry.TablePlan{
				{Schema: "shop", Table: "orders", TargetSchema: "store", TargetTable: "orders", Key: []string{"tenant", "id"}, RowsEstimate: 1_234_567, Bytes: 250e6, Chunks: 239, CopiedBy: "LOAD DATA", DeferredIndexes: []string{"by_day", "by_sum"}, Path: "parallel chunks"},
				{Schema: "shop", Table: "a\nb", TargetSchema: "store", TargetTable: "a\nb", Key: []string{"id"}, CopiedBy: "INSERT", Path: "parallel chunks"},
			},
			RowsEstimate: 1_234_567, Bytes: 250e6, SecondsEstimate: 90,
		},
		Preflight: &ghostferry.PreflightReport{Findings: []ghostferry.PreflightFinding{
			{Code: "packet-size.row", Severity: ghostferry.PreflightWarning, Subject: "shop.a\nb", What: "small", Remedy: "raise it"},
		}},
	}
	var out bytes.Buffer
	require.NoError(t, found.print(&out))
	require.Equal(t, strings.TrimLeft(`
TABLE        ON THE TARGET  KEY         ROWS≈      SIZE    CHUNKS  COPIED BY  INDEXES AFTERWARDS  PATH
shop.orders  store.orders   tenant, id  1,234,567  250 MB  239     LOAD DATA  by_day, by_sum      parallel chunks
shop.a�b     store.a�b      id          0          0 B     0       INSERT     -                   parallel chunks

warning  packet-size.row  shop.a�b: small
                          remedy: raise it
preflight: 0 errors, 1 warning
dry run: 2 tables, about 1,234,567 rows, 250 MB, estimated to take up to 1m30s: nothing speaks against it; nothing was written
`, "\n"), out.String())

	found.Refused = true
	out.Reset()
	require.NoError(t, found.print(&out))
	require.Contains(t, out.String(), "REFUSED, see the errors above")
}

// Many tables are looked at once a second, few with every picture.
func TestManyTablesAreReadLessOften(t *testing.T) {
	now := time.Now()
	for count, due := range map[int]bool{8: true, 10_000: false} {
		tables := map[string]ghostferry.TableProgress{}
		for n := range count {
			tables[fmt.Sprint(n)] = ghostferry.TableProgress{}
		}
		m := &meter{}
		require.True(t, m.due(now))
		m.read(now, ghostferry.StateCopying, ghostferry.ControlServerOverview{}, tables)
		require.Equal(t, due, m.due(now.Add(viewInterval)), count)
		require.True(t, m.due(now.Add(time.Second)))
	}
}
