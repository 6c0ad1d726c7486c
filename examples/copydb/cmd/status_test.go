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

// progressAt has one table half copied, one complete and one waiting.
func progressAt(rows uint64) *ghostferry.Progress {
	return &ghostferry.Progress{
		RowsCopied: rows + 50, BytesCopied: 100 * rows, BinlogRowsApplied: rows / 10, BinlogStreamerLag: 0.25,
		Tables: map[string]ghostferry.TableProgress{
			"shop.orders":    {CurrentAction: ghostferry.TableActionCopying, RowsWritten: rows, RowsEstimate: 10_000},
			"shop.customers": {CurrentAction: ghostferry.TableActionCompleted, RowsWritten: 50, RowsEstimate: 70},
			"shop.products":  {CurrentAction: ghostferry.TableActionWaiting, RowsEstimate: 950},
		},
	}
}

func TestTotals(t *testing.T) {
	start := time.Now()
	m := &meter{began: start}
	first := m.read(start, ghostferry.StateCopying, progressAt(0))
	require.Equal(t, "50 of about 11,000 rows (0%), 0 rows/s, 0 B/s, ETA unknown", first.rowTotals())

	s := m.read(start.Add(5*time.Second), ghostferry.StateCopying, progressAt(5000))
	require.Equal(t, "5,050 of about 11,000 rows (45%), 1,000 rows/s, 100 kB/s, ETA 6s", s.rowTotals())
	require.Equal(t, "500 changes applied (100/s), lag 0.2 s", s.changeTotals())

	done := m.read(start.Add(6*time.Second), ghostferry.StateWaitingForCutover, progressAt(10_000))
	require.Equal(t, "10,050 rows copied", done.rowTotals())
}

func TestSpeedIsThatOfTheLastSeconds(t *testing.T) {
	start := time.Now()
	m := &meter{began: start}
	var s status
	for second := range 60 { // 100 rows/s for half a minute, then none
		s = m.read(start.Add(time.Duration(second)*time.Second), ghostferry.StateCopying, progressAt(uint64(min(second, 30)*100)))
	}
	require.Zero(t, s.rowRate)
	require.Equal(t, "unknown", s.eta())
	require.LessOrEqual(t, len(m.samples), 13)
}

func TestUnknownLagIsSaid(t *testing.T) {
	progress := progressAt(1)
	progress.BinlogStreamerLag = 6e10 // no event yet
	m := &meter{began: time.Now()}
	s := m.read(time.Now(), ghostferry.StateCopying, progress)
	require.Contains(t, s.changeTotals(), "lag unknown")
}

func TestTableLines(t *testing.T) {
	m := &meter{began: time.Now()}
	s := m.read(time.Now(), ghostferry.StateCopying, progressAt(5000))
	require.Equal(t, []string{
		"shop.orders     ███████████████░░░░░░░░░░░░░░░  50%  5,000 of about 10,000 rows, copying",
		"shop.products   ░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░   0%  0 of about 950 rows, waiting",
		"shop.customers  ██████████████████████████████ 100%  50 rows, completed",
	}, s.lines(100)[:3])
}

func TestLinesFitTheTerminal(t *testing.T) {
	progress := progressAt(5000)
	for i := range 40 {
		action := ghostferry.TableActionWaiting
		if i >= 30 {
			action = ghostferry.TableActionCopying
		}
		name := fmt.Sprintf("倉庫.a_table_with_quite_a_long_name_%02d", i)
		progress.Tables[name] = ghostferry.TableProgress{CurrentAction: action, RowsEstimate: uint64(i) * 1000}
	}
	m := &meter{began: time.Now()}
	s := m.read(time.Now(), ghostferry.StateCopying, progress)
	for _, width := range []int{20, 40, 60, 80, 120, 200} {
		lines := s.lines(width)
		require.Len(t, lines, maxLiveTables+3)
		for _, line := range lines {
			require.LessOrEqual(t, runewidth.StringWidth(line), width, "%q", line)
		}
	}
	lines := strings.Join(s.lines(120), "\n")
	for i := 30; i < 40; i++ {
		require.Contains(t, lines, fmt.Sprintf("name_%02d", i), "tables being copied are shown first")
	}
	require.Contains(t, lines, "… 25 more: 24 waiting, 1 completed")
}

func TestPlanIsPrinted(t *testing.T) {
	found := &rehearsal{
		Plan: &ghostferry.Plan{
			Tables: []ghostferry.TablePlan{
				{Schema: "shop", Table: "orders", TargetSchema: "store", TargetTable: "orders", Key: []string{"tenant", "id"}, RowsEstimate: 1_234_567, Bytes: 250e6, Chunks: 239, DeferredIndexes: []string{"by_day", "by_sum"}, Path: "parallel chunks"},
				{Schema: "shop", Table: "a\nb", TargetSchema: "store", TargetTable: "a\nb", Key: []string{"id"}, Path: "parallel chunks"},
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
TABLE        ON THE TARGET  KEY         ROWS≈      SIZE    CHUNKS  INDEXES AFTERWARDS  PATH
shop.orders  store.orders   tenant, id  1,234,567  250 MB  239     by_day, by_sum      parallel chunks
shop.a�b     store.a�b      id          0          0 B     0       -                   parallel chunks

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
