package tenants

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/sharding"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// callbacks is the host's side of a cutover: it keeps what was posted.
type callbacks struct {
	url    string
	locked func() error // called by /lock
	ended  func() error // unless nil, called when the run has ended and the two sides are equal

	onSource bool // the operator says that the application writes to the source

	mu     sync.Mutex
	posted []string
	fail   string // the path that is answered 500
}

func startCallbacks(t *testing.T) *callbacks {
	t.Helper()
	c := &callbacks{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.posted = append(c.posted, r.URL.Path)
		if r.URL.Path == "/lock" {
			if err := c.locked(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		}
		if r.URL.Path == c.fail {
			http.Error(w, "no", http.StatusInternalServerError)
		}
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// moveTenant is one process of the tenant's move. locked, unless nil, is called while CutoverLock waits
// for its answer; fail is the path that is answered 500. It returns what was posted.
func (c *callbacks) moveTenant(t *testing.T, p *harness.Pair, locked func(cancel context.CancelFunc) error, fail string) (posted []string, err error) {
	t.Helper()
	ctx, cancel := context.WithCancel(minutes(t))
	defer cancel()
	config := shardConfig(p)
	config.CutoverLock, config.CutoverUnlock = ghostferry.HTTPCallback{URI: c.url + "/lock"}, ghostferry.HTTPCallback{URI: c.url + "/unlock"}
	config.CutoverAbort = ghostferry.HTTPCallback{URI: c.url + "/abort"}
	c.posted, c.fail, c.locked = nil, fail, func() error { return nil }
	if locked != nil {
		c.locked = func() error { return locked(cancel) }
	}
	ferry, err := sharding.NewFerry(config)
	require.NoError(t, err)
	if c.ended != nil {
		ferry.Ferry.Throttler = &onceEnabled{t: t, do: c.ended}
	}
	require.NoError(t, ferry.InitializeContext(ctx))
	if c.onSource {
		require.NoError(t, ferry.ApplicationOnSourceContext(ctx))
	}
	if err = ferry.StartContext(ctx); err == nil {
		err = ferry.RunContext(ctx)
	}
	require.NoError(t, ferry.Close())
	return c.posted, err
}

// onceEnabled is a throttler that does something when it is enabled again: what comes last
// before CutoverUnlock.
type onceEnabled struct {
	ghostferry.PauserThrottler
	t  *testing.T
	do func() error
}

func (e *onceEnabled) SetDisabled(disabled bool) {
	if e.PauserThrottler.SetDisabled(disabled); !disabled {
		require.NoError(e.t, e.do())
	}
}

// A tenant's writers go on when the move fails after CutoverLock: after a difference, and
// when the process is told to end. They do not when another process has taken the move over,
// nor when it is not known whether CutoverUnlock was obeyed. The same command goes on after
// each of these, although the tenant's own row has been copied and has changed since; after the
// last only when the operator says that the application writes to the source.
func TestShardingGivesACutoverUp(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		fillShard(t, p)
		before := shardRows(t, p, true, false)
		hooks := startCallbacks(t)
		must := func(posted []string, err error, want []string, traffic ghostferry.TrafficOwner, blocked bool, says string) {
			t.Helper()
			var failed *ghostferry.CutoverError
			require.ErrorAs(t, err, &failed)
			require.Equal(t, want, posted)
			require.Equal(t, traffic, failed.Traffic)
			require.Equal(t, blocked, failed.Blocked)
			require.ErrorContains(t, err, says)
		}
		onTarget := func(statements ...string) func(context.CancelFunc) error {
			return func(context.CancelFunc) error {
				for _, statement := range statements {
					if _, err := p.TargetDB.ExecContext(t.Context(), statement); err != nil {
						return err
					}
				}
				return nil
			}
		}
		stop := func(cancel context.CancelFunc) error { cancel(); return nil }
		posted, err := hooks.moveTenant(t, p, onTarget("INSERT INTO shard.tenants VALUES ('ACME',77)"), "")
		must(posted, err, []string{"/lock", "/abort"}, ghostferry.TrafficOnSource, false, "unblocked by CutoverAbort")
		var differs ghostferry.BatchWriterVerificationFailed
		require.ErrorAs(t, err, &differs)

		harness.Exec(t, p.TargetDB, "DELETE FROM shard.tenants WHERE name='acme'")
		posted, err = hooks.moveTenant(t, p, stop, "")
		must(posted, err, []string{"/lock", "/abort"}, ghostferry.TrafficOnSource, false, "unblocked by CutoverAbort")
		require.ErrorIs(t, err, context.Canceled)
		require.True(t, ghostferry.Resumable(err))

		posted, err = hooks.moveTenant(t, p, stop, "/abort")
		must(posted, err, []string{"/lock", "/abort"}, ghostferry.TrafficOnSource, true, "may still be blocked")

		takenOver := onTarget("UPDATE _ghostferry.runs SET epoch=epoch+1", "UPDATE _ghostferry.lanes SET epoch=epoch+1")
		posted, err = hooks.moveTenant(t, p, takenOver, "")
		must(posted, err, []string{"/lock"}, ghostferry.TrafficOnSource, true, "taken the run over")

		// Its own end is an interruption, and it has not noticed.
		posted, err = hooks.moveTenant(t, p, func(cancel context.CancelFunc) error { defer cancel(); return takenOver(cancel) }, "")
		must(posted, err, []string{"/lock"}, ghostferry.TrafficOnSource, true, "taken the run over")
		require.ErrorIs(t, err, context.Canceled)

		posted, err = hooks.moveTenant(t, p, nil, "/unlock")
		must(posted, err, []string{"/lock", "/unlock"}, ghostferry.TrafficUnknown, true, "not known")
		require.False(t, ghostferry.Resumable(err))

		p.In(t, p.TargetDB, shard, "ALTER TABLE labels ADD FOREIGN KEY (tenant) REFERENCES tenants (name) ON DELETE CASCADE")
		moved := shardRows(t, p, true, true)
		posted, err = hooks.moveTenant(t, p, func(context.CancelFunc) error {
			return p.TryIn(t.Context(), p.SourceDB, shard, "UPDATE photos SET size=2 WHERE id=21")
		}, "")
		must(posted, err, []string{"/lock"}, ghostferry.TrafficUnknown, true, "joined rows of the tenant have changed on the source, in shard.photos")
		p.In(t, p.SourceDB, shard, "UPDATE tenants SET v=v+1 WHERE name='acme'", "UPDATE orders SET v=v+1 WHERE tenant='acme'")
		posted, err = hooks.moveTenant(t, p, nil, "")
		require.Empty(t, posted)
		require.ErrorIs(t, err, ghostferry.ErrTrafficUnknown)
		require.ErrorContains(t, err, "shard.orders, shard.tenants")
		require.Equal(t, moved, shardRows(t, p, true, true))
		hooks.onSource = true
		posted, err = hooks.moveTenant(t, p, nil, "")
		require.NoError(t, err)
		require.Equal(t, []string{"/lock", "/unlock"}, posted)
		require.Equal(t, shardRows(t, p, false, true), shardRows(t, p, true, true))
		require.Equal(t, before["orders"], shardRows(t, p, true, false)["orders"])
		require.Equal(t, before["tenants"], shardRows(t, p, true, false)["tenants"])
	})
}

// A transaction of the tenant that is committed behind the stop position, as one may be that was
// open when CutoverLock was answered, ends the move before CutoverUnlock; the same command brings what it wrote. A
// joined row that another tenant has changed by then is brought as it is.
func TestShardingMeetsLateWrites(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		fillShard(t, p)
		hooks := startCallbacks(t)
		for _, late := range []struct{ write, says string }{
			{"INSERT INTO orders VALUES (5001,'acme',NULL,1)", "shard.orders key 5001"},
			{"UPDATE tenants SET v=v+1 WHERE name='acme'", "shard.tenants key "},
		} {
			hooks.ended = func() error { return p.TryIn(t.Context(), p.SourceDB, shard, late.write) }
			posted, err := hooks.moveTenant(t, p, nil, "")
			require.ErrorContains(t, err, late.says)
			var wrote *ghostferry.LateWriteError
			require.ErrorAs(t, err, &wrote)
			require.Equal(t, []string{"/lock", "/abort"}, posted)
		}
		hooks.ended = func() error {
			// Somebody has left a record of an older stop position, too.
			if _, err := p.TargetDB.ExecContext(t.Context(), "INSERT INTO _ghostferry.traffic SELECT run_id,'unknown','of.old',4 FROM _ghostferry.runs"); err != nil {
				return err
			}
			return p.TryIn(t.Context(), p.SourceDB, shard, "UPDATE photos SET size=size+1 WHERE id=21", "UPDATE orders SET v=v+1 WHERE tenant='b'")
		}
		posted, err := hooks.moveTenant(t, p, nil, "")
		require.NoError(t, err)
		require.Equal(t, []string{"/lock", "/unlock"}, posted)
		require.Equal(t, shardRows(t, p, false, true), shardRows(t, p, true, true))
		require.Equal(t, 1, harness.Count(t, p.TargetDB, "_ghostferry.traffic WHERE owner='target' AND file<>'of.old' AND pos>4"))

		// Another list of tables is another run, which is told not to take the rows for left ones.
		config := shardConfig(p)
		config.IgnoredTables, config.JoinedTables = []string{"^labels$"}, map[string][]sharding.JoinTable{"photos": {{TableName: "orders", JoinColumn: "photo"}}}
		other, err := sharding.NewFerry(config)
		require.NoError(t, err)
		err = other.InitializeContext(t.Context())
		require.ErrorContains(t, err, "their traffic may be on the target")
		require.NotContains(t, err.Error(), "remove them")
	})
}

// A row of the tenant that is in the log, and so on the target, and that no read of the source sees
// yet when the writers have stopped, brings the joined row to which it points.
func TestShardingWaitsForPointersInTheLog(t *testing.T) {
	withGTIDs(t, func(t *testing.T, p *harness.Pair) {
		fillShard(t, p)
		p.In(t, p.SourceDB, shard, "INSERT INTO photos VALUES (5000,'alone','x',1,NULL)")
		released := make(chan error, 1)
		posted, err := startCallbacks(t).moveTenant(t, p, func(context.CancelFunc) error {
			stall := p.Stall(t, shard, "INSERT INTO orders VALUES (5000,'acme',5000,1)")
			go func() {
				seen := 0
				harness.Await(t, "a read of the joined table waits for a lock", func() bool {
					list, err := harness.Processes(t.Context(), p.SourceDB)
					if !assert.NoError(t, err) {
						return true
					}
					if !slices.ContainsFunc(list, func(one harness.Process) bool {
						return strings.Contains(one.Info, "photos") && strings.Contains(one.Info, " SHARE")
					}) {
						seen = 0
						return false
					}
					seen++
					return seen > 3
				})
				released <- stall.Release()
			}()
			return nil
		}, "")
		require.NoError(t, err)
		require.NoError(t, <-released)
		require.Equal(t, []string{"/lock", "/unlock"}, posted)
		require.Contains(t, fmt.Sprint(shardRows(t, p, true, true)["photos"]), "5000")
		require.Equal(t, shardRows(t, p, false, true), shardRows(t, p, true, true))
	})
}

// A change of a joined row that was in the log before the stream's start names no key to it, and no read
// of the source sees it yet when the rows are copied: they are read with locks where nothing else could tell.
func TestShardingStartsDuringStalledCommit(t *testing.T) {
	harness.OnSettings(t, harness.Settings[1:2], true, func(t *testing.T, p *harness.Pair) { // MySQL without GTIDs
		fillShard(t, p)
		stall := p.Stall(t, shard, "UPDATE photos SET size=2 WHERE id=21")
		locked, released := make(chan struct{}), make(chan error, 1)
		go func() {
			harness.Await(t, "a read waits for the transaction, or none does", func() bool {
				select {
				case <-locked:
					return true
				default:
					return p.RowLockAwaited(t)
				}
			})
			released <- stall.Release()
		}()
		_, err := startCallbacks(t).moveTenant(t, p, func(context.CancelFunc) error { close(locked); return <-released }, "")
		require.NoError(t, err)
		require.Equal(t, shardRows(t, p, false, true), shardRows(t, p, true, true))
	})
}

// Rows of others on the target that are in the way of the tenant's end the move, by table,
// key and index, and stay as they are: its own row, a joined row that they share and that
// differs, and one that has a joined row's unique value. When they are gone the same command
// goes on.
func TestShardingMeetsRowsOfOthers(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		fillShard(t, p)
		p.In(t, p.TargetDB, shard, "INSERT INTO orders VALUES (100004,'b',21,7),(100005,'b',100005,7)")
		hooks := startCallbacks(t)
		theirs := func() map[string][]string {
			rows := shardRows(t, p, true, false)
			rows["photos"] = harness.Rows(t, p.TargetDB, "SELECT id, HEX(title), HEX(body), size, taken FROM shard.photos WHERE id IN (21,100001,100005)")
			return rows
		}
		for _, met := range []struct{ table, insert, remove, key, index string }{
			{"`shard`.`tenants`", "INSERT INTO tenants VALUES ('ACME',5)", "DELETE FROM tenants WHERE name='acme'", "acme", "PRIMARY"},
			{"`shard`.`photos`", "INSERT INTO photos VALUES (21,'shared','x',1,NULL)", "DELETE FROM photos WHERE id=21", "21", "PRIMARY"},
			{"`shard`.`photos`", "INSERT INTO photos VALUES (100005,'photo 42é','x',1,NULL)", "DELETE FROM photos WHERE id=100005", "42", "by_title"},
		} {
			p.In(t, p.TargetDB, shard, met.insert)
			before := theirs()
			posted, err := hooks.moveTenant(t, p, nil, "")
			require.Empty(t, posted)
			var conflict *ghostferry.TargetConflictError
			require.ErrorAs(t, err, &conflict)
			require.Equal(t, ghostferry.TargetConflictError{Table: met.table, Key: met.key, Index: met.index, Others: true}, *conflict)
			require.True(t, ghostferry.Resumable(err))
			require.Equal(t, before, theirs())
			p.In(t, p.TargetDB, shard, met.remove)
		}
		_, err := hooks.moveTenant(t, p, nil, "")
		require.NoError(t, err)
		require.Equal(t, shardRows(t, p, false, true), shardRows(t, p, true, true))
	})
}

// A process that dies, or gets no answer, at CutoverUnlock leaves nothing but that to the next
// one: what the application has written to the target meanwhile stays. After an answer nothing is
// left at all.
func TestShardingUnlocksAgain(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		fillShard(t, p)
		hooks := startCallbacks(t)
		posted, err := hooks.moveTenant(t, p, nil, "/unlock")
		require.ErrorIs(t, err, ghostferry.ErrTrafficUnknown)
		require.Equal(t, []string{"/lock", "/unlock"}, posted)

		p.In(t, p.TargetDB, shard, "UPDATE tenants SET v=77 WHERE name='acme'", "UPDATE orders SET v=77 WHERE tenant='acme'", "UPDATE photos SET size=77 WHERE id=21")
		// Of no concern, as are photos that no row of the tenant points to.
		p.In(t, p.SourceDB, shard, "UPDATE orders SET v=v+1 WHERE tenant='b'", "UPDATE photos SET size=9 WHERE id=28", "UPDATE orders SET photo=29 WHERE id=4")
		written := shardRows(t, p, true, true)
		posted, err = hooks.moveTenant(t, p, nil, "")
		require.NoError(t, err)
		require.Equal(t, []string{"/lock", "/unlock"}, posted)
		require.Equal(t, written, shardRows(t, p, true, true))

		posted, err = hooks.moveTenant(t, p, nil, "")
		var already *sharding.AlreadyMovedError
		require.ErrorAs(t, err, &already)
		require.False(t, ghostferry.Resumable(err))
		require.Empty(t, posted)
		require.Equal(t, written, shardRows(t, p, true, true))
	})
}

// A process that began while another one was at its cutover, and goes on when that has moved the
// tenant, touches nothing: what was decided at its beginning is wrong by then.
func TestShardingIsOvertakenByTheUnlock(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minutes(t)
		fillShard(t, p)
		hooks := startCallbacks(t)
		_, err := hooks.moveTenant(t, p, func(cancel context.CancelFunc) error { cancel(); return nil }, "")
		require.ErrorIs(t, err, context.Canceled)

		late, err := sharding.NewFerry(shardConfig(p))
		require.NoError(t, err)
		require.NoError(t, late.InitializeContext(ctx))
		require.NoError(t, late.StartContext(ctx))
		posted, err := hooks.moveTenant(t, p, nil, "")
		require.NoError(t, err)
		require.Equal(t, []string{"/lock", "/unlock"}, posted)
		p.In(t, p.TargetDB, shard, "UPDATE tenants SET v=77 WHERE name='acme'", "UPDATE orders SET v=77 WHERE tenant='acme'", "UPDATE photos SET size=77 WHERE id=21")
		written := shardRows(t, p, true, true)
		err = late.RunContext(ctx)
		require.ErrorIs(t, err, ghostferry.ErrTrafficUnknown)
		require.ErrorContains(t, err, "run the same command again")
		require.NoError(t, late.Close())
		require.Equal(t, written, shardRows(t, p, true, true))

		// So does one that says that the application is on the source, and knows it from before.
		harness.Exec(t, p.TargetDB, "UPDATE _ghostferry.traffic SET owner='unknown'")
		late, err = sharding.NewFerry(shardConfig(p))
		require.NoError(t, err)
		require.NoError(t, late.InitializeContext(ctx))
		harness.Exec(t, p.TargetDB, "UPDATE _ghostferry.traffic SET owner='target'")
		require.ErrorIs(t, late.ApplicationOnSourceContext(ctx), ghostferry.ErrTrafficUnknown)
		require.NoError(t, late.Close())
		require.Equal(t, 1, harness.Count(t, p.TargetDB, "_ghostferry.traffic WHERE owner='target'"))
	})
}
