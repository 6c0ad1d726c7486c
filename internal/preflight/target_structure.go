package preflight

import (
	"context"
	"fmt"
	"strings"
)

// checkTargetStructure compares the target tables that exist with their source.
func (r *run) checkTargetStructure(context.Context) error {
	for _, t := range r.Tables {
		source, target := r.source.table(t.Schema, t.Name), r.target.table(t.TargetSchema, t.TargetName)
		if source == nil || target == nil {
			continue
		}
		for _, c := range source.columns {
			r.compareColumn(t, source, target, c)
		}
		for _, c := range target.columns {
			if _, ok := source.column(c.name); !ok && !c.fills {
				r.fault(t.Target(), fmt.Sprintf("column %s is NOT NULL without a default, and the source does not have it", c.name),
					"give it a default, let it be NULL, or drop it")
			}
		}
		if len(t.KeyColumns) > 0 && !target.hasUnique(t.KeyColumns) {
			key := strings.Join(t.KeyColumns, ", ")
			r.fault(t.Target(), fmt.Sprintf("it has no unique key on (%s), by which its rows are addressed", key),
				fmt.Sprintf("add PRIMARY KEY (%[1]s) or UNIQUE KEY (%[1]s)", key))
		}
		for _, u := range target.uniques {
			if !impliedBy(source.uniques, u) {
				r.fault(t.Target(), fmt.Sprintf("its unique key %s (%s) is not implied by a unique key of the source: "+
					"rows that may stand side by side there may not stand here", u.name, u),
					"drop the key, or create it on the source first")
			}
		}
	}
	return nil
}

// compareColumn compares one column of the source with the target's column of that name.
func (r *run) compareColumn(t Table, source, target *structure, c column) {
	remedy := "alter the target's table to the definition of the source"
	other, ok := target.column(c.name)
	if !ok {
		r.fault(t.Target(), fmt.Sprintf("column %s is missing", c.name), remedy)
		return
	}
	differs := func(what, there, here string) {
		r.fault(t.Target(), fmt.Sprintf("%s of column %s is %s on the source and %s on the target", what, c.name, there, here), remedy)
	}
	if c.columnType != other.columnType {
		differs("the type", c.columnType, other.columnType)
	}
	if c.charset != other.charset {
		differs("the character set", orNone(c.charset), orNone(other.charset))
	} else if c.collation != other.collation {
		// It decides which values are equal, which matters in a unique key alone.
		if source.inUnique(c.name) || target.inUnique(c.name) {
			differs("the collation", c.collation, other.collation)
		} else {
			r.warn(t.Target(), fmt.Sprintf("the collation of column %s is %s on the source and %s on the target: "+
				"the values are kept, comparing and sorting differ", c.name, c.collation, other.collation), remedy)
		}
	}
	if c.nullable && !other.nullable {
		r.fault(t.Target(), fmt.Sprintf("column %s may be NULL on the source and not on the target", c.name), remedy)
	}
	if c.generated != other.generated {
		r.fault(t.Target(), fmt.Sprintf("column %s is generated on one side only", c.name), remedy)
	}
}

// impliedBy tells whether no set of rows that satisfies the source's unique keys can violate u:
// one of them is on columns that are all in u, and u does not look at less of them.
func impliedBy(source []index, u index) bool {
	for _, s := range source {
		implied := true
		for _, p := range s.parts {
			implied = implied && u.covers(p)
		}
		if implied {
			return true
		}
	}
	return false
}

// covers tells whether the index looks at the column at least as far as p does.
func (u index) covers(p part) bool {
	for _, own := range u.parts {
		if strings.EqualFold(own.column, p.column) && p.column != "(expression)" {
			return own.prefix == 0 || p.prefix != 0 && own.prefix >= p.prefix
		}
	}
	return false
}

// String returns the columns as a CREATE TABLE would list them.
func (u index) String() string {
	var parts []string
	for _, p := range u.parts {
		if p.prefix > 0 {
			parts = append(parts, fmt.Sprintf("%s(%d)", p.column, p.prefix))
		} else {
			parts = append(parts, p.column)
		}
	}
	return strings.Join(parts, ", ")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
