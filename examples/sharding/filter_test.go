package sharding

import (
	"regexp"
	"testing"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
)

func table(name string, columns []string, indexes ...*schema.Index) *ghostferry.TableSchema {
	t := &ghostferry.TableSchema{Table: &schema.Table{Schema: "shard", Name: name, PKColumns: []int{0}, Indexes: indexes}}
	for _, column := range columns {
		t.Columns = append(t.Columns, schema.TableColumn{Name: column, Type: schema.TYPE_NUMBER, RawType: "bigint"})
	}
	t.PaginationKeyColumn = &t.Columns[0]
	return t
}

// The queries for hosts have upstream's shapes, with the tenant's condition on the rows
// that are read as well.
func TestQueriesOfATenant(t *testing.T) {
	byTenant := &schema.Index{Name: "by_tenant", Columns: []string{"tenant_id"}}
	both := &schema.Index{Name: "by_tenant_id", Columns: []string{"Tenant_ID", "id"}}
	last := ghostferry.NewUint64KeyWithColumn("id", 5)
	query := func(f *ShardedCopyFilter, table *ghostferry.TableSchema) string {
		t.Helper()
		q, err := f.BuildSelect([]string{"*"}, table, last, 10)
		require.NoError(t, err)
		text, _, err := q.ToSql()
		require.NoError(t, err)
		return text
	}
	filter := func(hints *ShardedCopyFilterConfig) *ShardedCopyFilter {
		return NewShardedCopyFilter(&Config{
			ShardingKey: "tenant_id", ShardingValue: 7, SourceDB: "shard", PrimaryKeyTables: []string{"tenants"},
			JoinedTables:            map[string][]JoinTable{"joined": {{TableName: "orders", JoinColumn: "joined_id"}}},
			ShardedCopyFilterConfig: hints,
		})
	}
	orders := table("orders", []string{"id", "tenant_id"}, byTenant, both)
	require.Regexp(t, "^SELECT \\* FROM `shard`.`orders` JOIN \\(SELECT `id` FROM `shard`.`orders` USE INDEX \\(`by_tenant_id`\\) WHERE `id` > \\? AND .*`tenant_id`.*7.* "+
		"ORDER BY `id` LIMIT 10\\) AS batch USING\\(`id`\\) WHERE .*`tenant_id`.*7.* ORDER BY `id`$", query(filter(nil), orders))
	require.Contains(t, query(filter(nil), table("orders", []string{"id", "tenant_id"}, byTenant)), "USE INDEX (`by_tenant`)")
	require.Contains(t, query(filter(nil), table("orders", []string{"id", "tenant_id"})), "IGNORE INDEX (PRIMARY)")
	require.Contains(t, query(filter(&ShardedCopyFilterConfig{IndexHint: "FORCE"}), orders), "FORCE INDEX (`by_tenant_id`)")
	require.NotContains(t, query(filter(&ShardedCopyFilterConfig{IndexHint: "none"}), orders), "INDEX")
	require.Contains(t, query(filter(&ShardedCopyFilterConfig{IndexHint: "none", IndexHintingPerTable: map[string]map[string]IndexConfigPerTable{
		"shard": {"orders": {IndexHint: "force", IndexName: "BY_TENANT"}},
	}}), orders), "FORCE INDEX (`by_tenant`)")
	require.Error(t, (&ShardedCopyFilterConfig{IndexHint: "perhaps"}).Validate())

	joined := query(filter(nil), table("joined", []string{"id"}))
	require.Contains(t, joined, "FROM `shard`.`orders`")
	require.Contains(t, joined, "ORDER BY joined_key LIMIT 10")
	require.NotContains(t, query(filter(nil), table("tenants", []string{"id"})), "JOIN")
}

// Tables of tenants are those with the key, the joined ones and the primary key tables.
func TestTablesOfATenant(t *testing.T) {
	all := []*ghostferry.TableSchema{
		table("orders", []string{"id", "tenant_id"}), table("joined", []string{"id"}), table("tenants", []string{"id"}), table("countries", []string{"id"}),
	}
	chosen := func(f *ShardedTableFilter) (names []string) {
		t.Helper()
		f.ShardingKey, f.JoinedTables, f.PrimaryKeyTables = "tenant_id", map[string][]JoinTable{"joined": nil}, map[string]struct{}{"tenants": {}}
		tables, err := f.ApplicableTables(all)
		require.NoError(t, err)
		for _, table := range tables {
			names = append(names, table.Name)
		}
		return names
	}
	require.Equal(t, []string{"orders", "joined", "tenants"}, chosen(&ShardedTableFilter{}))
	require.Equal(t, []string{"joined", "tenants"}, chosen(&ShardedTableFilter{Tables: []*regexp.Regexp{regexp.MustCompile("^or")}}))
	require.Equal(t, []string{"orders"}, chosen(&ShardedTableFilter{Type: IncludedTablesFilter, Tables: []*regexp.Regexp{regexp.MustCompile("^(or|cou)")}}))
	databases, err := (&ShardedTableFilter{SourceShard: "shard"}).ApplicableDatabases([]string{"a", "b"})
	require.NoError(t, err)
	require.Equal(t, []string{"shard"}, databases)

	wide := table("tenants", []string{"id", "part"})
	wide.PKColumns = []int{0, 1}
	_, err = (&ShardedTableFilter{PrimaryKeyTables: map[string]struct{}{"tenants": {}}}).ApplicableTables([]*ghostferry.TableSchema{wide})
	require.ErrorContains(t, err, "primary key of 2 columns")
}
