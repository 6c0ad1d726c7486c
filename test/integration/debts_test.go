package integration

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// A row that others write to the target during the copy, where nobody watches for that, may
// hold a unique value that a row of the source needs. The source's row is left out then, as if
// a change still to come would write it. No change comes: the run ends with an error that names
// each such row, whether it was copied, by this process or an earlier one, or came from the log,
// and no other row is left out.
func TestRowsThatForeignRowsKeepOut(t *testing.T) {
	const schema = "kept_out"
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		for _, c := range []struct {
			name, bulkLoad string
			resumed        bool
		}{{"LOAD DATA", "", false}, {"INSERT", "off", false}, {"copied by an earlier process", "", true}} {
			t.Run(c.name, func(t *testing.T) {
				ctx := minute(t)
				p.Create(t, schema, "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, u INT NOT NULL, UNIQUE KEY u (u))")
				p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1),(2,2),(3,3),(4,4),(5,5)")
				f := settled(t, p, []string{schema}, func(f *ghostferry.Ferry) {
					f.SkipTargetVerification, f.BulkLoad, f.Config.AutomaticCutover = true, c.bulkLoad, !c.resumed
				})
				require.NoError(t, f.InitializeContext(ctx))
				var once sync.Once
				// In front of the Ferry's own listener: its rows are read and not yet written.
				f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) (err error) {
					once.Do(func() { err = p.TryIn(ctx, p.TargetDB, schema, "INSERT INTO t VALUES (100,5),(101,7)") })
					return err
				})
				require.NoError(t, f.StartContext(ctx))
				before := loads(t, p)
				if c.resumed {
					run, stop := context.WithCancel(ctx)
					f.DataIterator.AddDoneListener(func() error { stop(); return nil })
					mustBeInterrupted(t, harness.RunStarted(run, f, nil))
					require.NoError(t, f.Close())
					f = settled(t, p, []string{schema}, func(f *ghostferry.Ferry) { f.SkipTargetVerification = true })
					mustStart(t, ctx, f)
				}
				err := harness.RunStarted(ctx, f, func() error {
					return p.TryIn(ctx, p.SourceDB, schema, "INSERT INTO t VALUES (6,6),(7,7)", "UPDATE t SET u=11 WHERE id=1")
				})
				require.NoError(t, f.Close())
				require.Equal(t, c.bulkLoad == "", loads(t, p) != before, "LOAD DATA was used")

				var debt *ghostferry.DebtError
				require.ErrorAs(t, err, &debt)
				require.Equal(t, schema+".t", debt.Table)
				require.ElementsMatch(t, []string{"5", "7"}, debt.Keys)
				require.NotZero(t, debt.Coordinate.Pos)
				require.False(t, ghostferry.Resumable(err))
				require.Equal(t, []string{`"1"|"11"|`, `"2"|"2"|`, `"3"|"3"|`, `"4"|"4"|`, `"6"|"6"|`, `"100"|"5"|`, `"101"|"7"|`},
					harness.Rows(t, p.TargetDB, "SELECT id, u FROM "+schema+".t ORDER BY id"))
			})
		}
	})
}
