package compat

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	sq "github.com/Masterminds/squirrel"
	"github.com/go-mysql-org/go-mysql/mysql"
	driver "github.com/go-sql-driver/mysql"

	"github.com/ghostferry-go/ghostferry"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// hostFerry is how test helpers of hosts wrap a run: they embed it and override methods.
type hostFerry struct {
	*ghostferry.Ferry
	started chan struct{}
}

func (h *hostFerry) Initialize() error { return h.Ferry.Initialize() }
func (h *hostFerry) Start() error      { defer close(h.started); return h.Ferry.Start() }
func (h *hostFerry) Run()              { h.Ferry.Run() }

// What follows is the code of a host: it has to compile as it is. Nothing of it is run here;
// examples/customcutover is, and the integration tests of the components are.
var _ = []any{hostConfig, hostMove, hostParts, hostVerifiers, hostState, hostHelpers}

func hostConfig(db *sql.DB, tables ghostferry.TableSchemaCache) (*ghostferry.Config, error) {
	override := &ghostferry.DataIterationBatchSizePerTableOverride{
		MinRowSize: 1, MaxRowSize: 2, ControlPoints: map[int]uint64{1: 2, 2: 1}, TableOverride: map[string]map[string]uint64{},
	}
	config := &ghostferry.Config{
		Source:           &ghostferry.DatabaseConfig{Host: "a", Port: 3306, User: "u", Pass: "p", Collation: "utf8mb4_bin", Params: map[string]string{}},
		Target:           &ghostferry.DatabaseConfig{Host: "b", Port: 3306, User: "u", Net: "tcp", TLS: &ghostferry.TLSConfig{CertPath: "ca", ServerName: "b"}},
		DatabaseRewrites: map[string]string{"a": "b"}, TableRewrites: map[string]string{"a": "b"},
		DBWriteRetries: 1, DBReadRetries: 1, TableFilter: hostFilter{}, CopyFilter: hostFilter{}, MyServerId: 1,
		BinlogEventBatchSize: 1, DataIterationBatchSizePerTableOverride: override, DataIterationConcurrency: 1,
		AutomaticCutover: true, DumpStateOnSignal: true, DumpStateToStdoutOnError: true, DoNotIncludeSchemaCacheInStateDump: true,
		ControlServerConfig: &ghostferry.ControlServerConfig{Enabled: true, ServerBindAddr: "127.0.0.1:0", WebBasedir: ".", CustomScripts: map[string][]string{"a": {"b"}}},
		ProgressCallback:    ghostferry.HTTPCallback{URI: "http://a", Payload: "b"}, ProgressReportFrequency: 1,
		StateCallback: ghostferry.HTTPCallback{}, StateReportFrequency: 1, ErrorCallback: ghostferry.HTTPCallback{},
		CutoverLock: ghostferry.HTTPCallback{}, CutoverUnlock: ghostferry.HTTPCallback{}, MaxCutoverRetries: 1, CutoverRetryWaitSeconds: 1,
		StateToResumeFrom: &ghostferry.SerializableState{}, VerifierType: ghostferry.VerifierTypeIterative,
		IterativeVerifierConfig: ghostferry.IterativeVerifierConfig{
			IgnoredTables: []string{"a"}, IgnoredColumns: map[string][]string{"a": {"b"}}, Concurrency: 1, MaxExpectedDowntime: "1s",
			TableColumnCompression: ghostferry.TableColumnCompressionConfig{"a": {"b": ghostferry.CompressionSnappy}},
		},
		InlineVerifierConfig:             ghostferry.InlineVerifierConfig{MaxExpectedDowntime: "1s", VerifyBinlogEventsInterval: "1s"},
		CompressedColumnsForVerification: ghostferry.ColumnCompressionConfig{"a": {"b": {"c": "SNAPPY"}}},
		IgnoredColumnsForVerification:    ghostferry.ColumnIgnoreConfig{"a": {"b": {"c": struct{}{}}}},
		ForceIndexForVerification:        ghostferry.ForceIndexConfig{"a": {"b": "c"}},
		CascadingPaginationColumnConfig:  &ghostferry.CascadingPaginationColumnConfig{PerTable: map[string]map[string]string{"a": {"b": "c"}}, FallbackColumn: "id"},
		SkipTargetVerification:           true, SkipForeignKeyConstraintsCheck: true, EnableRowBatchSize: true,
		AllowSuperUserOnReadOnly: true, EnablePProf: true,
		UpdatableConfig: ghostferry.UpdatableConfig{DataIterationBatchSize: 1},
	}
	if _, err := config.Source.SqlDB(ghostferry.LogWithField("tag", "host")); err != nil {
		return nil, err
	}
	if err := override.UpdateBatchSizes(db, tables); err != nil {
		return nil, err
	}
	config.Update(ghostferry.UpdatableConfig{DataIterationBatchSize: 2})
	return config, config.ValidateConfig()
}

func hostMove(config *ghostferry.Config, listener func(*ghostferry.RowBatch) error) error {
	f := &hostFerry{Ferry: &ghostferry.Ferry{Config: config, Throttler: hostThrottler{}, ErrorHandler: hostErrorHandler{}, Verifier: hostVerifier{}}, started: make(chan struct{})}
	f.WaitUntilReplicaIsCaughtUpToMaster = &ghostferry.WaitUntilReplicaIsCaughtUpToMaster{
		MasterDB: f.SourceDB, ReplicatedMasterPositionFetcher: ghostferry.ReplicatedMasterPositionViaCustomQuery{Query: "SELECT 1"}, Timeout: time.Second,
	}
	if err := f.Initialize(); err != nil {
		return err
	}
	f.DataIterator.AddBatchListener(listener)
	f.BinlogStreamer.AddEventListener(func([]ghostferry.DMLEvent) error { return nil })
	if err := f.Start(); err != nil {
		return err
	}
	var run sync.WaitGroup
	run.Go(f.Run)
	f.WaitUntilRowCopyIsComplete()
	f.WaitUntilBinlogStreamerCatchesUp()
	began := f.StartCutover()
	f.FlushBinlogAndStopStreaming()
	run.Wait()
	if _, err := f.Verifier.VerifyDuringCutover(); err != nil {
		return err
	}
	if err := f.RunStandaloneDataCopy(f.Tables.AsSlice()); err != nil {
		return err
	}
	f.StopTargetVerifier()
	f.EndCutover(began)
	f.ReportProgress()
	f.ReportState()
	f.ErrorHandler.Fatal("host", f.ControlServer.Initialize())
	f.ControlServer.Run()
	state, _ := f.OverallState.Load().(string)
	progress := f.Progress()
	for _, seen := range []any{
		f.SourceDB, f.TargetDB, f.TargetVerifier, f.BinlogWriter, f.BatchWriter, f.StateTracker, f.StartTime, f.DoneTime,
		progress.CurrentState, progress.CustomPayload, progress.Tables, progress.LastSuccessfulBinlogPos, progress.BinlogStreamerLag,
		progress.BinlogWriterLag, progress.Throttled, progress.TargetBinlogStreamerLag, progress.VerifierType, progress.FinalBinlogPos,
		f.ControlServer.Config, f.ControlServer.F, f.ControlServer.Verifier, f.Throttler, ghostferry.TableProgress{},
	} {
		_ = seen
	}
	switch state {
	case ghostferry.StateStarting, ghostferry.StateCopying, ghostferry.StateWaitingForCutover,
		ghostferry.StateVerifyBeforeCutover, ghostferry.StateCutover, ghostferry.StateDone:
	}
	_, err := f.SerializeStateToJSON()
	return err
}

func hostParts(f *ghostferry.Ferry, db *sql.DB, tables ghostferry.TableSchemaCache, size uint64) error {
	streamer := &ghostferry.BinlogStreamer{
		DB: db, DBConfig: f.Source, MyServerId: 1, ErrorHandler: f.ErrorHandler, Filter: f.CopyFilter, TableSchema: tables,
		LogTag: "host", DatabaseRewrites: f.DatabaseRewrites, TableRewrites: f.TableRewrites,
	}
	position, err := streamer.ConnectBinlogStreamerToMysql()
	if err != nil {
		return err
	}
	if _, err := streamer.ConnectBinlogStreamerToMysqlFrom(position); err != nil {
		return err
	}
	writer := &ghostferry.BinlogWriter{
		DB: db, DatabaseRewrites: f.DatabaseRewrites, TableRewrites: f.TableRewrites, Throttler: f.Throttler,
		BatchSize: 1, WriteRetries: 1, ErrorHandler: f.ErrorHandler, StateTracker: f.StateTracker,
	}
	writer.Initialize()
	streamer.AddEventListener(writer.BufferBinlogEvents)
	go writer.Run()
	go streamer.Run()
	for !streamer.IsAlmostCaughtUp() {
		ghostferry.WaitForThrottle(f.Throttler)
	}
	streamer.FlushAndStop()
	writer.Stop()

	batches := &ghostferry.BatchWriter{
		DB: db, InlineVerifier: f.NewInlineVerifier(), StateTracker: f.StateTracker, EnforceInlineVerification: true,
		DatabaseRewrites: f.DatabaseRewrites, TableRewrites: f.TableRewrites, WriteRetries: 1,
	}
	batches.Initialize()
	iterator := &ghostferry.DataIterator{
		DB: db, Concurrency: 1, SelectFingerprint: true, ErrorHandler: f.ErrorHandler, StateTracker: f.StateTracker,
		CursorConfig: &ghostferry.CursorConfig{
			DB: db, Throttler: f.Throttler, BatchSize: &size, ReadRetries: 1,
			BatchSizePerTableOverride: f.DataIterationBatchSizePerTableOverride,
			BuildSelect: func(columns []string, table *ghostferry.TableSchema, last ghostferry.PaginationKey, size uint64) (sq.SelectBuilder, error) {
				return ghostferry.DefaultBuildSelect(columns, table, last, size), nil
			},
		},
		TargetPaginationKeys: &sync.Map{},
	}
	iterator.AddBatchListener(batches.WriteRowBatch)
	iterator.Run(tables.AsSlice())

	_, err = f.NewTargetBinlogStreamer()
	for _, made := range []any{
		f.NewDataIterator(), f.NewDataIteratorWithoutStateTracker(), f.NewSourceBinlogStreamer(), f.NewBinlogWriter(),
		f.NewBinlogWriterWithoutStateTracker(), f.NewBatchWriter(), f.NewBatchWriterWithoutStateTracker(), ghostferry.NewStmtCache(),
	} {
		_ = made
	}
	return err
}

func hostVerifiers(ctx context.Context, f *ghostferry.Ferry, db *sql.DB, tables ghostferry.TableSchemaCache) error {
	inline := &ghostferry.InlineVerifier{
		SourceDB: db, TargetDB: db, DatabaseRewrites: f.DatabaseRewrites, TableRewrites: f.TableRewrites, TableSchemaCache: tables,
		BatchSize: 1, VerifyBinlogEventsInterval: time.Second, MaxExpectedDowntime: time.Second, StateTracker: f.StateTracker, ErrorHandler: f.ErrorHandler,
	}
	inline.PeriodicallyVerifyBinlogEvents(ctx)
	compression, err := ghostferry.NewCompressionVerifier(ghostferry.TableColumnCompressionConfig{}, tables)
	if err != nil {
		return err
	}
	iterative := &ghostferry.IterativeVerifier{
		CompressionVerifier: compression, CursorConfig: f.DataIterator.CursorConfig, BinlogStreamer: f.BinlogStreamer, TableSchemaCache: tables,
		SourceDB: db, TargetDB: db, Tables: tables.AsSlice(), IgnoredTables: []string{"a"}, IgnoredColumns: map[string]map[string]struct{}{"a": {"b": {}}},
		DatabaseRewrites: f.DatabaseRewrites, TableRewrites: f.TableRewrites, Concurrency: 1, MaxExpectedDowntime: time.Second,
	}
	if err := iterative.Initialize(); err != nil {
		return err
	}
	checksum := &ghostferry.ChecksumTableVerifier{
		Tables: tables.AsSlice(), DatabaseRewrites: f.DatabaseRewrites, TableRewrites: f.TableRewrites, SourceDB: db, TargetDB: db,
	}
	for _, verifier := range []ghostferry.Verifier{inline, iterative, checksum, f.NewChecksumTableVerifier(), f.NewInlineVerifierWithoutStateTracker()} {
		if err := verifier.VerifyBeforeCutover(); err != nil {
			return err
		}
	}
	if _, err := f.NewIterativeVerifier(); err != nil {
		return err
	}
	if _, err := f.NewControlServer(); err != nil {
		return err
	}
	target, err := ghostferry.NewTargetVerifier(db, f.StateTracker, f.BinlogStreamer)
	if err == nil {
		_ = (&ghostferry.TargetVerifier{DB: db, BinlogStreamer: target.BinlogStreamer, StateTracker: f.StateTracker})
	}
	return err
}

func hostState(tracker *ghostferry.StateTracker, position mysql.Position, tables ghostferry.TableSchemaCache) mysql.Position {
	store := ghostferry.NewBinlogVerifyStore()
	store.Add(tables.Get("a", "b"), "1")
	tracker.UpdateLastResumableSourceBinlogPosition(position)
	tracker.UpdateLastResumableSourceBinlogPositionForInlineVerifier(position)
	tracker.UpdateLastResumableBinlogPositionForTargetVerifier(position)
	_ = tracker.RowStatsWrittenPerTable()["a.b"].NumRows
	state := tracker.Serialize(tables, store)
	_ = ghostferry.NewBinlogVerifyStoreFromSerialized(state.BinlogVerifyStore)
	_ = []any{
		state.LastKnownTableSchemaCache, state.LastWrittenBinlogPosition, state.LastStoredBinlogPositionForInlineVerifier,
		state.LastStoredBinlogPositionForTargetVerifier, ghostferry.NewStateTracker(10), ghostferry.NewStateTrackerFromSerializedState(10, state),
	}
	return state.MinSourceBinlogPosition()
}

func hostHelpers(ctx context.Context, f *ghostferry.Ferry, db *sql.DB, wait *ghostferry.WaitUntilReplicaIsCaughtUpToMaster) error {
	handler := &ghostferry.PanicErrorHandler{Ferry: f, ErrorCallback: ghostferry.HTTPCallback{URI: "http://a"}, DumpStateToStdoutOnError: true}
	handler.ReportError("host", nil)
	if err := (ghostferry.HTTPCallback{}).Post(http.DefaultClient); err != nil {
		return err
	}
	wait.ReplicaDB = wait.MasterDB
	if _, err := wait.IsCaughtUp(mysql.Position{}, 1); err != nil {
		return err
	}
	_ = ghostferry.MaskedDSN(&driver.Config{})
	if _, err := ghostferry.LoadTables(db, hostFilter{}, nil, nil, nil, nil); err != nil {
		return err
	}
	if _, err := ghostferry.TargetToSourceRewrites(map[string]string{}); err != nil {
		return err
	}
	if replica, err := ghostferry.CheckDbIsAReplica(db); err != nil || replica {
		return err
	}
	metrics := &ghostferry.Metrics{Prefix: "host", Sink: make(chan interface{}, 1)}
	metrics.Measure("a", nil, 1, func() { metrics.Timer("b", time.Second, nil, 1) })
	_ = []any{ghostferry.VerifierTypeChecksumTable, ghostferry.VerifierTypeInline, ghostferry.VerifierTypeNoVerification, ghostferry.VersionString, ghostferry.WebUiBasedir}
	var pauser ghostferry.Throttler = &ghostferry.PauserThrottler{}
	if !pauser.Throttled() {
		if err := pauser.Run(ctx); err != nil {
			return err
		}
	}
	return ghostferry.WithRetries(1, 0, nil, "wait", wait.Wait)
}

// Everything that hosts are known to depend on is used above or in host_test.go.
func TestHostUsesEveryStarredEntry(t *testing.T) {
	used := usedNames(t)
	for _, entry := range readContract(t) {
		if entry.starred && !used[entry.name()] {
			t.Errorf("%s %s is not used by the host of these tests", entry.pkg, entry.key)
		}
	}
}
