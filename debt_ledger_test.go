package ghostferry

import (
	"context"
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
		present: func(_ context.Context, _ *TableSchema, key string) (target, source bool, err error) {
			return onTarget[key], key != deleted, nil
		},
	}
	at := func(pos uint64) BinlogCoordinate { return BinlogCoordinate{File: "log.1", Pos: pos} }
	require.NoError(t, ledger.add(t.Context(), table, []string{changed, seen, deleted, forgotten}))
	ledger.paid(table, changed)
	require.NoError(t, ledger.check(t.Context(), at(99), false))
	require.True(t, ledger.owes(table), "not due yet")
	onTarget[seen], end = true, 200
	require.NoError(t, ledger.check(t.Context(), at(100), false))
	require.True(t, ledger.owes(table), "one has a new bound")
	var owed *DebtError
	require.ErrorAs(t, ledger.check(t.Context(), at(150), true), &owed)
	require.Equal(t, []string{"4"}, owed.Keys)

	require.NoError(t, ledger.add(t.Context(), table, []string{seen, changed}))
	ledger.paid(table, changed)
	require.NoError(t, ledger.check(t.Context(), at(150), true))
	require.True(t, ledger.empty())
}
