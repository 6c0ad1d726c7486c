package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// What hosts written for upstream rely on, beside what the tests of the components show.

// unignored chooses the tables of a schema whose names do not begin with "ignored".
type unignored [1]string

func (u unignored) ApplicableDatabases([]string) ([]string, error) { return u[:], nil }

func (unignored) ApplicableTables(tables []*ghostferry.TableSchema) ([]*ghostferry.TableSchema, error) {
	return slices.DeleteFunc(slices.Clone(tables), func(t *ghostferry.TableSchema) bool { return strings.HasPrefix(t.Name, "ignored") }), nil
}

// A table that comes into a moved schema while its rows are copied is not moved: before the
// cutover the log says so, of one that the filter would choose.
func TestTablesThatComeDuringARunAreTold(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, "newcomers", "CREATE TABLE a (id BIGINT PRIMARY KEY)")
		p.In(t, p.SourceDB, "newcomers", "INSERT INTO a VALUES (1)", "CREATE TABLE ignored_before (id INT PRIMARY KEY)")
		logger, lines := logtest.NewNullLogger()
		config := p.Config()
		config.Logger = logger
		config.TableFilter = unignored{"newcomers"}
		f := &ghostferry.Ferry{Config: config}
		mustStart(t, t.Context(), f)
		f.DataIterator.AddDoneListener(func() error {
			return p.TryIn(t.Context(), p.SourceDB, "newcomers", "CREATE TABLE b (id INT PRIMARY KEY)", "CREATE TABLE ignored_later (id INT PRIMARY KEY)")
		})
		if err := errors.Join(harness.RunStarted(t.Context(), f, func() error { return nil }), f.Close()); err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, line := range lines.AllEntries() {
			if strings.Contains(line.Message, "not there when the run began") {
				told = append(told, fmt.Sprint(line.Data["table"]))
			}
		}
		if len(told) != 1 || told[0] != "newcomers.b" {
			t.Errorf("told of %v", told)
		}
	})
}

// Initialize sets what a host reads before anything can fail, returns what fails, and
// nothing can be made before it.
func TestInitializeInOrder(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		logger, lines := logtest.NewNullLogger()
		config := p.Config("no_such_schema")
		config.Logger = logger
		config.Source.Pass = "wrong"
		f := &ghostferry.Ferry{Config: config}
		for name, build := range map[string]func(){
			"NewDataIterator": func() { f.NewDataIterator() }, "NewSourceBinlogStreamer": func() { f.NewSourceBinlogStreamer() },
			"NewBinlogWriter": func() { f.NewBinlogWriter() }, "NewBatchWriter": func() { f.NewBatchWriter() },
		} {
			if said := recovered(build); said != "ferry has not been initialized" {
				t.Errorf("%s before Initialize: %v", name, said)
			}
		}
		if _, err := f.SerializeStateToJSON(); err == nil || err.Error() != "no valid StateTracker" {
			t.Errorf("a state before Initialize: %v", err)
		}
		if err := f.StartContext(t.Context()); err == nil || err.Error() != "Start comes after Initialize" {
			t.Errorf("Start before Initialize: %v", err)
		}
		other := &ghostferry.Ferry{Config: p.Config("no_such_schema")}
		for _, want := range []string{"Run comes after Start", "Run was called before"} {
			if err := other.RunContext(t.Context()); err == nil || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("Run before Start: %v", err)
			}
		}
		if err := other.WaitUntilRowCopyIsCompleteContext(t.Context()); err == nil {
			t.Error("the rows of a run that never was are complete")
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
		if first := lines.AllEntries()[0]; first.Message != "hello world from "+ghostferry.BuildVersion() || first.Data["tag"] != "ferry" {
			t.Errorf("the first line is %q with tag %v", first.Message, first.Data["tag"])
		}

		p.Create(t, aloneSchema, "CREATE TABLE a (id BIGINT PRIMARY KEY)")
		failed := &failures{}
		for _, verifier := range []string{ghostferry.VerifierTypeOnline, ghostferry.VerifierTypeNoVerification} {
			both := &ghostferry.Ferry{Config: p.Config(aloneSchema), Verifier: &ghostferry.ChecksumTableVerifier{}, ErrorHandler: failed}
			both.VerifierType = verifier
			if err := both.Initialize(); err == nil || !strings.Contains(err.Error(), "mutually exclusive options") {
				t.Errorf("VerifierType %s and Verifier: %v", verifier, err)
			}
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
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
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

		// A table that is not in the order would not be copied, and nothing would say so.
		elsewhere := &ghostferry.TableSchema{Table: &schema.Table{Schema: aloneSchema, Name: "elsewhere"}}
		type order = []ghostferry.TableMaxPaginationKey
		for what, wrong := range map[string]wrongOrder{
			"b is missing":            func(s order) order { return slices.Delete(s, 1, 2) },
			"a is there twice":        func(s order) order { return append(s, s[2]) },
			"elsewhere was not given": func(s order) order { return append(s, ghostferry.TableMaxPaginationKey{Table: elsewhere}) },
			"an entry has no table":   func(s order) order { return append(s, ghostferry.TableMaxPaginationKey{}) },
		} {
			d = c.iterator()
			d.TableSorter = wrong
			d.AddBatchListener(func(*ghostferry.RowBatch) error { t.Error("rows are copied"); return nil })
			if err := d.RunContext(t.Context(), c.tables.AsSlice()); err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("%v, wanted %s", err, what)
			}
		}
	})
}

// wrongOrder changes what a sorter should return.
type wrongOrder func(sorted []ghostferry.TableMaxPaginationKey) []ghostferry.TableMaxPaginationKey

func (w wrongOrder) Sort(tables map[*ghostferry.TableSchema]ghostferry.PaginationKey) ([]ghostferry.TableMaxPaginationKey, error) {
	sorted, err := (&byNameDown{}).Sort(tables)
	return w(sorted), err
}

var errSorter = errors.New("no order")

type failingSorter struct{}

func (failingSorter) Sort(map[*ghostferry.TableSchema]ghostferry.PaginationKey) ([]ghostferry.TableMaxPaginationKey, error) {
	return nil, errSorter
}

// More values in a batch than a prepared statement can have.
func TestMoveWideTables(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
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
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, aloneSchema, "CREATE TABLE a (id BIGINT PRIMARY KEY)", "CREATE TABLE hollow (id BIGINT PRIMARY KEY)")
		p.In(t, p.SourceDB, aloneSchema, "INSERT INTO a WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 100) SELECT i FROM n")
		f := settled(t, p, []string{aloneSchema}, func(f *ghostferry.Ferry) { f.ProgressCallback.Payload = "mine" })
		ctx := minute(t)
		if err := f.InitializeContext(ctx); err != nil {
			t.Fatal(err)
		}
		if progress := f.Progress(); progress.ETA != 0 || progress.BinlogStreamerLag != 0 || progress.BinlogWriterLag != 0 || progress.FinalBinlogPos.Name != "" || progress.CustomPayload != "mine" || progress.ActiveDataIterators != 0 {
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

// The reports of a run reach their endpoints, with the host's own payload inside.
func TestCallbacksOfARun(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, aloneSchema, "CREATE TABLE a (id BIGINT PRIMARY KEY)")
		p.In(t, p.SourceDB, aloneSchema, "INSERT INTO a VALUES (1)")
		var mu sync.Mutex
		states := map[string]bool{} // of progress reports
		reported := make(chan struct{}, 1)
		endpoint := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			var body struct{ Payload string }
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			switch r.URL.Path {
			case "/progress":
				var progress ghostferry.Progress
				// Keys are of kinds that encoding/json cannot choose among.
				_ = json.Unmarshal([]byte(body.Payload), &progress)
				if progress.CustomPayload != "mine" {
					t.Errorf("a report without the host's payload: %s", body.Payload)
				}
				states[progress.CurrentState] = true
			case "/state":
				var state ghostferry.SerializableState
				if err := json.Unmarshal([]byte(body.Payload), &state); err != nil || state.LastWrittenBinlogPosition.Name == "" {
					t.Errorf("a state that nothing can go on from: %v: %s", err, body.Payload)
				}
				select {
				case reported <- struct{}{}:
				default:
				}
			}
		}))
		defer endpoint.Close()
		f := settled(t, p, []string{aloneSchema}, func(f *ghostferry.Ferry) {
			f.ProgressCallback = ghostferry.HTTPCallback{URI: endpoint.URL + "/progress", Payload: "mine"}
			f.StateCallback, f.StateReportFrequency = ghostferry.HTTPCallback{URI: endpoint.URL + "/state"}, 1
			f.ProgressReportFrequency = 3600 * 1000 // only those at the changes of state
		})
		if err := harness.Move(minute(t), f, func() error { <-reported; return nil }); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if !states[ghostferry.StateCutover] || !states[ghostferry.StateDone] {
			t.Errorf("progress was reported in the states %v", states)
		}
	})
}

// The control server's status has every field of the contract, in its shape; an empty table
// does it no harm. Its orders take effect.
func TestControlServerStatus(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, aloneSchema, "CREATE TABLE a (id BIGINT PRIMARY KEY)", "CREATE TABLE hollow (id BIGINT PRIMARY KEY)", "CREATE TABLE b (id BIGINT PRIMARY KEY)")
		p.In(t, p.SourceDB, aloneSchema, "INSERT INTO a VALUES (1)", "INSERT INTO b VALUES (1)")
		f := settled(t, p, []string{aloneSchema}, func(f *ghostferry.Ferry) {
			f.ControlServerConfig = &ghostferry.ControlServerConfig{Enabled: true, ServerBindAddr: "127.0.0.1:0", Token: "a-token-of-the-tests-own"}
		})
		err := harness.Move(minute(t), f, func() error {
			send := func(method, path, body string) (int, []byte) {
				r := httptest.NewRequest(method, "http://127.0.0.1"+path, strings.NewReader(body))
				r.Header.Set("Authorization", "Bearer a-token-of-the-tests-own")
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set(ghostferry.ControlHeader, "1")
				w := httptest.NewRecorder()
				f.ControlServer.ServeHTTP(w, r)
				return w.Code, w.Body.Bytes()
			}
			ctx := minute(t)
			var body []byte
			for code := 0; !strings.Contains(string(body), `"OverallState":"cutover"`); code, body = send("GET", "/api/status", "") {
				select { // what it says may be a second old
				case <-ctx.Done():
					return fmt.Errorf("%d: %s", code, body)
				case <-time.After(10 * time.Millisecond):
				}
			}
			statusIsWhole(t, p, body)
			for order, want := range map[string]int{"/api/verify": http.StatusNotImplemented, "/api/stop": http.StatusNotImplemented, "/api/nothing": http.StatusNotFound} {
				if code, body := send("POST", order, "{}"); code != want {
					t.Errorf("%s: %d %s", order, code, body)
				}
			}
			if code, _ := send("POST", "/api/cutover", `{"type":"perhaps"}`); code != http.StatusBadRequest {
				t.Errorf("an unknown kind of cutover: %d", code)
			}
			if code, _ := send("POST", "/api/pause", ""); code != http.StatusOK || !f.Throttler.Throttled() {
				t.Errorf("pause: %d", code)
			}
			if code, _ := send("POST", "/api/unpause", ""); code != http.StatusOK || f.Throttler.Throttled() {
				t.Errorf("unpause: %d", code)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func statusIsWhole(t *testing.T, p *harness.Pair, body []byte) {
	t.Helper()
	var document map[string]any
	if err := json.Unmarshal(body, &document); err != nil {
		t.Fatal(err)
	}
	for _, field := range strings.Fields(`GhostferryVersion SourceHostPort TargetHostPort OverallState StartTime CurrentTime TimeTaken ETA
		BinlogStreamerLag AutomaticCutover BinlogStreamerStopRequested CompletedTableCount TotalTableCount TableStatuses AllTableNames
		AllDatabaseNames VerifierSupport VerifierAvailable VerificationStarted VerificationDone VerificationResult VerificationErr
		CustomScriptStatuses CurrentState CustomPayload Tables LastSuccessfulBinlogPos BinlogWriterLag Throttled TargetBinlogStreamerLag
		ActiveDataIterators VerifierType VerifierMessage FinalBinlogPos PaginationKeysPerSecond`) {
		if _, ok := document[field]; !ok {
			t.Errorf("the status has no %s", field)
		}
	}
	for _, field := range []string{"TimeTaken", "ETA", "BinlogStreamerLag"} {
		if number, ok := document[field].(float64); !ok || number != float64(int64(number)) {
			t.Errorf("%s is %v, not whole seconds", field, document[field])
		}
	}
	var tables []string
	for _, table := range document["TableStatuses"].([]any) {
		fields := table.(map[string]any)
		tables = append(tables, fmt.Sprintf("%v %v %v", fields["TableName"], fields["Status"], fields["PaginationKeyName"]))
	}
	mustBe(t, "tables", tables, []string{"alone.a completed id", "alone.b completed id", "alone.hollow completed id"})
	got := fmt.Sprint(document["SourceHostPort"], document["OverallState"], document["TotalTableCount"], document["AllDatabaseNames"], document["VerifierSupport"])
	if want := fmt.Sprint(fmt.Sprintf("%s:%d", p.Source.Host, p.Source.Port), ghostferry.StateCutover, 3, []string{aloneSchema}, false); got != want {
		t.Errorf("the status says %s instead of %s", got, want)
	}
}

// Tables are copied apart from the run, with every row compared; one that differs from
// what is there fails.
func TestStandaloneDataCopy(t *testing.T) {
	onSomeSettings(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, aloneSchema, "CREATE TABLE a (id BIGINT PRIMARY KEY, v VARCHAR(9))", "CREATE TABLE apart (id BIGINT PRIMARY KEY, v VARCHAR(9))")
		p.In(t, p.SourceDB, aloneSchema, "INSERT INTO a VALUES (1,'x')", "INSERT INTO apart VALUES (1,'x'),(2,'y')")
		f := settled(t, p, []string{aloneSchema}, func(*ghostferry.Ferry) {})
		ctx := minute(t)
		if err := f.InitializeContext(ctx); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		if err := f.RunStandaloneDataCopyContext(ctx, nil); err != nil {
			t.Errorf("no table: %v", err)
		}
		apart := []*ghostferry.TableSchema{f.Tables.Get(aloneSchema, "apart")}
		for range 2 { // rows that are there and equal do no harm
			if err := f.RunStandaloneDataCopyContext(ctx, apart); err != nil {
				t.Fatal(err)
			}
		}
		mustBe(t, "rows", harness.Rows(t, p.TargetDB, "SELECT * FROM alone.apart ORDER BY id"), []string{`"1"|"x"|`, `"2"|"y"|`})
		if n := harness.Count(t, p.TargetDB, "alone.a"); n != 0 {
			t.Errorf("%d rows of a table that was not asked for", n)
		}
		if f.StateTracker.IsTableComplete("alone.apart") {
			t.Error("the copy left a trace in the state")
		}
		p.In(t, p.TargetDB, aloneSchema, "UPDATE apart SET v='other' WHERE id=2")
		var differs ghostferry.BatchWriterVerificationFailed
		if err := f.RunStandaloneDataCopyContext(ctx, apart); !errors.As(err, &differs) {
			t.Errorf("a row that differs: %v", err)
		}
		failed := &failures{}
		f.ErrorHandler = failed
		if err := f.RunStandaloneDataCopy(apart); err == nil {
			t.Error("the error is not returned")
		}
		if len(failed.errs) != 1 {
			t.Errorf("the handler was told %v", failed.errs)
		}
	})
}

// Every line of a run's log says which component it is of, in the words that hosts filter by.
func TestTagsOfLogLines(t *testing.T) {
	known := strings.Fields(`ferry config cursor data_iterator batch_writer binlog_writer source_binlog_streamer
		target_binlog_streamer inline-verifier iterative_verifier binlog_verify_store reverify_store checksum_verifier
		compression_verifier target_verifier table_schema_cache throttler wait_replica error_handler http-callback
		control_server metrics copydb sharding online_verifier verifier preflight late_write_check`)
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
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
