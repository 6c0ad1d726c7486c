package main

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/compare"
	"github.com/ghostferry-go/ghostferry/test/servers"
	application "github.com/ghostferry-go/ghostferry/test/shop"
)

// The program moves a shop that is being written, on both kinds of servers.
func TestQuickstart(t *testing.T) {
	for _, flavour := range []servers.Flavour{servers.MySQL, servers.MariaDB} {
		t.Run(string(flavour), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			options := servers.Options{Flavour: flavour, GTID: true}
			source, target, err := servers.StartPair(ctx, options, options)
			require.NoError(t, err)
			t.Cleanup(func() {
				require.NoError(t, source.Stop())
				require.NoError(t, target.Stop())
			})
			sourceDB, err := source.DB(ctx)
			require.NoError(t, err)
			targetDB, err := target.DB(ctx)
			require.NoError(t, err)
			shopOptions := application.Options{Database: "shop", Seed: 1, Rows: 5000}
			require.NoError(t, application.CreateSchema(ctx, sourceDB, "shop"))
			require.NoError(t, application.CreateSchema(ctx, targetDB, "shop"))
			_, err = application.Seed(ctx, sourceDB, shopOptions)
			require.NoError(t, err)
			writer := application.NewWriter(application.WriterConfig{DB: sourceDB, Shop: shopOptions, Connections: 4, Rate: 200})
			require.NoError(t, writer.Start(ctx))

			require.NoError(t, move(ctx, &ghostferry.Config{
				Source: database(source), Target: database(target), TableFilter: shop{},
				VerifierType: ghostferry.VerifierTypeOnline, AutomaticCutover: true,
			}, ghostferry.CutoverHooks{Fence: func(context.Context) error {
				_, err := writer.Stop()
				return err
			}}))

			report, err := compare.Compare(ctx, sourceDB, targetDB, compare.Options{Databases: map[string]string{"shop": "shop"}})
			require.NoError(t, err)
			require.True(t, report.Equal(), report.Differences)
		})
	}
}

var errStays = errors.New("the application goes on")

// A hook that fails ends the move; what Cutover says is not lost where the run has failed before it.
func TestQuickstartGivesUp(t *testing.T) {
	options := servers.Options{Flavour: servers.MariaDB}
	source, target, err := servers.StartPair(t.Context(), options, options)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, source.Stop())
		require.NoError(t, target.Stop())
	})
	var targetDB *sql.DB
	for _, server := range []*servers.Server{source, target} {
		targetDB, err = server.DB(t.Context())
		require.NoError(t, err)
		require.NoError(t, application.CreateSchema(t.Context(), targetDB, "shop"))
	}
	give := func(hooks ghostferry.CutoverHooks) error {
		return move(t.Context(), &ghostferry.Config{
			Source: database(source), Target: database(target), TableFilter: shop{}, AutomaticCutover: true,
			VerifierType: ghostferry.VerifierTypeOnline,
		}, hooks)
	}
	require.ErrorIs(t, give(ghostferry.CutoverHooks{Fence: func(context.Context) error { return errStays }}), errStays)

	err = give(ghostferry.CutoverHooks{
		Fence: func(ctx context.Context) error {
			_, err := targetDB.ExecContext(ctx, "INSERT INTO shop.customers (email, name, country) VALUES ('x', 'by somebody else', 'de')")
			return err
		},
		Fenced:  func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, // until the run has failed by that row
		Unfence: func(context.Context) error { return errStays },
	})
	failure, ok := errors.AsType[*ghostferry.CutoverError](err)
	require.True(t, ok, "%v", err)
	require.True(t, failure.Blocked, "%v", err)
	require.ErrorIs(t, err, errStays)
}

func database(s *servers.Server) *ghostferry.DatabaseConfig {
	return &ghostferry.DatabaseConfig{Host: s.Host, Port: uint16(s.Port), User: s.User(), Pass: s.Password()}
}
