package ghostferry

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
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

	Tables []TableReport `json:"tables"`
	// IgnoredTables are those that the settings leave out, "schema.table".
	IgnoredTables []string `json:"ignored_tables,omitempty"`

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
	// IgnoredColumns are those that the settings leave out.
	IgnoredColumns []string `json:"ignored_columns,omitempty"`
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
	left := c.unfinished() // before the mismatches, which are noted before they are done with
	r.Mismatches = append(r.Mismatches, c.mismatches()...)
	slices.SortFunc(r.Mismatches, func(a, b OnlineVerifierMismatch) int {
		return cmp.Or(strings.Compare(a.Table, b.Table), strings.Compare(a.Key, b.Key))
	})
	r.IgnoredTables = slices.Sorted(slices.Values(c.ignored))
	c.found.Lock()
	r.Repaired = append(r.Repaired, c.found.repaired...)
	c.found.Unlock()
	differ := map[string]int{}
	for _, m := range r.Mismatches {
		differ[m.Table]++
	}
	c.stats.Lock()
	defer c.stats.Unlock()
	if at := c.stats.coordinate; !at.IsZero() {
		r.Coordinate = at.String()
	}
	whole := sha256.New()
	byName := slices.SortedFunc(slices.Values(c.prints), func(a, b *fingerprint) int { return strings.Compare(a.table.String(), b.table.String()) })
	for _, f := range byName {
		t := c.tableReport(f, differ[f.table.String()], left[f] != nil)
		r.Rows, r.Chunks, r.RowsRechecked = r.Rows+t.Rows, r.Chunks+t.Chunks, r.RowsRechecked+t.RowsRechecked
		r.Tables = append(r.Tables, t)
		fmt.Fprintf(whole, "%q %d %s\n", t.Table, t.Rows, t.Digest)
	}
	r.Digest = hex.EncodeToString(whole.Sum(nil))
	r.Result = resultOf(len(r.Mismatches), len(left) > 0 || !c.sawRowsLocked())
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
		IgnoredColumns: f.ignored,
	}
}

// NotCompared says how much the settings leave out of the comparison, such as "2 tables and 3
// columns"; empty when they leave out nothing.
func (r *VerificationReport) NotCompared() string {
	columns := 0
	for _, t := range r.Tables {
		columns += len(t.IgnoredColumns)
	}
	var left []string
	if n := len(r.IgnoredTables); n > 0 {
		left = append(left, plural(n, "table"))
	}
	if columns > 0 {
		left = append(left, plural(columns, "column"))
	}
	return strings.Join(left, " and ")
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
	fmt.Fprintf(&b, "# Verification: %s\n\n%s\n\n", r.Result, r.Verdict())
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
	if len(r.IgnoredTables) > 0 {
		lines = append(lines, [2]string{"tables not compared", strings.Join(r.IgnoredTables, ", ")})
	}
	for _, t := range r.Tables {
		if len(t.IgnoredColumns) > 0 {
			lines = append(lines, [2]string{"columns of " + t.Table + " not compared", strings.Join(t.IgnoredColumns, ", ")})
		}
	}
	return lines
}
