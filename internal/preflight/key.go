package preflight

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// sortedBytes is how large a table may be whose chunks are found by sorting, without a word.
const sortedBytes = 64 << 20

// checkDirections warns of a large table whose key has ascending and descending parts: read from
// neither end does its index give the order in which keys are compared.
func (r *run) checkDirections(t Table) {
	if t.Bytes < sortedBytes {
		return
	}
	for _, side := range []struct {
		name, quoted string
		s            *structure
	}{
		{"source", sqlesc.Table(t.Schema, t.Name), r.source.table(t.Schema, t.Name)},
		{"target", sqlesc.Table(t.TargetSchema, t.TargetName), r.target.table(t.TargetSchema, t.TargetName)},
	} {
		if side.s == nil {
			continue
		}
		key := side.s.keyIndex(t.KeyColumns)
		if !slices.ContainsFunc(key.parts, func(p part) bool { return p.descending != key.parts[0].descending }) {
			continue
		}
		change := "DROP PRIMARY KEY, ADD PRIMARY KEY"
		if key.name != "PRIMARY" {
			change = "DROP KEY " + sqlesc.Ident(key.name) + ", ADD UNIQUE KEY " + sqlesc.Ident(key.name)
		}
		r.warn("mixed-order", t.String(), fmt.Sprintf("on the %s its key (%s) has ascending and descending parts: for each chunk all that is left of its %s is read and sorted",
			side.name, strings.Join(t.KeyColumns, ", "), mebibytes(t.Bytes)),
			fmt.Sprintf("give the key one direction there (ALTER TABLE %s %s (%s)), or name a unique NOT NULL column in CascadingPaginationColumnConfig", side.quoted, change, sqlesc.Idents(t.KeyColumns)))
	}
}

// keyIndex is the index that rows are read by in the order of the columns: the primary key rather
// than another one on just these.
func (s *structure) keyIndex(columns []string) (key index) {
	for _, u := range s.uniques {
		if u.isKey(columns) && (key.name == "" || u.name == "PRIMARY") {
			key = u
		}
	}
	return key
}

// checkKeys refuses tables whose rows cannot be addressed exactly.
func (r *run) checkKeys(ctx context.Context) error {
	const remedy = "add a primary key, or a unique key, of whole NOT NULL columns other than FLOAT and DOUBLE, or leave the table out by the table filter"
	for _, t := range r.Tables {
		s := r.source.table(t.Schema, t.Name)
		if s == nil {
			continue
		}
		if len(t.KeyColumns) == 0 {
			what := "it has no usable key: neither a primary key nor a unique key whose columns are all NOT NULL"
			if t.NoKey != nil {
				what = t.NoKey.Error()
			}
			r.fault("none", t.String(), what, remedy)
			r.because(t.NoKey)
			continue
		}
		r.checkDirections(t)
		if !s.hasUnique(t.KeyColumns) {
			r.fault("not-unique", t.String(), fmt.Sprintf("it has no unique key on (%s)", strings.Join(t.KeyColumns, ", ")), remedy)
		}
		for _, name := range t.KeyColumns {
			c, ok := s.column(name)
			switch {
			case ok && c.nullable:
				r.fault("nullable", t.String(), fmt.Sprintf("column %s of its key may be NULL, and a unique key lets NULL occur many times", name), remedy)
			case ok && (strings.HasPrefix(c.columnType, "float") || strings.HasPrefix(c.columnType, "double")):
				r.fault("inexact", t.String(), fmt.Sprintf("column %s of its key is of type %s, whose values cannot be compared exactly", name, c.columnType), remedy)
			}
		}
	}
	return r.checkPeriods(ctx)
}
