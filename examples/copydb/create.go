package copydb

import (
	"context"
	sqlorig "database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/ghostferry-go/ghostferry"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// definitionMode sets a session up in which definitions are read and executed: quotes
// and backslashes are written and read in one way, an unknown engine or a key that is
// too long is an error, and a primary key that MySQL has generated is not hidden.
const definitionMode = "SET SESSION sql_mode='STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', sql_quote_show_create=1, foreign_key_checks=0" +
	" /*!80030 , show_gipk_in_create_table_and_information_schema=ON */"

// ExistingTableError says that tables exist on the target that would be created.
type ExistingTableError struct {
	// Tables are quoted names on the target.
	Tables []string
}

// Error names the tables and what to do.
func (e *ExistingTableError) Error() string {
	return fmt.Sprintf("%s already exist on the target (error 1050): drop them, or set AllowExistingTargetTable to fill existing tables that are empty and fit", strings.Join(e.Tables, ", "))
}

// CreationError says that the target refused to create something.
type CreationError struct {
	// Name is the quoted name on the target.
	Name string
	// Err is the server's answer.
	Err error
}

// Error names the schema or table and what to do.
func (e *CreationError) Error() string {
	return fmt.Sprintf("the target does not create %s: %v: create it yourself, in a form that the target accepts, and set AllowExistingTargetTable", e.Name, e.Err)
}

// Unwrap returns the server's answer.
func (e *CreationError) Unwrap() error { return e.Err }

// definition is a step of the creation on the target.
type definition struct {
	name      string // what is created, e.g. a quoted name on the target
	statement string
	drop      string   // undoes the statement
	parents   []string // names of the tables that a table's foreign keys refer to

	table ghostferry.TableIdentifier // on the target, of a table of the move

	inUse   string // a query that finds a row if somebody else uses it already; may be empty
	inUseOf []any  // its arguments
}

// CreateDatabasesAndTables is [CopydbFerry.CreateDatabasesAndTablesContext] without a
// context.
func (f *CopydbFerry) CreateDatabasesAndTables() error {
	return f.CreateDatabasesAndTablesContext(context.Background())
}

// CreateDatabasesAndTablesContext creates the schemas and tables that the target does
// not have, as they are on the source but with the target's names: schemas first, then
// TablesToBeCreatedFirst, then all others by name; a table that others refer to by
// foreign keys comes before them. A resumed run creates nothing.
//
// Either everything is created or nothing: all definitions are read and all names are
// looked up before the first is created, and when the target refuses one, those
// created before are dropped again. The error is a [*RefusedError] then.
func (f *CopydbFerry) CreateDatabasesAndTablesContext(ctx context.Context) error {
	if f.Ferry.Resuming() {
		return nil
	}
	return f.report(ctx, "ferry.createDatabasesAndTables", f.createAll(ctx))
}

func (f *CopydbFerry) createAll(ctx context.Context) error {
	steps, err := f.definitions(ctx)
	if err != nil {
		return f.refused(ctx, err)
	}
	conn, err := definitionConn(ctx, f.Ferry.TargetDB)
	if err != nil {
		return f.refused(ctx, fmt.Errorf("target: %w", err))
	}
	defer discard(conn)
	if err := explicitTimestamps(ctx, conn); err != nil {
		return f.refused(ctx, err)
	}
	made, err := f.create(ctx, conn, steps)
	if err == nil {
		err = f.createdAsOnSource(ctx, steps)
	}
	if err != nil {
		if undone := f.undo(ctx, steps[:made]); undone != nil {
			f.wrote = true
			return errors.Join(err, undone)
		}
		return f.refused(ctx, err)
	}
	f.wrote = f.wrote || len(steps) > 0
	f.logger().Infof("the target has the schemas and tables of the move")
	return nil
}

// explicitTimestamps keeps the target from giving TIMESTAMP columns a default and ON UPDATE that
// their definition does not have. It is asked first: the setting may need a privilege.
func explicitTimestamps(ctx context.Context, conn *sql.Conn) error {
	var explicit bool
	err := conn.QueryRowContext(ctx, "SELECT @@SESSION.explicit_defaults_for_timestamp").Scan(&explicit)
	if err == nil && !explicit {
		_, err = conn.ExecContext(ctx, "SET SESSION explicit_defaults_for_timestamp = ON")
	}
	if err != nil {
		return fmt.Errorf("the target may give TIMESTAMP columns other defaults than the source's: %w: on the target: SET GLOBAL explicit_defaults_for_timestamp = ON; or create the tables yourself and set AllowExistingTargetTable", err)
	}
	return nil
}

// create executes the steps, and returns how many of them were made.
func (f *CopydbFerry) create(ctx context.Context, conn *sql.Conn, steps []definition) (made int, err error) {
	for i, step := range steps {
		_, err := conn.ExecContext(ctx, step.statement)
		answer, answered := errors.AsType[*mysql.MySQLError](err)
		switch {
		case err == nil:
			f.logger().Debugf("created %s", step.name)
		case answered && answer.Number == errTableExists:
			return i, &ExistingTableError{[]string{step.name}}
		case answered:
			return i, &CreationError{step.name, err}
		default:
			return i, fmt.Errorf("creating %s on the target: %w", step.name, err)
		}
	}
	return len(steps), nil
}

// createdAsOnSource refuses a default that a column got otherwise than on the source. For tables
// that somebody else has created that is a warning.
func (f *CopydbFerry) createdAsOnSource(ctx context.Context, steps []definition) error {
	created := map[string]string{} // "schema.table" on the target → its quoted name
	for _, step := range steps {
		if step.table != (ghostferry.TableIdentifier{}) {
			created[step.table.SchemaName+"."+step.table.TableName] = step.name
		}
	}
	if len(created) == 0 {
		return nil
	}
	report, err := f.Ferry.Preflight(ctx)
	if err != nil {
		return fmt.Errorf("comparing the created tables with the source's: %w", err)
	}
	for _, finding := range report.Findings {
		if name := created[finding.Subject]; name != "" && finding.Code == "target-structure.column-default" {
			return &CreationError{name, fmt.Errorf("as it is on the source: %s", finding.What)}
		}
	}
	return nil
}

// undoTimeout bounds undo: an interrupted process has to end within seconds.
const undoTimeout = 3 * time.Second

// undo drops what was created, in reverse. It also works when ctx has ended.
func (f *CopydbFerry) undo(ctx context.Context, created []definition) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	conn, err := definitionConn(ctx, f.Ferry.TargetDB)
	if err != nil {
		return fmt.Errorf("dropping what was created before: %w", err)
	}
	defer discard(conn)
	for _, step := range slices.Backward(created) {
		if step.inUse != "" {
			var one int
			if err := conn.QueryRowContext(ctx, step.inUse, step.inUseOf...).Scan(&one); !errors.Is(err, sqlorig.ErrNoRows) {
				return errors.Join(fmt.Errorf("%s was created before and stays, because somebody else uses it", step.name), err)
			}
		}
		if _, err := conn.ExecContext(ctx, step.drop); err != nil {
			return fmt.Errorf("dropping %s, which was created before: %w: grant the account DROP; what stays is empty: drop it by hand, or run the same command again, which knows it as its own (not with Checkpoint \"off\")", step.name, err)
		}
		f.logger().Infof("dropped %s again", step.name)
	}
	return nil
}

// definitions lists what has to be created, in order. It refuses existing tables that
// are not allowed.
func (f *CopydbFerry) definitions(ctx context.Context) ([]definition, error) {
	source, err := definitionConn(ctx, f.Ferry.SourceDB)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	defer discard(source)
	ours, err := f.noted(ctx)
	if err != nil {
		return nil, err
	}
	collations, err := readCollations(ctx, f.Ferry.TargetDB)
	if err != nil {
		return nil, err
	}

	var schemas, tables []definition
	var missing []ghostferry.TableIdentifier
	var foreign []string
	seen := map[string]bool{}
	for _, name := range f.Ferry.Tables.GetTableListWithPriority(f.config.TablesToBeCreatedFirst) {
		table := ghostferry.NewTableIdentifierFromSchemaTable(f.Ferry.Tables[name])
		target := f.target(table)
		exists, err := hasTable(ctx, f.Ferry.TargetDB, target)
		if err != nil {
			return nil, fmt.Errorf("looking for %s on the target: %w", quoteTable(target), err)
		}
		if exists {
			if !ours[target] {
				foreign = append(foreign, quoteTable(target))
			}
			continue
		}
		missing = append(missing, target)
		if !seen[target.SchemaName] {
			seen[target.SchemaName] = true
			if schemas, err = f.appendSchema(ctx, source, schemas, table.SchemaName, target.SchemaName); err != nil {
				return nil, err
			}
		}
		definition, err := defineTable(ctx, source, table, f.target)
		if err == nil {
			definition.statement, err = collations.fitTable(ctx, source, table, definition.statement)
		}
		if err != nil {
			return nil, &ghostferry.TableError{Schema: table.SchemaName, Table: table.TableName, Err: err}
		}
		tables = append(tables, definition)
	}
	if len(foreign) > 0 && !f.config.AllowExistingTargetTable {
		return nil, &ExistingTableError{foreign}
	}
	notes, err := f.note(ctx, missing)
	if err != nil {
		return nil, err
	}
	for i := range schemas {
		schemas[i].statement, _ = collations.fit(schemas[i].statement)
	}
	return slices.Concat(notes, schemas, parentsFirst(tables)), nil
}

// collations are what the target has to compare text by.
type collations struct {
	known   map[string]bool   // by name, 3-byte UTF-8 under its old one
	renamed map[string]string // the target's names of those that it has under another one
}

func readCollations(ctx context.Context, target *sql.DB) (*collations, error) {
	c := &collations{known: map[string]bool{}, renamed: map[string]string{}}
	rows, err := target.QueryContext(ctx, "SELECT COLLATION_NAME FROM information_schema.COLLATIONS WHERE COLLATION_NAME IS NOT NULL")
	if err != nil {
		return nil, fmt.Errorf("reading the collations of the target: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, fmt.Errorf("reading the collations of the target: %w", err)
		}
		c.known[oldName(name)] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("reading the collations of the target: %w", err)
	}
	for _, pair := range equalCollations {
		switch first, second := c.known[pair[0]], c.known[pair[1]]; {
		case !first && second:
			c.renamed[pair[0]] = pair[1]
		case !second && first:
			c.renamed[pair[1]] = pair[0]
		}
	}
	return c, nil
}

// oldName gives collations of 3-byte UTF-8 the name that all servers know.
func oldName(collation string) string {
	if rest, ok := strings.CutPrefix(collation, "utf8mb3_"); ok {
		return "utf8_" + rest
	}
	return collation
}

func (c *collations) lacks(name string) bool {
	// MariaDB lists collations that several character sets share without the set's name.
	_, bare, _ := strings.Cut(name, "_")
	return !c.known[oldName(name)] && !c.known[bare]
}

// fit gives the collations of a definition the target's names, and leaves the default one
// out, which is returned, where the target does not have it: no value depends on it.
func (c *collations) fit(statement string) (fitted, left string) {
	return withoutCollation(renameCollations(statement, c.renamed), c.lacks)
}

// fitTable is fit for a table. A default that a column has stays for the target to refuse:
// without it the column would get another collation, under which other values are equal.
func (c *collations) fitTable(ctx context.Context, source *sql.Conn, table ghostferry.TableIdentifier, statement string) (string, error) {
	fitted, left := c.fit(statement)
	if left == "" {
		return fitted, nil
	}
	var columns int
	err := source.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA=? AND TABLE_NAME=? AND COLLATION_NAME=?",
		table.SchemaName, table.TableName, left).Scan(&columns)
	if err != nil {
		return "", fmt.Errorf("looking for columns with collation %s: %w", left, err)
	}
	if columns > 0 {
		return renameCollations(statement, c.renamed), nil
	}
	return fitted, nil
}

// parentsFirst puts tables behind those that their foreign keys refer to, and leaves the
// order as it is otherwise. In a circle one table is created before its parents, which
// the session's foreign_key_checks=0 allows.
func parentsFirst(tables []definition) []definition {
	place := make(map[string]int, len(tables))
	for i, table := range tables {
		place[table.name] = i
	}
	ordered := make([]definition, 0, len(tables))
	seen := make([]bool, len(tables))
	var put func(i int)
	put = func(i int) {
		if seen[i] {
			return
		}
		seen[i] = true
		for _, parent := range tables[i].parents {
			if at, created := place[parent]; created {
				put(at)
			}
		}
		ordered = append(ordered, tables[i])
	}
	for i := range tables {
		put(i)
	}
	return ordered
}

// defineTable reads a table's definition and renames it.
func defineTable(ctx context.Context, source *sql.Conn, table ghostferry.TableIdentifier, rename renameTo) (definition, error) {
	statement, err := showCreate(ctx, source, "SHOW CREATE TABLE "+quoteTable(table))
	if err != nil {
		return definition{}, err
	}
	statement, parents, err := renameCreateTable(statement, table, rename)
	if err != nil {
		return definition{}, err
	}
	quoted := quoteTable(rename(table))
	made := definition{name: quoted, table: rename(table), statement: statement, drop: "DROP TABLE " + quoted, inUse: "SELECT 1 FROM " + quoted + " LIMIT 1"}
	for _, parent := range parents {
		made.parents = append(made.parents, quoteTable(parent))
	}
	return made, nil
}

// usedSchema finds a row if a schema has a table.
const usedSchema = "SELECT 1 FROM information_schema.tables WHERE table_schema=? LIMIT 1"

// appendSchema appends a schema unless the target has it.
func (f *CopydbFerry) appendSchema(ctx context.Context, source *sql.Conn, schemas []definition, schema, target string) ([]definition, error) {
	exists, err := f.hasSchema(ctx, target)
	if err != nil || exists {
		return schemas, err
	}
	statement, err := showCreate(ctx, source, "SHOW CREATE DATABASE "+ghostferry.QuoteField(schema))
	if err == nil {
		statement, err = renameCreateDatabase(statement, target)
	}
	if err != nil {
		return nil, fmt.Errorf("schema %s: %w", ghostferry.QuoteField(schema), err)
	}
	quoted := ghostferry.QuoteField(target)
	return append(schemas, definition{
		name: quoted, statement: statement, drop: "DROP DATABASE " + quoted, inUse: usedSchema, inUseOf: []any{target},
	}), nil
}

// hasSchema says whether the target has a schema.
func (f *CopydbFerry) hasSchema(ctx context.Context, schema string) (bool, error) {
	var count int
	err := f.Ferry.TargetDB.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name=?", schema).Scan(&count)
	if err != nil {
		return false, fmt.Errorf("looking for schema %s on the target: %w", ghostferry.QuoteField(schema), err)
	}
	return count > 0, nil
}

func quoteTable(table ghostferry.TableIdentifier) string {
	return ghostferry.QuotedTableNameFromString(table.SchemaName, table.TableName)
}

// target is where a table of the source goes.
func (f *CopydbFerry) target(table ghostferry.TableIdentifier) ghostferry.TableIdentifier {
	if renamed, ok := f.config.DatabaseRewrites[table.SchemaName]; ok {
		table.SchemaName = renamed
	}
	if renamed, ok := f.config.TableRewrites[table.TableName]; ok {
		table.TableName = renamed
	}
	return table
}

func (f *CopydbFerry) logger() ghostferry.Logger {
	logger := f.config.Logger
	if logger == nil {
		logger = ghostferry.NewDefaultLogger()
	}
	return logger.WithField("tag", "copydb")
}

// definitionConn pins a connection for definitions; end it with discard.
func definitionConn(ctx context.Context, db *sql.DB) (*sql.Conn, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := conn.ExecContext(ctx, definitionMode); err != nil {
		discard(conn)
		return nil, err
	}
	return conn, nil
}

// discard ends a connection that must not go back into its pool with its settings.
func discard(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
}

// hasTable says whether the target has a table or a view of the name.
func hasTable(ctx context.Context, db *sql.DB, table ghostferry.TableIdentifier) (bool, error) {
	var count int
	err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema=? AND table_name=?", table.SchemaName, table.TableName).Scan(&count)
	return count > 0, err
}

// errTableExists is the server's answer to a CREATE TABLE of a taken name.
const errTableExists = 1050

// showCreate is the second column of the answer.
func showCreate(ctx context.Context, conn *sql.Conn, query string) (string, error) {
	var name, statement string
	if err := conn.QueryRowContext(ctx, query).Scan(&name, &statement); err != nil {
		return "", fmt.Errorf("%s: %w", query, err)
	}
	return statement, nil
}
