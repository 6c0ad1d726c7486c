package integration

import (
	"context"
	"encoding/json"
	"sort"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// A commit is in the log, hence streamed, before any read of the source can see it. The
// tests of this file hold a commit in that state for as long as they want.

const stalledSchema = "stalled"

// stalledChange changes, deletes, moves and adds rows in the middle and at the end.
var stalledChange = []string{
	"UPDATE t SET v=100 WHERE id=1", "DELETE FROM t WHERE id=2", "UPDATE t SET id=5 WHERE id=3", "INSERT INTO t VALUES (7,100)",
	"INSERT INTO t VALUES (100,100)", "INSERT INTO e VALUES (1,100)",
	"UPDATE u SET w=NULL WHERE id=1", "UPDATE u SET w=1 WHERE id=2", "DELETE FROM u WHERE id=3",
	"UPDATE c SET name='A' WHERE name='a'", "DELETE FROM c WHERE name='b'",
}

func createStalled(t *testing.T, p *harness.Pair) {
	t.Helper()
	p.Create(t, stalledSchema,
		"CREATE TABLE a_first (id INT PRIMARY KEY)",
		"CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE e (id INT PRIMARY KEY, v INT)",
		"CREATE TABLE u (id INT PRIMARY KEY, w INT NULL, UNIQUE KEY (w))", "CREATE TABLE c (name VARCHAR(20) PRIMARY KEY)")
	p.In(t, p.SourceDB, stalledSchema, "INSERT INTO a_first VALUES (1)", "INSERT INTO t VALUES (1,1),(2,2),(3,3),(4,4),(10,10)",
		"INSERT INTO u VALUES (1,1),(2,2),(3,3)", "INSERT INTO c VALUES ('a'),('b'),('c')")
}

// byName copies tables in the order of their names.
type byName struct{}

func (byName) Sort(tables map[*ghostferry.TableSchema]ghostferry.PaginationKey) (out []ghostferry.TableMaxPaginationKey, err error) {
	for table, key := range tables {
		out = append(out, ghostferry.TableMaxPaginationKey{Table: table, MaxPaginationKey: key})
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Table.Name < out[j].Table.Name })
	return out, nil
}

// stalledFerry copies one table after the other, and stops before it writes the first
// until goOn is closed.
func stalledFerry(t *testing.T, ctx context.Context, p *harness.Pair, change func(*ghostferry.Config)) (f *ghostferry.Ferry, reached <-chan struct{}, goOn chan struct{}) {
	t.Helper()
	f = &ghostferry.Ferry{Config: p.Config(stalledSchema)}
	f.Config.DataIterationConcurrency = 1
	if change != nil {
		change(f.Config)
	}
	if err := f.InitializeContext(ctx); err != nil {
		t.Fatal(err)
	}
	at := make(chan struct{})
	goOn = make(chan struct{})
	f.DataIterator.TableSorter = byName{}
	f.DataIterator.AddBatchListener(func(b *ghostferry.RowBatch) error {
		if b.TableSchema().Name != "a_first" {
			return nil
		}
		close(at)
		select {
		case <-goOn:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	return f, at, goOn
}

// move starts and runs an initialised ferry, whose writers need no fence.
func move(ctx context.Context, f *ghostferry.Ferry) <-chan error {
	ran := make(chan error, 1)
	go func() {
		if err := f.StartContext(ctx); err != nil {
			ran <- err
			return
		}
		ran <- harness.RunStarted(ctx, f, func() error { return nil })
	}()
	return ran
}

// arrives releases the stalled transaction and waits for the end of the run.
func arrives(t *testing.T, p *harness.Pair, stall *harness.Stall, f *ghostferry.Ferry, ran <-chan error) {
	t.Helper()
	if err := stall.Release(); err != nil {
		t.Fatal(err)
	}
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	p.MustEqual(t, stalledSchema)
}

// await waits for a signal of a run, and fails when the run ends before.
func await(t *testing.T, signal <-chan struct{}, ran <-chan error) {
	t.Helper()
	select {
	case <-signal:
	case err := <-ran:
		t.Fatalf("the run ended: %v", err)
	}
}

// changeExecuted waits until a change of the stalled transaction was executed on the target,
// where nothing of t has been copied yet.
func changeExecuted(t *testing.T, p *harness.Pair) {
	t.Helper()
	harness.Await(t, "the stalled transaction is executed on the target", func() bool {
		return harness.Count(t, p.TargetDB, stalledSchema+".t WHERE id IN (1,5,7,100)") == 4
	})
}

// CE-7, CE-7b: rows are read while a transaction on them is streamed, executed on the
// target and not yet visible. The read waits; no update is lost, no row resurrected.
func TestReadWaitsForStreamedTransactions(t *testing.T) {
	onEachSetting(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		createStalled(t, p)
		f, reached, goOn := stalledFerry(t, ctx, p, nil)
		ran := move(ctx, f)
		await(t, reached, ran)
		stall := p.Stall(t, stalledSchema, stalledChange...)
		changeExecuted(t, p)
		close(goOn)
		p.AwaitBlockedRead(t)
		if n := harness.Count(t, p.TargetDB, stalledSchema+".t"); n != 4 {
			t.Errorf("%d rows of t are on the target before the read could be made", n)
		}
		arrives(t, p, stall, f, ran)
	})
}

// CE-8: a transaction is in the log before the start position and becomes visible only
// when the highest keys have been read.
func TestStartDuringStalledCommit(t *testing.T) {
	onEachSetting(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		createStalled(t, p)
		stall := p.Stall(t, stalledSchema, stalledChange...)
		f, _, goOn := stalledFerry(t, ctx, p, nil)
		close(goOn)
		ran := move(ctx, f)
		if p.Name == "mysql-file-position" {
			p.AwaitBlockedRead(t) // the highest keys are read with locks
		} else {
			changeExecuted(t, p) // before or after rows are read: reads begun later wait for it
		}
		arrives(t, p, stall, f, ran)
	})
}

// CE-8 under a host's query, which takes no locks where it finds its keys: a row that is committed behind
// the tenant's others, in front of one of another tenant, and one that comes to the tenant among them, in a
// table whose key is a secondary index that the change does not touch.
func TestHostQueryDuringStalledCommit(t *testing.T) {
	harness.OnSettings(t, harness.Settings[1:2], true, func(t *testing.T, p *harness.Pair) { // only there reads have to lock
		for _, change := range []string{"INSERT INTO t VALUES (101,0.101,1,1)", "UPDATE t SET tenant=1 WHERE id=2"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			p.Create(t, stalledSchema, "CREATE TABLE t (id INT NOT NULL UNIQUE, f FLOAT PRIMARY KEY, tenant INT, v INT)")
			p.In(t, p.SourceDB, stalledSchema, "INSERT INTO t VALUES (1,0.1,1,1),(2,0.2,2,1),(3,0.3,1,1),(50,0.5,2,1),(102,0.102,2,1)")
			stall := p.Stall(t, stalledSchema, change)
			f := settled(t, p, []string{stalledSchema}, func(f *ghostferry.Ferry) {
				f.CopyFilter = &tenant{id: 1, asked: map[string][]ghostferry.PaginationKey{}}
			})
			if err := f.InitializeContext(ctx); err != nil {
				t.Fatal(err)
			}
			copied := make(chan struct{})
			f.DataIterator.AddDoneListener(func() error { close(copied); return nil })
			ran := move(ctx, f)
			harness.Await(t, "a read waits for the transaction, or none does", func() bool {
				select {
				case <-copied:
					return true
				default:
					return p.RowLockAwaited(t)
				}
			})
			if err := stall.Release(); err != nil {
				t.Fatal(err)
			}
			if err := <-ran; err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			const ours = "SELECT * FROM stalled.t WHERE tenant=1 ORDER BY id"
			require.Equal(t, harness.Rows(t, p.SourceDB, ours), harness.Rows(t, p.TargetDB, ours), change)
		}
	})
}

// What an earlier process has executed on the target must be visible on the source
// before the resumed one reads a row there.
func TestResumeDuringStalledCommit(t *testing.T) {
	for _, with := range []string{"checkpoint", "state"} {
		t.Run(with, func(t *testing.T) {
			onSomeSettings(t, func(t *testing.T, p *harness.Pair) { resumeDuringStall(t, p, with == "state") })
		})
	}
}

func resumeDuringStall(t *testing.T, p *harness.Pair, fromState bool) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	createStalled(t, p)
	change := func(c *ghostferry.Config) {
		if fromState {
			c.Checkpoint = "off"
		}
	}
	run, stop := context.WithCancel(ctx)
	f, reached, _ := stalledFerry(t, run, p, change)
	ran := move(run, f)
	await(t, reached, ran)
	stall := p.Stall(t, stalledSchema, stalledChange...)
	changeExecuted(t, p)
	// The position of the executed batch, whose rows a moment ago came to the target.
	executed := f.BinlogStreamer.GetLastStreamedBinlogPosition()
	harness.Await(t, "the batch is recorded", func() bool {
		return f.StateTracker.Serialize(nil, nil).LastWrittenBinlogPosition.Compare(executed) >= 0
	})
	stop()
	mustBeInterrupted(t, <-ran)
	var state *ghostferry.SerializableState
	if fromState {
		text, err := f.SerializeStateToJSON()
		if err != nil {
			t.Fatal(err)
		}
		state = &ghostferry.SerializableState{}
		if err := json.Unmarshal([]byte(text), state); err != nil {
			t.Fatal(err)
		}
	}

	f, _, goOn := stalledFerry(t, ctx, p, func(c *ghostferry.Config) {
		change(c)
		c.StateToResumeFrom = state
	})
	close(goOn)
	ran = move(ctx, f)
	p.AwaitBlockedRead(t)
	arrives(t, p, stall, f, ran)
}

// The verifier waits as well: rows that only differ because the source does not show its
// newest transaction yet are no differences.
func TestVerifyDuringStalledCommit(t *testing.T) {
	onSomeSettings(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		createStalled(t, p)
		f, _, goOn := stalledFerry(t, ctx, p, func(c *ghostferry.Config) { c.AutomaticCutover = false })
		close(goOn)
		ran := move(ctx, f)
		awaitRows(t, p.TargetDB, stalledSchema+".t", 5, f)
		stall := p.Stall(t, stalledSchema, stalledChange...)
		changeExecuted(t, p)
		f.AllowCutover()
		p.AwaitBlockedRead(t)
		arrives(t, p, stall, f, ran)
	})
}
