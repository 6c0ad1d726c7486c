package ghostferry

import (
	"context"
	"fmt"
	"sync"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// NewDataIterator returns a copier of tables over the source; it shares the Ferry's
// gate, and its progress is tracked.
func (f *Ferry) NewDataIterator() *DataIterator {
	d := f.NewDataIteratorWithoutStateTracker()
	d.StateTracker = f.StateTracker
	d.resume, d.checkpoint = f.resume, f.checkpoint
	return d
}

// NewDataIteratorWithoutStateTracker is NewDataIterator without tracking.
func (f *Ferry) NewDataIteratorWithoutStateTracker() *DataIterator {
	f.ensureInitialized()
	d := &DataIterator{
		DB: f.SourceDB, Concurrency: f.DataIterationConcurrency, ErrorHandler: f.ErrorHandler,
		CursorConfig: &CursorConfig{
			DB: f.SourceDB, Throttler: f.copyThrottler(), BatchSize: &f.UpdatableConfig.DataIterationBatchSize,
			BatchSizePerTableOverride: f.DataIterationBatchSizePerTableOverride, ReadRetries: f.DBReadRetries,
		},
		SelectFingerprint:    f.VerifierType == VerifierTypeInline,
		TargetPaginationKeys: &sync.Map{},
		reader:               f.reader,
		chunkBytes:           int(f.DataIterationChunkBytes),
		loads:                f.loads,
		logger:               taggedLogger(f.logger, "data_iterator"),
		metrics:              f.Metrics,
	}
	d.liveWorkers, d.madeWith, d.updates = f.UpdatableConfig.workers, d.Concurrency, f.updates
	if f.CopyFilter != nil {
		d.CursorConfig.BuildSelect = f.CopyFilter.BuildSelect
	}
	return d
}

// NewSourceBinlogStreamer returns a follower of the source's binary log.
func (f *Ferry) NewSourceBinlogStreamer() *BinlogStreamer {
	f.ensureInitialized()
	s := f.newStreamer(f.SourceDB, f.Source, "source_binlog_streamer")
	s.srv, s.patience, s.shared = f.sourceServer, f.sourcePatience, f.SharedStreamer
	return s
}

// NewTargetBinlogStreamer returns a follower of the target's binary log that gives
// tables their names of the source. Ambiguous rewrites are an error.
func (f *Ferry) NewTargetBinlogStreamer() (*BinlogStreamer, error) {
	f.ensureInitialized()
	schemas, err := TargetToSourceRewrites(f.DatabaseRewrites)
	if err != nil {
		return nil, err
	}
	tables, err := TargetToSourceRewrites(f.TableRewrites)
	if err != nil {
		return nil, err
	}
	s := f.newStreamer(f.TargetDB, f.Target, "target_binlog_streamer")
	s.srv, s.patience, s.statements = f.targetServer, f.targetPatience, true
	s.DatabaseRewrites, s.TableRewrites = schemas, tables
	return s, nil
}

func (f *Ferry) newStreamer(db *sql.DB, config *DatabaseConfig, tag string) *BinlogStreamer {
	return &BinlogStreamer{
		DB: db, DBConfig: config, MyServerId: f.MyServerId, ErrorHandler: f.ErrorHandler, Filter: f.CopyFilter,
		TableSchema: f.Tables, LogTag: tag, logger: taggedLogger(f.logger, tag), metrics: f.Metrics,
	}
}

// NewBinlogWriter returns a writer of row changes to the target; it shares the Ferry's
// gate, and its position is tracked.
func (f *Ferry) NewBinlogWriter() *BinlogWriter {
	w := f.NewBinlogWriterWithoutStateTracker()
	w.StateTracker = f.StateTracker
	return w
}

// NewBinlogWriterWithoutStateTracker is NewBinlogWriter without tracking.
func (f *Ferry) NewBinlogWriterWithoutStateTracker() *BinlogWriter {
	f.ensureInitialized()
	w := &BinlogWriter{
		DB: f.TargetDB, DatabaseRewrites: f.DatabaseRewrites, TableRewrites: f.TableRewrites, Throttler: f.applyThrottler(),
		BatchSize: f.BinlogEventBatchSize, WriteRetries: f.DBWriteRetries, ErrorHandler: f.ErrorHandler,
		logger: taggedLogger(f.logger, "binlog_writer"), patience: f.targetPatience, gate: f.gate, ledger: f.ledger, laneCount: f.BinlogApplyLanes, lanes: f.UpdatableConfig.lanes, srv: f.targetServer,
	}
	if f.CopyFilter == nil { // else a row's first change in scope may be an update
		w.settledFrom = f.settledFrom
	}
	w.Initialize()
	return w
}

// settledFrom returns from where on the target has a table exactly as the source had it
// at the applied position: past every read of its copy and everything that an earlier
// process may have executed. Both lie before the log's end of a moment when the copy is
// complete; nothing is ahead after a run that came to its end.
func (f *Ferry) settledFrom(ctx context.Context, table *TableSchema) (BinlogCoordinate, bool, error) {
	if !f.StateTracker.IsTableComplete(table.String()) {
		return BinlogCoordinate{}, false, nil
	}
	if r := f.resume; r != nil && r.finished && r.held == nil {
		if t := r.tables[NewTableIdentifierFromSchemaTable(table)]; t != nil && t.completed && !t.again {
			return BinlogCoordinate{}, true, nil
		}
	}
	at, err := f.sourceLogEnd(ctx)
	if err != nil {
		return at, false, fmt.Errorf("reading the source's log end: %w", err)
	}
	return at, true, nil
}

// NewBatchWriter returns a writer of copied rows to the target, whose progress is tracked.
func (f *Ferry) NewBatchWriter() *BatchWriter {
	w := f.NewBatchWriterWithoutStateTracker()
	w.StateTracker, w.checkpoint, w.collisions = f.StateTracker, f.checkpoint, f.collisions
	return w
}

// NewBatchWriterWithoutStateTracker is NewBatchWriter without tracking.
func (f *Ferry) NewBatchWriterWithoutStateTracker() *BatchWriter {
	f.ensureInitialized()
	w := &BatchWriter{
		DB: f.TargetDB, DatabaseRewrites: f.DatabaseRewrites, TableRewrites: f.TableRewrites, WriteRetries: f.DBWriteRetries,
		BulkLoad: f.BulkLoad, logger: taggedLogger(f.logger, "batch_writer"), patience: f.targetPatience, ledger: f.ledger, srv: f.targetServer,
	}
	w.Initialize()
	return w
}

// NewOnlineVerifier returns a verifier that compares every row of every table while
// writes go on. Its BinlogEventListener has to be registered on the stream behind the
// writer, which Start does for the Ferry's own.
func (f *Ferry) NewOnlineVerifier() *OnlineVerifier {
	f.ensureInitialized()
	c := &f.OnlineVerifierConfig
	return &OnlineVerifier{
		SourceDB: f.SourceDB, TargetDB: f.TargetDB, Tables: f.sortedTables(), DatabaseRewrites: f.DatabaseRewrites, TableRewrites: f.TableRewrites,
		Concurrency: c.concurrency(f.Config), Logger: f.logger, MaxExpectedDowntime: c.maxExpectedDowntime,
		CompareAllDuringCutover: c.CompareAllDuringCutover, Repair: c.Repair, ferry: f,
	}
}

// NewInlineVerifier returns a verifier of copied batches and changed rows, whose queue
// goes on from the state that is resumed.
func (f *Ferry) NewInlineVerifier() *InlineVerifier {
	v := f.NewInlineVerifierWithoutStateTracker()
	v.StateTracker = f.StateTracker
	return v
}

// NewInlineVerifierWithoutStateTracker is NewInlineVerifier without tracking.
func (f *Ferry) NewInlineVerifierWithoutStateTracker() *InlineVerifier {
	f.ensureInitialized()
	return &InlineVerifier{
		SourceDB: f.SourceDB, TargetDB: f.TargetDB, DatabaseRewrites: f.DatabaseRewrites, TableRewrites: f.TableRewrites,
		TableSchemaCache: f.Tables, BatchSize: f.BinlogEventBatchSize,
		VerifyBinlogEventsInterval: f.InlineVerifierConfig.verifyBinlogEventsInterval, MaxExpectedDowntime: f.InlineVerifierConfig.maxExpectedDowntime,
		ErrorHandler: f.ErrorHandler, logger: f.logger, ferry: f,
	}
}

// NewChecksumTableVerifier returns a verifier that compares whole tables at the cutover.
func (f *Ferry) NewChecksumTableVerifier() *ChecksumTableVerifier {
	f.ensureInitialized()
	return &ChecksumTableVerifier{
		Tables: f.sortedTables(), DatabaseRewrites: f.DatabaseRewrites, TableRewrites: f.TableRewrites,
		SourceDB: f.SourceDB, TargetDB: f.TargetDB, logger: f.logger, filter: f.CopyFilter,
	}
}

// NewIterativeVerifier returns an initialized iterative verifier, which listens to the
// Ferry's source stream.
func (f *Ferry) NewIterativeVerifier() (*IterativeVerifier, error) {
	f.ensureInitialized()
	c := &f.IterativeVerifierConfig
	v := &IterativeVerifier{
		CursorConfig:   &CursorConfig{DB: f.SourceDB, Throttler: f.copyThrottler(), BatchSize: &f.UpdatableConfig.DataIterationBatchSize, ReadRetries: f.DBReadRetries},
		BinlogStreamer: f.BinlogStreamer, TableSchemaCache: f.Tables, SourceDB: f.SourceDB, TargetDB: f.TargetDB, Tables: f.sortedTables(),
		IgnoredTables: c.IgnoredTables, IgnoredColumns: map[string]map[string]struct{}{},
		DatabaseRewrites: f.DatabaseRewrites, TableRewrites: f.TableRewrites,
		Concurrency: c.Concurrency, MaxExpectedDowntime: c.maxExpectedDowntime, logger: f.logger, ferry: f,
	}
	for table, columns := range c.IgnoredColumns {
		v.IgnoredColumns[table] = map[string]struct{}{}
		for _, column := range columns {
			v.IgnoredColumns[table][column] = struct{}{}
		}
	}
	if len(c.TableColumnCompression) > 0 {
		var err error
		if v.CompressionVerifier, err = NewCompressionVerifier(c.TableColumnCompression, f.Tables); err != nil {
			return nil, err
		}
	}
	err := v.Initialize()
	return v, err
}

// appliedByRun waits until the run has applied changes; before a run there is nothing to
// wait for.
type appliedByRun struct{ f *Ferry }

// WaitUntilApplied is that of the run's writer.
func (a appliedByRun) WaitUntilApplied(ctx context.Context, c BinlogCoordinate) error {
	if a.f.OverallState.Load() == StateStarting {
		return nil
	}
	return a.f.BinlogWriter.WaitUntilApplied(ctx, c)
}

func (f *Ferry) sourceLogEnd(ctx context.Context) (BinlogCoordinate, error) {
	var end BinlogCoordinate
	err := f.sourcePatience.do(ctx, 0, func(ctx context.Context, _ int) (err error) {
		end, err = logEndOf(ctx, f.sourceServer, f.SourceDB)
		return err
	})
	return end, err
}

// ensureInitialized panics when a constructor is called too early: a programming error
// whose text hosts know.
func (f *Ferry) ensureInitialized() {
	if f.OverallState.Load() == nil {
		panic("ferry has not been initialized")
	}
}
