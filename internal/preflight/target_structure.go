package preflight

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

const asOnSource = "alter the target's table to the definition of the source"

// checkTargetStructure compares the target tables that exist with their source.
func (r *run) checkTargetStructure(context.Context) error {
	r.pairs(func(t Table, source, target *structure) {
		for c := range source.allColumns() {
			r.compareColumn(t, source, target, c)
		}
		for c := range target.allColumns() {
			if _, ok := source.column(c.name); !ok && !c.fills {
				r.fault("column-extra", t.Target(), fmt.Sprintf("column %s is NOT NULL without a default, and the source does not have it", c.name),
					"give it a default, let it be NULL, or drop it")
			}
		}
		r.compareIndexes(t, source, target)
		r.comparePartitions(t, source, target)
		r.compareChecks(t, source, target)
	})
	return nil
}

// compareColumn compares one column of the source with the target's column of that name.
func (r *run) compareColumn(t Table, source, target *structure, c column) {
	other, ok := target.column(c.name)
	if !ok {
		r.fault("column-missing", t.Target(), fmt.Sprintf("column %s is missing", c.name), asOnSource)
		return
	}
	differs := func(find func(code, subject, what, remedy string), code, what, there, here, consequence string) {
		find(code, t.Target(), fmt.Sprintf("%s of column %s is %s on the source and %s on the target%s", what, c.name, orNone(there), orNone(here), consequence), asOnSource)
	}
	if r.SourceServer.Flavour != r.TargetServer.Flavour && !r.TargetServer.HasType(c.dataType) {
		r.fault("column-type", t.Target(), fmt.Sprintf("the type of column %s is %s on the source, which %s does not have", c.name, c.columnType, r.TargetServer.Flavour), leaveOut)
		return
	}
	if c.columnType != other.columnType {
		differs(r.fault, "column-type", "the type", c.columnType, other.columnType, "")
	}
	if c.charset != other.charset {
		differs(r.fault, "column-charset", "the character set", c.charset, other.charset, "")
	} else if canonicalCollation(c.collation) != canonicalCollation(other.collation) {
		// It decides which values are equal, which matters where that decides which rows there are.
		find, consequence := r.warn, ": the values are kept, comparing and sorting differ"
		switch {
		case t.scopedBy(c.name):
			find, consequence = r.fault, ": the row filter would choose other rows there"
		case source.inUnique(c.name) || target.inUnique(c.name):
			find, consequence = r.fault, ""
		}
		differs(find, "column-collation", "the collation", c.collation, other.collation, consequence)
	}
	if c.nullable && !other.nullable {
		r.fault("column-null", t.Target(), fmt.Sprintf("column %s may be NULL on the source and not on the target", c.name), asOnSource)
	}
	if c.increments && !other.increments {
		r.warn("auto-increment", t.Target(), fmt.Sprintf("column %s is AUTO_INCREMENT on the source and not on the target: "+
			"its next value cannot be carried over", c.name), asOnSource)
	}
	switch {
	case c.generated != other.generated:
		r.fault("column-generated", t.Target(), fmt.Sprintf("column %s is generated on one side only", c.name), asOnSource)
	case r.SourceServer.Flavour != r.TargetServer.Flavour: // each spells expressions in its own way
	case c.expression != other.expression:
		differs(r.fault, "column-generated", "the expression", c.expression, other.expression, "")
	case c.byDefault != other.byDefault:
		differs(r.warn, "column-default", "the default", c.byDefault, other.byDefault, ": the rows moved are the same, later ones may not be")
	}
}

// compareIndexes looks for indexes that the target lacks, and for unique ones that it has on top.
func (r *run) compareIndexes(t Table, source, target *structure) {
	if len(t.KeyColumns) > 0 && !target.hasUnique(t.KeyColumns) {
		key := strings.Join(t.KeyColumns, ", ")
		r.fault("no-key", t.Target(), fmt.Sprintf("it has no unique key on (%s), by which its rows are addressed", key),
			fmt.Sprintf("add PRIMARY KEY (%[1]s) or UNIQUE KEY (%[1]s)", key))
	}
	for _, u := range target.uniques {
		if !impliedBy(source.uniques, u) {
			r.fault("unique-extra", t.Target(), fmt.Sprintf("its unique key %s (%s) is not implied by a unique key of the source: "+
				"rows that may stand side by side there may not stand here", u.name, u),
				"drop the key"+r.orOnSource())
		}
	}
	missing := func(i index, what, resumed string) {
		if t.IndexesComeLater {
			return
		}
		if !r.Resuming {
			resumed = ""
		}
		r.fault("index-missing", t.Target(), fmt.Sprintf("the %s %s (%s) of the source is missing", what, i.name, i),
			"create it on the target, as SHOW CREATE TABLE on the source says"+resumed)
	}
	for _, u := range source.uniques {
		if !u.isKey(t.KeyColumns) && !slices.ContainsFunc(target.uniques, u.equal) {
			missing(u, "unique key", "; where rows of a move that is half done collide in it, begin anew with empty target tables")
		}
	}
	all := slices.Concat(target.indexes, target.uniques)
	for _, i := range source.indexes {
		if !slices.ContainsFunc(all, i.servedBy) {
			missing(i, "index", "")
		}
	}
}

// orOnSource is the second remedy for what only the target has. The definitions that a run began
// with stay: a resumed one does not have it.
func (r *run) orOnSource() string {
	if r.Resuming {
		return ""
	}
	return ", or create it on the source first"
}

// comparePartitions: on other partitions a row may have no place.
func (r *run) comparePartitions(t Table, source, target *structure) {
	if source.partitions == target.partitions {
		return
	}
	what := fmt.Sprintf("its partitions are %s on the source and %s on the target", orNone(source.partitions), orNone(target.partitions))
	if strings.HasPrefix(target.partitions, "RANGE") || strings.HasPrefix(target.partitions, "LIST") {
		r.fault("partitions", t.Target(), what+": a row may have no partition there", asOnSource)
	} else {
		r.warn("partitions", t.Target(), what, asOnSource)
	}
}

// compareChecks: rows of the source do not know of constraints that only the target has.
func (r *run) compareChecks(t Table, source, target *structure) {
	for _, c := range target.checks {
		known := slices.ContainsFunc(source.checks, func(s check) bool { return s.canonical() == c.canonical() })
		// MariaDB has one for each column that is declared as JSON.
		if !known && !strings.HasPrefix(c.canonical(), "json_valid") {
			r.fault("check-extra", t.Target(), fmt.Sprintf("its constraint %s CHECK (%s) is not on the source, whose rows may violate it", c.name, c.clause),
				"drop the constraint for the time of the move"+r.orOnSource())
		}
	}
}

// impliedBy tells whether no set of rows that satisfies the source's unique keys can violate u:
// one of them is on columns that are all in u, and u does not look at less of them.
func impliedBy(source []index, u index) bool {
	return slices.ContainsFunc(source, func(s index) bool {
		return !slices.ContainsFunc(s.parts, func(p part) bool { return !u.covers(p) })
	})
}

// covers tells whether the index looks at the part at least as far.
func (i index) covers(p part) bool {
	for _, own := range i.parts {
		if own.same(p) {
			return own.prefix == 0 || p.prefix != 0 && own.prefix >= p.prefix
		}
	}
	return false
}

// equal tells whether two indexes have the same parts in the same order.
func (i index) equal(o index) bool {
	return i.kind == o.kind && slices.EqualFunc(i.parts, o.parts, func(a, b part) bool { return a.same(b) && a.prefix == b.prefix })
}

// servedBy tells whether o is the same index or begins with it.
func (i index) servedBy(o index) bool {
	if o.kind == "BTREE" && len(o.parts) > len(i.parts) {
		o.parts = o.parts[:len(i.parts)]
	}
	return i.equal(o)
}

// isKey tells whether the index is on just these columns, whole.
func (i index) isKey(columns []string) bool {
	return slices.EqualFunc(i.parts, columns, func(p part, c string) bool {
		return strings.EqualFold(p.column, c) && p.prefix == 0 && p.expression == ""
	})
}

// hasUnique tells whether there is a unique index on exactly these columns, whole and in this order.
func (s *structure) hasUnique(columns []string) bool {
	return slices.ContainsFunc(s.uniques, func(u index) bool { return u.isKey(columns) })
}

// String returns the columns as a CREATE TABLE would list them.
func (i index) String() string {
	var parts []string
	for _, p := range i.parts {
		switch {
		case p.expression != "":
			parts = append(parts, "("+p.expression+")")
		case p.prefix > 0:
			parts = append(parts, fmt.Sprintf("%s(%d)", p.column, p.prefix))
		default:
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
