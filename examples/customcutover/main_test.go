package main

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/compare"
	"github.com/ghostferry-go/ghostferry/test/servers"
	"github.com/ghostferry-go/ghostferry/test/shop"
)

// testRouter stops the test's application for "block" and remembers who has the traffic.
type testRouter struct {
	writer  *shop.Writer
	refuses string // the word that fails
	onBlock func() error

	mu    sync.Mutex
	words []string
}

var errRouter = errors.New("the router does not answer")

func (r *testRouter) set(_ context.Context, word string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.words = append(r.words, word)
	if word == r.refuses {
		return errRouter
	}
	if word == "block" {
		_, err := r.writer.Stop()
		if err == nil && r.onBlock != nil {
			err = r.onBlock()
		}
		return err
	}
	return nil
}

type scene struct {
	source, target     *servers.Server
	sourceDB, targetDB *sql.DB
	router             *testRouter
}

// newScene has two servers, a shop on one of them that is written, and its empty tables on
// the other.
func newScene(t *testing.T, flavour servers.Flavour) *scene {
	t.Helper()
	ctx := t.Context()
	options := servers.Options{Flavour: flavour, GTID: true}
	s := &scene{}
	var err error
	s.source, s.target, err = servers.StartPair(ctx, options, options)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.source.Stop())
		require.NoError(t, s.target.Stop())
		goleak.VerifyNone(t)
	})
	s.sourceDB, err = s.source.DB(ctx)
	require.NoError(t, err)
	s.targetDB, err = s.target.DB(ctx)
	require.NoError(t, err)
	for _, db := range []*sql.DB{s.sourceDB, s.targetDB} {
		require.NoError(t, shop.CreateSchema(ctx, db, "shop"))
	}
	_, err = s.sourceDB.ExecContext(ctx, "CREATE TABLE shop.totals_scratch (id INT)") // has no key and does not move
	require.NoError(t, err)
	shopOptions := shop.Options{Database: "shop", Seed: 1, Rows: 3000}
	_, err = shop.Seed(ctx, s.sourceDB, shopOptions)
	require.NoError(t, err)
	s.router = &testRouter{writer: shop.NewWriter(shop.WriterConfig{DB: s.sourceDB, Shop: shopOptions, Connections: 2, Rate: 100})}
	require.NoError(t, s.router.writer.Start(ctx))
	t.Cleanup(func() { _, _ = s.router.writer.Stop() })
	return s
}

func (s *scene) config() *ghostferry.Config {
	return &ghostferry.Config{
		Source: database(s.source), Target: database(s.target),
		TableFilter: tables{schema: "shop"}, AutomaticCutover: true,
	}
}

func database(server *servers.Server) *ghostferry.DatabaseConfig {
	return &ghostferry.DatabaseConfig{Host: server.Host, Port: uint16(server.Port), User: server.User(), Pass: server.Password()}
}

// The host moves a shop that is being written; each of its own parts takes part.
func TestCustomCutover(t *testing.T) {
	for _, flavour := range []servers.Flavour{servers.MySQL, servers.MariaDB} {
		t.Run(string(flavour), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			s := newScene(t, flavour)
			m := newMove(s.config(), s.router)
			report, err := m.run(ctx)
			require.NoError(t, err)
			require.Equal(t, []string{"block", "target"}, s.router.words)
			require.Positive(t, report.rows)
			require.Positive(t, report.changes)
			require.Positive(t, report.largestBatch)
			require.Positive(t, report.blocked)
			require.Positive(t, m.throttle.looks.Load())
			require.Equal(t, len(m.ferry.Tables), m.verify.counted)
			require.Nil(t, m.ferry.Tables.Get("shop", "totals_scratch"))

			_, err = s.sourceDB.ExecContext(ctx, "DROP TABLE shop.totals_scratch")
			require.NoError(t, err)
			equal, err := compare.Compare(ctx, s.sourceDB, s.targetDB, compare.Options{Databases: map[string]string{"shop": "shop"}})
			require.NoError(t, err)
			require.True(t, equal.Equal(), equal.Differences)
		})
	}
}

// Whatever goes wrong, the source has the traffic afterwards, and the error says so.
func TestCustomCutoverGivesUp(t *testing.T) {
	s := newScene(t, servers.MariaDB)
	empty := func(t *testing.T) {
		var names []string
		rows, err := s.targetDB.QueryContext(t.Context(), "SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop'")
		require.NoError(t, err)
		for rows.Next() {
			var name string
			require.NoError(t, rows.Scan(&name))
			names = append(names, name)
		}
		require.NoError(t, rows.Err())
		for _, name := range names {
			_, err := s.targetDB.ExecContext(t.Context(), "DELETE FROM shop.`"+name+"`")
			require.NoError(t, err)
		}
		_, err = s.targetDB.ExecContext(t.Context(), "DROP SCHEMA IF EXISTS _ghostferry")
		require.NoError(t, err)
	}
	for _, c := range []struct {
		name, refuses string
		prepare       func(*move)
		words         []string
		says          string
	}{
		{"a listener fails", "", func(m *move) {
			m.onBatch = func(*ghostferry.RowBatch) error { return errors.New("the listener does not want it") }
		}, nil, "the source has the traffic"},
		{"the router cannot block", "block", func(*move) {}, []string{"block", "source"}, "the source has the traffic again"},
		{"a row is missing", "", func(*move) {
			s.router.onBlock = func() error {
				_, err := s.targetDB.Exec("DELETE FROM shop.customers ORDER BY id LIMIT 1")
				return err
			}
		}, []string{"block", "source"}, "rows on the source"},
		{"the stream cannot be stopped", "", func(m *move) {
			s.router.onBlock = func() error {
				m.ferry.CutoverFence = &ghostferry.FenceConfig{Kind: ghostferry.FenceLockTables} // which the steps refuse
				return nil
			}
		}, []string{"block", "source"}, "CutoverFence"},
		{"a fence that nobody would close", "", func(m *move) {
			m.ferry.CutoverFence = &ghostferry.FenceConfig{Kind: ghostferry.FenceLockTables}
		}, nil, "here the router stops the writes"},
		{"the router does not take the target", "target", func(*move) { s.router.onBlock = nil }, []string{"block", "target"}, "ask it who has the traffic"},
	} {
		t.Run(c.name, func(t *testing.T) {
			empty(t)
			s.router.words, s.router.refuses = nil, c.refuses
			config := s.config()
			config.SkipTargetVerification = true // or it would see the missing row first
			m := newMove(config, s.router)
			c.prepare(m)
			_, err := m.run(t.Context())
			require.ErrorContains(t, err, c.says)
			require.Equal(t, c.words, s.router.words)
			if slices.Contains(c.words, c.refuses) {
				require.ErrorIs(t, err, errRouter)
			}
		})
	}
}
