package ghostferry

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// VerificationReport tells what a verifier has compared and found. It holds no row
// data but keys: values are given by their digests.
type VerificationReport struct {
	// Verifier is a VerifierType.
	Verifier string `json:"verifier"`
	// Result is "equal", "different", or "incomplete" when not everything was compared.
	Result string `json:"result"`
	// Coordinate is the source's coordinate at which the rows were equal, as far as they
	// were compared; empty without a stream.
	Coordinate string `json:"coordinate,omitempty"`
	// Digest is over the digests of all tables. Two verifications of equal data give the
	// same one, however they were cut into chunks, if no row changed while they ran:
	// Tables tell by RowsRechecked.
	Digest string `json:"digest"`
	// Rows, Chunks and RowsRechecked are the sums over the tables.
	Rows          uint64 `json:"rows"`
	Chunks        uint64 `json:"chunks"`
	RowsRechecked uint64 `json:"rows_rechecked"`
	// SecondsBefore were spent while the source could be written, SecondsDuring at the
	// cutover.
	SecondsBefore float64 `json:"seconds_before_cutover"`
	SecondsDuring float64 `json:"seconds_during_cutover"`
	// Made is when the report was made.
	Made time.Time `json:"made"`

	Tables     []TableReport            `json:"tables"`
	Mismatches []OnlineVerifierMismatch `json:"mismatches"`
	Repaired   []RepairedRow            `json:"repaired"`
}

// TableReport is a report's part on one table.
type TableReport struct {
	// Table and Target are the table's names on the two servers, "schema.table".
	Table  string `json:"table"`
	Target string `json:"target"`
	// Result is as the report's.
	Result string `json:"result"`
	// Rows of the source were compared in Chunks; DifferingChunks were read row by row.
	Rows            uint64 `json:"rows"`
	Chunks          uint64 `json:"chunks"`
	DifferingChunks uint64 `json:"differing_chunks"`
	// RowsRechecked is how often single rows were compared (again).
	RowsRechecked uint64 `json:"rows_rechecked"`
	// Digest is over the source's rows as they were when first compared: SHA-256 of their
	// number and the sum of their digests.
	Digest string `json:"digest"`
	// Seconds is the time of all workers together.
	Seconds float64 `json:"seconds"`
	// Mismatches counts the rows that differ.
	Mismatches int `json:"mismatches"`
}

// The results of a report.
const (
	reportEqual      = "equal"
	reportDifferent  = "different"
	reportIncomplete = "incomplete"
)

// ReportingVerifier is a verifier that can tell in detail what it has done.
type ReportingVerifier interface {
	Report() *VerificationReport
}

// Report tells what was compared and found so far.
func (v *OnlineVerifier) Report() *VerificationReport { return reportOf(v.core, VerifierTypeOnline) }

// Report tells what was compared and found so far. Rows that were neither copied nor
// changed by this run are not in it.
func (v *InlineVerifier) Report() *VerificationReport { return reportOf(v.core, VerifierTypeInline) }

// Report tells what was compared and found so far.
func (v *IterativeVerifier) Report() *VerificationReport {
	return reportOf(v.core, VerifierTypeIterative)
}

// Report tells what the last comparison has found.
func (v *ChecksumTableVerifier) Report() *VerificationReport {
	return reportOf(func() (*comparer, error) {
		if c := v.found.get(); c != nil {
			return c, nil
		}
		return nil, errors.New("nothing was compared")
	}, VerifierTypeChecksumTable)
}

func reportOf(core func() (*comparer, error), verifier string) *VerificationReport {
	c, err := core()
	if err != nil {
		return &VerificationReport{Verifier: verifier, Result: reportIncomplete, Made: time.Now().UTC()}
	}
	r := c.report()
	r.Verifier = verifier
	return r
}

func (c *comparer) report() *VerificationReport {
	s := c.statistics()
	r := &VerificationReport{
		SecondsBefore: s.BeforeCutover.Seconds(), SecondsDuring: s.DuringCutover.Seconds(), Made: time.Now().UTC(),
		Tables: []TableReport{}, Mismatches: []OnlineVerifierMismatch{}, Repaired: []RepairedRow{},
	}
	r.Mismatches = append(r.Mismatches, c.mismatches()...)
	c.found.Lock()
	r.Repaired = append(r.Repaired, c.found.repaired...)
	c.found.Unlock()
	differ := map[string]int{}
	for _, m := range r.Mismatches {
		differ[m.Table]++
	}
	left := c.unfinished()
	c.stats.Lock()
	defer c.stats.Unlock()
	if at := c.stats.coordinate; !at.IsZero() {
		r.Coordinate = at.String()
	}
	whole := sha256.New()
	for _, f := range c.prints {
		t := c.tableReport(f, differ[f.table.String()], left[f] != nil)
		r.Rows, r.Chunks, r.RowsRechecked = r.Rows+t.Rows, r.Chunks+t.Chunks, r.RowsRechecked+t.RowsRechecked
		r.Tables = append(r.Tables, t)
		fmt.Fprintf(whole, "%q %d %s\n", t.Table, t.Rows, t.Digest)
	}
	r.Digest = hex.EncodeToString(whole.Sum(nil))
	r.Result = resultOf(len(r.Mismatches), len(left) > 0 || r.Rows+r.RowsRechecked == 0)
	return r
}

func (c *comparer) tableReport(f *fingerprint, mismatches int, left bool) TableReport {
	s := c.stats.tables[f]
	digest := sha256.Sum256(fmt.Appendf(s.sum.bytes(), " %d", s.rows))
	schema, name := c.names.table(f.table.Schema, f.table.Name)
	return TableReport{
		Table: f.table.String(), Target: schema + "." + name, Result: resultOf(mismatches, left),
		Rows: s.rows, Chunks: s.chunks, DifferingChunks: s.differing, RowsRechecked: s.rechecks,
		Digest: hex.EncodeToString(digest[:]), Seconds: s.took.Seconds(), Mismatches: mismatches,
	}
}

func resultOf(mismatches int, left bool) string {
	switch {
	case mismatches > 0:
		return reportDifferent
	case left:
		return reportIncomplete
	}
	return reportEqual
}

// WriteFile writes the report to a file in the form that the name's end says: ".json",
// ".md" or ".html".
func (r *VerificationReport) WriteFile(name string) error {
	write := map[string]func(io.Writer) error{".json": r.WriteJSON, ".md": r.WriteMarkdown, ".html": r.WriteHTML}[strings.ToLower(filepath.Ext(name))]
	if write == nil {
		return fmt.Errorf("the report's file %q must end in .json, .md or .html", name)
	}
	file, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("writing the verification report: %w", err)
	}
	if err := errors.Join(write(file), file.Close()); err != nil {
		return fmt.Errorf("writing the verification report %s: %w", name, err)
	}
	return nil
}

// WriteJSON writes the report as one indented JSON object.
func (r *VerificationReport) WriteJSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", " ")
	return encoder.Encode(r)
}

// WriteMarkdown writes the report for people.
func (r *VerificationReport) WriteMarkdown(w io.Writer) error {
	cell := strings.NewReplacer("|", `\|`, "\n", " ").Replace
	var b strings.Builder
	fmt.Fprintf(&b, "# Verification: %s\n\n", r.Result)
	for _, line := range r.summary() {
		fmt.Fprintf(&b, "- %s: `%s`\n", line[0], line[1])
	}
	b.WriteString("\n| table | on the target | result | rows | chunks | differing | re-checked | seconds | digest |\n|---|---|---|---:|---:|---:|---:|---:|---|\n")
	for _, t := range r.Tables {
		fmt.Fprintf(&b, "| %s | %s | %s | %d | %d | %d | %d | %.1f | `%.16s…` |\n", cell(t.Table), cell(t.Target), t.Result, t.Rows, t.Chunks, t.DifferingChunks, t.RowsRechecked, t.Seconds, t.Digest)
	}
	if len(r.Mismatches) > 0 {
		b.WriteString("\n## Rows that differ\n\n| table | key | kind | columns | source | target |\n|---|---|---|---|---|---|\n")
		for _, m := range r.Mismatches {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | `%.16s` | `%.16s` |\n", cell(m.Table), cell(m.Key), m.Kind, cell(m.ColumnNames()), m.SourceDigest, m.TargetDigest)
		}
	}
	if len(r.Repaired) > 0 {
		b.WriteString("\n## Rows that were repaired\n\n| table | key | was | columns | done | at |\n|---|---|---|---|---|---|\n")
		for _, m := range r.Repaired {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", cell(m.Table), cell(m.Key), m.Kind, cell(m.ColumnNames()), m.Action, m.At.Format(time.RFC3339))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// summary is what stands above the tables.
func (r *VerificationReport) summary() [][2]string {
	lines := [][2]string{
		{"verifier", r.Verifier}, {"rows compared", fmt.Sprintf("%d in %d chunks", r.Rows, r.Chunks)}, {"rows compared again", fmt.Sprint(r.RowsRechecked)},
		{"time", fmt.Sprintf("%.1f s before the cutover, %.3f s during it", r.SecondsBefore, r.SecondsDuring)},
		{"rows that differ", fmt.Sprint(len(r.Mismatches))}, {"rows repaired", fmt.Sprint(len(r.Repaired))},
		{"digest of the source's rows", r.Digest}, {"made", r.Made.Format(time.RFC3339)},
	}
	if r.Coordinate != "" {
		lines = append(lines, [2]string{"source's coordinate", r.Coordinate})
	}
	return lines
}

// WriteHTML writes the report as a page without scripts or references.
func (r *VerificationReport) WriteHTML(w io.Writer) error {
	return reportPage.Execute(w, struct {
		*VerificationReport
		Summary [][2]string
	}{r, r.summary()})
}

var reportPage = template.Must(template.New("report").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Verification: {{.Result}}</title>
<style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d8dee4;vertical-align:top}
th{background:#f6f8fa}td.n{text-align:right;font-variant-numeric:tabular-nums}
code{font-size:.85em;word-break:break-all}.equal{color:#116329}.different{color:#a40e26}.incomplete{color:#7d4e00}
</style></head><body>
<h1>Verification: <span class="{{.Result}}">{{.Result}}</span></h1>
<table>{{range .Summary}}<tr><th scope="row">{{index . 0}}</th><td><code>{{index . 1}}</code></td></tr>{{end}}</table>
<h2>Tables</h2>
<table><tr><th>table</th><th>on the target</th><th>result</th><th>rows</th><th>chunks</th><th>differing</th><th>re-checked</th><th>seconds</th><th>digest</th></tr>
{{range .Tables}}<tr><td>{{.Table}}</td><td>{{.Target}}</td><td class="{{.Result}}">{{.Result}}</td><td class="n">{{.Rows}}</td><td class="n">{{.Chunks}}</td><td class="n">{{.DifferingChunks}}</td><td class="n">{{.RowsRechecked}}</td><td class="n">{{printf "%.1f" .Seconds}}</td><td><code>{{.Digest}}</code></td></tr>
{{end}}</table>
{{if .Mismatches}}<h2>Rows that differ</h2>
<table><tr><th>table</th><th>key</th><th>kind</th><th>columns</th><th>source</th><th>target</th></tr>
{{range .Mismatches}}<tr><td>{{.Table}}</td><td>{{.Key}}</td><td>{{.Kind}}</td><td>{{.ColumnNames}}</td><td><code>{{.SourceDigest}}</code></td><td><code>{{.TargetDigest}}</code></td></tr>
{{end}}</table>{{end}}
{{if .Repaired}}<h2>Rows that were repaired</h2>
<table><tr><th>table</th><th>key</th><th>was</th><th>columns</th><th>done</th><th>at</th></tr>
{{range .Repaired}}<tr><td>{{.Table}}</td><td>{{.Key}}</td><td>{{.Kind}}</td><td>{{.ColumnNames}}</td><td>{{.Action}}</td><td>{{.At}}</td></tr>
{{end}}</table>{{end}}
</body></html>
`))
