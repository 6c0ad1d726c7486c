package ghostferry

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strconv"
	"strings"
	"time"
)

//go:embed verification_report.html
var reportPageText string

var reportPage = template.Must(template.New("report").Funcs(template.FuncMap{
	"number":  grouped,
	"count":   func(n int) string { return grouped(uint64(n)) },
	"seconds": readableSeconds,
	"list":    func(names []string) string { return strings.Join(names, ", ") },
	"utc":     func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
}).Parse(reportPageText))

// WriteHTML writes the report as a page without scripts or references.
func (r *VerificationReport) WriteHTML(w io.Writer) error { return reportPage.Execute(w, r) }

// Verdict is the result in a sentence, and what was not compared in another one.
func (r *VerificationReport) Verdict() string {
	if left := r.NotCompared(); left != "" {
		return r.verdict() + " As configured, " + left + " were not compared."
	}
	return r.verdict()
}

func (r *VerificationReport) verdict() string {
	tables := plural(len(r.Tables), "table")
	at := ""
	if r.Coordinate != "" {
		at = ", at the source's coordinate " + r.Coordinate
	}
	switch {
	case r.Result == reportDifferent:
		return fmt.Sprintf("Rows that differ: %s, of %s that were compared%s.", grouped(uint64(len(r.Mismatches))), tables, at)
	case r.Result == reportIncomplete && r.Rows+r.RowsRechecked == 0:
		return "No row was compared: this says nothing about whether source and target are equal."
	case r.Result == reportIncomplete:
		return fmt.Sprintf("Not everything was compared: %s so far, and none of them differs.", plural(int(r.Rows), "row"))
	case r.Verifier == VerifierTypeInline || r.Rows == 0: // no row was there when the tables were walked
		return fmt.Sprintf("The rows of %s that were copied or changed by the run are equal on both servers%s.", tables, at)
	}
	return fmt.Sprintf("All %s of %s were compared on both servers, and are equal%s.", plural(int(r.Rows), "row"), tables, at)
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return grouped(uint64(n)) + " " + word + "s"
}

// grouped writes 1234567 as 1,234,567.
func grouped(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// readableSeconds writes a time as people say it: 48 ms, 3.2 s, 2 min 5 s.
func readableSeconds(s float64) string {
	switch d := time.Duration(s * float64(time.Second)); {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", s)
	default:
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), int(d.Seconds())%60)
	}
}
