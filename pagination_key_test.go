package ghostferry

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// anyKey draws keys of every kind.
func anyKey() *rapid.Generator[PaginationKey] {
	column := rapid.SampledFrom([]string{"", "id", "a,b"})
	simple := rapid.Custom(func(t *rapid.T) PaginationKey {
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			return NewUint64KeyWithColumn(column.Draw(t, "column"), rapid.Uint64().Draw(t, "value"))
		case 1:
			return NewInt64KeyWithColumn(column.Draw(t, "column"), rapid.Int64().Draw(t, "value"))
		case 2:
			return NewBinaryKeyWithColumn(column.Draw(t, "column"), rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, "value"))
		}
		return NewTextKeyWithColumn(column.Draw(t, "column"), string(rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, "value")))
	})
	return rapid.Custom(func(t *rapid.T) PaginationKey {
		if rapid.IntRange(0, 3).Draw(t, "composite") > 0 {
			return simple.Draw(t, "key")
		}
		return NewCompositeKey(rapid.SliceOfN(simple, 1, 3).Draw(t, "parts")...)
	})
}

func TestKeysSurviveJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := anyKey().Draw(t, "key")
		text, err := json.Marshal(key)
		require.NoError(t, err)
		read, err := UnmarshalPaginationKey(text)
		require.NoError(t, err)
		require.Equal(t, key, read)
	})
}

func TestKeyOrderIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := anyKey().Draw(t, "a"), anyKey().Draw(t, "b"), anyKey().Draw(t, "c")
		require.Equal(t, 0, a.Compare(a))
		require.Equal(t, a.Compare(b), -b.Compare(a))
		if a.Compare(b) <= 0 && b.Compare(c) <= 0 {
			require.LessOrEqual(t, a.Compare(c), 0)
		}
		if a.Compare(b) == 0 {
			require.Equal(t, a.String(), b.String())
		}
	})
}

func TestCompositeKeyTextIdentifies(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.SampledFrom([]rune{'a', ',', '\\'}), 0, 4, -1)
		part := rapid.Custom(func(t *rapid.T) PaginationKey { return NewTextKey(text.Draw(t, "text")) })
		parts := rapid.SliceOfN(part, 2, 2)
		a, b := NewCompositeKey(parts.Draw(t, "a")...), NewCompositeKey(parts.Draw(t, "b")...)
		require.Equal(t, a.Compare(b) == 0, a.String() == b.String())
	})
}

func TestKeyForms(t *testing.T) {
	for _, test := range []struct {
		key            PaginationKey
		json, text     string
		sqlValue       interface{}
		position       float64
		isMax          bool
		column         string
		followingInRow PaginationKey
	}{
		{NewUint64KeyWithColumn("id", 123), `{"type":"uint64","value":123,"column":"id"}`, "123", uint64(123), 123, false, "id", NewUint64Key(124)},
		{NewUint64Key(math.MaxUint64), `{"type":"uint64","value":18446744073709551615}`, "18446744073709551615", uint64(math.MaxUint64), math.MaxUint64, true, "", NewTextKey("")},
		{NewInt64KeyWithColumn("id", -5), `{"type":"int64","value":-5,"column":"id"}`, "-5", int64(-5), -5, false, "id", NewUint64Key(0)},
		{NewBinaryKeyWithColumn("u", []byte{0xAB, 0}), `{"type":"binary","value":"ab00","column":"u"}`, "ab00", []byte{0xAB, 0}, 0xAB00 * math.Pow(2, 48), false, "u", NewBinaryKey([]byte{0xAC})},
		{NewBinaryKey([]byte{0xFF, 0xFF}), `{"type":"binary","value":"ffff"}`, "ffff", []byte{0xFF, 0xFF}, 0xFFFF * math.Pow(2, 48), true, "", NewUint64Key(0)},
		{NewBinaryKey(nil), `{"type":"binary","value":""}`, "", []byte{}, 0, false, "", NewBinaryKey([]byte{0})},
		{NewTextKeyWithColumn("p", "12.50"), `{"type":"text","value":"12.50","column":"p"}`, "12.50", "12.50", 12.5, false, "p", NewTextKey("13")},
		{NewTextKey("\xff"), `{"type":"text","hex":"ff"}`, "\xff", "\xff", 0xFF * math.Pow(2, 56), false, "", NewTextKey("\xff\x00")},
		{NewCompositeKey(NewUint64KeyWithColumn("a", 7), NewTextKeyWithColumn("b", "x,y")),
			`{"type":"composite","value":[{"type":"uint64","value":7,"column":"a"},{"type":"text","value":"x,y","column":"b"}]}`,
			`7,x\,y`, []interface{}{uint64(7), "x,y"}, 7, false, "a,b", NewCompositeKey(NewUint64Key(8))},
	} {
		text, err := test.key.MarshalJSON()
		require.NoError(t, err)
		require.JSONEq(t, test.json, string(text))
		require.Equal(t, test.json, string(text))
		require.Equal(t, test.text, test.key.String())
		require.Equal(t, test.sqlValue, test.key.SQLValue())
		require.Equal(t, test.position, test.key.NumericPosition())
		require.Equal(t, test.isMax, test.key.IsMax(), test.text)
		require.Equal(t, test.column, test.key.ColumnName())
		require.Equal(t, -1, test.key.Compare(test.followingInRow), test.text)
		require.Equal(t, 1, test.key.Compare(nil))
	}
	require.Equal(t, 0, NewInt64Key(5).Compare(NewUint64KeyWithColumn("id", 5)))
	require.True(t, NewCompositeKey(NewUint64Key(math.MaxUint64), NewInt64Key(math.MaxInt64)).IsMax())
}

func TestUnmarshalPaginationKeyFaultsAndOldForms(t *testing.T) {
	key, err := UnmarshalPaginationKey([]byte(" 9007199254740993 "))
	require.NoError(t, err)
	require.Equal(t, NewUint64Key(9007199254740993), key)
	key, err = UnmarshalPaginationKey([]byte("-3"))
	require.NoError(t, err)
	require.Equal(t, NewInt64Key(-3), key)

	for text, want := range map[string]string{
		`{"type":"float","value":1}`:        "unknown key type: float",
		`{"value":1}`:                       "unknown key type: ",
		`{"type":"uint64","value":-1}`:      "uint64",
		`{"type":"uint64"}`:                 "uint64",
		`{"type":"binary","value":"zz"}`:    "binary",
		`{"type":"text"}`:                   "value is missing",
		`{"type":"composite","value":[{}]}`: "part 1",
		`{"type":"composite","value":7}`:    "composite",
		`1.5`:                               "neither",
		`"abc"`:                             "neither",
		`null`:                              "neither",
		``:                                  "pagination key",
		`{`:                                 "pagination key",
		`-99999999999999999999`:             "out of range",
		`{"type":"uint64","value":"12","column":1}`: "pagination key",
	} {
		_, err := UnmarshalPaginationKey([]byte(text))
		require.ErrorContains(t, err, want, text)
	}
}

func tableColumn(name, columnType, collation string) *schema.TableColumn {
	table := &schema.Table{}
	table.AddColumn(name, columnType, collation, "")
	return &table.Columns[0]
}

// The same value gives the same key, whether a query or the binary log returned it.
func TestKeysFromRows(t *testing.T) {
	enum := tableColumn("c", "enum('a','b')", "utf8mb4_general_ci")
	set := tableColumn("c", "set('a','b','c')", "utf8mb4_general_ci")
	for _, test := range []struct {
		column *schema.TableColumn
		values []interface{}
		key    PaginationKey
	}{
		{tableColumn("c", "bigint", ""), []interface{}{int64(5), uint64(5), int8(5), uint16(5), []byte("5"), "5"}, NewUint64KeyWithColumn("c", 5)},
		{tableColumn("c", "int", ""), []interface{}{int32(-5), int64(-5), []byte("-5")}, NewInt64KeyWithColumn("c", -5)},
		{tableColumn("c", "mediumint unsigned", ""), []interface{}{uint32(16777215), []byte("16777215")}, NewUint64KeyWithColumn("c", 16777215)},
		{tableColumn("c", "year", ""), []interface{}{2024, []byte("2024")}, NewUint64KeyWithColumn("c", 2024)},
		{tableColumn("c", "bit(16)", ""), []interface{}{int64(258), []byte{1, 2}}, NewUint64KeyWithColumn("c", 258)},
		{tableColumn("c", "binary(4)", ""), []interface{}{[]byte{1, 2, 0, 0}, "\x01\x02"}, NewBinaryKeyWithColumn("c", []byte{1, 2, 0, 0})},
		{tableColumn("c", "varbinary(4)", ""), []interface{}{[]byte{1, 2}, "\x01\x02"}, NewBinaryKeyWithColumn("c", []byte{1, 2})},
		{tableColumn("c", "varchar(4)", "utf8mb4_bin"), []interface{}{[]byte("ab"), "ab"}, NewBinaryKeyWithColumn("c", []byte("ab"))},
		{tableColumn("c", "varchar(4)", "utf8mb4_0900_ai_ci"), []interface{}{[]byte("ab"), "ab"}, NewTextKeyWithColumn("c", "ab")},
		{tableColumn("c", "uuid", ""), []interface{}{"123e4567-e89b-12d3-a456-426614174000"}, NewTextKeyWithColumn("c", "123e4567-e89b-12d3-a456-426614174000")},
		{tableColumn("c", "decimal(10,2)", ""), []interface{}{[]byte("12.50"), decimal.RequireFromString("12.50")}, NewTextKeyWithColumn("c", "12.50")},
		{tableColumn("c", "datetime(3)", ""), []interface{}{[]byte("2024-01-02 03:04:05.600"), "2024-01-02 03:04:05.600"}, NewTextKeyWithColumn("c", "2024-01-02 03:04:05.600")},
		{enum, []interface{}{[]byte("b"), int64(2)}, NewTextKeyWithColumn("c", "b")},
		{enum, []interface{}{[]byte(""), int64(0)}, NewTextKeyWithColumn("c", "")},
		{set, []interface{}{[]byte("a,c"), int64(5)}, NewTextKeyWithColumn("c", "a,c")},
	} {
		for _, value := range test.values {
			key, err := NewPaginationKeyFromRow(RowData{nil, value}, 1, test.column)
			require.NoError(t, err, "%s %T", test.column.RawType, value)
			require.Equal(t, test.key, key, "%s %T", test.column.RawType, value)
		}
		for _, value := range []interface{}{nil, []byte(nil), 1.5, true} {
			_, err := NewPaginationKeyFromRow(RowData{value}, 0, test.column)
			require.Error(t, err, "%s %v", test.column.RawType, value)
		}
	}

	_, err := NewPaginationKeyFromRow(RowData{1}, 1, enum)
	require.ErrorContains(t, err, "outside a row")
	_, err = NewPaginationKeyFromRow(RowData{1}, -1, enum)
	require.ErrorContains(t, err, "outside a row")
	_, err = NewPaginationKeyFromRow(RowData{int64(3)}, 0, enum)
	require.ErrorContains(t, err, "ENUM value 3")
	_, err = NewPaginationKeyFromRow(RowData{int64(8)}, 0, set)
	require.ErrorContains(t, err, "SET value 8")
}

func TestMinAndMaxPaginationKey(t *testing.T) {
	require.Equal(t, NewUint64KeyWithColumn("c", 0), MinPaginationKey(tableColumn("c", "int", "")))
	require.Equal(t, NewUint64KeyWithColumn("c", math.MaxUint64), MaxPaginationKey(tableColumn("c", "int", "")))
	require.Equal(t, NewUint64KeyWithColumn("c", 0), MinPaginationKey(&schema.TableColumn{Name: "c"}), "unknown types count as integers")

	uuid := tableColumn("c", "binary(16)", "")
	require.Equal(t, NewBinaryKeyWithColumn("c", nil), MinPaginationKey(uuid))
	require.Len(t, MaxPaginationKey(uuid).SQLValue(), 16)
	require.True(t, MaxPaginationKey(uuid).IsMax())
	require.Len(t, MaxPaginationKey(tableColumn("c", "varbinary(60000)", "")).SQLValue(), 4096)
	require.Equal(t, NewTextKeyWithColumn("c", ""), MinPaginationKey(tableColumn("c", "varchar(3)", "latin1_swedish_ci")))
}
