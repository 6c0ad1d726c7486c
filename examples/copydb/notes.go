package copydb

import (
	"context"
	"fmt"
	"strings"

	"github.com/ghostferry-go/ghostferry"
)

// notesTable lists, in the checkpoint's schema on the target, the tables that a move is
// about to create or has emptied. A process that dies before the library's checkpoint
// exists leaves empty tables behind; by the notes the next one knows them as its own,
// where other existing tables are refused. The notes go when the move is done.
const notesTable = "copydb_tables"

// notesOn says whether notes are kept: without a checkpoint a move writes nothing of
// its own to the target.
func (f *CopydbFerry) notesOn() bool { return f.config.Checkpoint == "" }

func (f *CopydbFerry) quotedNotes() string {
	return ghostferry.QuotedTableNameFromString(f.config.CheckpointSchema, notesTable)
}

// noted reads the notes.
func (f *CopydbFerry) noted(ctx context.Context) (map[ghostferry.TableIdentifier]bool, error) {
	noted := map[ghostferry.TableIdentifier]bool{}
	if !f.notesOn() {
		return noted, nil
	}
	exists, err := hasTable(ctx, f.Ferry.TargetDB, ghostferry.TableIdentifier{SchemaName: f.config.CheckpointSchema, TableName: notesTable})
	if err != nil || !exists {
		return noted, err
	}
	rows, err := f.Ferry.TargetDB.QueryContext(ctx, "SELECT target_schema, target_table FROM "+f.quotedNotes())
	if err != nil {
		return nil, fmt.Errorf("reading which tables are copydb's own: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var table ghostferry.TableIdentifier
		if err := rows.Scan(&table.SchemaName, &table.TableName); err != nil {
			return nil, fmt.Errorf("reading which tables are copydb's own: %w", err)
		}
		noted[table] = true
	}
	return noted, rows.Err()
}

// note lists what has to be executed to note tables.
func (f *CopydbFerry) note(ctx context.Context, tables []ghostferry.TableIdentifier) ([]definition, error) {
	if !f.notesOn() || len(tables) == 0 {
		return nil, nil
	}
	var steps []definition
	schema := ghostferry.QuoteField(f.config.CheckpointSchema)
	exists, err := f.hasSchema(ctx, f.config.CheckpointSchema)
	if err != nil {
		return nil, err
	}
	if !exists {
		steps = append(steps, definition{
			name: schema, statement: "CREATE DATABASE IF NOT EXISTS " + schema, drop: "DROP DATABASE " + schema,
			inUse: usedSchema, inUseOf: []any{f.config.CheckpointSchema},
		})
	}
	notes := f.quotedNotes()
	if exists, err = hasTable(ctx, f.Ferry.TargetDB, ghostferry.TableIdentifier{SchemaName: f.config.CheckpointSchema, TableName: notesTable}); err != nil {
		return nil, err
	}
	if !exists {
		steps = append(steps, definition{
			name: notes, drop: "DROP TABLE " + notes, inUse: "SELECT 1 FROM " + notes + " LIMIT 1",
			statement: "CREATE TABLE IF NOT EXISTS " + notes + " (target_schema VARBINARY(256) NOT NULL, target_table VARBINARY(256) NOT NULL, PRIMARY KEY (target_schema, target_table)) ENGINE=InnoDB",
		})
	}
	return append(steps, definition{
		name: "the notes in " + notes, drop: f.forgetNotes(tables),
		statement: "INSERT INTO " + notes + " (target_schema, target_table) VALUES " + pairs(tables) + " ON DUPLICATE KEY UPDATE target_table=target_table",
	}), nil
}

// forgetNotes is the statement that removes notes.
func (f *CopydbFerry) forgetNotes(tables []ghostferry.TableIdentifier) string {
	return "DELETE FROM " + f.quotedNotes() + " WHERE (target_schema, target_table) IN (" + pairs(tables) + ")"
}

// pairs lists the names as SQL, in hexadecimal so that no name needs an escape.
func pairs(tables []ghostferry.TableIdentifier) string {
	list := make([]string, len(tables))
	for i, table := range tables {
		list[i] = fmt.Sprintf("(0x%x,0x%x)", table.SchemaName, table.TableName)
	}
	return strings.Join(list, ",")
}

// removeNotes removes the notes of a move that is done. They do little harm, so that a
// failure is only logged.
func (f *CopydbFerry) removeNotes(ctx context.Context) {
	if !f.notesOn() {
		return
	}
	noted, err := f.noted(ctx)
	var done []ghostferry.TableIdentifier
	for _, table := range f.Ferry.Tables {
		if target := f.target(ghostferry.NewTableIdentifierFromSchemaTable(table)); noted[target] {
			done = append(done, target)
		}
	}
	if err == nil && len(done) > 0 {
		_, err = f.Ferry.TargetDB.ExecContext(ctx, f.forgetNotes(done))
	}
	if err != nil {
		f.logger().WithError(err).Warnf("the notes in %s stay", f.quotedNotes())
	}
}
