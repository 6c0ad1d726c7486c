package preflight

import (
	"context"
	"fmt"
	"strings"
)

// checkKeys refuses tables whose rows cannot be addressed exactly.
func (r *run) checkKeys(context.Context) error {
	const remedy = "add a primary key, or a unique key of NOT NULL columns of another type, or leave the table out"
	for _, t := range r.Tables {
		s := r.source.table(t.Schema, t.Name)
		if s == nil {
			continue
		}
		if len(t.KeyColumns) == 0 {
			r.fault(t.String(), "it has no usable key: neither a primary key nor a unique key whose columns are all NOT NULL", remedy)
			continue
		}
		if !s.hasUnique(t.KeyColumns) {
			r.fault(t.String(), fmt.Sprintf("it has no unique key on (%s)", strings.Join(t.KeyColumns, ", ")), remedy)
		}
		for _, name := range t.KeyColumns {
			c, ok := s.column(name)
			switch {
			case ok && c.nullable:
				r.fault(t.String(), fmt.Sprintf("column %s of its key may be NULL, and a unique key lets NULL occur many times", name), remedy)
			case ok && (strings.HasPrefix(c.columnType, "float") || strings.HasPrefix(c.columnType, "double")):
				r.fault(t.String(), fmt.Sprintf("column %s of its key is of type %s, whose values cannot be compared exactly", name, c.columnType), remedy)
			}
		}
	}
	return nil
}

// hasUnique tells whether there is a unique index on exactly these columns, whole and in this order.
func (s *structure) hasUnique(columns []string) bool {
	for _, u := range s.uniques {
		same := len(u.parts) == len(columns)
		for i := 0; same && i < len(columns); i++ {
			same = strings.EqualFold(u.parts[i].column, columns[i]) && u.parts[i].prefix == 0
		}
		if same {
			return true
		}
	}
	return false
}
