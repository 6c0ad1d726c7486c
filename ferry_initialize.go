package ghostferry

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// InitializeContext is Initialize with a context.
func (f *Ferry) InitializeContext(ctx context.Context) (err error) {
	f.begin()
	f.OverallState.Store(StateStarting)
	f.prepareChannels()
	f.processID = rand.Text()
	if f.ErrorHandler == nil {
		f.ErrorHandler = &PanicErrorHandler{Ferry: f, ErrorCallback: f.ErrorCallback, DumpStateToStdoutOnError: f.DumpStateToStdoutOnError}
	}
	f.log, f.logger = newRunLog(f.Config.Logger)
	f.logger, f.waits = taggedLogger(f.logger, "ferry"), &waitLog{}
	f.logger.Infof("hello world from %s", BuildVersion())
	if err := f.ValidateConfig(); err != nil {
		return err
	}
	f.log.to = loggerOrStandard(f.Config.Logger) // at the configured level
	limit := time.Duration(f.MaxOutageSeconds) * time.Second
	f.sourcePatience = &patience{server: "source", limit: limit, logger: f.logger}
	f.targetPatience = &patience{server: "target", limit: limit, logger: f.logger}
	for _, notice := range f.takeNotices() {
		f.logger.Info(notice)
	}
	defer func() {
		if err != nil {
			f.stopControlServer()
			f.closeConnections()
		}
	}()
	if f.madeThrottler != nil && f.Throttler == Throttler(f.madeThrottler) { // an Initialize before has closed it
		_ = f.madeThrottler.Close()
		f.Throttler, f.madeThrottler = nil, nil
	}
	if f.Throttler == nil {
		if f.Throttler, err = f.newThrottler(); err != nil {
			return err
		}
		f.madeThrottler, _ = f.Throttler.(*CombinedThrottler)
	} else if err = f.besideHostsThrottler(); err != nil {
		return err
	}
	obeyLimits(f.Throttler, &f.UpdatableConfig)
	report, err := f.examine(ctx)
	if err != nil {
		return err
	}
	report.log(f.logger)
	if err := report.Err(); err != nil {
		return err
	}
	if err := f.build(); err != nil {
		return err
	}
	if err := f.chooseVerifier(); err != nil {
		return err
	}
	id := f.runID()
	if f.checkpoint != nil {
		id = f.checkpoint.runID // of a run that has failed over it names the first source
	}
	f.log.runID.Store(&id)
	return f.prepareControlServer()
}

// connect opens both servers; when neither can be used, the error tells of both.
func (f *Ferry) connect(ctx context.Context) error {
	var onSource, onTarget error
	f.SourceDB, f.sourceServer, onSource = f.open(ctx, "source", f.Source)
	f.TargetDB, f.targetServer, onTarget = f.open(ctx, "target", f.Target)
	if onTarget == nil {
		db, srv := f.TargetDB, f.targetServer
		f.targetSessions = &sessionPool{open: func(ctx context.Context) (*session, error) { return openWriter(ctx, db, srv) }}
		onTarget = f.openForIndexes()
	}
	return errors.Join(onSource, onTarget)
}

// openForIndexes opens what the target's indexes are changed on: without Target.ReadTimeout, which
// would cut off an ALTER that takes longer, while the server goes on with it. A peer that is gone is
// found by the probes of dialer.
func (f *Ferry) openForIndexes() (err error) {
	f.indexesDB = f.TargetDB
	if f.Target.ReadTimeout > 0 {
		patient := *f.Target
		patient.ReadTimeout = 0
		if f.indexesDB, err = patient.SqlDB(nil); err != nil {
			return fmt.Errorf("target: %w", err)
		}
	}
	return nil
}

func (f *Ferry) open(ctx context.Context, side string, config *DatabaseConfig) (*sql.DB, *server.Server, error) {
	db, err := config.SqlDB(f.logger.WithField("server", side))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", side, err)
	}
	srv, err := server.Detect(ctx, db)
	if err != nil {
		_ = db.Close()
		return nil, nil, fmt.Errorf("cannot use the %s server at %s:%d as user %s: %w", side, config.Host, config.Port, config.User, err)
	}
	f.logger.WithField("server", side).Infof("connected to %s", srv)
	return db, srv, nil
}

// Close ends the Ferry's connections. Call it when the run has returned and the
// verifier has given its verdict; a run that failed has closed them already. It is safe
// to call more than once. The control server, which goes on after a run of either kind,
// ends with it. Of a run that has finished, rows that nobody needs are removed from the checkpoint,
// for a few seconds at most, unless a cutover has stopped the writers and has not ended (EndCutover).
func (f *Ferry) Close() error {
	f.stopReports()
	f.stopControlServer()
	f.endFences()
	f.tidied.Do(f.tidy)
	f.closeConnections()
	return nil
}

func (f *Ferry) closeConnections() {
	if f.stateStored { // it is of this run only, and another Ferry may have the same Config
		f.StateToResumeFrom, f.stateStored = nil, false
	}
	f.stopWatch()
	f.BinlogStreamer.releaseSeat() // of a move that ends before it streams
	if v, ok := f.Verifier.(interface{ Close() error }); ok {
		_ = v.Close()
	}
	if f.reader != nil {
		f.reader.close()
	}
	if f.madeThrottler != nil {
		_ = f.madeThrottler.Close()
	}
	if f.targetSessions != nil {
		f.targetSessions.close()
	}
	for _, db := range []*sql.DB{f.SourceDB, f.TargetDB, f.indexesDB} {
		if db != nil {
			_ = db.Close()
		}
	}
}

func (f *Ferry) prepareReplicaGate(ctx context.Context) error {
	gate := f.WaitUntilReplicaIsCaughtUpToMaster
	if gate == nil {
		return nil
	}
	gate.ReplicaDB = f.SourceDB
	if gate.MasterDB == nil {
		return errors.New("WaitUntilReplicaIsCaughtUpToMaster needs MasterDB, a connection to the primary of the source")
	}
	master, err := server.Detect(ctx, gate.MasterDB)
	if err != nil {
		return fmt.Errorf("cannot use the primary of the source (WaitUntilReplicaIsCaughtUpToMaster.MasterDB): %w", err)
	}
	gate.master = master
	if _, err := gate.IsCaughtUpContext(ctx, BinlogCoordinate{}.Position(), 1); err != nil {
		return fmt.Errorf("asking the source replica how far it is: %w", err)
	}
	primary, err := f.masterIsPrimary(ctx)
	if err == nil && !primary {
		err = errors.New("source master is a read replica, not a master writer")
	}
	return err
}

// loadTables loads the schemas of the tables that move. A resumed run whose state
// holds them compares them with what the source has now. Faults of single tables are
// returned for the report; such a table may be missing in f.Tables.
func (f *Ferry) loadTables(ctx context.Context) (faults []error, err error) {
	start := time.Now()
	defer func() { metricsOrGlobal(f.Metrics).Timer("LoadTables", time.Since(start), nil, 1) }()
	if s := f.StateToResumeFrom; s != nil && len(s.LastKnownTableSchemaCache) > 0 {
		f.Tables, err = reloadTables(ctx, f.SourceDB, s.LastKnownTableSchemaCache, f.Config)
	} else {
		f.Tables, faults, err = loadSelectedTables(ctx, f.SourceDB, f.TableFilter, f.CompressedColumnsForVerification,
			f.IgnoredColumnsForVerification, f.ForceIndexForVerification, f.CascadingPaginationColumnConfig)
	}
	if err != nil {
		return nil, err
	}
	f.notePresentTables(ctx)
	for _, name := range sortedNames(f.Tables) {
		if f.Tables[name].Schema == f.CheckpointSchema {
			delete(f.Tables, name) // a former target: its bookkeeping does not move
			continue
		}
		if _, err := f.Tables[name].layout(); err != nil {
			faults = append(faults, err)
		}
	}
	if err := f.scopeTables(ctx); err != nil {
		return nil, err
	}
	return faults, nil
}

// build makes the components. They share the gate, the ledger and the tracker.
func (f *Ferry) build() error {
	f.started = false
	f.gate = newGate()
	f.reader = newSourceReader(f.SourceDB, f.sourceServer, f.gate)
	f.reader.patience = f.sourcePatience
	f.reader.unconfirmed = &unconfirmedReads{}
	f.orphanReads.open = func(ctx context.Context) (*session, error) {
		return openSession(ctx, f.TargetDB, f.targetServer, server.Target)
	}
	f.ledger = &debtLedger{logEnd: f.sourceLogEnd, unpaid: f.unpaidRows, keptOut: f.rowsKeptOut}
	f.collisions = f.newCollisionLedger()
	samples := f.DataIterationConcurrency * 10
	if f.resume == nil && f.StateToResumeFrom != nil {
		f.StateTracker = NewStateTrackerFromSerializedState(samples, f.StateToResumeFrom)
	} else {
		f.StateTracker = NewStateTracker(samples)
	}
	f.StateTracker.unconfirmed = f.reader.unconfirmed
	f.rememberCopied()
	if err := f.rememberDebts(); err != nil {
		return fmt.Errorf("the state to resume from is damaged: %w", err)
	}
	if err := f.DataIterationBatchSizePerTableOverride.UpdateBatchSizes(f.SourceDB, f.Tables); err != nil {
		f.logger.WithError(err).Warn("batch sizes by row size could not be computed; the default is used")
	}
	f.BinlogStreamer = f.NewSourceBinlogStreamer()
	f.BinlogStreamer.unconfirmed, f.BinlogStreamer.restarted = f.reader.unconfirmed, f.followsProcess
	f.BinlogWriter = f.NewBinlogWriter()
	f.BinlogWriter.checkpoint, f.BinlogWriter.collisions = f.checkpoint, f.collisions
	f.BinlogWriter.queue.ends, f.BinlogWriter.queue.waits = true, f.waits
	f.DataIterator = f.NewDataIterator()
	f.DataIterator.late = f.changesAreLate
	if a := f.Throttlers.Adaptive; a != nil {
		f.DataIterator.pace = newCopyPace(*a, f.SourceDB, taggedLogger(f.logger, "copy_pace"), f.updates.tell)
	}
	f.BatchWriter = f.NewBatchWriter()
	f.indexes = f.newDeferredIndexes()
	return f.buildTargetVerifier()
}

// buildTargetVerifier makes the watch on the target's binary log, unless it is off.
func (f *Ferry) buildTargetVerifier() error {
	if f.SkipTargetVerification {
		return nil
	}
	stream, err := f.NewTargetBinlogStreamer()
	if err != nil {
		return err
	}
	f.TargetVerifier, err = NewTargetVerifier(f.TargetDB, f.StateTracker, stream)
	return err
}

// rememberCopied tells the tracker and the ledgers what the checkpoint says of the copy, and of rows
// that were left out.
func (f *Ferry) rememberCopied() {
	if f.resume == nil {
		return
	}
	for id, t := range f.resume.tables {
		name := fullTableName(id.SchemaName, id.TableName)
		f.StateTracker.copiedBefore(name, t.rowsCopied())
		if t.completed {
			f.StateTracker.MarkTableAsCompleted(name)
		}
		table := f.Tables.Get(id.SchemaName, id.TableName)
		if table == nil { // Start refuses to go on without it
			continue
		}
		if waiting := f.resume.collisions[id]; len(waiting) > 0 {
			f.collisions.add(table, waiting...)
		}
		f.ledger.note(table, f.resume.debts[id], true)
		for _, c := range t.chunks {
			f.ledger.note(table, c.debts, false)
		}
	}
}

// rememberDebts tells the ledger what the state says of rows that were left out. A checkpoint that
// is begun from the state records them, too.
func (f *Ferry) rememberDebts() error {
	if f.resume != nil || f.StateToResumeFrom == nil {
		return nil
	}
	for name, texts := range f.StateToResumeFrom.Debts {
		table := f.Tables[name]
		if table == nil { // Start refuses to go on without it
			continue
		}
		l, err := table.layout()
		if err != nil {
			return err
		}
		keys := make([]string, len(texts))
		for i, text := range texts {
			key, err := hex.DecodeString(text)
			if err != nil {
				return fmt.Errorf("the key of a row of %s that is owed: %w", name, err)
			}
			keys[i] = string(key)
		}
		if _, err := l.decodeKeys(keys); err != nil {
			return fmt.Errorf("rows of %s that are owed: %w", name, err)
		}
		f.ledger.note(table, keys, f.checkpoint != nil)
	}
	return nil
}

// unpaidRows returns those of the keys that are on the source and not on the target, for the debt
// ledger.
func (f *Ferry) unpaidRows(ctx context.Context, table *TableSchema, keys []string) ([]string, error) {
	schema, name := newRewrites(f.DatabaseRewrites, f.TableRewrites).table(table.Schema, table.Name)
	tw, err := newTableWriter(table, schema, name, f.targetServer.UpsertRowAlias(), f.targetServer.MaxAllowedPacket)
	if err != nil {
		return nil, err
	}
	tuples, err := tw.layout.decodeKeys(keys)
	if err != nil {
		return nil, err
	}
	var missing, gone []string
	err = f.targetPatience.do(ctx, f.DBWriteRetries, func(ctx context.Context, _ int) error {
		s, err := openSession(ctx, f.TargetDB, f.targetServer, server.Target)
		if err != nil {
			return err
		}
		defer s.discard()
		missing, err = tw.missingKeys(ctx, s, tw.quoted, "", tuples)
		return err
	})
	if err != nil || len(missing) == 0 {
		return nil, err
	}
	if tuples, err = tw.layout.decodeKeys(missing); err != nil {
		return nil, err
	}
	err = f.sourcePatience.doWhile(ctx, edgeAttempts, retryableRead, func(ctx context.Context, _ int) error {
		return f.reader.readOnce(ctx, f.gate.mark(), func(s *session, suffix string) (err error) {
			gone, err = tw.missingKeys(ctx, s, QuotedTableName(table), suffix, tuples)
			return err
		})
	})
	return slices.DeleteFunc(missing, func(key string) bool { return slices.Contains(gone, key) }), err
}

// decodeKeys reads keys that were kept encoded.
func (l *tableLayout) decodeKeys(keys []string) ([]keyTuple, error) {
	tuples := make([]keyTuple, len(keys))
	for i, key := range keys {
		if tuples[i] = decodeTuple([]byte(key)); len(tuples[i]) != len(l.keys) || tuples[i].encode() != key {
			return nil, fmt.Errorf("%x is not a key of %d columns: what is kept of an earlier process is damaged: start afresh with empty target tables", key, len(l.keys))
		}
	}
	return tuples, nil
}

func (f *Ferry) chooseVerifier() error {
	if f.VerifierType == "" {
		return nil
	}
	if f.madeVerifier != nil && f.Verifier == f.madeVerifier { // by an Initialize before
		f.Verifier = nil
	}
	if f.Verifier != nil {
		return errors.New("specifying Verifier and VerifierType are mutually exclusive options")
	}
	switch f.VerifierType {
	case VerifierTypeNoVerification:
		return nil
	case VerifierTypeOnline:
		v := f.NewOnlineVerifier()
		if _, err := v.core(); err != nil { // settings of columns that do not exist are refused now
			return err
		}
		f.Verifier = v
	case VerifierTypeInline:
		v := f.NewInlineVerifier()
		if _, err := v.core(); err != nil {
			return err
		}
		f.Verifier = v
	case VerifierTypeIterative:
		v, err := f.NewIterativeVerifier()
		if err != nil {
			return err
		}
		f.Verifier = v
	case VerifierTypeChecksumTable:
		f.Verifier = f.NewChecksumTableVerifier()
	default:
		return fmt.Errorf("'%s' is not a known VerifierType", f.VerifierType)
	}
	f.madeVerifier = f.Verifier
	return nil
}

// sortedTables returns the tables in the order of their names.
func (f *Ferry) sortedTables() []*TableSchema {
	tables := make([]*TableSchema, 0, len(f.Tables))
	for _, name := range sortedNames(f.Tables) {
		tables = append(tables, f.Tables[name])
	}
	return tables
}
