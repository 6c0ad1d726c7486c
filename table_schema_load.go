package ghostferry

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/go-mysql-org/go-mysql/schema"

	"github.com/ghostferry-go/ghostferry/internal/intern"
	"github.com/ghostferry-go/ghostferry/internal/server"
	"github.com/ghostferry-go/ghostferry/sqlwrapper"
)

const tableTypeSystemVersioned = "SYSTEM VERSIONED"

// schemaReader reads table definitions from information_schema over one connection,
// with the same few statements whatever the number of tables.
type schemaReader struct {
	conn *sqlwrapper.Conn
	// indexVisibility is the column of information_schema.STATISTICS that tells
	// visible indexes from others, and the value of the others; empty on servers
	// without invisible indexes.
	indexVisibility, invisibleValue string
	// leafTypes: the server can tell the types of all leaves of a JSON document.
	leafTypes bool
	names     intern.Strings // of columns, types, character sets and indexes
}

// newSchemaReader takes a connection, which close ends.
func newSchemaReader(ctx context.Context, db *sqlwrapper.DB) (*schemaReader, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("read table definitions: %w", err)
	}
	reader := &schemaReader{conn: conn, names: intern.Strings{}}
	if err := reader.prepare(ctx); err != nil {
		reader.close()
		return nil, fmt.Errorf("read table definitions: %w", err)
	}
	return reader, nil
}

func (r *schemaReader) prepare(ctx context.Context) error {
	detected, err := server.Detect(ctx, r.conn)
	if err != nil {
		return err
	}
	r.leafTypes = detected.JSONTable()
	// A table filled since somebody last asked for its size would look empty.
	for _, statement := range append(detected.DefinitionSetup(), detected.StatisticsSetup()...) {
		if _, err := r.conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}

	rows, err := r.conn.QueryContext(ctx, "SELECT * FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = '' LIMIT 0")
	if err != nil {
		return err
	}
	columns, err := rows.Columns()
	if err := errors.Join(err, rows.Close(), rows.Err()); err != nil { //nolint:sqlclosecheck // before the next query of the connection
		return err
	}
	for _, column := range columns {
		switch strings.ToUpper(column) {
		case "IS_VISIBLE":
			r.indexVisibility, r.invisibleValue = "IS_VISIBLE", "NO"
		case "IGNORED":
			r.indexVisibility, r.invisibleValue = "IGNORED", "YES"
		}
	}
	return nil
}

func (r *schemaReader) close() { throwAway(r.conn) }

// query calls scan for every row.
func (r *schemaReader) query(ctx context.Context, scan func(rows *sql.Rows) error, statement string, args ...interface{}) error {
	rows, err := r.conn.QueryContext(ctx, statement, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// schemas lists all schemas that the account can see.
func (r *schemaReader) schemas(ctx context.Context) ([]string, error) {
	var names []string
	err := r.query(ctx, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	}, "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")
	if err != nil {
		return nil, fmt.Errorf("list schemas: %w", err)
	}
	sort.Strings(names)
	return names, nil
}

// loadedTable is a table's definition on its way from the server to a TableSchema.
type loadedTable struct {
	*TableSchema
	tableType string
	// clustered are the columns that the server marks as its primary key: without a
	// PRIMARY KEY those of the unique index that the rows are stored by.
	clustered map[int]bool
}

// tables reads the definitions of all tables of a schema, views and sequences left
// out, sorted by name.
func (r *schemaReader) tables(ctx context.Context, schemaName string) ([]*loadedTable, error) {
	byName := make(map[string]*loadedTable)
	for _, read := range []func(context.Context, string, map[string]*loadedTable) error{r.readTables, r.readColumns, r.readIndexes} {
		if err := read(ctx, schemaName, byName); err != nil {
			return nil, fmt.Errorf("read the tables of schema %s: %w", schemaName, err)
		}
	}

	tables := make([]*loadedTable, 0, len(byName))
	for _, name := range sortedNames(byName) {
		table := byName[name]
		if len(table.Columns) == 0 {
			return nil, fmt.Errorf("read the tables of schema %s: table %s has no columns; it was dropped meanwhile, or the account may not see them", schemaName, name)
		}
		table.finishIndexes()
		tables = append(tables, table)
	}
	return tables, nil
}

func (r *schemaReader) readTables(ctx context.Context, schemaName string, byName map[string]*loadedTable) error {
	return r.query(ctx, func(rows *sql.Rows) error {
		var name, tableType string
		var engine sql.NullString
		var approxRows, dataLength sql.Null[uint64]
		if err := rows.Scan(&name, &tableType, &engine, &approxRows, &dataLength); err != nil {
			return err
		}
		byName[name] = &loadedTable{
			TableSchema: &TableSchema{
				Table:      &schema.Table{Schema: schemaName, Name: name},
				engine:     r.names.Of(engine.String),
				approxRows: approxRows.V,
				dataLength: dataLength.V,
				leafTypes:  r.leafTypes,
			},
			tableType: tableType,
			clustered: make(map[int]bool),
		}
		return nil
	}, `SELECT TABLE_NAME, TABLE_TYPE, ENGINE, TABLE_ROWS, DATA_LENGTH FROM information_schema.TABLES
		WHERE TABLE_SCHEMA = ? AND TABLE_TYPE IN ('BASE TABLE', '`+tableTypeSystemVersioned+`')`, schemaName)
}

func (r *schemaReader) readColumns(ctx context.Context, schemaName string, byName map[string]*loadedTable) error {
	return r.query(ctx, func(rows *sql.Rows) error {
		var tableName, nullable, extra, columnKey string
		var info columnInfo
		var charset, collation sql.NullString
		var charLength, octetLength sql.Null[uint64]
		var precision, scale, fractional sql.NullInt64
		if err := rows.Scan(&tableName, &info.Name, &nullable, &info.DataType, &info.ColumnType, &charset, &collation,
			&charLength, &octetLength, &precision, &scale, &fractional, &extra, &columnKey); err != nil {
			return err
		}
		table := byName[tableName]
		if table == nil { // a view or a sequence
			return nil
		}
		// Most are the same in other columns and tables, of which there may be ten thousand.
		info.Name, info.DataType, info.ColumnType = r.names.Of(info.Name), r.names.Of(info.DataType), r.names.Of(info.ColumnType)
		info.Charset, info.Collation = r.names.Of(charset.String), r.names.Of(collation.String)
		info.CharLength, info.OctetLength = charLength.V, octetLength.V
		info.Precision, info.Scale, info.FractionalDigits = int(precision.Int64), int(scale.Int64), int(fractional.Int64)
		info.Nullable = nullable == "YES"
		if columnKey == "PRI" {
			table.clustered[len(table.Columns)] = true
		}
		table.addColumn(info, extra)
		return nil
	}, `SELECT TABLE_NAME, COLUMN_NAME, IS_NULLABLE, DATA_TYPE, COLUMN_TYPE, CHARACTER_SET_NAME, COLLATION_NAME,
			CHARACTER_MAXIMUM_LENGTH, CHARACTER_OCTET_LENGTH, NUMERIC_PRECISION, NUMERIC_SCALE, DATETIME_PRECISION, EXTRA, COLUMN_KEY
		FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? ORDER BY TABLE_NAME, ORDINAL_POSITION`, schemaName)
}

// columnNames lists the columns of a table in their order.
func (r *schemaReader) columnNames(ctx context.Context, schemaName, tableName string) (names []string, err error) {
	err = r.query(ctx, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	}, "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION", schemaName, tableName)
	if err != nil {
		return nil, fmt.Errorf("read the columns of table %s: %w", fullTableName(schemaName, tableName), err)
	}
	return names, nil
}

// addColumn lets go-mysql describe the column and corrects what it reads wrongly:
// attributes that stand beside others, and the values of ENUM and SET with commas or
// quotes in them.
func (t *loadedTable) addColumn(info columnInfo, extra string) {
	t.Table.AddColumn(info.Name, info.ColumnType, info.Collation, extra)
	column := &t.Columns[len(t.Columns)-1]

	lower := strings.ToLower(extra)
	column.IsVirtual = strings.Contains(lower, "virtual generated")
	column.IsStored = strings.Contains(lower, "stored generated") || strings.Contains(lower, "persistent generated")
	column.IsAuto = strings.Contains(lower, "auto_increment")
	column.IsAutoUpdating = strings.Contains(lower, "on update current_timestamp")
	switch column.Type {
	case schema.TYPE_ENUM:
		column.EnumValues = parseValueList(info.ColumnType)
	case schema.TYPE_SET:
		column.SetValues = parseValueList(info.ColumnType)
	}

	info.Unsigned = column.IsUnsigned
	info.Generated = column.IsVirtual || column.IsStored
	info.Invisible = strings.Contains(lower, "invisible")
	info.AutoIncrement = column.IsAuto
	t.columnInfos = append(t.columnInfos, info)
}

// parseValueList reads the values of "enum('a','b”c')". Servers double a quote and
// write backslash, newline, carriage return and the zero byte with a backslash.
func parseValueList(columnType string) []string {
	values := []string{}
	rest := columnType
	for {
		start := strings.IndexByte(rest, '\'')
		if start < 0 {
			return values
		}
		value, length := parseQuoted(rest[start+1:])
		values = append(values, value)
		rest = rest[start+1+length:]
	}
}

// parseQuoted reads up to the closing quote and returns how much it read.
func parseQuoted(text string) (value string, length int) {
	var out strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\'' && strings.HasPrefix(text[i+1:], "'"):
			i++
			out.WriteByte('\'')
		case text[i] == '\'':
			return out.String(), i + 1
		case text[i] == '\\' && i+1 < len(text):
			i++
			out.WriteByte(unescapeByte(text[i]))
		default:
			out.WriteByte(text[i])
		}
	}
	return out.String(), len(text)
}

func unescapeByte(b byte) byte {
	switch b {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case '0':
		return 0
	}
	return b
}

func (r *schemaReader) readIndexes(ctx context.Context, schemaName string, byName map[string]*loadedTable) error {
	visibility := "''"
	if r.indexVisibility != "" {
		visibility = r.indexVisibility
	}
	// CARDINALITY is left out: for it the server opens every table.
	return r.query(ctx, func(rows *sql.Rows) error {
		var tableName, indexName, kind, visible string
		var nonUnique bool
		var columnName sql.NullString
		var subPart sql.NullInt64
		if err := rows.Scan(&tableName, &indexName, &nonUnique, &kind, &columnName, &subPart, &visible); err != nil {
			return err
		}
		if table := byName[tableName]; table != nil {
			info := indexInfo{Name: r.names.Of(indexName), Unique: !nonUnique, Visible: visible != r.invisibleValue || r.indexVisibility == "", Hash: kind == "HASH" && table.engine == "InnoDB"}
			table.addIndexPart(info, columnName, int(subPart.Int64))
		}
		return nil
	}, "SELECT TABLE_NAME, INDEX_NAME, NON_UNIQUE, INDEX_TYPE, COLUMN_NAME, SUB_PART, "+visibility+
		" FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = ? ORDER BY TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX", schemaName)
}

func (t *loadedTable) addIndexPart(info indexInfo, columnName sql.NullString, subPart int) {
	if last := len(t.indexInfos) - 1; last < 0 || t.indexInfos[last].Name != info.Name {
		t.indexInfos = append(t.indexInfos, info)
	}
	index := &t.indexInfos[len(t.indexInfos)-1]

	column := -1
	if columnName.Valid {
		column = t.FindColumn(columnName.String)
	}
	if column < 0 {
		index.HasExpression = true
		// An expression may be NULL whatever its columns are.
		index.Nullable = true
	} else if t.columnInfos[column].Nullable {
		index.Nullable = true
	}
	index.Columns = append(index.Columns, column)
	index.SubParts = append(index.SubParts, subPart)
}

const primaryIndexName = "PRIMARY"

// finishIndexes puts the primary key first, then unique indexes, the one that the
// rows are stored by before the others, then the rest, and fills go-mysql's list with
// the visible ones.
func (t *loadedTable) finishIndexes() {
	rank := func(index indexInfo) int {
		switch {
		case index.Name == primaryIndexName:
			return 0
		case index.Unique && t.isClustered(index):
			return 1
		case index.Unique:
			return 2
		}
		return 3
	}
	sort.SliceStable(t.indexInfos, func(i, j int) bool { return rank(t.indexInfos[i]) < rank(t.indexInfos[j]) })

	t.Indexes = []*schema.Index{}
	for _, info := range t.indexInfos {
		if info.Name == primaryIndexName {
			t.PKColumns = append([]int(nil), info.Columns...)
		}
		if !info.Visible {
			continue
		}
		index := &schema.Index{Name: info.Name, Visible: true, Columns: make([]string, 0, len(info.Columns)), Cardinality: make([]uint64, 0, len(info.Columns))}
		if !info.Unique {
			index.NoneUnique = 1
		}
		for _, column := range info.Columns {
			name := ""
			if column >= 0 {
				name = t.Columns[column].Name
			}
			index.AddColumn(name, 0)
		}
		t.Indexes = append(t.Indexes, index)
	}
}

// isClustered says whether the index is over exactly the columns that the server
// calls its primary key.
func (t *loadedTable) isClustered(index indexInfo) bool {
	if index.Nullable || len(index.Columns) != len(t.clustered) {
		return false
	}
	for _, column := range index.Columns {
		if !t.clustered[column] {
			return false
		}
	}
	return true
}
