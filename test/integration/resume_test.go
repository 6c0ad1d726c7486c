package integration

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// copies remembers which rows the batches of a run held, by table.
type copies struct {
	sync.Mutex
	keys    map[string]map[string]bool
	batches int
}

func (c *copies) listener(after func(batches int)) func(*ghostferry.RowBatch) error {
	return func(b *ghostferry.RowBatch) error {
		c.Lock()
		defer c.Unlock()
		name := b.TableSchema().Name
		if c.keys == nil {
			c.keys = map[string]map[string]bool{}
		}
		if c.keys[name] == nil {
			c.keys[name] = map[string]bool{}
		}
		for _, key := range harness.Keys(b) {
			c.keys[name][key] = true
		}
		c.batches++
		if after != nil {
			after(c.batches)
		}
		return nil
	}
}

// mustNotRepeat fails when rows of an earlier run's finished chunks were read again.
// Under collated keys (tags) the copy goes on from the first gap only.
func (c *copies) mustNotRepeat(t *testing.T, earlier *copies) {
	t.Helper()
	for table, keys := range c.keys {
		if table == "tags" {
			continue
		}
		for key := range keys {
			if earlier.keys[table][key] {
				t.Errorf("row %s of %s was copied again", key, table)
				return
			}
		}
	}
}

func shopFerry(p *harness.Pair, database string, batchSize uint64) *ghostferry.Ferry {
	f := &ghostferry.Ferry{Config: p.Config(database)}
	f.UpdatableConfig.DataIterationBatchSize = batchSize
	return f
}

func mustStart(t *testing.T, ctx context.Context, f *ghostferry.Ferry) {
	t.Helper()
	if err := f.InitializeContext(ctx); err != nil {
		t.Fatal(err)
	}
	if err := f.StartContext(ctx); err != nil {
		t.Fatal(err)
	}
}

func mustBeInterrupted(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, context.Canceled) || !errors.Is(err, ghostferry.ErrInterrupted) || !ghostferry.Resumable(err) {
		t.Fatalf("a cancelled run ended with %v", err)
	}
}

// interrupt makes a run that has started, and interrupts it when during has returned.
func interrupt(t *testing.T, ctx context.Context, f *ghostferry.Ferry, during func()) {
	t.Helper()
	run, stop := context.WithCancel(ctx)
	defer stop()
	ran := make(chan error, 1)
	go func() { ran <- f.RunContext(run) }()
	during()
	stop()
	mustBeInterrupted(t, <-ran)
}

// A run that was cancelled while it copied goes on behind the chunks that were finished.
func TestResumeAfterCancelledCopy(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		o := p.Shop(t, "resume_copy", 8000)
		writer := p.Write(t, o, 80)

		var before []*copies
		var copied uint64 // by all processes so far
		for _, batches := range []int{10, 25, 40} {
			f := shopFerry(p, o.Database, 100)
			mustStart(t, ctx, f)
			mustTellOfEarlier(t, f, copied)
			run, stop := context.WithCancel(ctx)
			now := &copies{}
			// Behind the Ferry's own: these rows are committed.
			f.DataIterator.AddBatchListener(now.listener(func(n int) {
				if n == batches {
					stop()
				}
			}))
			mustBeInterrupted(t, harness.RunStarted(run, f, nil))
			for _, earlier := range before {
				now.mustNotRepeat(t, earlier)
			}
			before = append(before, now)
			progress := f.Progress()
			copied = progress.RowsCopiedBefore + progress.RowsCopied
		}
		f := shopFerry(p, o.Database, 100)
		mustStart(t, ctx, f)
		mustTellOfEarlier(t, f, copied)
		if !f.Resuming() {
			t.Fatal("the run does not resume")
		}
		last := &copies{}
		f.DataIterator.AddBatchListener(last.listener(nil))
		if err := harness.RunStarted(ctx, f, harness.StopWriter(writer)); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		for _, earlier := range before {
			last.mustNotRepeat(t, earlier)
		}
		p.MustEqual(t, o.Database)
	})
}

// mustTellOfEarlier requires that a run that has not copied yet begins where earlier processes had
// come to. A batch may have been committed whose end they did not see.
func mustTellOfEarlier(t *testing.T, f *ghostferry.Ferry, copied uint64) {
	t.Helper()
	progress, o := f.Progress(), f.Overview()
	require.Zero(t, progress.RowsCopied)
	require.GreaterOrEqual(t, progress.RowsCopiedBefore, copied)
	require.LessOrEqual(t, progress.RowsCopiedBefore, copied+100*20)
	require.Equal(t, progress.RowsCopiedBefore, o.RowsCopiedBefore)
	var remains, sum uint64
	for name, table := range progress.Tables {
		sum += table.RowsWrittenBefore
		if table.CurrentAction != ghostferry.TableActionCompleted {
			remains += table.RowsEstimate - min(table.RowsEstimate, table.RowsWrittenBefore)
		}
		if table.RowsWrittenBefore > 0 {
			require.NotEqual(t, ghostferry.TableActionWaiting, table.CurrentAction, name)
		}
	}
	require.Equal(t, progress.RowsCopiedBefore, sum)
	require.Equal(t, remains, o.RowsRemaining)
}

// A run that was cancelled while it followed the source copies nothing again.
func TestResumeAfterCancelledFollow(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		o := p.Shop(t, "resume_follow", 2000)
		writer := p.Write(t, o, 80)

		for range 3 {
			f := shopFerry(p, o.Database, 500)
			f.Config.AutomaticCutover = false
			mustStart(t, ctx, f)
			resumed := f.Resuming()
			run, stop := context.WithCancel(ctx)
			applied := 0
			f.BinlogStreamer.AddEventListener(func(events []ghostferry.DMLEvent) error {
				if applied += len(events); applied > 100 && f.OverallState.Load() == ghostferry.StateWaitingForCutover {
					stop()
				}
				return nil
			})
			mustBeInterrupted(t, harness.RunStarted(run, f, nil))
			if copied := f.Progress().RowsCopied; resumed && copied != 0 {
				t.Fatalf("%d rows were copied again", copied)
			}
		}
		f := shopFerry(p, o.Database, 500)
		if err := harness.Move(ctx, f, harness.StopWriter(writer)); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		if copied := f.Progress().RowsCopied; copied != 0 {
			t.Fatalf("%d rows were copied again", copied)
		}
		at := f.Overview()
		require.Positive(t, at.RowsCopiedBefore)
		require.Zero(t, at.RowsRemaining)
		require.Equal(t, at.TablesTotal, at.TablesCompleted)
		p.MustEqual(t, o.Database)
	})
}

// A state as JSON is enough to go on from, for hosts that keep it themselves: the rows
// of finished ranges are not copied again.
func TestResumeFromState(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		o := p.Shop(t, "resume_state", 6000)
		writer := p.Write(t, o, 80)

		state := ""
		var before []*copies
		var copied uint64 // by all processes so far
		for _, batches := range []int{20, 30} {
			f := stateFerry(t, p, o.Database, state)
			mustStart(t, ctx, f)
			mustTellOfEarlier(t, f, copied)
			run, stop := context.WithCancel(ctx)
			now := &copies{}
			f.DataIterator.AddBatchListener(now.listener(func(n int) {
				if n == batches {
					stop()
				}
			}))
			mustBeInterrupted(t, harness.RunStarted(run, f, nil))
			for _, earlier := range before {
				now.mustNotRepeat(t, earlier)
			}
			before = append(before, now)
			progress := f.Progress()
			copied = progress.RowsCopiedBefore + progress.RowsCopied
			var err error
			if state, err = f.SerializeStateToJSON(); err != nil {
				t.Fatal(err)
			}
		}
		f := stateFerry(t, p, o.Database, state)
		mustStart(t, ctx, f)
		mustTellOfEarlier(t, f, copied)
		if !f.Resuming() {
			t.Fatal("the run did not resume")
		}
		last := &copies{}
		f.DataIterator.AddBatchListener(last.listener(nil))
		if err := harness.RunStarted(ctx, f, harness.StopWriter(writer)); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		for _, earlier := range before {
			last.mustNotRepeat(t, earlier)
		}
		p.MustEqual(t, o.Database)
	})
}

func stateFerry(t *testing.T, p *harness.Pair, database, state string) *ghostferry.Ferry {
	t.Helper()
	f := shopFerry(p, database, 100)
	f.Config.Checkpoint = "off"
	if state != "" {
		s := &ghostferry.SerializableState{}
		if err := json.Unmarshal([]byte(state), s); err != nil {
			t.Fatal(err)
		}
		f.Config.StateToResumeFrom = s
	}
	return f
}

// TestMoverProcess is the body of the processes that other tests kill.
func TestMoverProcess(t *testing.T) {
	if err := harness.MoverProcess(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// A mover that is killed at any instant goes on with the same command, copies no
// finished chunk again, and arrives.
func TestResumeAfterKill(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		const kills = 6
		o := p.Shop(t, "resume_kill", 8000)
		writer := p.Write(t, o, 80)
		var done chunks
		rng := rand.New(rand.NewPCG(1, 2))
		for range kills {
			m := p.StartMover(t, "TestMoverProcess", o.Database, 50)
			// An instant in the mover's life: after some of its lines, and a moment later.
			lines := rng.IntN(40)
			later := time.Duration(rng.IntN(20)) * time.Millisecond
			for range lines {
				line, ok := <-m.Lines
				if !ok {
					t.Fatal(m.Wait())
				}
				done.add(t, line)
			}
			<-time.After(later)
			m.Kill()
		}
		m := p.StartMover(t, "TestMoverProcess", o.Database, 50)
		for line := range m.Lines {
			done.add(t, line)
			if line == "copied" {
				break
			}
		}
		if _, err := writer.Stop(); err != nil {
			t.Fatal(err)
		}
		if err := m.Cutover(); err != nil {
			t.Fatal(err)
		}
		p.MustEqual(t, o.Database)
	})
}

// chunks are the key ranges of tables with one integer key that movers said they had copied.
type chunks map[string][][2]*big.Int

// add takes a mover's line and fails when it tells of a range that was copied before.
func (c *chunks) add(t *testing.T, line string) {
	t.Helper()
	words := strings.Fields(line)
	if len(words) != 5 || words[0] != "batch" {
		return
	}
	low, ok := new(big.Int).SetString(strings.TrimSuffix(words[3], ","), 10)
	if !ok {
		return // not one integer
	}
	high, _ := new(big.Int).SetString(strings.TrimSuffix(words[4], ","), 10)
	if *c == nil {
		*c = chunks{}
	}
	table := words[1]
	for _, r := range (*c)[table] {
		if low.Cmp(r[1]) <= 0 && high.Cmp(r[0]) >= 0 {
			t.Errorf("rows %d to %d of %s were copied again after %v", low, high, table, r)
		}
	}
	(*c)[table] = append((*c)[table], [2]*big.Int{low, high})
}

// A target table that lost its rows while no mover ran is copied again; so is one that
// the source had emptied and then filled.
func TestResumeWithEmptiedTables(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		p.Create(t, "emptied",
			"CREATE TABLE truncated (id INT PRIMARY KEY, v INT)", "CREATE TABLE queue (id INT AUTO_INCREMENT PRIMARY KEY, v INT)",
			"CREATE TABLE other (id INT PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, "emptied", "INSERT INTO truncated VALUES (1,1),(2,2),(3,3)", "INSERT INTO queue (v) VALUES (1),(2)", "INSERT INTO other VALUES (1,1)")
		f := shopFerry(p, "emptied", 1)
		f.Config.AutomaticCutover = false
		mustStart(t, ctx, f)
		f.DataIterator.AddDoneListener(func() error { return p.TryIn(ctx, p.SourceDB, "emptied", "DELETE FROM queue") })
		interrupt(t, ctx, f, func() {
			awaitRows(t, p.TargetDB, "emptied.queue", 0, f)
		})

		p.In(t, p.SourceDB, "emptied", "INSERT INTO queue (v) VALUES (3),(4),(5)", "UPDATE truncated SET v=v+10 WHERE id=2", "UPDATE other SET v=2")
		p.In(t, p.TargetDB, "emptied", "TRUNCATE TABLE truncated")
		f = shopFerry(p, "emptied", 1)
		if err := harness.Move(ctx, f, func() error { return nil }); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		p.MustEqual(t, "emptied")
		if copied := f.Progress().Tables["emptied.other"].RowsWritten; copied != 0 {
			t.Errorf("%d rows of a table that had lost nothing were copied again", copied)
		}
	})
}

// awaitRows waits until a table has so many rows and everything was copied once.
func awaitRows(t *testing.T, db *sql.DB, table string, n int, f *ghostferry.Ferry) {
	t.Helper()
	harness.Await(t, fmt.Sprintf("%s has %d rows", table, n), func() bool {
		return f.OverallState.Load() == ghostferry.StateWaitingForCutover && harness.Count(t, db, table) == n
	})
}

// A process that was taken over while it had nothing to write stores no last state over the other's,
// whose run it is.
func TestAFencedProcessStoresNoLastState(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		const schema = "fenced_store"
		p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY)")
		p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1),(2)")
		store := ghostferry.FileCheckpointStore{Directory: t.TempDir()}
		f := shopFerry(p, schema, 1)
		f.Config.CheckpointStore, f.Config.AutomaticCutover = store, false
		f.Config.StateReportFrequency = int(time.Hour.Milliseconds())
		mustStart(t, ctx, f)
		var others *ghostferry.SerializableState
		interrupt(t, ctx, f, func() {
			awaitRows(t, p.TargetDB, schema+".t", 2, f)
			p.In(t, p.TargetDB, "_ghostferry", "UPDATE runs SET epoch=epoch+1", "UPDATE lanes SET epoch=epoch+1")
			var err error
			others, err = store.LoadState(ctx, f.CheckpointRunID())
			require.NoError(t, err)
			others.Process = "another"
			require.NoError(t, store.SaveState(ctx, f.CheckpointRunID(), others))
		})
		require.NoError(t, f.Close())
		state, err := store.LoadState(ctx, f.CheckpointRunID())
		require.NoError(t, err)
		require.Equal(t, others, state)
	})
}

// A host's own store is enough to go on from, after a run that was interrupted, and is
// asked by itself. It holds no credentials, and neither does a state.
func TestResumeFromACheckpointStore(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		o := p.Shop(t, "resume_store", 3000)
		writer := p.Write(t, o, 60)
		directory := t.TempDir()
		store := &failingStore{FileCheckpointStore: ghostferry.FileCheckpointStore{Directory: directory}}
		ferry := func() *ghostferry.Ferry {
			f := stateFerry(t, p, o.Database, "")
			f.Config.CheckpointStore = store
			f.Config.StateReportFrequency = int(time.Hour.Milliseconds()) // at the ends only
			return f
		}

		f := ferry()
		mustStart(t, ctx, f)
		run, stop := context.WithCancel(ctx)
		first, last := &copies{}, &copies{}
		f.DataIterator.AddBatchListener(first.listener(func(n int) {
			if n == 20 {
				stop()
			}
		}))
		mustBeInterrupted(t, harness.RunStarted(run, f, nil))

		files, err := filepath.Glob(filepath.Join(directory, "*"))
		require.NoError(t, err)
		require.Len(t, files, 1)
		text, err := os.ReadFile(files[0])
		require.NoError(t, err)
		require.Contains(t, string(text), "SourceIdentity")
		require.NotContains(t, string(text), p.Source.Password())
		require.NotContains(t, string(text), p.Target.Password())

		f = ferry()
		mustStart(t, ctx, f)
		require.True(t, f.Resuming())
		ended := func() bool { // nothing was executed after the state that is stored
			state, err := store.LoadState(ctx, f.CheckpointRunID())
			require.NoError(t, err)
			return state.Final
		}
		require.True(t, ended())
		f.DataIterator.AddBatchListener(last.listener(func(int) { assert.False(t, ended()) }))
		require.NoError(t, harness.RunStarted(ctx, f, func() error {
			store.failures.Store(2) // of the last state's
			return harness.StopWriter(writer)()
		}))
		require.NoError(t, f.Close())
		require.Zero(t, store.failures.Load())
		require.True(t, ended())
		last.mustNotRepeat(t, first)
		p.MustEqual(t, o.Database)

		f = ferry()
		mustStart(t, ctx, f)
		err = harness.RunStarted(ctx, f, func() error {
			store.failures.Store(1000)
			return nil
		})
		require.ErrorIs(t, err, errDiskFull)
		require.ErrorContains(t, err, "start the same command again")
		require.True(t, ghostferry.Resumable(err))
		require.NoError(t, f.Close())

		// Another process goes on with the run, and has stored a state.
		store.failures.Store(0)
		f = ferry()
		f.Config.StateReportFrequency = 50
		f.Config.AutomaticCutover = false
		mustStart(t, ctx, f)
		others, err := store.LoadState(ctx, f.CheckpointRunID())
		require.NoError(t, err)
		others.Process = "another"
		ran := make(chan error, 1)
		go func() { ran <- f.RunContext(ctx) }()
		var runErr error
		harness.Await(t, "the run ends", func() bool {
			state, err := store.LoadState(ctx, f.CheckpointRunID())
			require.NoError(t, err)
			if state.Process != others.Process { // also of what it was just storing
				others.Epoch = state.Epoch + 1
				require.NoError(t, store.SaveState(ctx, f.CheckpointRunID(), others))
			}
			select {
			case runErr = <-ran:
				return true
			default:
				return false
			}
		})
		var fenced *ghostferry.FencedError
		require.ErrorAs(t, runErr, &fenced)
		require.ErrorContains(t, runErr, "CheckpointStore")
		require.False(t, ghostferry.Resumable(runErr))
		require.NoError(t, f.Close())

		// The run is begun afresh, and that process goes on all the same.
		p.Shop(t, o.Database, 300)
		f = ferry()
		require.NoError(t, f.InitializeContext(ctx))
		require.True(t, f.Resuming())
		require.NoError(t, f.ForgetCheckpoint(ctx))
		require.False(t, f.Resuming())
		require.NoError(t, f.StartContext(ctx))
		require.NoError(t, harness.RunStarted(ctx, f, func() error {
			return store.SaveState(ctx, f.CheckpointRunID(), others)
		}))
		state, err := store.LoadState(ctx, f.CheckpointRunID())
		require.NoError(t, err)
		require.Equal(t, others.Epoch+1, state.Epoch)
		require.True(t, state.Final)
		require.NoError(t, f.Close())
		p.MustEqual(t, o.Database)
	})
}

// failingStore fails to save so many states.
type failingStore struct {
	ghostferry.FileCheckpointStore
	failures atomic.Int32
}

var errDiskFull = errors.New("the disk is full")

func (s *failingStore) SaveState(ctx context.Context, runID string, state *ghostferry.SerializableState) error {
	if s.failures.Load() > 0 {
		s.failures.Add(-1)
		return errDiskFull
	}
	return s.FileCheckpointStore.SaveState(ctx, runID, state)
}
