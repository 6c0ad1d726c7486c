package ghostferry

import (
	"testing"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/stretchr/testify/require"
)

func literalTable(schemaName, tableName string) *TableSchema {
	table := &TableSchema{Table: &schema.Table{Schema: schemaName, Name: tableName}}
	table.AddColumn("id", "bigint", "", "auto_increment")
	table.AddColumn("f", "float", "", "")
	table.AddColumn("data", "blob", "", "")
	table.AddColumn("na`me", "varchar(10)", "utf8mb4_bin", "")
	table.PaginationKeyColumn = &table.Columns[0]
	return table
}

func TestFingerprintQueryText(t *testing.T) {
	const null = "'NULL_PBj}b]74P@JTo$5G_null'"
	table := literalTable("s", "t")
	require.Equal(t, "MD5(CONCAT(MD5(COALESCE(`id`, "+null+")),MD5(COALESCE((if (`f` = '-0', 0, `f`)), "+null+
		")),MD5(COALESCE(`data`, "+null+")),MD5(COALESCE(`na``me`, "+null+")))) AS __ghostferry_row_md5", table.RowMd5Query())
	require.Equal(t, "SELECT `id`,"+table.RowMd5Query()+" FROM `x`.`y` WHERE `id` IN (?,?,?)", table.FingerprintQuery("x", "y", 3))

	made := table.RowMd5Query()
	table.IgnoredColumnsForVerification = map[string]struct{}{"id": {}}
	require.Equal(t, made, table.RowMd5Query(), "it is made once")

	table = literalTable("s", "t")
	table.IgnoredColumnsForVerification = map[string]struct{}{"f": {}}
	table.CompressedColumnsForVerification = map[string]string{"na`me": "SNAPPY", "data": "SNAPPY"}
	table.ForcedIndexForVerification = "PRIMARY"
	require.Equal(t, "SELECT `id`,MD5(CONCAT(MD5(COALESCE(`id`, "+null+")))) AS __ghostferry_row_md5,`data`,`na``me` FROM `s`.`t` FORCE INDEX (PRIMARY) WHERE `id` IN (?)",
		table.FingerprintQuery("s", "t", 1))
}

func TestTableSchemaCache(t *testing.T) {
	var none TableSchemaCache
	require.Nil(t, none.AsSlice())
	require.Nil(t, none.AllTableNames())
	require.Nil(t, none.Get("s", "t"))

	cache := TableSchemaCache{"s.a": literalTable("s", "a"), "s.b": literalTable("s", "b"), "s.c": literalTable("s", "c")}
	require.Len(t, cache.AsSlice(), 3)
	require.Equal(t, cache["s.b"], cache.Get("s", "b"))
	require.Equal(t, []string{"s.c", "s.a", "s.b"}, cache.GetTableListWithPriority([]string{"s.c", "unknown", "s.c"}))
	require.Equal(t, TableIdentifier{"s", "a"}, NewTableIdentifierFromSchemaTable(cache["s.a"]))
}

func TestQuoting(t *testing.T) {
	require.Equal(t, "`a``b`", QuoteField("a`b"))
	require.Equal(t, []string{"`a`", "`b`"}, QuoteFields([]string{"a", "b"}))
	require.Equal(t, "`s.x`.`t``y`", QuotedTableName(literalTable("s.x", "t`y")))
	require.Equal(t, []string{"id", "f", "data", "na`me"}, ConvertTableColumnsToStrings(literalTable("s", "t").Columns))
}

func TestParseValueList(t *testing.T) {
	for columnType, want := range map[string][]string{
		"enum('a','b')":            {"a", "b"},
		"enum('it''s','a,b','c)')": {"it's", "a,b", "c)"},
		`set('','\\','a\nb','\0')`: {"", `\`, "a\nb", "\x00"},
		"enum('''')":               {"'"},
		"enum('unfinished":         {"unfinished"},
		"enum(":                    {},
	} {
		require.Equal(t, want, parseValueList(columnType), columnType)
	}
}
