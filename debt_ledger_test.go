package ghostferry

import (
	"context"
	"errors"
	"maps"
	"testing"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// A row that was left out is owed until its change is executed or the row is seen on the
// target; at the end of the stream one that is neither is an error.
func TestDebtsArePaid(t *testing.T) {
	table := &TableSchema{Table: &schema.Table{Schema: "s", Name: "t", PKColumns: []int{0}, Columns: []schema.TableColumn{{Name: "id", Type: schema.TYPE_NUMBER, RawType: "int"}}}}
	table.PaginationKeyColumn = &table.Columns[0]
	key := func(id string) string { return string(codec.AppendKeyPart(nil, []byte(id))) }
	changed, seen, deleted, forgotten := key("1"), key("2"), key("3"), key("4")
	onTarget := map[string]bool{}
	end := uint64(100)
	ledger := &debtLedger{
		logEnd: func(context.Context) (BinlogCoordinate, error) {
			return BinlogCoordinate{File: "log.1", Pos: end}, nil
		},
		unpaid: func(_ context.Context, _ *TableSchema, keys []string) (unpaid []string, err error) {
			for _, key := range keys {
				if !onTarget[key] && key != deleted {
					unpaid = append(unpaid, key)
				}
			}
			return unpaid, nil
		},
	}
	leave := func(keys ...string) {
		ledger.note(table, keys, true)
		require.NoError(t, ledger.bind(t.Context(), table, keys))
	}
	at := func(pos uint64) BinlogCoordinate { return BinlogCoordinate{File: "log.1", Pos: pos} }
	leave(changed, seen, deleted, forgotten)
	ledger.paid(table, changed)
	require.NoError(t, ledger.check(t.Context(), at(99), false))
	require.True(t, ledger.owes(table), "not due yet")
	onTarget[seen], end = true, 200
	require.NoError(t, ledger.check(t.Context(), at(100), false))
	require.True(t, ledger.owes(table), "one has a new bound")
	ledger.keptOut = func(_ context.Context, _ *TableSchema, keys []string) []KeptOutRow {
		require.Equal(t, []string{forgotten}, keys)
		return []KeptOutRow{{Key: "4", Holder: "5", Index: "u"}}
	}
	var owed *DebtError
	require.ErrorAs(t, ledger.check(t.Context(), at(150), true), &owed)
	require.Equal(t, []string{"4"}, owed.Keys)
	require.Contains(t, owed.Error(), "keys 4; row 4 is kept out by row 5, unique index u: other rows of the target")

	require.Equal(t, []string{forgotten}, ledger.all()[table], "it is still owed")

	// What is on the record is struck by the batch that executes a change of it, or behind the look.
	require.Equal(t, []string{seen, deleted}, ledger.settledKeys()[table])
	executed := maps.All(map[*TableSchema]string{table: forgotten})
	require.Equal(t, []string{seen, deleted, forgotten}, ledger.struckBy(executed, nil)[table])
	left := map[*TableSchema][]string{table: {seen, forgotten}}
	require.Equal(t, []string{deleted}, ledger.struckBy(executed, left)[table], "what is left out again stays")
	ledger.struck()
	require.Empty(t, ledger.settledKeys())
	ledger.paid(table, forgotten)
	require.Empty(t, ledger.struckBy(executed, nil))

	// The log's end cannot be told: the debt is kept all the same, and is due at once.
	ended := errors.New("the source has ended")
	ledger.logEnd = func(context.Context) (BinlogCoordinate, error) { return BinlogCoordinate{}, ended }
	ledger.note(table, []string{forgotten}, false)
	require.ErrorIs(t, ledger.bind(t.Context(), table, []string{forgotten}), ended)
	require.ErrorIs(t, ledger.check(t.Context(), at(1), false), ended)
	require.Equal(t, []string{forgotten}, ledger.all()[table])
	ledger.paid(table, forgotten)
	require.Empty(t, ledger.struckBy(executed, nil), "it was not on the record")

	ledger.logEnd = func(context.Context) (BinlogCoordinate, error) { return at(end), nil }
	leave(seen, changed)
	ledger.paid(table, changed)
	require.NoError(t, ledger.check(t.Context(), at(150), true))
	require.True(t, ledger.empty())
}
