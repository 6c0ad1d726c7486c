package sharding

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ghostferry-go/ghostferry"
)

// ShardingFerry moves one tenant. Its methods are called one after the other: Initialize,
// Start, Run; the same with Context at the end of the name return errors. Between them
// listeners can be added to Ferry. Cancel is called after Initialize instead.
type ShardingFerry struct {
	// Ferry is the library's.
	Ferry *ghostferry.Ferry

	config *Config
	filter *ShardedCopyFilter
	joined *joinedTables // nil without joined tables
	keyed  []*ghostferry.TableSchema
	// unlocking: an earlier process may have posted CutoverUnlock, and nothing but that is left.
	unlocking bool
}

// NewFerry makes the ferry of a configuration, which it completes: rewrites, filters, the
// inline verifier. It connects to nothing but the throttler's server.
func NewFerry(config *Config) (*ShardingFerry, error) {
	if config.Config == nil {
		config.Config = &ghostferry.Config{}
	}
	ignored, _ := compiled(config.IgnoredTables) // ValidateConfig tells of faults
	included, _ := compiled(config.IncludedTables)
	f := &ShardingFerry{config: config, filter: NewShardedCopyFilter(config)}
	tables := &ShardedTableFilter{SourceShard: config.SourceDB, ShardingKey: config.ShardingKey, JoinedTables: config.JoinedTables, Type: IgnoredTablesFilter, Tables: ignored}
	if len(included) > 0 {
		tables.Type, tables.Tables = IncludedTablesFilter, included
	}
	for _, notice := range config.overruled() {
		ghostferry.LogWithField("tag", "sharding").Warn(notice)
	}
	config.DatabaseRewrites = map[string]string{config.SourceDB: config.TargetDB}
	config.CopyFilter, config.TableFilter, config.VerifierType = f.filter, tables, ghostferry.VerifierTypeInline
	if err := config.ValidateConfig(); err != nil {
		return nil, fmt.Errorf("failed to validate config: %w", err)
	}
	f.Ferry = &ghostferry.Ferry{Config: config.Config}
	if config.Throttle != nil {
		throttler, err := ghostferry.NewLagThrottler(config.Throttle)
		if err != nil {
			return nil, fmt.Errorf("failed to create throttler: %w", err)
		}
		f.Ferry.Throttler = throttler
	}
	return f, nil
}

// stepError says which step an error is of, in the words that error callbacks know.
type stepError struct {
	step string
	err  error
}

func (e *stepError) Error() string { return e.err.Error() }
func (e *stepError) Unwrap() error { return e.err }

// step names the step of an error, unless it is named.
func step(name string, err error) error {
	var named *stepError
	if err == nil || errors.As(err, &named) {
		return err
	}
	return &stepError{name, err}
}

// report tells the error handler of an error before the run.
func (f *ShardingFerry) report(name string, err error) error {
	if err != nil && f.Ferry.ErrorHandler != nil {
		f.Ferry.ErrorHandler.ReportError(name, err)
	}
	return err
}

// Initialize is [ShardingFerry.InitializeContext] without a context.
func (f *ShardingFerry) Initialize() error { return f.InitializeContext(context.Background()) }

// InitializeContext connects to both servers and checks everything. Nothing is written.
func (f *ShardingFerry) InitializeContext(ctx context.Context) error {
	return f.report("ferry.initialize", f.initialize(ctx))
}

func (f *ShardingFerry) initialize(ctx context.Context) error {
	if f.config.RunFerryFromReplica && f.Ferry.WaitUntilReplicaIsCaughtUpToMaster == nil {
		primary, err := f.config.SourceReplicationMaster.SqlDB(ghostferry.LogWithField("tag", "sharding"))
		if err != nil {
			return fmt.Errorf("SourceReplicationMaster: %w", err)
		}
		f.Ferry.WaitUntilReplicaIsCaughtUpToMaster = &ghostferry.WaitUntilReplicaIsCaughtUpToMaster{
			MasterDB:                        primary,
			ReplicatedMasterPositionFetcher: ghostferry.ReplicatedMasterPositionViaCustomQuery{Query: f.config.ReplicatedMasterPositionQuery},
		}
	}
	if err := f.Ferry.InitializeContext(ctx); err != nil {
		return err
	}
	err := f.findOtherTables(ctx)
	if err != nil {
		_ = f.Ferry.Close()
	}
	return err
}

// findOtherTables sets joined and primary key tables apart from what the library moves.
func (f *ShardingFerry) findOtherTables(ctx context.Context) (err error) {
	if len(f.config.JoinedTables) > 0 {
		if f.joined, err = newJoinedTables(f.config, f.Ferry); err != nil {
			return err
		}
		f.filter.follow = f.joined.follow
		f.Ferry.BinlogStreamer.AddEventListener(f.joined.pointed)
	}
	if err = f.findKeyed(ctx); err == nil && f.joined != nil {
		err = f.joined.findPointers(ctx, f.config, f.moved())
	}
	return err
}

// moved are the tables whose rows a condition chooses, by bare name.
func (f *ShardingFerry) moved() map[string]*ghostferry.TableSchema {
	tables := map[string]*ghostferry.TableSchema{}
	for _, t := range append(f.Ferry.Tables.AsSlice(), f.keyed...) {
		tables[t.Name] = t
	}
	return tables
}

func (f *ShardingFerry) findKeyed(ctx context.Context) error {
	if len(f.config.PrimaryKeyTables) == 0 {
		return nil
	}
	filter := &ShardedTableFilter{SourceShard: f.config.SourceDB, PrimaryKeyTables: f.filter.PrimaryKeyTables, Type: IncludedTablesFilter}
	for name := range f.filter.PrimaryKeyTables {
		only, err := compiled([]string{"^" + regexp.QuoteMeta(name) + "$"})
		if err != nil {
			return err
		}
		filter.Tables = append(filter.Tables, only...)
	}
	tables, err := ghostferry.LoadTables(f.Ferry.SourceDB, filter, f.config.CompressedColumnsForVerification, f.config.IgnoredColumnsForVerification, f.config.ForceIndexForVerification, f.config.CascadingPaginationColumnConfig)
	if err != nil {
		return fmt.Errorf("primary key tables %v: %w", f.config.PrimaryKeyTables, err)
	}
	if err := f.Ferry.ScopeTables(ctx, tables); err != nil {
		return err
	}
	if len(tables) != len(f.filter.PrimaryKeyTables) {
		return fmt.Errorf("expected primary key tables %v, found %v in schema %s", f.config.PrimaryKeyTables, tables.AllTableNames(), f.config.SourceDB)
	}
	for name, table := range tables {
		if f.Ferry.Tables[name] == nil { // one with the sharding key moves with the others
			f.keyed = append(f.keyed, table)
		}
	}
	return nil
}

// Start is [ShardingFerry.StartContext] without a context.
func (f *ShardingFerry) Start() error { return f.StartContext(context.Background()) }

// StartContext fixes where the stream begins. A tenant without a row on the source is refused,
// unless AllowEmptyTenant is set. Rows of the tenant in primary key tables of the target are
// refused, as the library refuses others.
//
// A tenant that an earlier process has moved to the end is refused with an [*AlreadyMovedError],
// because its rows on the target belong to the application by now. After an earlier process that
// may have posted CutoverUnlock, without an answer, nothing but that is left for RunContext; when
// the source was written since, the error wraps [ghostferry.ErrTrafficUnknown].
func (f *ShardingFerry) StartContext(ctx context.Context) error {
	err := f.askForTraffic(ctx)
	if err == nil && !f.unlocking {
		err = f.refuseEmptyTenant(ctx)
		if err == nil {
			err = f.refuseKeyedRows(ctx)
		}
		if err == nil {
			err = f.Ferry.StartContext(ctx)
		}
	}
	return f.report("ferry.start", err)
}

// refuseEmptyTenant refuses a tenant without a row: a mistyped one would be found equal, and the
// tenant whose writers CutoverLock stops be sent to a target that has nothing of it. Rows of joined
// tables are the tenant's by rows of the other tables only.
func (f *ShardingFerry) refuseEmptyTenant(ctx context.Context) error {
	if f.config.AllowEmptyTenant {
		return nil
	}
	tables := f.moved()
	names := slices.Sorted(maps.Keys(tables))
	for _, name := range names {
		t := tables[name]
		predicate, err := f.filter.rows(t).Predicate(t)
		if err != nil {
			return err
		}
		var found bool
		if err := f.Ferry.SourceDB.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+ghostferry.QuotedTableName(t)+" WHERE "+predicate+")").Scan(&found); err != nil {
			return fmt.Errorf("looking for rows of the tenant in %s on the source: %w", t, err)
		}
		if found {
			return nil
		}
	}
	setting := "ShardingKeyValue"
	if f.config.ShardingKeyValue == nil {
		setting = "ShardingValue"
	}
	return &ghostferry.ConfigError{
		Field:   setting,
		Problem: fmt.Sprintf("tenant %v has no row on the source, in schema %s: %s", f.config.value(), f.config.SourceDB, strings.Join(names, ", ")),
		Remedy:  fmt.Sprintf("check %s; set AllowEmptyTenant for a tenant that has none yet", setting),
	}
}

func (f *ShardingFerry) refuseKeyedRows(ctx context.Context) error {
	if f.Ferry.Resuming() {
		return nil
	}
	for _, t := range f.keyed {
		predicate, err := f.filter.rows(t).Predicate(t)
		if err != nil {
			return err
		}
		onTarget := ghostferry.QuotedTableNameFromString(f.config.TargetDB, t.Name)
		var found bool
		if err := f.Ferry.TargetDB.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+onTarget+" WHERE "+predicate+")").Scan(&found); err != nil {
			return fmt.Errorf("looking for the tenant's row in %s: %w", onTarget, err)
		}
		if found {
			return &ghostferry.TargetConflictError{Table: onTarget, Key: fmt.Sprint(f.config.value()), Index: "PRIMARY", Others: true}
		}
	}
	return nil
}

// Run is [ShardingFerry.RunContext] without a context; an error is handed to the error
// handler's Fatal.
func (f *ShardingFerry) Run() {
	if err := f.RunContext(context.Background()); err != nil {
		from := "sharding"
		var named *stepError
		if errors.As(err, &named) {
			from = named.step
		}
		f.Ferry.ErrorHandler.Fatal(from, err)
	}
}

// RunContext copies, follows, and cuts over: it waits while the throttler throttles, posts
// CutoverLock, moves what only a source that stands still allows, compares, and posts
// CutoverUnlock.
//
// After an error the source is the side that counts. One that comes after CutoverLock is a
// *[ghostferry.CutoverError], and CutoverAbort is posted, even when ctx has ended: it tells
// whether the writers go on. Only when CutoverUnlock was posted and did not answer 200 is it
// not known where the traffic goes; then nothing is posted, and the error says so.
func (f *ShardingFerry) RunContext(ctx context.Context) error {
	if f.unlocking {
		return f.unlockAgain(ctx)
	}
	if f.joined != nil {
		err := f.joined.prepare(ctx, f.config)
		if err == nil && !f.Ferry.Resuming() {
			err = f.joined.forget(ctx, f.config) // of a move that is over
		}
		if err == nil {
			err = f.joined.register(ctx, f.config, f.moved())
		}
		if err != nil {
			return step("sharding", err)
		}
	}
	began, err := f.untilEqual(ctx)
	if err == nil {
		err = step("cutover", context.Cause(ctx)) // the last chance to give up
	}
	switch {
	case err == nil:
		return f.unlock(ctx, began)
	case began.IsZero():
		return err
	}
	return f.giveUp(ctx, began, err)
}

// untilEqual does everything before CutoverUnlock. It returns when CutoverLock was posted,
// zero when it was not.
func (f *ShardingFerry) untilEqual(ctx context.Context) (began time.Time, err error) {
	run, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ran := make(chan error, 1)
	go func() {
		err := f.Ferry.RunContext(run)
		if err != nil {
			cancel(err) // whatever cutOver waits for
		}
		ran <- err
	}()
	began, err = f.cutOver(run)
	if err != nil {
		cancel(err)
	}
	if runErr := <-ran; runErr != nil && (err == nil || !errors.Is(runErr, err)) {
		return began, step("ferry", runErr) // the other is its consequence
	}
	if err != nil {
		return began, err
	}
	if err := f.afterStream(ctx); err != nil {
		return began, err
	}
	f.Ferry.Throttler.SetDisabled(false)
	if err := f.Ferry.StopTargetVerifierContext(ctx); err != nil {
		return began, step("binlog_streamer", err)
	}
	return began, f.nothingCameLate(ctx)
}

// nothingCameLate makes sure that the tenant's writers had stopped before the stop position: a
// transaction that was open when CutoverLock was answered may have been committed behind it.
// Joined rows may have been changed by other tenants, and are looked at once more.
func (f *ShardingFerry) nothingCameLate(ctx context.Context) error {
	if err := f.awaitReplica(ctx); err != nil {
		return err
	}
	if err := f.checkLateWrites(ctx); err != nil {
		return step("cutover", err)
	}
	if f.joined == nil {
		return nil
	}
	return step("sharding.delta_copy", f.joined.finish(ctx))
}

// cutOver goes beside the library's run until the stream has been told to end. It returns
// when CutoverLock was posted, zero when it was not.
func (f *ShardingFerry) cutOver(ctx context.Context) (start time.Time, err error) {
	if err := f.Ferry.WaitUntilRowCopyIsCompleteContext(ctx); err != nil {
		return start, step("ferry", err)
	}
	if f.joined != nil {
		if err := f.joined.copyAll(ctx); err != nil {
			return start, step("sharding.delta_copy", err)
		}
	}
	if err := f.Ferry.WaitUntilCutoverIsAllowedContext(ctx); err != nil {
		return start, step("cutover", err)
	}
	if err := ghostferry.WaitForThrottleContext(ctx, f.Ferry.Throttler); err != nil {
		return start, step("sharding", err)
	}
	if err := f.Ferry.WaitUntilBinlogStreamerCatchesUpContext(ctx); err != nil {
		return start, step("binlog_streamer", err)
	}
	if f.joined != nil {
		if err := f.joined.catchUp(ctx); err != nil {
			return start, step("sharding.delta_copy", err)
		}
	}
	if err := f.targetWriteable(ctx); err != nil {
		return start, step("sharding", err)
	}
	if start, err = f.Ferry.StartCutoverContext(ctx); err != nil {
		return start, step("cutover", err)
	}
	f.Ferry.Throttler.SetDisabled(true)
	return start, step("wait_replica", f.Ferry.FlushBinlogAndStopStreamingContext(ctx))
}

// afterStream does what needs a source without writers and a target that has everything of
// the log.
func (f *ShardingFerry) afterStream(ctx context.Context) error {
	timed := func(name string, do func() error) error {
		began := time.Now()
		defer func() { f.config.Metrics.Timer(name, time.Since(began), nil, 1) }()
		return do()
	}
	if f.joined != nil {
		if err := timed("deltaCopyJoinedTables", func() error { return f.joined.finish(ctx) }); err != nil {
			return step("sharding.delta_copy", err)
		}
	}
	err := timed("VerifyCutover", func() error {
		result, err := f.Ferry.Verifier.VerifyDuringCutover()
		if err == nil && !result.DataCorrect {
			err = fmt.Errorf("verifier detected data discrepancy: %w", result)
		}
		var nothing ghostferry.IncompleteVerificationError
		if errors.As(err, &nothing) && len(result.IncorrectTables) == 0 {
			return nil // the tenant's rows are in primary key tables, or it has none: see refuseEmptyTenant
		}
		return err
	})
	if err != nil {
		return step("inline_verifier", err)
	}
	return step("sharding", timed("CopyPrimaryKeyTables", func() error { return f.copyKeyed(ctx) }))
}

// copyKeyed copies the tenant's own rows. Those that an earlier process has copied go first:
// nobody has followed them since.
func (f *ShardingFerry) copyKeyed(ctx context.Context) error {
	if f.Ferry.Resuming() {
		if _, err := f.Ferry.RemoveStandaloneRowsContext(ctx, f.keyed); err != nil {
			return err
		}
	}
	return f.Ferry.RunStandaloneDataCopyContext(ctx, f.keyed)
}

// AbortIfTargetDbNoLongerWriteable calls the error handler's Fatal if the target has become
// read-only.
func (f *ShardingFerry) AbortIfTargetDbNoLongerWriteable() {
	if err := f.targetWriteable(context.Background()); err != nil {
		f.Ferry.ErrorHandler.Fatal("sharding", err)
	}
}

func (f *ShardingFerry) targetWriteable(ctx context.Context) error {
	if f.config.AllowSuperUserOnReadOnly {
		return nil
	}
	var readOnly bool
	if err := f.Ferry.TargetDB.QueryRowContext(ctx, "SELECT @@read_only").Scan(&readOnly); err != nil {
		return fmt.Errorf("asking whether the target may be written: %w", err)
	}
	if readOnly {
		return errors.New("@@read_only must be OFF on target db")
	}
	return nil
}

// CancelContext gives the move up, after Initialize: every row that it has brought is
// removed from the target, and its checkpoint with them, so that it can begin anew. A move
// that went to its end is refused unless evenIfFinished is set. It returns how many rows
// were removed.
func (f *ShardingFerry) CancelContext(ctx context.Context, evenIfFinished bool) (removed int64, err error) {
	var others int64
	removed, err = f.Ferry.RemoveMovedRows(ctx, evenIfFinished, func(ctx context.Context) (err error) {
		others, err = f.removeOthers(ctx)
		return err
	})
	return removed + others, err
}

// removeOthers removes what came beside the library's tables.
func (f *ShardingFerry) removeOthers(ctx context.Context) (removed int64, err error) {
	if f.joined != nil {
		if err := f.joined.prepare(ctx, f.config); err != nil {
			return 0, err
		}
		if removed, err = f.joined.removeAll(ctx); err != nil {
			return removed, fmt.Errorf("removing joined rows: %w", err)
		}
	}
	keyed, err := f.Ferry.RemoveStandaloneRowsContext(ctx, f.keyed)
	return removed + keyed, err
}

// Close ends the connections, after the last step.
func (f *ShardingFerry) Close() error {
	err := f.Ferry.Close()
	if replica := f.Ferry.WaitUntilReplicaIsCaughtUpToMaster; replica != nil {
		err = errors.Join(err, replica.MasterDB.Close())
	}
	if throttler, ok := f.Ferry.Throttler.(*ghostferry.LagThrottler); ok && f.config.Throttle != nil {
		err = errors.Join(err, throttler.DB.Close())
	}
	return err
}
