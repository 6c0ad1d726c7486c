package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ghostferry-go/ghostferry"
)

// rateWindow is over how long speeds are averaged.
const rateWindow = 10 * time.Second

// sample is what had been done at a moment.
type sample struct {
	at                   time.Time
	rows, bytes, changes uint64
}

// meter turns snapshots of the progress into a status with speeds. It is used by one
// goroutine.
type meter struct {
	began   time.Time
	phase   string // the last one, and since when
	since   time.Time
	samples []sample // of the last rateWindow, oldest first
}

// status is what the views show.
type status struct {
	phase   string
	inPhase time.Duration
	elapsed time.Duration
	tables  []tableStatus // largest first

	// rows were copied, about remaining are still to be copied, changes were applied.
	rows, remaining, bytes, changes uint64
	// A second, over the last seconds.
	rowRate, byteRate, changeRate float64

	lag       float64 // seconds; negative while unknown
	throttled string  // who pauses the move and why; empty when nobody does
	compared  string  // how far the comparison is; empty before it begins
}

// tableStatus is one table's line.
type tableStatus struct {
	name           string
	rows, estimate uint64
	action         string
}

// read makes a status of a snapshot.
func (m *meter) read(now time.Time, phase string, progress *ghostferry.Progress) status {
	if phase != m.phase {
		m.phase, m.since = phase, now
	}
	s := status{
		phase: phase, inPhase: now.Sub(m.since), elapsed: now.Sub(m.began), lag: progress.BinlogStreamerLag,
		rows: progress.RowsCopied, bytes: progress.BytesCopied, changes: progress.BinlogRowsApplied,
	}
	switch {
	case progress.Throttle != nil:
		s.throttled = "throttled by " + printable(progress.Throttle.Who+": "+progress.Throttle.Why)
	case progress.Throttled:
		s.throttled = "throttled"
	}
	for name, table := range progress.Tables {
		one := tableStatus{name: printable(name), rows: table.RowsWritten, estimate: table.RowsEstimate, action: table.CurrentAction}
		switch {
		case one.action == ghostferry.TableActionCompleted:
			one.estimate = one.rows
		case one.estimate > one.rows:
			s.remaining += one.estimate - one.rows
		}
		s.tables = append(s.tables, one)
	}
	slices.SortFunc(s.tables, func(a, b tableStatus) int {
		return cmp.Or(cmp.Compare(max(b.estimate, b.rows), max(a.estimate, a.rows)), strings.Compare(a.name, b.name))
	})
	if s.lag > maxLag || phase == ghostferry.StateStarting {
		s.lag = -1
	}
	m.rates(now, &s)
	return s
}

// maxLag is more than any lag: a stream without an event so far is as old as time.
const maxLag = 10 * 365 * 24 * 3600

func (m *meter) rates(now time.Time, s *status) {
	m.samples = append(m.samples, sample{now, s.rows, s.bytes, s.changes})
	for len(m.samples) > 2 && now.Sub(m.samples[1].at) >= rateWindow {
		m.samples = m.samples[1:]
	}
	first := m.samples[0]
	seconds := now.Sub(first.at).Seconds()
	if seconds <= 0 {
		return
	}
	s.rowRate = float64(s.rows-min(first.rows, s.rows)) / seconds
	s.byteRate = float64(s.bytes-min(first.bytes, s.bytes)) / seconds
	s.changeRate = float64(s.changes-min(first.changes, s.changes)) / seconds
}

// copying says whether rows are being copied.
func (s status) copying() bool { return s.phase == ghostferry.StateCopying }

// rowTotals tells how far the copy is.
func (s status) rowTotals() string {
	if !s.copying() {
		return count(s.rows) + " rows copied"
	}
	return fmt.Sprintf("%s of about %s rows (%s), %s rows/s, %s/s, ETA %s",
		count(s.rows), count(s.rows+s.remaining), percent(s.rows, s.rows+s.remaining), count(uint64(s.rowRate)), size(s.byteRate), s.eta())
}

// changeTotals tells how far everything else is.
func (s status) changeTotals() string {
	text := fmt.Sprintf("%s changes applied (%s/s), lag %s", count(s.changes), count(uint64(s.changeRate)), s.lagText())
	if s.throttled != "" {
		text += ", " + s.throttled
	}
	if s.compared != "" {
		text += ", " + s.compared
	}
	return text
}

func (s status) lagText() string {
	if s.lag < 0 {
		return "unknown"
	}
	return fmt.Sprintf("%.1f s", s.lag)
}

// eta is when the last row is expected to be copied.
func (s status) eta() string {
	if s.rowRate < 1 || s.remaining == 0 {
		return "unknown"
	}
	return duration(time.Duration(float64(s.remaining) / s.rowRate * float64(time.Second)))
}

// duration is rounded to what one wants to read: 9s, 4m10s, 2h03m.
func duration(d time.Duration) string {
	d = d.Round(time.Second)
	if d < time.Hour {
		return d.String()
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// percent is rounded down, so that 100% means everything.
func percent(part, whole uint64) string {
	if whole == 0 {
		return "?%"
	}
	return fmt.Sprintf("%d%%", min(100, uint64(float64(part)*100/float64(whole))))
}

// comparison tells how far a verifier is; empty before it begins.
func comparison(verifier ghostferry.Verifier) string {
	switch v := verifier.(type) {
	case nil:
		return ""
	case *ghostferry.OnlineVerifier:
		stats := v.Stats()
		if stats.RowsCompared == 0 {
			return ""
		}
		text := fmt.Sprintf("%s rows compared in %d of %d tables", count(stats.RowsCompared), stats.TablesDone, stats.Tables)
		if stats.KeysQueued > 0 {
			text += fmt.Sprintf(", %s keys to compare again", count(uint64(stats.KeysQueued)))
		}
		if stats.Mismatches > 0 {
			text += fmt.Sprintf(", %s rows DIFFER", count(uint64(stats.Mismatches)))
		}
		return text
	}
	return verifier.Message()
}

// count groups digits: 1,234,567.
func count(n uint64) string {
	digits := fmt.Sprint(n)
	var grouped strings.Builder
	for i, digit := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			grouped.WriteByte(',')
		}
		grouped.WriteRune(digit)
	}
	return grouped.String()
}

// size is in decimal units: 12.3 MB.
func size(bytes float64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	unit := 0
	for bytes >= 1000 && unit < len(units)-1 {
		bytes /= 1000
		unit++
	}
	if unit == 0 || bytes >= 100 {
		return fmt.Sprintf("%.0f %s", bytes, units[unit])
	}
	return fmt.Sprintf("%.1f %s", bytes, units[unit])
}
