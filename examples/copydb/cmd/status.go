package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ghostferry-go/ghostferry"
)

// meter turns what the library tells into a status. It is used by one goroutine.
type meter struct {
	began time.Time
	phase string // the last one, and since when
	since time.Time

	tables int // of the last status, and when that was
	last   time.Time
}

// manyTables is more than are read and sorted several times a second.
const manyTables = 500

// due says whether a new status is worth its price: that of ten thousand tables takes some
// hundredths of a second.
func (m *meter) due(now time.Time) bool {
	return m.tables <= manyTables || now.Sub(m.last) >= time.Second
}

// status is what the views show: what the page of the control server does, and a line for
// tables.
type status struct {
	phase   string
	inPhase time.Duration
	elapsed time.Duration
	tables  []tableStatus // largest first

	ghostferry.ControlServerOverview
}

// tableStatus is one table's line.
type tableStatus struct {
	name           string
	rows, estimate uint64
	action         string
}

// read makes a status of a snapshot.
func (m *meter) read(now time.Time, phase string, overview ghostferry.ControlServerOverview, tables map[string]ghostferry.TableProgress) status {
	if phase != m.phase {
		m.phase, m.since = phase, now
	}
	m.tables, m.last = len(tables), now
	s := status{phase: phase, inPhase: now.Sub(m.since), elapsed: now.Sub(m.began), ControlServerOverview: overview}
	for name, table := range tables {
		one := tableStatus{name: printable(name), rows: table.RowsWritten + table.RowsWrittenBefore, estimate: table.RowsEstimate, action: table.CurrentAction}
		if one.action == ghostferry.TableActionCompleted {
			one.estimate = one.rows
		}
		s.tables = append(s.tables, one)
	}
	slices.SortFunc(s.tables, func(a, b tableStatus) int {
		return cmp.Or(cmp.Compare(max(b.estimate, b.rows), max(a.estimate, a.rows)), strings.Compare(a.name, b.name))
	})
	return s
}

// rowTotals tells how far the copy is.
func (s status) rowTotals() string {
	if s.phase == ghostferry.StateCopying {
		return copied(&s.ControlServerOverview)
	}
	text := count(s.RowsCopied+s.RowsCopiedBefore) + " rows copied"
	if s.RowsCopiedBefore > 0 {
		text += ", " + count(s.RowsCopiedBefore) + " of them by earlier processes"
	}
	return text
}

// copied tells how far the copy is, how fast, and when it will be over.
func copied(o *ghostferry.ControlServerOverview) string {
	eta := o.ETAReason
	if o.ETASeconds != nil {
		eta = "about " + duration(time.Duration(*o.ETASeconds*float64(time.Second))) + " left"
	}
	rows := o.RowsCopied + o.RowsCopiedBefore
	far := fmt.Sprintf("%s of about %s rows (%s)", count(rows), count(rows+o.RowsRemaining), percent(rows, rows+o.RowsRemaining))
	if o.RowsRemaining == 0 && o.TablesCompleted < o.TablesTotal { // the estimates were too low
		far = count(rows) + " rows (?%)"
	}
	return fmt.Sprintf("%s, %s rows/s, %s/s, %s", far, count(uint64(o.CopyRowsPerSecond)), size(o.CopyBytesPerSecond), eta)
}

// changeTotals tells how far the changes are.
func changeTotals(o *ghostferry.ControlServerOverview) string {
	lag := "unknown"
	if o.ApplyLagSeconds != nil {
		lag = fmt.Sprintf("%.1f s", *o.ApplyLagSeconds)
	}
	return fmt.Sprintf("%s changes applied (%s/s), lag %s", count(o.BinlogRowsApplied), count(uint64(o.ApplyRowsPerSecond)), lag)
}

// fact is something that is to be known of a run, in a line.
type fact struct{ name, text string }

// facts are those beside the copy and the changes: who pauses the run, how far the comparison
// is, and everything about the cutover.
func facts(o *ghostferry.ControlServerOverview) []fact {
	var all []fact
	add := func(name, format string, args ...any) {
		all = append(all, fact{name, printable(fmt.Sprintf(format, args...))})
	}
	if t := o.Throttle; t != nil {
		add("throttled", "by %s since %s: %s", t.Who, t.Since.Format(time.TimeOnly), t.Why)
	}
	if text := comparison(o.Verification); text != "" {
		add("verification", "%s", text)
	}
	add("cutover", "%s", cutover(o))
	if o.Cutover.LastError != "" && o.CutoverPhase != ghostferry.PhaseDone {
		add("given up", "%s", o.Cutover.LastError)
	}
	return all
}

// cutover tells where the cutover is, what it waits for, how often it was tried, and how long
// the writers wait.
func cutover(o *ghostferry.ControlServerOverview) string {
	c := o.Cutover
	parts := []string{"allowed"}
	if !o.CutoverAllowed {
		parts[0] = "held back"
	}
	switch o.CutoverPhase {
	case ghostferry.PhaseNone:
	case ghostferry.PhaseReady:
		parts = append([]string{string(o.CutoverPhase)}, parts...)
	case ghostferry.PhaseUnfenced:
		parts = append([]string{"given up, the writers go on"}, parts...)
	default:
		parts[0] = string(o.CutoverPhase)
	}
	if c.Attempts > 0 {
		parts = append(parts, fmt.Sprintf("attempt %d", c.Attempts))
	}
	if c.Aborts > 0 {
		parts = append(parts, fmt.Sprintf("%d given up", c.Aborts))
	}
	switch {
	case c.WriteBlock > 0:
		parts = append(parts, fmt.Sprintf("write block %.3f s", c.WriteBlock))
	case c.PredictedWriteBlock > 0:
		parts = append(parts, fmt.Sprintf("write block predicted: %.3f s", c.PredictedWriteBlock))
	default:
		parts = append(parts, "write block not predicted yet")
	}
	switch {
	case c.MaxWriteBlock <= 0:
		parts = append(parts, "no budget")
	case c.WriteBlock == 0 && c.PredictedWriteBlock > c.MaxWriteBlock:
		parts = append(parts, fmt.Sprintf("MORE than the budget of %.3f s", c.MaxWriteBlock))
	default:
		parts = append(parts, fmt.Sprintf("budget %.3f s", c.MaxWriteBlock))
	}
	return strings.Join(parts, ", ")
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

// comparison tells how far the verifier is, and what it has found; empty without one.
func comparison(v ghostferry.ControlServerVerification) string {
	if v.Type == "" || v.Type == ghostferry.VerifierTypeNoVerification {
		return ""
	}
	text := v.Message
	if v.Detailed {
		text = fmt.Sprintf("%s rows compared in %d of %d tables, %s keys to compare again, %s rows differ",
			count(v.RowsCompared), v.TablesDone, v.TablesTotal, count(uint64(v.KeysQueued)), count(uint64(v.Mismatches)))
		if v.Mismatches > 0 {
			text = strings.Replace(text, "differ", "DIFFER", 1)
		}
		if v.Repaired > 0 {
			text += fmt.Sprintf(", %d repaired", v.Repaired)
		}
	}
	if v.Correct != nil {
		text += map[bool]string{true: ", equal", false: ", DIFFERENT"}[*v.Correct]
		if v.Verdict != "" {
			text += ": " + v.Verdict
		}
	}
	return text
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
