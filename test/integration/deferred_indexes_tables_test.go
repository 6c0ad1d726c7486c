package integration

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/internal/faultproxy"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

var addsToTable = regexp.MustCompile("ALTER TABLE `" + indexed + "`\\.`(\\w+)` ADD ")

// The indexes of several tables are created at once: here two statements wait for each other.
// All indexes of a table are created by one statement, which reads its rows once.
func TestIndexesOfTablesAreCreatedAtOnce(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minute(t)
		var tables []indexedTable
		var ddl, rows []string
		want := map[string]int{}
		for _, name := range []string{"one", "two", "three", "four"} {
			tables = append(tables, indexedTable{name: name})
			ddl = append(ddl, "CREATE TABLE "+name+" (id INT NOT NULL PRIMARY KEY, x INT, y INT, KEY x (x), KEY yx (y, x), KEY y (y))")
			rows = append(rows, "INSERT INTO "+name+" VALUES (1,1,1),(2,2,2)")
			want[name] = 1
		}
		p.Create(t, indexed, ddl...)
		p.In(t, p.SourceDB, indexed, rows...)
		before := definitions(t, p.TargetDB, tables)

		f, proxy := proxiedTarget(t, p, indexed)
		f.DataIterationConcurrency = len(tables)
		patience, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		var mu sync.Mutex
		got := map[string]int{}
		statements, second := 0, make(chan struct{})
		var alone atomic.Bool
		adds := faultproxy.Query("^ALTER TABLE .* ADD ")
		proxy.On(faultproxy.Rule{Do: faultproxy.Delay, Match: func(m faultproxy.Message) bool {
			if !adds(m) {
				return false
			}
			mu.Lock()
			statements++
			if table := addsToTable.FindSubmatch(m.Text); table != nil {
				got[string(table[1])]++
			}
			waits := statements <= 2
			if statements == 2 {
				close(second)
			}
			mu.Unlock()
			if waits {
				select {
				case <-second:
				case <-patience.Done():
					alone.Store(true)
				}
			}
			return false
		}})
		require.NoError(t, harness.Move(ctx, f, func() error { return nil }))
		require.NoError(t, f.Close())
		require.False(t, alone.Load(), "the indexes of one table were created after those of another one")
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, want, got)
		require.Equal(t, len(tables), statements)
		require.Equal(t, before, definitions(t, p.TargetDB, tables))
		p.MustEqual(t, indexed)
	})
}

// Tables below DeferSecondaryIndexesMinBytes keep their indexes. Of the others, from exactly
// that size on, the plan says so and the target lacks them while rows are copied.
func TestSmallTablesKeepTheirIndexes(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minute(t)
		tables := []indexedTable{{name: "small"}, {name: "large"}}
		// Sizes are estimates, which must not change between two looks.
		const columns = "(id INT NOT NULL PRIMARY KEY, x INT, pad VARCHAR(1000), KEY x (x), UNIQUE KEY xi (x, id)) STATS_PERSISTENT=1 STATS_AUTO_RECALC=0"
		p.Create(t, indexed, "CREATE TABLE small "+columns, "CREATE TABLE large "+columns)
		p.In(t, p.SourceDB, indexed, "INSERT INTO small VALUES (1,1,'pad'),(2,2,'pad')",
			"INSERT INTO large SELECT a.n*100+b.n*10+c.n, a.n, REPEAT('p', 1000) FROM "+digits("a")+" JOIN "+digits("b")+" JOIN "+digits("c"),
			"ANALYZE TABLE small, large")
		before := definitions(t, p.TargetDB, tables)

		f := &ghostferry.Ferry{Config: p.Config(indexed)}
		f.DeferSecondaryIndexes = ghostferry.DeferIndexesAll
		planned := func() (bytes map[string]uint64, deferred map[string][]string) {
			t.Helper()
			plan, err := f.Plan(ctx)
			require.NoError(t, err)
			bytes, deferred = map[string]uint64{}, map[string][]string{}
			for _, table := range plan.Tables {
				bytes[table.Table], deferred[table.Table] = table.Bytes, table.DeferredIndexes
			}
			return bytes, deferred
		}
		bytes, deferred := planned()
		require.Greater(t, bytes["large"], bytes["small"])
		require.Len(t, deferred["small"], 2, "without a limit")
		f.DeferSecondaryIndexesMinBytes = bytes["large"]
		_, deferred = planned()
		require.Empty(t, deferred["small"])
		require.ElementsMatch(t, []string{"x", "xi"}, deferred["large"])

		require.NoError(t, f.InitializeContext(ctx))
		require.NoError(t, f.StartContext(ctx))
		var once sync.Once
		var during string
		f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error {
			once.Do(func() {
				during = fmt.Sprint(indexNames(t, p.TargetDB, "small"), indexNames(t, p.TargetDB, "large"))
			})
			return nil
		})
		require.NoError(t, harness.RunStarted(ctx, f, func() error { return nil }))
		require.NoError(t, f.Close())
		require.Equal(t, fmt.Sprint([]string{`"PRIMARY"|`, `"x"|`, `"xi"|`}, []string{`"PRIMARY"|`}), during)
		require.Equal(t, before, definitions(t, p.TargetDB, tables))
		p.MustEqual(t, indexed)
	})
}

// A target's table that was made by hand is judged by its own definition: what finds rows by the
// key stays under any name, and so does what its own AUTO_INCREMENT needs. What the server refuses
// to drop stays, too, and the run goes on.
func TestIndexesOfTargetsMadeByHand(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		ctx := minute(t)
		const ddl, byHand = "CREATE TABLE t (tenant INT NOT NULL, id INT NOT NULL, n INT NOT NULL, x INT, PRIMARY KEY (tenant, id), ",
			"UNIQUE KEY u (x, id), KEY x (x))"
		p.Create(t, indexed, ddl+"UNIQUE KEY id (id), "+byHand, "CREATE TABLE refused (id INT NOT NULL PRIMARY KEY, x INT, KEY x (x))")
		p.In(t, p.SourceDB, indexed, "INSERT INTO t VALUES (1,1,1,1),(1,2,2,2),(2,3,3,3)", "INSERT INTO refused VALUES (1,1)")
		p.In(t, p.TargetDB, indexed, "DROP TABLE t", strings.Replace(ddl, "n INT NOT NULL", "n INT NOT NULL AUTO_INCREMENT", 1)+"KEY n (n), UNIQUE KEY uq (id), "+byHand)
		tables := []indexedTable{{name: "t"}, {name: "refused"}}
		before := definitions(t, p.TargetDB, tables)

		f, proxy := proxiedTarget(t, p, indexed)
		f.CascadingPaginationColumnConfig = &ghostferry.CascadingPaginationColumnConfig{PerTable: map[string]map[string]string{indexed: {"t": "id"}}}
		log := &recordingLogger{}
		f.Logger = log.logger()
		refused := proxy.On(faultproxy.Rule{Match: faultproxy.Query("^ALTER TABLE .*`refused`.*DROP KEY"), Do: faultproxy.Refuse, Error: 1845, Times: 1})
		require.NoError(t, f.InitializeContext(ctx))
		require.NoError(t, f.StartContext(ctx))
		var during string
		var once sync.Once
		f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error {
			once.Do(func() {
				during = fmt.Sprint(indexNames(t, p.TargetDB, "t"), indexNames(t, p.TargetDB, "refused"))
			})
			return nil
		})
		require.NoError(t, harness.RunStarted(ctx, f, func() error { return nil }))
		require.NoError(t, f.Close())
		require.Equal(t, 1, refused.Taken())
		require.Equal(t, 1, log.count("its indexes stay while rows are copied"))
		require.Equal(t, fmt.Sprint([]string{`"n"|`, `"PRIMARY"|`, `"uq"|`}, []string{`"PRIMARY"|`, `"x"|`}), during)
		require.Equal(t, before, definitions(t, p.TargetDB, tables))
		require.Equal(t, []string{`"0"|`}, harness.Rows(t, p.TargetDB, "SELECT COUNT(*) FROM _ghostferry.deferred_indexes"))
		const rows = "SELECT * FROM " + indexed + ".t ORDER BY id"
		require.Equal(t, harness.Rows(t, p.SourceDB, rows), harness.Rows(t, p.TargetDB, rows))
	})
}

// Indexes whose creation takes longer than a connection's ReadTimeout are created by one statement.
func TestIndexesTakeLongerThanTheReadTimeout(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minute(t)
		p.Create(t, indexed, "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, x INT, KEY x (x))")
		p.In(t, p.SourceDB, indexed, "INSERT INTO t VALUES (1,1),(2,2)")
		tables := []indexedTable{{name: "t"}}
		before := definitions(t, p.TargetDB, tables)
		f, proxy := proxiedTarget(t, p, indexed)
		f.Target.ReadTimeout = 2
		slow := proxy.On(faultproxy.Rule{Match: faultproxy.Query("^ALTER TABLE .* ADD "), Do: faultproxy.Delay, Wait: 5 * time.Second, Times: 10})
		require.NoError(t, harness.Move(ctx, f, func() error { return nil }))
		require.NoError(t, f.Close())
		require.Equal(t, 1, slow.Taken())
		require.Equal(t, before, definitions(t, p.TargetDB, tables))
		p.MustEqual(t, indexed)
	})
}

// A run that verifies by an index which the process before has dropped reads without it until it is
// created.
func TestInlineVerificationByAnOwedIndex(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minute(t)
		p.Create(t, indexed, "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, x INT, KEY x (x))")
		p.In(t, p.SourceDB, indexed, "INSERT INTO t VALUES (1,1),(2,2),(3,3),(4,4)")
		tables := []indexedTable{{name: "t"}}
		before := definitions(t, p.TargetDB, tables)
		ferry := func() *ghostferry.Ferry {
			f := &ghostferry.Ferry{Config: p.Config(indexed)}
			f.DeferSecondaryIndexes = ghostferry.DeferIndexesAll
			f.UpdatableConfig.DataIterationBatchSize = 1
			return f
		}
		f := ferry()
		require.NoError(t, f.InitializeContext(ctx))
		require.NoError(t, f.StartContext(ctx))
		enough := errors.New("enough")
		f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { return enough })
		require.ErrorIs(t, f.RunContext(ctx), enough)
		require.NoError(t, f.Close())
		require.NotEqual(t, before, definitions(t, p.TargetDB, tables))

		f, proxy := proxiedTarget(t, p, indexed)
		f.VerifierType, f.ForceIndexForVerification = ghostferry.VerifierTypeInline, ghostferry.ForceIndexConfig{indexed: {"t": "x"}}
		var created atomic.Bool
		var refused, by atomic.Int64 // reads before and after
		adds, hinted := faultproxy.Query("^ALTER TABLE .* ADD "), faultproxy.Query("FORCE INDEX .`x`.")
		proxy.On(faultproxy.Rule{Do: faultproxy.Delay, Match: func(m faultproxy.Message) bool {
			switch {
			case adds(m):
				created.Store(true)
			case hinted(m) && created.Load():
				by.Add(1)
			case hinted(m):
				refused.Add(1)
			}
			return false
		}})
		require.NoError(t, harness.Move(ctx, f, func() error {
			p.In(t, p.SourceDB, indexed, "UPDATE t SET x=x+10")
			return nil
		}))
		require.NoError(t, f.Close())
		require.Positive(t, refused.Load())
		require.Positive(t, by.Load())
		require.Equal(t, before, definitions(t, p.TargetDB, tables))
		p.MustEqual(t, indexed)
	})
}

// Where a host's filter chooses rows, one that differs is shown to it also where the target's index of
// the key has another name.
func TestFilterIsAskedByAnotherIndex(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minute(t)
		const ddl = "CREATE TABLE t (tenant INT NOT NULL, id INT NOT NULL, v INT, PRIMARY KEY (tenant, id), UNIQUE KEY "
		p.Create(t, indexed, ddl+"id (id))")
		p.In(t, p.SourceDB, indexed, "INSERT INTO t VALUES (1,1,1),(1,2,2),(2,3,3)")
		p.In(t, p.TargetDB, indexed, "DROP TABLE t", ddl+"uq (id))")
		f := &ghostferry.Ferry{Config: p.Config(indexed)}
		f.CascadingPaginationColumnConfig = &ghostferry.CascadingPaginationColumnConfig{PerTable: map[string]map[string]string{indexed: {"t": "id"}}}
		f.Config.CopyFilter = everyRow{}
		f.VerifierType = ghostferry.VerifierTypeOnline
		require.NoError(t, f.InitializeContext(ctx))
		require.NoError(t, f.StartContext(ctx))
		var once sync.Once
		f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error {
			once.Do(func() { byHand(t, p, "INSERT INTO t VALUES (9,9,9)") })
			return nil
		})
		err := harness.RunStarted(ctx, f, func() error { return nil })
		require.NoError(t, f.Close())
		var differs ghostferry.VerificationResult
		require.ErrorAs(t, err, &differs)
		require.Equal(t, []string{indexed + ".t"}, differs.IncorrectTables)
	})
}
