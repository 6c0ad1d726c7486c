package compare

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Report is the verdict.
type Report struct {
	// Tables are all tables that were compared, by name.
	Tables []TableReport
	// Differences are the first ones found, ordered by table and key, and
	// DifferenceCount says how many there are.
	Differences     []Difference
	DifferenceCount int
}

// TableReport counts the rows of one table. EqualRows were read on both sides and
// are equal in every column.
type TableReport struct {
	Table                             string
	SourceRows, TargetRows, EqualRows int64
}

// Equal reports whether every row of every table was read on both sides and found
// equal. A comparison of no tables is not equal.
func (r *Report) Equal() bool {
	for _, t := range r.Tables {
		if t.SourceRows != t.EqualRows || t.TargetRows != t.EqualRows {
			return false
		}
	}
	return len(r.Tables) > 0 && r.DifferenceCount == 0
}

// Rows is how many rows are equal on both sides.
func (r *Report) Rows() (rows int64) {
	for _, t := range r.Tables {
		rows += t.EqualRows
	}
	return rows
}

func (r *Report) sort() {
	slices.SortFunc(r.Tables, func(a, b TableReport) int { return cmp.Compare(a.Table, b.Table) })
	slices.SortStableFunc(r.Differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Key, b.Key))
	})
}

// Kind says in which way the sides differ.
type Kind string

// The kinds of difference. The last three concern a table, the others a row or, if
// there is no key, a table that one side has not.
const (
	MissingOnTarget   Kind = "missing on target"
	MissingOnSource   Kind = "missing on source"
	Differs           Kind = "differs"
	DefinitionDiffers Kind = "definition differs"
	CountDiffers      Kind = "count differs"
	Damaged           Kind = "damaged on target"
)

// Difference is one row, or one table, that is not the same on both sides.
type Difference struct {
	Table string // as schema.table of the source
	Kind  Kind
	// Key names the row: "id=7" or "order_id=1, line_no=2". Text is quoted, bytes
	// that are not text are x'…'. For a table without a key it is the whole row.
	Key string
	// Columns are the ones that differ, if Kind is Differs.
	Columns []ColumnDifference
	// Detail says what is wrong if no row is.
	Detail string
}

// ColumnDifference holds both values of a column, in the notation of
// Difference.Key; NULL is NULL.
type ColumnDifference struct {
	Name, Source, Target string
}

// String is one line for people; long values are cut.
func (d Difference) String() string {
	var s strings.Builder
	s.WriteString(d.Table)
	if d.Key != "" {
		fmt.Fprintf(&s, " (%s)", shortened(d.Key))
	}
	fmt.Fprintf(&s, ": %s", d.Kind)
	if d.Detail != "" {
		fmt.Fprintf(&s, ": %s", d.Detail)
	}
	for i, c := range d.Columns {
		fmt.Fprintf(&s, "%s %s: source %s, target %s", []string{" in", ";"}[min(i, 1)], c.Name, shortened(c.Source), shortened(c.Target))
	}
	return s.String()
}

// shortened cuts the middle out of a long value, never through a character.
func shortened(s string) string {
	const head, tail = 60, 20
	runes := []rune(s)
	if len(runes) <= head+tail+3 {
		return s
	}
	return fmt.Sprintf("%s…%s (%d characters)", string(runes[:head]), string(runes[len(runes)-tail:]), len(runes))
}
