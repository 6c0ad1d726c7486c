package preflight

import (
	"context"
	"fmt"
	"strings"
)

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
