package integration

import (
	"context"
	"fmt"
	"strings"
	"testing"

	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// A host may allow the pools fewer connections than there are workers and lanes: they take turns,
// and what else the run asks finds a connection, too. The log says what is too few.
func TestBoundedPools(t *testing.T) {
	onSomeSettings(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, "bounded", "CREATE TABLE a (id BIGINT PRIMARY KEY, v INT)", "CREATE TABLE b (id BIGINT PRIMARY KEY, v INT, u BIGINT AS (id) STORED UNIQUE)")
		for _, table := range []string{"a", "b"} {
			p.In(t, p.SourceDB, "bounded", "INSERT INTO "+table+" (id, v) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 900) SELECT i, 0 FROM n")
		}
		logger, lines := logtest.NewNullLogger()
		ctx := minute(t)
		f := &ghostferry.Ferry{Config: p.Config("bounded")}
		f.Config.Logger = logger
		f.DataIterationConcurrency = 8
		f.UpdatableConfig.DataIterationBatchSize = 5
		if err := f.InitializeContext(ctx); err != nil {
			t.Fatal(err)
		}
		f.SourceDB.SetMaxOpenConns(4)
		f.TargetDB.SetMaxOpenConns(4)
		if err := f.StartContext(ctx); err != nil {
			t.Fatal(err)
		}
		churn := p.Churn(t, harness.ChurnOptions{}, func(_ context.Context, tx *harness.Tx) error {
			if tx.Rand.IntN(20) == 0 { // enough for all lanes, in two phases
				return tx.Exec("UPDATE bounded.b SET v=v+1")
			}
			return tx.Exec(fmt.Sprintf("UPDATE bounded.%c SET v=v+1 WHERE id=%d", 'a'+rune(tx.Rand.IntN(2)), tx.Rand.IntN(900)+1))
		})
		if err := harness.RunStarted(ctx, f, churn.Stop); err != nil {
			t.Fatal(err)
		}
		p.MustEqual(t, "bounded")
		told := map[string]bool{}
		for _, line := range lines.AllEntries() {
			if pool, _, is := strings.Cut(line.Message, " is bounded to 4 connections"); is {
				told[pool] = true
			}
		}
		if len(told) != 2 {
			t.Errorf("the log tells of %v", told)
		}
	})
}
