package ghostferry

import (
	"encoding/json"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/stretchr/testify/require"
)

func TestStateSurvivesJSON(t *testing.T) {
	table := &TableSchema{Table: &schema.Table{Schema: "s", Name: "t"}}
	table.AddColumn("id", "bigint", "", "auto_increment")
	table.PaginationKeyColumn = &table.Columns[0]
	state := &SerializableState{
		StateFormatVersion: 1,
		LastSuccessfulPaginationKeys: map[string]PaginationKey{
			"s.t": NewUint64KeyWithColumn("id", 7),
			"s.u": NewCompositeKey(NewInt64Key(-1), NewBinaryKey([]byte{1})),
		},
		CopiedRanges: map[string][]CopiedRange{"s.t": {
			{After: NewUint64KeyWithColumn("id", 20), UpTo: NewUint64KeyWithColumn("id", 30)},
		}},
		RowsCopied:                                map[string]uint64{"s.t": 17, "s.v": 3},
		GhostferryVersion:                         "1",
		LastKnownTableSchemaCache:                 TableSchemaCache{"s.t": table},
		CompletedTables:                           map[string]bool{"s.v": true},
		LastWrittenBinlogPosition:                 mysql.Position{Name: "b.000003", Pos: 4},
		BinlogVerifyStore:                         BinlogVerifySerializedStore{"s": {"t": {"1": 2}}},
		LastStoredBinlogPositionForTargetVerifier: mysql.Position{Name: "t.000001", Pos: 9},
	}
	text, err := json.Marshal(state)
	require.NoError(t, err)

	var read SerializableState
	require.NoError(t, json.Unmarshal(text, &read))
	again, err := json.Marshal(&read)
	require.NoError(t, err)
	require.JSONEq(t, string(text), string(again))
	require.Equal(t, state.LastSuccessfulPaginationKeys, read.LastSuccessfulPaginationKeys)
	require.Equal(t, state.CopiedRanges, read.CopiedRanges)
	require.Equal(t, state.RowsCopied, read.RowsCopied)
	require.Equal(t, "id", read.LastKnownTableSchemaCache["s.t"].PaginationKeyColumn.Name)
}

// A dump as upstream 1.3.1 writes it, and one from before keys had types.
func TestStateReadsOlderForms(t *testing.T) {
	var state SerializableState
	require.NoError(t, json.Unmarshal([]byte(`{
		"LastSuccessfulPaginationKeys": {"s.t": {"type": "binary", "value": "00ff", "column": "u"}, "s.u": 12, "s.v": null},
		"GhostferryVersion": "1.3.1+20260415000000+abcdef0",
		"LastKnownTableSchemaCache": null,
		"CompletedTables": null,
		"LastWrittenBinlogPosition": {"Name": "mysql-bin.000003", "Pos": 1234},
		"BinlogVerifyStore": null,
		"LastStoredBinlogPositionForInlineVerifier": {"Name": "", "Pos": 0},
		"LastStoredBinlogPositionForTargetVerifier": {"Name": "", "Pos": 0}}`), &state))

	require.Equal(t, map[string]PaginationKey{
		"s.t": NewBinaryKeyWithColumn("u", []byte{0, 0xFF}), "s.u": NewUint64Key(12),
	}, state.LastSuccessfulPaginationKeys)
	require.NotNil(t, state.CompletedTables)
	require.Zero(t, state.StateFormatVersion)
	require.Equal(t, mysql.Position{Name: "mysql-bin.000003", Pos: 1234}, state.MinSourceBinlogPosition())

	config := validConfig()
	config.StateToResumeFrom = &state
	require.NoError(t, config.ValidateConfig())

	err := json.Unmarshal([]byte(`{"LastSuccessfulPaginationKeys": {"a.b": {"type": "x"}, "c.d": true}}`), &state)
	require.ErrorContains(t, err, "key of table a.b: unknown key type: x")
	require.ErrorContains(t, err, "key of table c.d")
}

func TestMinSourceBinlogPosition(t *testing.T) {
	early, late := mysql.Position{Name: "b.000009", Pos: 900}, mysql.Position{Name: "b.000010", Pos: 4}
	for _, test := range []struct{ writer, verifier, min mysql.Position }{
		{early, late, early}, {late, early, early}, {early, early, early},
		{early, mysql.Position{}, early}, {mysql.Position{}, late, late}, {mysql.Position{}, mysql.Position{}, mysql.Position{}},
	} {
		state := SerializableState{LastWrittenBinlogPosition: test.writer, LastStoredBinlogPositionForInlineVerifier: test.verifier}
		require.Equal(t, test.min, state.MinSourceBinlogPosition())
	}
}

func TestBinlogVerifySerializedStore(t *testing.T) {
	store := BinlogVerifySerializedStore{"s": {"t": {"1": 2, "2": 1}, "u": {"1": 1}}}
	require.Equal(t, uint64(4), store.RowCount())
	require.Equal(t, uint64(3), store.EntriesCount())
	copied := store.Copy()
	copied["s"]["t"]["1"] = 9
	require.Equal(t, 2, store["s"]["t"]["1"])
	require.NotNil(t, BinlogVerifySerializedStore(nil).Copy())
}
