package sharding

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"

	sq "github.com/Masterminds/squirrel"

	"github.com/ghostferry-go/ghostferry"
)

// ShardedCopyFilter is a [ghostferry.CopyFilter] of one tenant's rows. To the library it
// is a row filter for tables with the sharding key and for primary key tables; rows of
// joined tables are moved by [ShardingFerry] itself. Its fields are set before the first
// call.
type ShardedCopyFilter struct {
	// ShardingKey is the column, ShardingValue the tenant.
	ShardingKey   string
	ShardingValue interface{}
	// JoinedTables and PrimaryKeyTables are as in Config.
	JoinedTables     map[string][]JoinTable
	PrimaryKeyTables map[string]struct{}

	// IndexHint and IndexConfigPerTable (by bare table name) choose the indexes of
	// BuildSelect's queries.
	IndexHint           string
	IndexConfigPerTable map[string]IndexConfigPerTable

	metrics *ghostferry.Metrics
	follow  func(ghostferry.DMLEvent) error // told of changes of joined tables; nil: nobody is

	warned sync.Map // tables without an index, by name
}

var _ ghostferry.RowFilterer = (*ShardedCopyFilter)(nil)

// NewShardedCopyFilter makes the filter of a configuration.
func NewShardedCopyFilter(config *Config) *ShardedCopyFilter {
	hints := config.ShardedCopyFilterConfig
	if hints == nil {
		hints = &ShardedCopyFilterConfig{}
	}
	f := &ShardedCopyFilter{
		ShardingKey: config.ShardingKey, ShardingValue: config.value(), JoinedTables: config.JoinedTables, PrimaryKeyTables: map[string]struct{}{},
		IndexHint: "use", IndexConfigPerTable: hints.IndexConfigForTables(config.SourceDB),
	}
	if hints.IndexHint != "" {
		f.IndexHint = hints.IndexHint
	}
	for _, table := range config.PrimaryKeyTables {
		f.PrimaryKeyTables[table] = struct{}{}
	}
	if config.Config != nil {
		f.metrics = config.Metrics
	}
	return f
}

// RowCondition says by which column a table's rows belong to the tenant; nil for a joined
// table.
func (f *ShardedCopyFilter) RowCondition(table *ghostferry.TableSchema) ghostferry.RowCondition {
	if _, joined := f.JoinedTables[table.Name]; joined {
		return nil
	}
	column := f.ShardingKey
	if _, keyed := f.PrimaryKeyTables[table.Name]; keyed {
		column = table.GetPaginationColumn().Name
	}
	return ghostferry.RowCondition{column: {f.ShardingValue}}
}

// rows is the library's filter for a table.
func (f *ShardedCopyFilter) rows(table *ghostferry.TableSchema) *ghostferry.RowFilter {
	return &ghostferry.RowFilter{Where: f.RowCondition(table)}
}

// BuildSelect returns the query of a table's next rows of the tenant, for hosts and for
// components that read with locks. The condition is part of the outer query, too, which is
// the one whose rows are locked; the order is that of the key.
func (f *ShardedCopyFilter) BuildSelect(columns []string, table *ghostferry.TableSchema, lastPaginationKey ghostferry.PaginationKey, batchSize uint64) (sq.SelectBuilder, error) {
	key := ghostferry.QuoteField(table.GetPaginationColumn().Name)
	from := ghostferry.QuotedTableName(table)
	if joins, joined := f.JoinedTables[table.Name]; joined {
		keys, args, err := f.joinedKeys(table.Schema, joins, lastPaginationKey, batchSize)
		if err != nil {
			return sq.SelectBuilder{}, err
		}
		return sq.Select(columns...).From(from).Join("("+keys+") AS batch ON batch.joined_key = "+key, args...).OrderBy(key), nil
	}
	predicate, err := f.rows(table).Predicate(table)
	if err != nil {
		return sq.SelectBuilder{}, err
	}
	where := sq.Expr(strings.ReplaceAll(predicate, "?", "??"))
	if _, keyed := f.PrimaryKeyTables[table.Name]; keyed {
		return ghostferry.DefaultBuildSelect(columns, table, lastPaginationKey, batchSize).Where(where), nil
	}
	keys, args, err := ghostferry.DefaultBuildSelect([]string{key}, table, lastPaginationKey, batchSize).From(from + f.hint(table)).Where(where).ToSql()
	if err != nil {
		return sq.SelectBuilder{}, err
	}
	return sq.Select(columns...).From(from).Join("("+keys+") AS batch USING("+key+")", args...).Where(where).OrderBy(key), nil
}

// joinedKeys is the query of the next keys that any of the join tables has for the tenant.
func (f *ShardedCopyFilter) joinedKeys(schema string, joins []JoinTable, last ghostferry.PaginationKey, batchSize uint64) (string, []any, error) {
	var parts []string
	var args []any
	for _, join := range joins {
		column := ghostferry.QuoteField(join.JoinColumn)
		// DISTINCT before the limit: rows of one key must not fill a page.
		query := sq.Select(column + " AS joined_key").Distinct().From(ghostferry.QuotedTableNameFromString(schema, join.TableName)).
			Where(sq.Eq{ghostferry.QuoteField(f.ShardingKey): f.ShardingValue})
		if last != nil {
			query = query.Where(sq.Gt{column: last.SQLValue()})
		}
		text, more, err := query.OrderBy("joined_key").Limit(batchSize).ToSql()
		if err != nil {
			return "", nil, err
		}
		parts, args = append(parts, "("+text+")"), append(args, more...)
	}
	return strings.Join(parts, " UNION DISTINCT ") + fmt.Sprintf(" ORDER BY joined_key LIMIT %d", batchSize), args, nil
}

// ApplicableEvent reports whether the row was the tenant's before the change or is after
// it. Rows of joined tables are followed apart: false.
func (f *ShardedCopyFilter) ApplicableEvent(event ghostferry.DMLEvent) (bool, error) {
	table := event.TableSchema()
	if _, joined := f.JoinedTables[table.Name]; joined {
		if f.follow != nil {
			return false, f.follow(event)
		}
		return false, nil
	}
	if _, keyed := f.PrimaryKeyTables[table.Name]; !keyed && !hasColumn(table, f.ShardingKey) {
		return false, nil
	}
	return f.rows(table).ApplicableEvent(event)
}

// hint returns the index hint for finding the tenant's keys of a table.
func (f *ShardedCopyFilter) hint(table *ghostferry.TableSchema) string {
	choice, word := f.IndexConfigPerTable[table.Name], f.IndexHint
	if choice.IndexHint != "" {
		word = choice.IndexHint
	}
	word = strings.ToUpper(word)
	if word == "NONE" {
		return ""
	}
	index := ""
	for _, i := range table.Indexes {
		leads := len(i.Columns) > 0 && strings.EqualFold(i.Columns[0], f.ShardingKey)
		switch {
		case choice.IndexName != "" && strings.EqualFold(i.Name, choice.IndexName):
			return " " + word + " INDEX (" + ghostferry.QuoteField(i.Name) + ")"
		case leads && len(i.Columns) == 2 && strings.EqualFold(i.Columns[1], table.GetPaginationColumn().Name):
			index = i.Name
		case leads && len(i.Columns) == 1 && index == "":
			index = i.Name
		}
	}
	if index == "" {
		if _, again := f.warned.LoadOrStore(table.String(), true); !again {
			ghostferry.LogWithField("tag", "sharding").Warnf("table %s has no index on its sharding key", table)
			f.metrics.Count("MissingShardingKeyIndex", 1, []ghostferry.MetricTag{{Name: "table", Value: table.Name}}, 1)
		}
		return " IGNORE INDEX (PRIMARY)"
	}
	return " " + word + " INDEX (" + ghostferry.QuoteField(index) + ")"
}

// ShardedTableFilterType says what the regular expressions of a table filter mean.
type ShardedTableFilterType int64

const (
	// IgnoredTablesFilter leaves matching tables out.
	IgnoredTablesFilter ShardedTableFilterType = iota
	// IncludedTablesFilter takes matching tables only.
	IncludedTablesFilter
)

// ShardedTableFilter is a [ghostferry.TableFilter] of the tables that have rows of
// tenants.
type ShardedTableFilter struct {
	// SourceShard is the only schema.
	SourceShard string
	// ShardingKey is the column that makes a table one of tenants.
	ShardingKey string
	// JoinedTables are taken without it.
	JoinedTables map[string][]JoinTable
	// Type and Tables choose among all of these by bare name.
	Type   ShardedTableFilterType
	Tables []*regexp.Regexp
	// PrimaryKeyTables are taken by their key.
	PrimaryKeyTables map[string]struct{}
}

// ApplicableDatabases returns the only schema.
func (f *ShardedTableFilter) ApplicableDatabases([]string) ([]string, error) {
	return []string{f.SourceShard}, nil
}

// ApplicableTables returns the tables of tenants. A primary key table with a key of
// several columns is an error.
func (f *ShardedTableFilter) ApplicableTables(tables []*ghostferry.TableSchema) (applicable []*ghostferry.TableSchema, err error) {
	for _, table := range tables {
		matches := slices.ContainsFunc(f.Tables, func(r *regexp.Regexp) bool { return r.MatchString(table.Name) })
		if matches != (f.Type == IncludedTablesFilter) {
			continue
		}
		_, joined := f.JoinedTables[table.Name]
		_, keyed := f.PrimaryKeyTables[table.Name]
		if keyed && len(table.PKColumns) != 1 {
			return nil, fmt.Errorf("table %s has a primary key of %d columns: a primary key table needs one that is the sharding value", table, len(table.PKColumns))
		}
		if keyed || joined || hasColumn(table, f.ShardingKey) {
			applicable = append(applicable, table)
		}
	}
	return applicable, nil
}

func hasColumn(table *ghostferry.TableSchema, name string) bool {
	for _, c := range table.Columns {
		if strings.EqualFold(c.Name, name) {
			return true
		}
	}
	return false
}
