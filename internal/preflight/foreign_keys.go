package preflight

import (
	"context"
	"fmt"
)

// foreignKey is a foreign key of a moved table.
type foreignKey struct {
	table    Table
	name     string
	parent   string // schema.table
	onDelete string // empty when the account may not know
	onUpdate string
}

// cascades tells whether a change of the parent may change rows of the child.
func (k foreignKey) cascades() bool {
	harmless := func(rule string) bool { return rule == "RESTRICT" || rule == "NO ACTION" }
	return !harmless(k.onDelete) || !harmless(k.onUpdate)
}

// checkForeignKeys refuses foreign keys on moved tables unless the host skips this check. Then it
// still warns of those whose cascades change rows without a trace in the binary log.
func (r *run) checkForeignKeys(ctx context.Context) error {
	keys, err := r.readForeignKeys(ctx)
	if err != nil {
		return err
	}
	for _, k := range keys {
		problem := fmt.Sprintf("foreign key %s of %s references %s", k.name, k.table, k.parent)
		unlogged := k.cascades() && !r.SourceServer.CascadesLogged
		if unlogged {
			problem += fmt.Sprintf(", and what it does on a change there (on delete %s, on update %s) is not in the source's binary log",
				orUnknown(k.onDelete), orUnknown(k.onUpdate))
		}
		switch {
		case !r.SkipForeignKeys:
			r.fault(k.table.String(), problem, "drop the foreign key for the time of the move, or leave the table out; or set "+
				"SkipForeignKeyConstraintsCheck when no row of the referenced table is deleted or changes its key meanwhile")
		case unlogged:
			r.warn(k.table.String(), problem,
				"delete no row of the referenced table and change none of its keys during the move; the verification finds what went unseen")
		}
	}
	return nil
}

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
			var (
				k                                foreignKey
				table, parentSchema, parentTable string
			)
			if err := scan(&table, &k.name, &parentSchema, &parentTable, &k.onDelete, &k.onUpdate); err != nil {
				return err
			}
			t, ok := moved[r.source.id(schema, table)]
			if ok {
				k.table, k.parent = t, parentSchema+"."+parentTable
				keys = append(keys, k)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read the foreign keys of %s: %w", schema, err)
		}
	}
	return keys, nil
}

func orUnknown(rule string) string {
	if rule == "" {
		return "unknown"
	}
	return rule
}
