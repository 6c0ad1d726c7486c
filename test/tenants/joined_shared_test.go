package tenants

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/sharding"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

const together = "joined_together"

// sharedPhotos makes a joined table of so many rows, a quarter of which each of two tenants has for
// itself, and half of which both have.
func sharedPhotos(t *testing.T, p *harness.Pair) {
	t.Helper()
	p.Create(t, together,
		"CREATE TABLE orders (id INT PRIMARY KEY, tenant VARCHAR(20), photo INT, KEY by_tenant (tenant), KEY by_photo (photo))",
		"CREATE TABLE photos (id INT PRIMARY KEY, title VARCHAR(40))")
	numbers := "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 900) SELECT "
	p.In(t, p.SourceDB, together, "INSERT INTO photos "+numbers+"i, CONCAT('photo ',i) FROM n",
		"INSERT INTO orders "+numbers+"i, 'acme', i FROM n WHERE i MOD 4 < 3", "INSERT INTO orders "+numbers+"1000+i, 'b', i FROM n WHERE i MOD 4 > 0")
	p.In(t, p.TargetDB, together, "INSERT INTO photos VALUES (9001,'theirs')", "INSERT INTO orders VALUES (9001,'c',9001)")
}

// photosFerry is the initialized move of a tenant of sharedPhotos.
func photosFerry(t *testing.T, p *harness.Pair, tenant, lock string) *sharding.ShardingFerry {
	t.Helper()
	config := &sharding.Config{
		Config: p.Config(together), ShardingKey: "tenant", ShardingKeyValue: tenant, SourceDB: together, TargetDB: together,
		JoinedTables: map[string][]sharding.JoinTable{"photos": {{TableName: "orders", JoinColumn: "photo"}}},
	}
	config.CutoverLock, config.SkipTargetVerification = ghostferry.HTTPCallback{URI: lock}, true
	ferry, err := sharding.NewFerry(config)
	require.NoError(t, err)
	require.NoError(t, ferry.InitializeContext(minutes(t)))
	return ferry
}

// A joined row that two tenants share, who move at once, may change until both have stopped: each
// move may bring it up to date as long as the traffic of the other has not left the source. Each takes back
// what it has brought when nobody else has it any more, and a row to which an unlisted table on the target
// refers stays. A shared row that changes when one of the tenants has moved is a conflict.
func TestTenantsShareJoinedRows(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minutes(t)
		if p.IsMariaDB() { // refuses to lock rows that have changed since the transaction first read
			harness.Exec(t, p.TargetDB, "SET GLOBAL innodb_snapshot_isolation=ON")
			t.Cleanup(func() { _, _ = p.TargetDB.Exec("SET GLOBAL innodb_snapshot_isolation=OFF") })
		}
		sharedPhotos(t, p)
		run, fail := context.WithCancel(ctx)
		defer fail()
		var stopped atomic.Int32
		both := make(chan struct{})
		change := sync.OnceValue(func() error {
			return p.TryIn(ctx, p.SourceDB, together, "UPDATE photos SET title=CONCAT('changed ',id) WHERE id MOD 4 IN (1,2)")
		})
		lock := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if stopped.Add(1) == 2 {
				close(both)
			}
			select {
			case <-both:
			case <-run.Done():
			}
			if err := change(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		}))
		defer lock.Close()
		var ended sync.WaitGroup
		errs := make([]error, 2)
		for i, tenant := range []string{"acme", "b"} {
			ferry := photosFerry(t, p, tenant, lock.URL)
			require.NoError(t, ferry.StartContext(ctx))
			ended.Go(func() {
				if errs[i] = ferry.RunContext(run); errs[i] != nil {
					fail()
				}
				_ = ferry.Close()
			})
		}
		ended.Wait()
		require.NoError(t, errs[0])
		require.NoError(t, errs[1])
		photos := "SELECT * FROM joined_together.photos WHERE id < 9000 ORDER BY id"
		require.Equal(t, harness.Rows(t, p.SourceDB, photos), harness.Rows(t, p.TargetDB, photos))

		// Both have moved, one of them moves again, and what they share has changed.
		cancel := func(tenant string) {
			ferry := photosFerry(t, p, tenant, "")
			_, err := ferry.CancelContext(ctx, true)
			require.NoError(t, err)
			require.NoError(t, ferry.Close())
		}
		cancel("acme")
		require.Equal(t, harness.Rows(t, p.TargetDB, "SELECT DISTINCT photo FROM joined_together.orders WHERE tenant='b' ORDER BY 1"),
			harness.Rows(t, p.TargetDB, "SELECT id FROM joined_together.photos WHERE id < 9000 ORDER BY 1"))
		p.In(t, p.SourceDB, together, "UPDATE photos SET title='new' WHERE id=2")
		again := photosFerry(t, p, "acme", "")
		require.NoError(t, again.StartContext(ctx))
		err := again.RunContext(ctx)
		var conflict *ghostferry.TargetConflictError
		require.ErrorAs(t, err, &conflict)
		require.Equal(t, "2", conflict.Key)
		require.ErrorContains(t, err, "run the same command again")
		require.True(t, ghostferry.Resumable(err))
		require.NoError(t, again.Close())
		require.Equal(t, 1, harness.Count(t, p.TargetDB, "joined_together.photos WHERE id=2 AND title='changed 2'"))

		p.In(t, p.TargetDB, together, "CREATE TABLE albums (id INT PRIMARY KEY, cover INT, FOREIGN KEY (cover) REFERENCES photos (id))", "INSERT INTO albums VALUES (1,3)")
		cancel("acme")
		cancel("b")
		require.Equal(t, []string{`"3"|`, `"9001"|`}, harness.Rows(t, p.TargetDB, "SELECT id FROM joined_together.photos ORDER BY id"))
		require.Equal(t, 1, harness.Count(t, p.TargetDB, "joined_together.orders"))
		require.Equal(t, 1, harness.Count(t, p.TargetDB, "joined_together.albums"))
	})
}

// A move that has read a shared row and waits for it on the target does not write what it has
// read over a newer value, which another move has written there meanwhile.
func TestSharedJoinedRowsDoNotGoBack(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minutes(t)
		sharedPhotos(t, p)
		newTitle := func(title string) string { return "UPDATE photos SET title='" + title + "' WHERE id=2" }
		waiting := make(chan struct{})
		held, release := context.WithCancel(ctx)
		lock := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request) {
			close(waiting)
			<-held.Done()
		}))
		defer lock.Close()
		defer release()
		var inTheWay *sql.Tx
		firstLock := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			err := p.TryIn(ctx, p.SourceDB, together, newTitle("read"))
			if err == nil {
				inTheWay, err = p.TargetDB.BeginTx(ctx, nil)
			}
			if err == nil {
				_, err = inTheWay.ExecContext(ctx, "SELECT * FROM joined_together.photos WHERE id=2 FOR UPDATE")
			}
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		}))
		defer firstLock.Close()
		begin := func(tenant, lock string) chan error {
			ferry, ran := photosFerry(t, p, tenant, lock), make(chan error, 1)
			require.NoError(t, ferry.StartContext(ctx))
			go func() { ran <- errors.Join(ferry.RunContext(ctx), ferry.Close()) }()
			return ran
		}
		other := begin("b", lock.URL)
		<-waiting
		first := begin("acme", firstLock.URL)
		harness.Await(t, "the move waits for the row on the target", func() bool {
			select {
			case err := <-first:
				t.Fatalf("it has ended: %v", err)
			default:
			}
			// INNODB_TRX stands still while it is read often.
			return harness.Rows(t, p.TargetDB, "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_current_waits'")[0] != `"Innodb_row_lock_current_waits"|"0"|`
		})
		p.In(t, p.SourceDB, together, newTitle("newer"))
		_, err := inTheWay.ExecContext(ctx, strings.Replace(newTitle("newer"), "photos", "joined_together.photos", 1))
		require.NoError(t, err)
		require.NoError(t, inTheWay.Commit())
		require.NoError(t, <-first)
		require.Equal(t, 1, harness.Count(t, p.TargetDB, "joined_together.photos WHERE id=2 AND title='newer'"))
		release()
		require.NoError(t, <-other)
	})
}

// Joined rows that have changed before the cutover are not looked at again while the writers wait,
// nor are those whose tenant's rows have changed in other columns. Nothing is changed on the source.
func TestJoinedRowsAreCaughtUpBeforeTheLock(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minutes(t)
		sharedPhotos(t, p)
		locked := make(chan struct{})
		lock := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			defer close(locked)
			if err := p.TryIn(ctx, p.SourceDB, together, "UPDATE photos SET title='last' WHERE id=1", "UPDATE orders SET id=id+5000 WHERE tenant='acme' AND photo>2"); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		}))
		defer lock.Close()
		ferry := photosFerry(t, p, "acme", lock.URL)
		require.NoError(t, ferry.StartContext(ctx))
		p.In(t, p.SourceDB, together, "UPDATE photos SET title=CONCAT(title,'+')", "UPDATE orders SET photo=IF(photo=900,4,photo+4)", "DELETE FROM photos WHERE id=6", "INSERT INTO orders VALUES (20001,'acme',1)")
		asked := recordAll(t, p.SourceDB, func() { require.NoError(t, ferry.RunContext(ctx)) })
		require.NoError(t, ferry.Close())
		<-locked
		var underLock, changed []string
		for _, text := range asked {
			switch strings.ToUpper(strings.Fields(text + " .")[0]) {
			case "INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "TRUNCATE", "CREATE", "ALTER", "DROP":
				changed = append(changed, text)
			}
			if strings.Contains(text, "`photos`") && (strings.HasSuffix(text, " FOR SHARE") || strings.HasSuffix(text, " LOCK IN SHARE MODE")) {
				underLock = append(underLock, text)
			}
		}
		require.Len(t, changed, 2, "the source was told: %q", changed) // by the test
		require.Len(t, underLock, 1, "%q", underLock)
		require.Regexp(t, " IN \\('?1'?\\) ", underLock[0])
		photos := "SELECT * FROM joined_together.photos WHERE id IN (SELECT photo FROM joined_together.orders WHERE tenant='acme') ORDER BY id"
		require.Equal(t, harness.Rows(t, p.SourceDB, photos), harness.Rows(t, p.TargetDB, photos))
	})
}

// A process that stood still while another took its run over writes nothing more: no joined rows,
// none of the tenant's own, and it takes nothing back.
func TestNothingIsWrittenByAProcessThatWasOvertaken(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minutes(t)
		fillShard(t, p)
		overtake := func() error {
			return p.TryIn(ctx, p.TargetDB, "_ghostferry", "UPDATE runs SET epoch=epoch+1", "UPDATE lanes SET epoch=epoch+1")
		}
		begin := func() *sharding.ShardingFerry {
			ferry, err := sharding.NewFerry(shardConfig(p))
			require.NoError(t, err)
			require.NoError(t, ferry.InitializeContext(ctx))
			return ferry
		}
		fenced := func(err error) {
			t.Helper()
			var by *ghostferry.FencedError
			require.ErrorAs(t, err, &by)
		}
		ferry := begin()
		require.NoError(t, ferry.StartContext(ctx))
		ferry.Ferry.DataIterator.AddDoneListener(overtake)
		joined := harness.Count(t, p.TargetDB, "shard.photos")
		fenced(ferry.RunContext(ctx))
		require.NoError(t, ferry.Close())
		require.Equal(t, joined, harness.Count(t, p.TargetDB, "shard.photos"))

		ferry = begin()
		require.NoError(t, ferry.StartContext(ctx))
		require.NoError(t, ferry.RunContext(ctx))
		p.In(t, p.TargetDB, shard, "DELETE FROM tenants WHERE name='acme'")
		own, err := ghostferry.LoadTables(ferry.Ferry.SourceDB, &sharding.ShardedTableFilter{SourceShard: shard, PrimaryKeyTables: map[string]struct{}{"tenants": {}}, ShardingKey: "none"}, nil, nil, nil, nil)
		require.NoError(t, err)
		require.NoError(t, overtake())
		fenced(ferry.Ferry.RunStandaloneDataCopyContext(ctx, own.AsSlice()))
		require.Zero(t, harness.Count(t, p.TargetDB, "shard.tenants WHERE name='acme'"))
		require.NoError(t, ferry.Close())

		moved := shardRows(t, p, true, true)
		ferry = begin()
		_, err = ferry.Ferry.RemoveMovedRows(ctx, true, func(context.Context) error { return overtake() })
		fenced(err)
		require.NoError(t, ferry.Close())
		require.Equal(t, moved, shardRows(t, p, true, true))
		ferry = begin()
		_, err = ferry.CancelContext(ctx, true)
		require.NoError(t, err)
		require.NoError(t, ferry.Close())
		require.Empty(t, shardRows(t, p, true, true)["orders"])
	})
}
