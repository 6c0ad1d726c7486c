package ghostferry

import (
	"database/sql/driver"
	"errors"
	"strconv"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// leafReports says what a read asks of the leaves of JSON documents (codec.LeafTypes).
type leafReports int

const (
	noLeaves    leafReports = iota // nothing: documents are read as text
	knownLeaves                    // the types of leaves seen before; it may have to be read again
	allLeaves                      // the types of all
)

// leafReportAlias begins the names of the reports in a host's query; the column's number follows.
const leafReportAlias = "__ghostferry_json_types_"

// reading returns the expressions of a read of whole rows: those of all columns, then the
// reports. appendRow takes such rows.
func (l *tableLayout) reading(leaves leafReports) string {
	if leaves == noLeaves || len(l.documents) == 0 {
		return l.selectList
	}
	var b strings.Builder
	b.WriteString(l.selectList)
	for _, i := range l.documents {
		b.WriteString("," + l.columns[i].Leaves.Expr(sqlesc.Ident(l.columns[i].Name), leaves == allLeaves))
	}
	return b.String()
}

// readWidth is how many values a row of reading has, with reports.
func (l *tableLayout) readWidth() int { return len(l.columns) + len(l.documents) }

// appendRow appends a row read by reading, with reports.
func (l *tableLayout) appendRow(rows *codec.Rows, values []driver.Value) error {
	report := len(l.columns)
	for i := range l.columns {
		var err error
		if c := &l.columns[i]; c.Leaves == nil {
			err = rows.AddDriver(c, values[i])
		} else {
			err = rows.AddJSON(c, values[i], values[report])
			report++
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// withLeaves runs a read, and once more with all reports when it has to be read again.
func withLeaves(read func(leaves leafReports) error) error {
	err := read(knownLeaves)
	if errors.Is(err, codec.ErrReadAgain) {
		err = read(allLeaves)
	}
	return err
}

// selectColumn is the expression of a column, named as it is.
func (l *tableLayout) selectColumn(i int) string {
	ident := sqlesc.Ident(l.columns[i].Name)
	if expr := l.columns[i].SelectExpr(ident); expr != ident {
		return expr + " AS " + ident
	}
	return ident
}

// selectKeyColumns returns those of the key's columns.
func (l *tableLayout) selectKeyColumns() []string {
	out := make([]string, len(l.keys))
	for i, k := range l.keys {
		out[i] = l.selectColumn(k)
	}
	return out
}

// selectColumns returns the expressions of all columns, each named as its column, the
// reports, and the row's digest when fp is set, for a host's query.
func (l *tableLayout) selectColumns(fp *fingerprint, leaves leafReports) []string {
	out := make([]string, 0, l.readWidth()+1)
	for i := range l.columns {
		out = append(out, l.selectColumn(i))
	}
	if leaves != noLeaves {
		for _, i := range l.documents {
			c := &l.columns[i]
			out = append(out, c.Leaves.Expr(sqlesc.Ident(c.Name), leaves == allLeaves)+" AS "+leafReportAlias+strconv.Itoa(i))
		}
	}
	if fp != nil {
		out = append(out, fp.row+" AS "+rowDigestAlias)
	}
	return out
}
