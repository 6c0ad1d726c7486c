package preflight

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// checkTables looks at what the tables are: there, made of rows of InnoDB, and each with a target
// of its own.
func (r *run) checkTables(context.Context) error {
	if len(r.Tables) == 0 {
		r.fault("none", "", "there is nothing to move: the filter selects no table",
			"check the names of schemas and tables in the filter, and that the account may see them")
	}
	targets := map[string]Table{}
	for _, t := range r.Tables {
		if s := r.source.table(t.Schema, t.Name); s != nil {
			r.checkKind("source", t.String(), s)
		} else if !r.deniedSource[t.String()] {
			r.fault("missing-on-source", t.String(), "the source has no such table", "check the name in the filter")
		}
		id := r.target.id(t.TargetSchema, t.TargetName)
		if other, taken := targets[id]; taken {
			r.fault("same-name", t.String(), fmt.Sprintf("%s and %s would both become %s on the target, where lower_case_table_names is %d", other, t,
				t.Target(), r.TargetServer.LowerCaseTableNames), "give them different names there by DatabaseRewrites or TableRewrites")
		}
		targets[id] = t
		r.checkTarget(t)
	}
	r.checkRewrites()
	return nil
}

// checkRewrites warns of names to be rewritten that no table of the move has: where one is misspelt
// a table keeps its name. Parents that stay are looked for under their new names, too.
func (r *run) checkRewrites() {
	if len(r.Tables) == 0 {
		return
	}
	schemas, tables := map[string]bool{}, map[string]bool{}
	for _, t := range r.Tables {
		schemas[t.Schema], tables[t.Name] = true, true
	}
	for _, k := range r.foreignKeys {
		schemas[k.parentSchema], tables[k.parentTable] = true, true
	}
	for _, setting := range []struct {
		name, of string
		rewrites map[string]string
		used     map[string]bool
	}{
		{"DatabaseRewrites", "schema", r.DatabaseRewrites, schemas},
		{"TableRewrites", "table", r.TableRewrites, tables},
	} {
		for _, name := range slices.Sorted(maps.Keys(setting.rewrites)) {
			if !setting.used[name] {
				r.warn("rewrite-unused", setting.name, fmt.Sprintf("no %s that is moved has the name %q, which would become %q", setting.of, name, setting.rewrites[name]),
					"write the name as it is on the source, letter case included, or remove it")
			}
		}
	}
}

// checkTarget checks that the target table is there, or is not, as the move expects.
func (r *run) checkTarget(t Table) {
	s := r.target.table(t.TargetSchema, t.TargetName)
	switch {
	case s == nil && !r.CreateTables && !r.deniedTarget[t.Target()]:
		r.fault("missing-on-target", t.Target(), "the target has no such table", "create it with the definition it has on the source")
	case s != nil && r.CreateTables && !r.AllowExistingTables && !r.Resuming:
		r.fault("exists", t.Target(), "the target has this table already", "drop it, or set AllowExistingTargetTable to use it as it is")
	}
	if s != nil {
		r.checkKind("target", t.Target(), s)
	}
}

func (r *run) checkKind(side, name string, s *structure) {
	switch {
	case s.kind == "SYSTEM VERSIONED":
		r.fault("versioned", name, fmt.Sprintf("it is system-versioned on the %s: the history of its rows cannot be moved", side),
			"leave the table out, or move it by a dump")
	case s.kind != "BASE TABLE":
		r.fault("kind", name, fmt.Sprintf("it is a %s on the %s, and not a table", s.kind, side), "leave it out of the filter")
	case s.engine != "InnoDB":
		r.fault("engine", name, fmt.Sprintf("its engine is %s on the %s; only InnoDB has the row locks and transactions that a move needs", s.engine, side),
			"ALTER TABLE … ENGINE=InnoDB, or leave the table out")
	}
}
