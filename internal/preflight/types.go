package preflight

import (
	"context"
	"fmt"
	"slices"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// leaveOut is the remedy where no definition on the target would do.
const leaveOut = "leave the table out by the table filter"

// checkTypes refuses columns whose values cannot be carried exactly, and columns of a type that the
// other flavour does not have, where the target's table is still to be created.
func (r *run) checkTypes(context.Context) error {
	const remedy = leaveOut + ", or give the column another type on the source"
	for _, t := range r.Tables {
		s := r.source.table(t.Schema, t.Name)
		if s == nil {
			continue
		}
		exists := r.target.table(t.TargetSchema, t.TargetName) != nil
		toMariaDB := !r.SourceServer.IsMariaDB() && r.TargetServer.IsMariaDB()
		if name := s.functionalIndex(); name != "" && !exists && toMariaDB {
			r.fault("target-lacks", t.String(), fmt.Sprintf("index %s is over an expression, which %s does not have", name, r.TargetServer.Flavour),
				"drop the index on the source, or "+leaveOut)
		}
		if name := s.hashIndex(); name != "" && !exists && !r.TargetServer.IsMariaDB() {
			r.fault("target-lacks", t.String(), fmt.Sprintf("unique key %s is an index by hash, which %s does not have", name, r.TargetServer.Flavour),
				"drop the key on the source, or "+leaveOut)
		}
		var approximate []string
		for c := range s.allColumns() {
			if _, err := codec.NewColumn(c.info()); err != nil {
				r.fault("unsupported", t.String(), fmt.Sprintf("column %s has type %s, which cannot be carried exactly", c.name, c.fullType), remedy)
				r.because(err)
				continue
			}
			if !exists && r.SourceServer.Flavour != r.TargetServer.Flavour && !r.TargetServer.HasType(c.dataType) {
				r.fault("target-lacks", t.String(), fmt.Sprintf("column %s has type %s, which %s does not have", c.name, c.columnType, r.TargetServer.Flavour),
					leaveOut)
			}
			if !exists && toMariaDB && c.generated && !c.nullable {
				what, remedy := "", "create the target's table yourself, without NOT NULL at the column, or "+leaveOut
				if s.inUnique(c.name) {
					what, remedy = ", as keys are", "give the table another key, or leave it out by the table filter"
				}
				r.fault("target-lacks", t.String(), fmt.Sprintf("column %s is generated and NOT NULL%s, which %s does not have", c.name, what, r.TargetServer.Flavour), remedy)
			}
			if ts := s.timestampIn(c.expression); c.stored && ts != "" {
				r.warn("by-session", t.String(), fmt.Sprintf("column %s is stored and computed from the TIMESTAMP column %s: its value depends on the time zone of who writes the row, "+
					"and the move writes in UTC, so that it may differ on the target", c.name, ts),
					"make the column virtual, or compute it from a DATETIME; where everybody writes in UTC nothing differs, which a verification shows")
			}
			if toMariaDB && (c.dataType == "float" || c.dataType == "double") {
				approximate = append(approximate, c.name)
			}
		}
		r.warnOfIndexesBySession(t, s)
		if len(approximate) > 0 {
			r.warn("negative-zero", t.String(), fmt.Sprintf("%s has no negative zero: a -0 in a FLOAT or DOUBLE column (%s) arrives as 0, which a verification finds", r.TargetServer.Flavour, someOf(approximate)),
				"nothing, unless there are such values: then set them to 0 on the source, or "+leaveOut)
		}
	}
	return nil
}

// warnOfIndexesBySession tells of indexes that hold what is computed from a TIMESTAMP and not stored
// in the row: it is computed in the time zone of who writes the row. No verification sees them.
func (r *run) warnOfIndexesBySession(t Table, s *structure) {
	for n, i := range slices.Concat(s.uniques, s.indexes) {
		for _, p := range i.parts {
			expression := p.expression
			if c, ok := s.column(p.column); ok && !c.stored {
				expression = c.expression
			}
			ts := s.timestampIn(expression)
			if ts == "" {
				continue
			}
			consequence := "so that queries by it may find other rows on the target"
			if n < len(s.uniques) {
				consequence = "so that rows may be in each other's way on the target that are not on the source"
			}
			r.warn("by-session", t.String(), fmt.Sprintf("index %s holds what is computed from the TIMESTAMP column %s: it depends on the time zone of who writes the row, and the move writes in UTC, %s",
				i.name, ts, consequence),
				"compute it from a DATETIME, or drop the index; where everybody writes in UTC nothing differs")
			break
		}
	}
}

// functionalIndex returns the name of an index over an expression, empty without one.
func (s *structure) functionalIndex() string {
	for _, i := range append(slices.Clone(s.uniques), s.indexes...) {
		if slices.ContainsFunc(i.parts, func(p part) bool { return p.expression != "" }) {
			return i.name
		}
	}
	return ""
}

// hashIndex returns the name of a unique index by hash, MariaDB's for long values; empty without
// one.
func (s *structure) hashIndex() string {
	for _, u := range s.uniques {
		if u.kind == "HASH" && s.engine == "InnoDB" {
			return u.name
		}
	}
	return ""
}

// info is what the codec asks of a column.
func (c column) info() codec.Info {
	return codec.Info{
		Name: c.name, DataType: c.dataType, ColumnType: c.fullType, Charset: c.charset, Collation: c.collation,
		Unsigned: c.unsigned, Nullable: c.nullable, Generated: c.generated, OctetLength: c.longest,
	}
}
