package integration

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// A target that folds the letters of names where the source does not: a write of somebody else is
// noticed all the same, and an orphan of the source's own is known by its parent's name there.
func TestTargetThatFoldsNames(t *testing.T) {
	t.Parallel() // with a server of its own
	s := harness.Settings[2]
	folding, err := servers.Start(t.Context(), servers.Options{Flavour: s.Flavour, Name: "folding", LowerCaseTables: true})
	require.NoError(t, err)
	t.Cleanup(func() { _ = folding.Stop() })
	plain, err := servers.Start(t.Context(), servers.Options{Flavour: s.Flavour, Name: "plain"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = plain.Stop() })
	p := &harness.Pair{Setting: s, Source: plain, Target: folding}
	p.SourceDB, err = plain.DB(t.Context())
	require.NoError(t, err)
	p.TargetDB, err = folding.DB(t.Context())
	require.NoError(t, err)
	p.Create(t, "Shop", "CREATE TABLE Customers (id INT PRIMARY KEY, v INT)",
		"CREATE TABLE Orders (id INT PRIMARY KEY, c INT, CONSTRAINT of_customer FOREIGN KEY (c) REFERENCES Customers (id))")
	p.In(t, p.SourceDB, "Shop", "INSERT INTO Customers VALUES (1,1),(2,2)", "SET foreign_key_checks=0", "INSERT INTO Orders VALUES (1,1),(2,22)")
	for _, c := range []struct {
		rewrite string // of the schema
		write   string
	}{{"", ""}, {"", "UPDATE customers SET v=9"}, {"SHOP2", "UPDATE SHOP2.Customers SET v=9"}} {
		p.In(t, p.TargetDB, "", "SET foreign_key_checks=0", "DROP DATABASE IF EXISTS _ghostferry", "DROP DATABASE IF EXISTS shop2", "CREATE DATABASE shop2", "TRUNCATE TABLE shop.customers", "TRUNCATE TABLE shop.orders",
			"CREATE TABLE shop2.customers LIKE shop.customers", "CREATE TABLE shop2.orders LIKE shop.orders")
		config := p.Config("Shop")
		if c.rewrite != "" {
			config.DatabaseRewrites = map[string]string{"Shop": c.rewrite}
		}
		f := &ghostferry.Ferry{Config: config}
		err := harness.Move(t.Context(), f, func() error {
			if c.write == "" {
				return nil
			}
			return p.TryIn(t.Context(), p.TargetDB, "shop", c.write)
		})
		require.NoError(t, f.Close())
		if c.write == "" {
			require.NoError(t, err)
			continue
		}
		foreign, noticed := errors.AsType[*ghostferry.ForeignWriteError](err)
		require.True(t, noticed, "%s: %v", c.write, err)
		require.Equal(t, "Customers", foreign.Table)
	}
}

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
