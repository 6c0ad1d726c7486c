package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

const selectionSchema = "selection"

// resumed initialises and starts a Ferry that has to go on from an earlier run; the error is
// Start's.
func resumed(t *testing.T, f *ghostferry.Ferry) error {
	t.Helper()
	require.NoError(t, f.InitializeContext(t.Context()))
	require.True(t, f.Resuming())
	err := f.StartContext(t.Context())
	require.NoError(t, f.Close())
	return err
}

// A run of rows that code of the host's chooses is not taken for one of other rows of the same
// tables: the id that is made of the configuration is the same.
func TestOtherRowsOfTheHostsFilter(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		for _, kept := range []string{"checkpoint", "store"} {
			t.Run(kept, func(t *testing.T) {
				p.Create(t, selectionSchema, "CREATE TABLE t (id INT PRIMARY KEY, tenant INT NOT NULL)")
				p.In(t, p.SourceDB, selectionSchema, "INSERT INTO t VALUES (1,1),(2,1),(3,2)")
				store := ghostferry.FileCheckpointStore{Directory: t.TempDir()}
				ferry := func(tenant uint64, runID string) *ghostferry.Ferry {
					c := p.Config(selectionSchema)
					c.VerifierType, c.CopyFilter, c.RunID = ghostferry.VerifierTypeNoVerification, ofTenant{tenant}, runID
					if kept == "store" {
						c.Checkpoint, c.CheckpointStore = "off", store
					}
					return &ghostferry.Ferry{Config: c}
				}
				move := func(f *ghostferry.Ferry) {
					t.Helper()
					require.NoError(t, harness.Move(minute(t), f, func() error { return nil }))
					require.NoError(t, f.Close())
				}

				first := ferry(1, "")
				move(first)
				var fault *ghostferry.ConfigError
				require.ErrorAs(t, resumed(t, ferry(2, "")), &fault)
				require.Equal(t, "RunID", fault.Field)
				require.Contains(t, fault.Remedy, first.CheckpointRunID())

				move(ferry(2, "tenant-2"))
				require.Equal(t, 3, harness.Count(t, p.TargetDB, selectionSchema+".t"))
				require.NoError(t, resumed(t, ferry(1, first.CheckpointRunID())), "the recorded run goes on by its id")
			})
		}
	})
}

// A state is that of one target: another one is refused, and one that lacks the rows is filled,
// whatever the state says. A run that is repeated after its end compares everything.
func TestStateOfAnotherTarget(t *testing.T) {
	p, other := harness.Shared(t, harness.Settings[0]), harness.Shared(t, harness.Settings[1])
	for _, pair := range []*harness.Pair{other, p} {
		pair.Create(t, selectionSchema, "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE void (id INT PRIMARY KEY)")
	}
	p.In(t, p.SourceDB, selectionSchema, "INSERT INTO t VALUES (1,1),(2,2),(3,3)")
	store := ghostferry.FileCheckpointStore{Directory: t.TempDir()}
	ferry := func(to *harness.Pair) *ghostferry.Ferry {
		c := p.Config(selectionSchema)
		c.Target = to.Config().Target
		c.Checkpoint, c.CheckpointStore, c.SkipTargetVerification = "off", store, true
		return &ghostferry.Ferry{Config: c}
	}
	nothing := func() error { return nil }
	first := ferry(p)
	require.NoError(t, harness.Move(minute(t), first, nothing))
	require.NoError(t, first.Close())
	id := first.CheckpointRunID()

	var changed *ghostferry.TargetChangedError
	err := resumed(t, ferry(other))
	require.ErrorAs(t, err, &changed)
	require.NotEqual(t, changed.Was, changed.Is)
	require.True(t, ghostferry.Resumable(err))

	// One of an earlier version does not tell of its target, and has what was compared.
	state, err := store.LoadState(t.Context(), id)
	require.NoError(t, err)
	require.Nil(t, state.Verification)
	state.TargetIdentity = ""
	state.Verification = &ghostferry.VerificationState{
		VerifierType: ghostferry.VerifierTypeOnline, Tables: map[string]*ghostferry.TableVerificationState{selectionSchema + ".t": {Rows: 3, Chunks: 1}},
	}
	require.NoError(t, store.SaveState(t.Context(), id, state))
	second := ferry(other)
	require.NoError(t, harness.Move(minute(t), second, nothing))
	require.NoError(t, second.Close())
	require.Equal(t, harness.Rows(t, p.SourceDB, "SELECT * FROM selection.t ORDER BY id"), harness.Rows(t, other.TargetDB, "SELECT * FROM selection.t ORDER BY id"))

	other.In(t, other.TargetDB, selectionSchema, "UPDATE t SET v=0 WHERE id=2")
	again := ferry(other)
	require.ErrorContains(t, harness.Move(minute(t), again, nothing), "selection.t")
	require.NoError(t, again.Close())
}

// A run with an id of its own goes on with the selection that it began with only: what happened to
// a table while it was left out would be missing, and so would rows that its filter did not choose.
func TestRunGoesOnWithItsSelection(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		for _, kept := range []string{"checkpoint", "store"} {
			t.Run(kept, func(t *testing.T) { goOnWithSelection(t, p, kept == "store") })
		}
	})
}

func goOnWithSelection(t *testing.T, p *harness.Pair, stored bool) {
	p.Create(t, selectionSchema, "CREATE TABLE a (id INT PRIMARY KEY, owner INT NOT NULL)", "CREATE TABLE b LIKE a", "CREATE TABLE c LIKE a", "CREATE TABLE z LIKE a")
	for _, name := range []string{"a", "b", "c"} {
		p.In(t, p.SourceDB, selectionSchema, "INSERT INTO "+name+" VALUES (1,1),(2,1),(3,2)")
	}
	store := ghostferry.FileCheckpointStore{Directory: t.TempDir()}
	ferry := func(change func(*ghostferry.Config)) *ghostferry.Ferry {
		c := p.Config(selectionSchema)
		c.RunID, c.TableFilter, c.SkipTargetVerification = "one run", tables{selectionSchema, []string{"a", "b"}}, true
		c.CopyFilter = &ghostferry.RowFilter{Where: ghostferry.RowCondition{"owner": {1}}}
		if stored {
			c.Checkpoint, c.CheckpointStore, c.DoNotIncludeSchemaCacheInStateDump = "off", store, true
		}
		if change != nil {
			change(c)
		}
		return &ghostferry.Ferry{Config: c}
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	first := ferry(func(c *ghostferry.Config) { c.AutomaticCutover = false })
	mustStart(t, ctx, first)
	ran := make(chan error, 1)
	go func() { ran <- first.RunContext(ctx) }()
	awaitRows(t, p.TargetDB, selectionSchema+".b", 2, first)
	stop()
	mustBeInterrupted(t, <-ran)

	wider := func(c *ghostferry.Config) {
		c.CopyFilter = &ghostferry.RowFilter{Where: ghostferry.RowCondition{"owner": {1, 2}}}
	}
	for _, c := range []struct {
		name, table, says string
		change            func(*ghostferry.Config)
	}{
		{"a table less", "b", "not selected any more", func(c *ghostferry.Config) { c.TableFilter = tables{selectionSchema, []string{"a"}} }},
		{"more rows", "a", "`owner` IN (1,2)", wider},
		{"all rows", "a", `are "all"`, func(c *ghostferry.Config) { c.CopyFilter = nil }},
		{"another name", "b", "`selection`.`z`", func(c *ghostferry.Config) { c.TableRewrites = map[string]string{"b": "z"} }},
	} {
		var changed *ghostferry.SelectionChangedError
		err := resumed(t, ferry(c.change))
		require.ErrorAs(t, err, &changed, c.name)
		require.Equal(t, c.table, changed.Table, c.name)
		require.ErrorContains(t, err, c.says)
		require.ErrorContains(t, err, "one run")
		require.True(t, ghostferry.Resumable(err))
	}

	// A table more is copied as a whole, into an empty table.
	more := func(c *ghostferry.Config) { c.TableFilter = tables{selectionSchema, []string{"a", "b", "c"}} }
	p.In(t, p.TargetDB, selectionSchema, "INSERT INTO c VALUES (9,1)")
	var finding *ghostferry.PreflightFindingError
	refused := ferry(more)
	require.ErrorAs(t, refused.InitializeContext(t.Context()), &finding)
	require.Equal(t, [2]string{"target-rows.rows", selectionSchema + ".c"}, [2]string{finding.Finding.Code, finding.Finding.Subject})
	p.In(t, p.TargetDB, selectionSchema, "TRUNCATE TABLE c")

	if !stored { // what an earlier version has recorded says nothing of rows and names
		p.In(t, p.TargetDB, "_ghostferry", "UPDATE definitions SET definition=SUBSTRING_INDEX(definition, 'the rows\\t', 1)")
		require.NoError(t, resumed(t, ferry(wider)))
	}
	p.In(t, p.SourceDB, selectionSchema, "INSERT INTO b VALUES (4,1)")
	last := ferry(more)
	require.NoError(t, harness.Move(minute(t), last, func() error { return nil }))
	require.NoError(t, last.Close())
	for table, rows := range map[string]int{"a": 2, "b": 3, "c": 2} {
		require.Equal(t, rows, harness.Count(t, p.TargetDB, selectionSchema+"."+table), table)
	}
}
