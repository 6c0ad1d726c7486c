package integration

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// F21: the next process of a run compares the definitions that the run began with: those
// that were changed while there was none, on both servers and without a word in the log,
// end it before a row is written.
func TestF21DefinitionChangedBetweenProcesses(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		for _, from := range []string{"checkpoint", "state"} {
			for _, c := range []struct{ name, change, says string }{
				{"names exchanged", "RENAME COLUMN v TO w, RENAME COLUMN w TO v", "column"},
				{"a unique index", "ADD UNIQUE INDEX by_name (name)", `unique index "by_name" is new`},
			} {
				t.Run(from+", "+c.name, func(t *testing.T) {
					r := follow(t, p)
					state := r.interrupt()
					if from == "checkpoint" {
						state = ""
					}
					p.In(t, p.SourceDB, eventSchema, "INSERT INTO moved (id,v,w) VALUES (3001,1,2)", "SET sql_log_bin=0", "ALTER TABLE moved "+c.change)
					p.In(t, p.TargetDB, eventSchema, "ALTER TABLE moved "+c.change)
					p.In(t, p.SourceDB, eventSchema, "INSERT INTO moved (id,v,w) VALUES (3002,1,2)")
					before := r.target("SELECT * FROM refused.moved ORDER BY id")
					f := r.next(state)
					err := f.InitializeContext(t.Context())
					if err == nil {
						err = f.StartContext(t.Context())
						require.NoError(t, f.Close())
					}
					var changed *ghostferry.SchemaChangedError
					require.ErrorAs(t, err, &changed)
					require.Equal(t, [2]string{eventSchema, "moved"}, [2]string{changed.Schema, changed.Table})
					require.ErrorContains(t, err, c.says)
					require.False(t, ghostferry.Resumable(err))
					require.Equal(t, before, r.target("SELECT * FROM refused.moved ORDER BY id"))
				})
			}
		}
	})
}

// F21: with binlog_row_metadata=FULL the rows name their columns, and two that have changed
// places out of the log's sight end the run at the first row after that.
func TestF21ColumnsExchangedOutOfTheLogsSight(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		before := "'MINIMAL'"
		if p.IsMariaDB() {
			before = "'NO_LOG'"
		}
		global(t, p.SourceDB, "binlog_row_metadata", "'FULL'", before)
		r := follow(t, p) // rows with names arrive
		p.In(t, p.SourceDB, eventSchema, "SET sql_log_bin=0", "ALTER TABLE moved RENAME COLUMN v TO w, RENAME COLUMN w TO v")
		p.In(t, p.SourceDB, eventSchema, "INSERT INTO moved (id,v,w) VALUES (3001,1,2)")
		r.mustRefuse(eventSchema+".moved", "a row whose column 2 is named `w` where the table had `v`")
	})
}
