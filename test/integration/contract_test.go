package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// What hosts written for upstream rely on, beside what the tests of the components show.

// Initialize sets what a host reads before anything can fail, returns what fails, and
// nothing can be made before it.
func TestInitializeInOrder(t *testing.T) {
	onEachSetting(t, func(t *testing.T, p *harness.Pair) {
		logger, lines := logtest.NewNullLogger()
		config := p.Config("no_such_schema")
		config.Logger = logger
		config.Source.Pass = "wrong"
		f := &ghostferry.Ferry{Config: config}
		for name, make := range map[string]func(){
			"NewDataIterator": func() { f.NewDataIterator() }, "NewSourceBinlogStreamer": func() { f.NewSourceBinlogStreamer() },
			"NewBinlogWriter": func() { f.NewBinlogWriter() }, "NewBatchWriter": func() { f.NewBatchWriter() },
		} {
			if said := recovered(make); said != "ferry has not been initialized" {
				t.Errorf("%s before Initialize: %v", name, said)
			}
		}
		if _, err := f.SerializeStateToJSON(); err == nil || err.Error() != "no valid StateTracker" {
			t.Errorf("a state before Initialize: %v", err)
		}
		before := time.Now().Truncate(time.Second)
		if err := f.Initialize(); err == nil || !strings.Contains(err.Error(), "source") {
			t.Errorf("a wrong password: %v", err)
		}
		if f.StartTime.Before(before) || f.StartTime.Nanosecond() != 0 || f.OverallState.Load() != ghostferry.StateStarting {
			t.Errorf("started at %v, in state %v", f.StartTime, f.OverallState.Load())
		}
		if handler, ok := f.ErrorHandler.(*ghostferry.PanicErrorHandler); !ok || handler.Ferry != f {
			t.Errorf("the error handler is %T", f.ErrorHandler)
		}
		if first := lines.AllEntries()[0]; first.Message != "hello world from "+ghostferry.VersionString || first.Data["tag"] != "ferry" {
			t.Errorf("the first line is %q with tag %v", first.Message, first.Data["tag"])
		}

		p.Create(t, aloneSchema, "CREATE TABLE a (id BIGINT PRIMARY KEY)")
		failed := &failures{}
		both := &ghostferry.Ferry{Config: p.Config(aloneSchema), Verifier: &ghostferry.ChecksumTableVerifier{}, ErrorHandler: failed}
		if err := both.Initialize(); err == nil || !strings.Contains(err.Error(), "mutually exclusive options") {
			t.Errorf("VerifierType and Verifier: %v", err)
		}
		failed.none(t)
	})
}

func recovered(f func()) (said any) {
	defer func() { said = recover() }()
	f()
	return nil
}

// Any number of goroutines may wait until the rows are copied, also when they have been.
func TestEveryWaiterIsReleased(t *testing.T) {
	onEachSetting(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, aloneSchema, "CREATE TABLE a (id BIGINT PRIMARY KEY)")
		p.In(t, p.SourceDB, aloneSchema, "INSERT INTO a VALUES (1)")
		f := settled(t, p, []string{aloneSchema}, func(*ghostferry.Ferry) {})
		var waiters sync.WaitGroup
		ctx := minute(t)
		if err := f.InitializeContext(ctx); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			waiters.Go(f.WaitUntilRowCopyIsComplete)
		}
		if err := f.StartContext(ctx); err != nil {
			t.Fatal(err)
		}
		if err := harness.RunStarted(ctx, f, func() error { waiters.Wait(); return nil }); err != nil {
			t.Fatal(err)
		}
		f.WaitUntilRowCopyIsComplete()
		_ = f.Close()
	})
}

// byNameDown is a DataIteratorSorter.
type byNameDown struct{ sorted []string }

func (s *byNameDown) Sort(tables map[*ghostferry.TableSchema]ghostferry.PaginationKey) (out []ghostferry.TableMaxPaginationKey, err error) {
	for table, key := range tables {
		out = append(out, ghostferry.TableMaxPaginationKey{Table: table, MaxPaginationKey: key})
	}
	slices.SortFunc(out, func(a, b ghostferry.TableMaxPaginationKey) int { return strings.Compare(b.Table.Name, a.Table.Name) })
	for _, t := range out {
		s.sorted = append(s.sorted, t.Table.Name)
	}
	return out, nil
}

// The host's order of tables is the copy's; a sorter that fails ends it.
func TestTableSorterIsUsed(t *testing.T) {
	onEachMaking(t, []string{
		"CREATE TABLE a (id BIGINT PRIMARY KEY)", "CREATE TABLE b (id BIGINT PRIMARY KEY)", "CREATE TABLE c (id BIGINT PRIMARY KEY)",
	}, func(t *testing.T, c *parts) {
		c.onSource(t, "INSERT INTO a VALUES (1),(2),(3)", "INSERT INTO b VALUES (1)", "INSERT INTO c VALUES (1)")
		d := c.iterator()
		d.Concurrency = 1
		sorter := &byNameDown{}
		d.TableSorter = sorter
		copied := &listed{}
		d.AddBatchListener(func(b *ghostferry.RowBatch) error { copied.say("%s", b.TableSchema().Name); return nil })
		d.Run(c.tables.AsSlice())
		c.failed.none(t)
		mustBe(t, "sorted", sorter.sorted, []string{"c", "b", "a"})
		mustBe(t, "copied", copied.all(), sorter.sorted)

		d = c.iterator()
		d.TableSorter = failingSorter{}
		d.Run(c.tables.AsSlice())
		if err := c.failed.one(t, "data_iterator"); !errors.Is(err, errSorter) {
			t.Error(err)
		}
	})
}

var errSorter = errors.New("no order")

type failingSorter struct{}

func (failingSorter) Sort(map[*ghostferry.TableSchema]ghostferry.PaginationKey) ([]ghostferry.TableMaxPaginationKey, error) {
	return nil, errSorter
}

// More values in a batch than a prepared statement can have.
func TestMoveWideTables(t *testing.T) {
	onEachSetting(t, func(t *testing.T, p *harness.Pair) {
		columns := make([]string, 1000)
		for i := range columns {
			columns[i] = fmt.Sprintf("c%d SMALLINT NOT NULL DEFAULT %d", i, i)
		}
		p.Create(t, aloneSchema, "CREATE TABLE a (id BIGINT PRIMARY KEY, "+strings.Join(columns, ",")+")")
		p.In(t, p.SourceDB, aloneSchema, "INSERT INTO a (id) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 300) SELECT i FROM n")
		f := settled(t, p, []string{aloneSchema}, func(f *ghostferry.Ferry) {
			f.UpdatableConfig.DataIterationBatchSize = 200
			f.BulkLoad = "off"
		})
		err := harness.Move(minute(t), f, func() error {
			_, err := p.SourceDB.Exec("UPDATE alone.a SET c7=-1, c999=id")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		p.MustEqual(t, aloneSchema)
	})
}

// A run whose tables rest on a server that does not moves its position on.
func TestPositionOfAQuietRun(t *testing.T) {
	onEachSetting(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, aloneSchema, "CREATE TABLE a (id BIGINT PRIMARY KEY)")
		p.Create(t, "alone_elsewhere", "CREATE TABLE b (id BIGINT PRIMARY KEY)")
		p.In(t, p.SourceDB, aloneSchema, "INSERT INTO a VALUES (1)")
		f := settled(t, p, []string{aloneSchema}, func(*ghostferry.Ferry) {})
		err := harness.Move(minute(t), f, func() error {
			began := f.StateTracker.Serialize(nil, nil).LastWrittenBinlogPosition
			p.In(t, p.SourceDB, "alone_elsewhere", "INSERT INTO b VALUES (1)", "INSERT INTO b VALUES (2)")
			ctx := minute(t)
			for f.StateTracker.Serialize(nil, nil).LastWrittenBinlogPosition.Compare(began) <= 0 {
				select {
				case <-ctx.Done():
					return fmt.Errorf("the position stays at %v", began)
				case <-time.After(10 * time.Millisecond):
				}
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// The progress says what is known, and 0 for what is not.
func TestProgressOfARun(t *testing.T) {
	onEachSetting(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, aloneSchema, "CREATE TABLE a (id BIGINT PRIMARY KEY)", "CREATE TABLE hollow (id BIGINT PRIMARY KEY)")
		p.In(t, p.SourceDB, aloneSchema, "INSERT INTO a WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 100) SELECT i FROM n")
		f := settled(t, p, []string{aloneSchema}, func(f *ghostferry.Ferry) { f.ProgressCallback.Payload = "mine" })
		ctx := minute(t)
		if err := f.InitializeContext(ctx); err != nil {
			t.Fatal(err)
		}
		if progress := f.Progress(); progress.ETA != 0 || progress.FinalBinlogPos.Name != "" || progress.CustomPayload != "mine" || progress.ActiveDataIterators != 0 {
			t.Errorf("before the start: %+v", progress)
		}
		f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error {
			if progress := f.Progress(); progress.ETA < 0 || progress.CurrentState != ghostferry.StateCopying {
				t.Errorf("while it copies: %+v", progress)
			}
			return nil
		})
		if err := f.StartContext(ctx); err != nil {
			t.Fatal(err)
		}
		err := harness.RunStarted(ctx, f, func() error {
			p.In(t, p.SourceDB, aloneSchema, "INSERT INTO a VALUES (1000)") // behind the highest key
			if progress := f.Progress(); progress.FinalBinlogPos.Name != "" || progress.CurrentState != ghostferry.StateCutover {
				t.Errorf("before the stop: %+v", progress)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		progress := f.Progress()
		_ = f.Close()
		a := progress.Tables["alone.a"]
		if progress.ETA != 0 || progress.FinalBinlogPos.Name == "" || progress.FinalBinlogPos.Compare(progress.LastSuccessfulBinlogPos) > 0 ||
			a.CurrentAction != ghostferry.TableActionCompleted || a.RowsWritten != 100 || a.BytesWritten == 0 ||
			progress.Tables["alone.hollow"].CurrentAction != ghostferry.TableActionCompleted || progress.CurrentState != ghostferry.StateDone {
			t.Errorf("at the end: %+v", progress)
		}
	})
}

// Every line of a run's log says which component it is of, in the words that hosts filter by.
func TestTagsOfLogLines(t *testing.T) {
	known := strings.Fields(`ferry config cursor data_iterator batch_writer binlog_writer source_binlog_streamer
		target_binlog_streamer inline-verifier iterative_verifier binlog_verify_store reverify_store checksum_verifier
		compression_verifier target_verifier table_schema_cache throttler wait_replica error_handler http-callback
		control_server metrics copydb sharding online_verifier verifier preflight late_write_check`)
	onEachSetting(t, func(t *testing.T, p *harness.Pair) {
		o := p.Shop(t, "tags", 300)
		writer := p.Write(t, o, 50)
		logger, lines := logtest.NewNullLogger()
		logger.SetLevel(logrus.DebugLevel)
		config := p.Config("tags")
		config.Logger = logger
		if err := harness.Move(minute(t), &ghostferry.Ferry{Config: config}, harness.StopWriter(writer)); err != nil {
			t.Fatal(err)
		}
		seen := map[any]bool{}
		for _, line := range lines.AllEntries() {
			tag, _ := line.Data["tag"].(string)
			if seen[tag] = true; !slices.Contains(known, tag) {
				t.Errorf("%q has the tag %q", line.Message, tag)
			}
		}
		if !seen["ferry"] || !seen["source_binlog_streamer"] {
			t.Errorf("lines of %v only", seen)
		}
	})
}

