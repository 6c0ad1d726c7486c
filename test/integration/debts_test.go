package integration

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// keptOut is a table of which rows of others on the target keep two out: 5, which is copied, and 7,
// which comes from the log.
const keptOut = "kept_out"

// keepOut makes the table, and a Ferry that moves it. Others write to the target while the rows of
// the first Ferry are read and not yet written.
func keepOut(t *testing.T, p *harness.Pair, change func(*ghostferry.Ferry)) (first *ghostferry.Ferry) {
	p.Create(t, keptOut, "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, u INT NOT NULL, UNIQUE KEY u (u))")
	p.In(t, p.SourceDB, keptOut, "INSERT INTO t VALUES (1,1),(2,2),(3,3),(4,4),(5,5)")
	f := settled(t, p, []string{keptOut}, change)
	require.NoError(t, f.InitializeContext(t.Context()))
	var once sync.Once
	// In front of the Ferry's own listener.
	f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) (err error) {
		once.Do(func() { err = p.TryIn(t.Context(), p.TargetDB, keptOut, "INSERT INTO t VALUES (100,5),(101,7)") })
		return err
	})
	require.NoError(t, f.StartContext(t.Context()))
	return f
}

// changeKeptOut makes the changes of the log.
func changeKeptOut(ctx context.Context, p *harness.Pair) error {
	return p.TryIn(ctx, p.SourceDB, keptOut, "INSERT INTO t VALUES (6,6),(7,7)", "UPDATE t SET u=11 WHERE id=1")
}

// mustOwe judges the end of a run that has left both rows out.
func mustOwe(t *testing.T, p *harness.Pair, err error) {
	t.Helper()
	var debt *ghostferry.DebtError
	require.ErrorAs(t, err, &debt)
	require.Equal(t, keptOut+".t", debt.Table)
	require.ElementsMatch(t, []string{"5", "7"}, debt.Keys)
	require.ElementsMatch(t, []ghostferry.KeptOutRow{{Key: "5", Holder: "100", Index: "u"}, {Key: "7", Holder: "101", Index: "u"}}, debt.KeptOut)
	require.ErrorContains(t, err, "row 5 is kept out by row 100, unique index u")
	require.NotZero(t, debt.Coordinate.Pos)
	require.False(t, ghostferry.Resumable(err))
	require.Equal(t, []string{`"1"|"11"|`, `"2"|"2"|`, `"3"|"3"|`, `"4"|"4"|`, `"6"|"6"|`, `"100"|"5"|`, `"101"|"7"|`},
		harness.Rows(t, p.TargetDB, "SELECT id, u FROM "+keptOut+".t ORDER BY id"))
}

// A row that others write to the target during the copy, where nobody watches for that, may
// hold a unique value that a row of the source needs. The source's row is left out then, as if
// a change still to come would write it. No change comes: the run ends with an error that names
// each such row, whether it was copied, by this process or an earlier one, or came from the log,
// and no other row is left out.
func TestRowsThatForeignRowsKeepOut(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		for _, c := range []struct {
			name, bulkLoad string
			resumed        bool
		}{{"LOAD DATA", "", false}, {"INSERT", "off", false}, {"copied by an earlier process", "", true}} {
			t.Run(c.name, func(t *testing.T) {
				ctx := minute(t)
				before := loads(t, p)
				logger, lines := logtest.NewNullLogger()
				f := keepOut(t, p, func(f *ghostferry.Ferry) {
					f.SkipTargetVerification, f.BulkLoad, f.Config.AutomaticCutover = true, c.bulkLoad, !c.resumed
				})
				if c.resumed {
					run, stop := context.WithCancel(ctx)
					f.DataIterator.AddDoneListener(func() error { stop(); return nil })
					mustBeInterrupted(t, harness.RunStarted(run, f, nil))
					require.NoError(t, f.Close())
					p.In(t, p.TargetDB, "_ghostferry", "DROP TABLE debts") // the process was of an earlier version
					f = settled(t, p, []string{keptOut}, func(f *ghostferry.Ferry) { f.SkipTargetVerification, f.Config.Logger = true, logger })
					mustStart(t, ctx, f)
				}
				err := harness.RunStarted(ctx, f, func() error { return changeKeptOut(ctx, p) })
				require.NoError(t, f.Close())
				require.Equal(t, c.bulkLoad == "", loads(t, p) != before, "LOAD DATA was used")
				mustOwe(t, p, err)
				warned := slices.ContainsFunc(lines.AllEntries(), func(line *logrus.Entry) bool {
					return strings.Contains(line.Message, "should one be missing of "+keptOut+".t, nobody notices: set VerifierType")
				})
				require.Equal(t, c.resumed, warned)
			})
		}
		t.Run("by an earlier process", func(t *testing.T) { mustStayOwed(t, p, func(*ghostferry.Ferry) {}) })
		t.Run("by an earlier process, whose state is stored", func(t *testing.T) {
			store, processes := ghostferry.FileCheckpointStore{Directory: t.TempDir()}, 0
			mustStayOwed(t, p, func(f *ghostferry.Ferry) {
				f.CheckpointStore = store
				if processes++; processes < 3 { // the third begins a checkpoint from the state
					f.Checkpoint = "off"
				}
			})
		})
	})
}

// mustStayOwed leaves rows out in a first process, which is interrupted when its position is behind
// them. They stay owed whichever process is asked, until they are there.
func mustStayOwed(t *testing.T, p *harness.Pair, change func(*ghostferry.Ferry)) {
	ctx := minute(t)
	unwatched := func(f *ghostferry.Ferry) {
		f.SkipTargetVerification = true
		change(f)
	}
	f := keepOut(t, p, func(f *ghostferry.Ferry) {
		unwatched(f)
		f.Config.AutomaticCutover = false
	})
	interrupt(t, ctx, f, func() {
		awaitRows(t, p.TargetDB, keptOut+".t", 6, f)
		require.NoError(t, changeKeptOut(ctx, p))
		harness.Await(t, "the changes are on the target", func() bool {
			return len(harness.Rows(t, p.TargetDB, "SELECT 1 FROM "+keptOut+".t WHERE id=1 AND u=11")) == 1
		})
	})
	require.NoError(t, f.Close())

	again := func() error {
		f := settled(t, p, []string{keptOut}, unwatched)
		mustStart(t, ctx, f)
		require.True(t, f.Resuming())
		err := harness.RunStarted(ctx, f, func() error { return nil })
		require.NoError(t, f.Close())
		return err
	}
	mustOwe(t, p, again())
	mustOwe(t, p, again())
	recorded := 1 // the copied one is with its chunk
	if f.CheckpointStore != nil {
		recorded = 2
	}
	owed := func() int { return harness.Count(t, p.TargetDB, "_ghostferry.debts WHERE table_number<>0") }
	require.Equal(t, recorded, owed())
	p.In(t, p.TargetDB, keptOut, "DELETE FROM t WHERE id>=100", "INSERT INTO t VALUES (5,5),(7,7)")
	require.NoError(t, again())
	p.MustEqual(t, keptOut)
	require.Zero(t, owed())
}
