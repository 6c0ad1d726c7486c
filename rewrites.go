package ghostferry

import "fmt"

// rewrites maps names of the source to names of the target. It is immutable; its
// zero value changes nothing.
type rewrites struct {
	databases map[string]string
	tables    map[string]string
}

// newRewrites takes Config.DatabaseRewrites and Config.TableRewrites, which must not
// be changed afterwards.
func newRewrites(databases, tables map[string]string) rewrites {
	return rewrites{databases: databases, tables: tables}
}

// database is the target's name of a schema.
func (r rewrites) database(schemaName string) string {
	if renamed, ok := r.databases[schemaName]; ok {
		return renamed
	}
	return schemaName
}

// table is the target's names of a schema and a table.
func (r rewrites) table(schemaName, tableName string) (targetSchema, targetTable string) {
	targetTable = tableName
	if renamed, ok := r.tables[tableName]; ok {
		targetTable = renamed
	}
	return r.database(schemaName), targetTable
}

// TargetToSourceRewrites inverts database rewrites. Two schemas of the source with
// the same name on the target are the error "duplicate target to source rewrite
// detected".
func TargetToSourceRewrites(databaseRewrites map[string]string) (map[string]string, error) {
	inverted := make(map[string]string, len(databaseRewrites))
	for _, source := range sortedNames(databaseRewrites) {
		target := databaseRewrites[source]
		if first, ok := inverted[target]; ok {
			return nil, fmt.Errorf("duplicate target to source rewrite detected: %s and %s both become %s", first, source, target)
		}
		inverted[target] = source
	}
	return inverted, nil
}
