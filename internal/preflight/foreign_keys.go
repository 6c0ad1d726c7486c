package preflight

import (
	"context"
	"fmt"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// foreignKey is a foreign key of a moved table.
type foreignKey struct {
	table                     Table
	name                      string
	parentSchema, parentTable string // on the source
	onDelete, onUpdate        string
}

// cascades tells whether a change of the parent may change rows of the child.
func (k foreignKey) cascades() bool {
	harmless := func(rule string) bool { return rule == "RESTRICT" || rule == "NO ACTION" }
	return !harmless(k.onDelete) || !harmless(k.onUpdate)
}

// checkForeignKeys refuses foreign keys whose cascades change rows of the move without a trace in
// the binary log, and those whose parents would not be on the target. All others are carried.
func (r *run) checkForeignKeys(ctx context.Context) error {
	moved := map[string]bool{}
	for _, t := range r.Tables {
		moved[r.source.id(t.Schema, t.Name)] = true
	}
	refuse := r.fault
	if r.SkipForeignKeys {
		refuse = r.warn
	}
	for _, k := range r.foreignKeys {
		parent := k.parentSchema + "." + k.parentTable
		if k.cascades() && !r.SourceServer.CascadesLogged {
			refuse("unlogged-cascade", k.table.String(), fmt.Sprintf("what foreign key %s does to its rows on a change of %s (on delete %s, on update %s) is not in the source's binary log",
				k.name, parent, k.onDelete, k.onUpdate),
				"alter the foreign key to NO ACTION for the time of the move, or leave the table out; or set SkipForeignKeyConstraintsCheck and let nobody delete rows of "+
					parent+" or change their keys meanwhile: the verification finds what went unseen")
		}
		// A target table that exists has the foreign keys that somebody gave it.
		if moved[r.source.id(k.parentSchema, k.parentTable)] || r.target.table(k.table.TargetSchema, k.table.TargetName) != nil {
			continue
		}
		if err := r.checkParent(ctx, k, refuse); err != nil {
			return err
		}
	}
	return nil
}

// checkParent looks for the parent of a foreign key that does not move.
func (r *run) checkParent(ctx context.Context, k foreignKey, refuse func(code, subject, what, remedy string)) error {
	schema, table := k.parentSchema, k.parentTable
	if r.Rename != nil {
		schema, table = r.Rename(schema, table)
	}
	var found int
	err := r.Target.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ?", schema, table).Scan(&found)
	if err != nil {
		return fmt.Errorf("look for %s.%s on the target: %w", schema, table, err)
	}
	const move = "move the parent table, too"
	if found == 0 {
		refuse("parent-missing", k.table.String(), fmt.Sprintf("foreign key %s refers to %s.%s, which neither moves nor is on the target", k.name, k.parentSchema, k.parentTable),
			move+", or create the target's table without the foreign key")
	} else {
		r.warn("parent-stays", k.table.String(), fmt.Sprintf("foreign key %s refers to %s.%s, which does not move: rows whose parent is missing on the target make the move fail at its end",
			k.name, k.parentSchema, k.parentTable), move)
	}
	return nil
}

// readForeignKeys reads the foreign keys of the moved tables.
func (r *run) readForeignKeys(ctx context.Context) ([]foreignKey, error) {
	moved := map[string]Table{}
	for _, t := range r.Tables {
		moved[r.source.id(t.Schema, t.Name)] = t
	}
	var keys []foreignKey
	for _, schema := range r.sourceSchemas() {
		// MariaDB shows REFERENTIAL_CONSTRAINTS to an account only that may do more than read, and
		// KEY_COLUMN_USAGE to every account that can read.
		rows, err := r.Source.QueryContext(ctx, `SELECT DISTINCT k.TABLE_NAME, k.CONSTRAINT_NAME,
				k.REFERENCED_TABLE_SCHEMA, k.REFERENCED_TABLE_NAME,
				COALESCE(c.DELETE_RULE, ''), COALESCE(c.UPDATE_RULE, '')
			FROM information_schema.KEY_COLUMN_USAGE k
			LEFT JOIN information_schema.REFERENTIAL_CONSTRAINTS c
				ON c.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA AND c.CONSTRAINT_NAME = k.CONSTRAINT_NAME AND c.TABLE_NAME = k.TABLE_NAME
			WHERE k.TABLE_SCHEMA = ? AND k.REFERENCED_TABLE_NAME IS NOT NULL
			ORDER BY k.TABLE_NAME, k.CONSTRAINT_NAME`, schema)
		err = each(rows, err, func(scan func(...any) error) error {
			var k foreignKey
			var table string
			if err := scan(&table, &k.name, &k.parentSchema, &k.parentTable, &k.onDelete, &k.onUpdate); err != nil {
				return err
			}
			if t, ok := moved[r.source.id(schema, table)]; ok {
				k.table = t
				keys = append(keys, k)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read the foreign keys of %s: %w", schema, err)
		}
	}
	return keys, r.readRules(ctx, keys)
}

// readRules reads the rules that information_schema did not show from the tables' definitions.
func (r *run) readRules(ctx context.Context, keys []foreignKey) error {
	definitions := map[string]string{}
	for i := range keys {
		k := &keys[i]
		if k.onDelete != "" {
			continue
		}
		name := sqlesc.Table(k.table.Schema, k.table.Name)
		if _, read := definitions[name]; !read {
			var table, definition string
			err := r.Source.QueryRowContext(ctx, "SHOW CREATE TABLE "+name).Scan(&table, &definition)
			if err != nil && !denied(err) { // then nothing is known of the rules
				return fmt.Errorf("read the definition of %s: %w", k.table, err)
			}
			definitions[name] = definition
		}
		k.onDelete, k.onUpdate = rulesOf(definitions[name], k.name)
	}
	return nil
}

// rulesOf finds the rules of a foreign key in a table's definition, where each constraint has a
// line of its own and rules follow the last parenthesis. A constraint that is not found may do
// anything.
func rulesOf(definition, constraint string) (onDelete, onUpdate string) {
	for line := range strings.SplitSeq(definition, "\n") {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "CONSTRAINT "+sqlesc.Ident(constraint)+" FOREIGN KEY ")
		if !ok {
			continue
		}
		rules := strings.TrimSuffix(rest[strings.LastIndexByte(rest, ')')+1:], ",")
		rule := func(event string) string {
			_, after, found := strings.Cut(rules, "ON "+event+" ")
			if !found {
				return "RESTRICT" // what the servers leave out
			}
			after, _, _ = strings.Cut(after, " ON ")
			return strings.TrimSpace(after)
		}
		return rule("DELETE"), rule("UPDATE")
	}
	return "unknown", "unknown"
}
