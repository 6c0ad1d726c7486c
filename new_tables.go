package ghostferry

import (
	"context"
	"slices"

	"github.com/go-mysql-org/go-mysql/schema"
)

// notePresentTables remembers which tables the moved schemas have when the run begins. What
// cannot be found out is not worth a run.
func (f *Ferry) notePresentTables(ctx context.Context) {
	f.present = map[string]bool{}
	for _, schemaName := range f.movedSchemas() {
		names, err := baseTables(ctx, f.SourceDB, schemaName)
		if err != nil {
			f.logger.WithError(err).Debug("listing the source's tables")
			f.present = nil
			return
		}
		for _, name := range names {
			f.present[fullTableName(schemaName, name)] = true
		}
	}
}

// warnOfNewTables tells of tables of the moved schemas that are not moved because they were
// not there when the run began, and that the filter would choose now: whoever is about to
// switch has to know.
func (f *Ferry) warnOfNewTables(ctx context.Context) {
	if f.present == nil {
		return
	}
	if f.warnedOf == nil {
		f.warnedOf = map[string]bool{}
	}
	for _, schemaName := range f.movedSchemas() {
		chosen, err := f.newTables(ctx, schemaName)
		if err != nil {
			f.logger.WithError(err).Debug("looking for new tables of the source")
		}
		for _, n := range chosen {
			if !f.warnedOf[n.String()] {
				f.warnedOf[n.String()] = true
				f.logger.WithFields(tableFields(n)).Warn("this table was not there when the run began, and is not moved: it will be missing on the target. Move it afterwards, or begin again")
			}
		}
	}
}

func (f *Ferry) movedSchemas() []string {
	schemas := map[string]bool{}
	for _, t := range f.Tables {
		schemas[t.Schema] = true
	}
	return sortedNames(schemas)
}

// newTables are the tables of a schema that were not there and that the filter chooses.
func (f *Ferry) newTables(ctx context.Context, schemaName string) (chosen []*TableSchema, err error) {
	names, err := baseTables(ctx, f.SourceDB, schemaName)
	if err != nil {
		return nil, err
	}
	var unknown []*TableSchema
	for _, name := range names {
		if !f.present[fullTableName(schemaName, name)] {
			unknown = append(unknown, &TableSchema{Table: &schema.Table{Schema: schemaName, Name: name}})
		}
	}
	if len(unknown) == 0 {
		return nil, nil
	}
	err = safely(func() error { // a host's filter may ask for columns
		chosen, err = f.TableFilter.ApplicableTables(unknown)
		return err
	})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(chosen, func(t *TableSchema) bool { return t == nil || t.Table == nil }), nil
}

// baseTables lists the tables of a schema.
func baseTables(ctx context.Context, db queryer, schemaName string) ([]string, error) {
	return texts(ctx, db, `SELECT TABLE_NAME FROM information_schema.TABLES
		WHERE TABLE_SCHEMA = ? AND TABLE_TYPE IN ('BASE TABLE', '`+tableTypeSystemVersioned+`') ORDER BY 1`, schemaName)
}
