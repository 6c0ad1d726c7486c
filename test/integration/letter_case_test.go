package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// On servers that fold the letters of names (lower_case_table_names=1), changes arrive
// however an application spells the table; a filter that spells it unlike the server selects
// nothing, which is an error.
func TestNamesOfFoldedCase(t *testing.T) {
	t.Parallel() // with servers of its own
	for _, s := range flavours() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			options := servers.Options{Flavour: s.Flavour, GTID: s.GTID, LowerCaseTables: true}
			source, target, err := servers.StartPair(ctx, options, options)
			require.NoError(t, err)
			t.Cleanup(func() { _ = source.Stop(); _ = target.Stop() })
			p := &harness.Pair{Setting: s, Source: source, Target: target}
			p.SourceDB, err = source.DB(ctx)
			require.NoError(t, err)
			p.TargetDB, err = target.DB(ctx)
			require.NoError(t, err)
			p.Create(t, "Mixed", "CREATE TABLE Orders (id INT PRIMARY KEY, V INT)", "CREATE TABLE LEFT_OUT (id INT PRIMARY KEY)")
			p.In(t, p.SourceDB, "MIXED", "INSERT INTO ORDERS VALUES (1,1),(2,2),(3,3)", "INSERT INTO left_out VALUES (1)")

			var nothing *ghostferry.EmptySelectionError
			f := &ghostferry.Ferry{Config: p.Config()}
			f.Config.TableFilter = &copydb.StaticTableFilter{Dbs: []string{"Mixed"}, Tables: []string{"Orders"}}
			require.ErrorAs(t, f.InitializeContext(ctx), &nothing)

			f = &ghostferry.Ferry{Config: p.Config()}
			f.Config.TableFilter = &copydb.StaticTableFilter{Dbs: []string{"mixed"}, Tables: []string{"orders"}}
			require.NoError(t, f.InitializeContext(ctx))
			require.NoError(t, f.StartContext(ctx))
			p.In(t, p.SourceDB, "mixed", "UPDATE oRDERS SET v=v+10", "INSERT INTO Orders VALUES (9,9)", "DELETE FROM mixed.ORDERS WHERE ID=2")
			require.NoError(t, harness.RunStarted(ctx, f, func() error { return nil }))
			require.NoError(t, f.Close())
			require.Equal(t, harness.Rows(t, p.SourceDB, "SELECT * FROM mixed.orders ORDER BY id"), harness.Rows(t, p.TargetDB, "SELECT * FROM mixed.orders ORDER BY id"))
			require.Equal(t, 3, harness.Count(t, p.TargetDB, "mixed.orders"))
			require.Zero(t, harness.Count(t, p.TargetDB, "mixed.left_out"))
		})
	}
}
