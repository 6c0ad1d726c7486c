package copydb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ghostferry-go/ghostferry"
)

// CopydbFerry moves schemas. Its methods are called one after the other: Initialize,
// Start, CreateDatabasesAndTables, Run; the same with Context at the end of the name
// return errors that Run can only hand to the error handler. Between them listeners
// can be added to Ferry. Phase may be called at any time, by anybody.
type CopydbFerry struct {
	// Ferry is the library's.
	Ferry *ghostferry.Ferry

	// immutable

	config *Config

	// owned by the caller of the steps

	initialized bool
	wrote       bool          // something was changed on the target, and stays
	began       time.Time     // of InitializeContext
	block       time.Duration // how long the writers waited in the cutover
	onSource    bool          // see ApplicationOnSource

	// atomic

	phase atomic.Value // string; what happens beside and after Ferry's run
}

// NewFerry makes a ferry of a validated configuration. It connects to nothing.
func NewFerry(config *Config) *CopydbFerry {
	return &CopydbFerry{Ferry: &ghostferry.Ferry{Config: config.Config}, config: config}
}

// Initialize is [CopydbFerry.InitializeContext] without a context.
func (f *CopydbFerry) Initialize() error { return f.InitializeContext(context.Background()) }

// InitializeContext connects to both servers, checks them and chooses the tables.
// Nothing is written; the error is a [*RefusedError] unless ctx ended.
func (f *CopydbFerry) InitializeContext(ctx context.Context) error {
	if f.began.IsZero() {
		f.began = time.Now()
	}
	err := f.waitForReplica()
	if err == nil {
		err = f.Ferry.InitializeContext(ctx)
	}
	if err == nil {
		f.initialized = true
		err = f.checkNames(ctx)
	}
	return f.report(ctx, "ferry.initialize", f.refused(ctx, f.explained(err)))
}

// explained adds to the library's word that nothing is selected what was chosen.
func (f *CopydbFerry) explained(err error) error {
	if isType[*ghostferry.EmptySelectionError](err) {
		return fmt.Errorf("%w (Databases: %s, Tables: %s; an account sees what it may SELECT only)", err, f.config.Databases.choice(), f.config.Tables.choice())
	}
	return err
}

// waitForReplica has the library wait for the source when it is a replica.
func (f *CopydbFerry) waitForReplica() error {
	if !f.config.RunFerryFromReplica || f.Ferry.WaitUntilReplicaIsCaughtUpToMaster != nil {
		return nil
	}
	timeout, err := f.config.replicationTimeout()
	if err != nil {
		return err
	}
	primary, err := f.config.SourceReplicationMaster.SqlDB(f.logger())
	if err != nil {
		return fmt.Errorf("SourceReplicationMaster: %w", err)
	}
	f.Ferry.WaitUntilReplicaIsCaughtUpToMaster = &ghostferry.WaitUntilReplicaIsCaughtUpToMaster{
		MasterDB:                        primary,
		ReplicatedMasterPositionFetcher: ghostferry.ReplicatedMasterPositionViaCustomQuery{Query: f.config.ReplicatedMasterPositionQuery},
		Timeout:                         timeout,
	}
	return nil
}

// Start is [CopydbFerry.StartContext] without a context.
func (f *CopydbFerry) Start() error { return f.StartContext(context.Background()) }

// StartContext fixes where the stream begins. No row is written; the error is a
// [*RefusedError] unless ctx ended. A move that an earlier process has, or may have, ended by
// CutoverUnlock is refused with a [*SwitchedError].
func (f *CopydbFerry) StartContext(ctx context.Context) error {
	err := f.switched()
	if err == nil && f.Ferry.RecordedTraffic() != ghostferry.TrafficOnSource {
		err = f.Ferry.RecordTraffic(ctx, ghostferry.TrafficOnSource)
	}
	if err == nil {
		err = f.Ferry.StartContext(ctx)
	}
	return f.report(ctx, "ferry.start", f.refused(ctx, err))
}

// ApplicationOnSource says, before Start and Restart, that the application writes to the source
// although CutoverUnlock was, or may have been, posted: nothing of the target's rows is needed.
func (f *CopydbFerry) ApplicationOnSource() { f.onSource = true }

// switched refuses a run after an earlier process that has, or may have, sent the application
// to the target: what it writes there would be overwritten from the source.
func (f *CopydbFerry) switched() error {
	if owner := f.Ferry.RecordedTraffic(); owner != ghostferry.TrafficOnSource && !f.onSource {
		return &SwitchedError{Traffic: owner}
	}
	return nil
}

// ended gives the reason why ctx has ended instead of what came of it, but keeps errors
// after which the move cannot be resumed.
func ended(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	switch {
	case err == nil || cause == nil || !ghostferry.Resumable(err):
		return err
	case errors.Is(err, cause) && interrupted(err): // it says so, and more
		return err
	case interrupted(cause):
		return cause
	}
	return fmt.Errorf("%w: %w", ghostferry.ErrInterrupted, cause)
}

func interrupted(err error) bool { return errors.Is(err, ghostferry.ErrInterrupted) }

// refused marks an error as one before any write, unless there were writes.
func (f *CopydbFerry) refused(ctx context.Context, err error) error {
	err = ended(ctx, err)
	if err == nil || f.wrote || interrupted(err) {
		return err
	}
	return &RefusedError{Err: err, Resuming: f.Ferry != nil && f.Ferry.Resuming()}
}

// report tells the error handler, and returns the error.
func (f *CopydbFerry) report(ctx context.Context, from string, err error) error {
	if err = ended(ctx, err); err == nil {
		return nil
	}
	if interrupted(err) {
		from = "user_interrupt"
	}
	if f.Ferry.ErrorHandler != nil {
		f.Ferry.ErrorHandler.ReportError(from, err)
	}
	return err
}

// Close ends the connections, after the last step.
func (f *CopydbFerry) Close() error {
	err := f.Ferry.Close()
	if gate := f.Ferry.WaitUntilReplicaIsCaughtUpToMaster; gate != nil {
		err = errors.Join(err, gate.MasterDB.Close())
	}
	return err
}

// checkNames refuses names that the source does not have: leaving out what was asked for, moving
// what was to stay, or a table under its old name would be noticed too late.
func (f *CopydbFerry) checkNames(ctx context.Context) error {
	schemas, err := f.namesOnSource(ctx, "schemas", "SELECT schema_name FROM information_schema.schemata")
	if err != nil {
		return err
	}
	chosen := map[string]bool{}
	for _, table := range f.Ferry.Tables {
		chosen[table.Name] = true
	}
	for _, name := range f.config.TablesToBeCreatedFirst {
		if f.Ferry.Tables[name] == nil {
			f.logger().Warnf("TablesToBeCreatedFirst names %q, which is not a table that is moved", name)
		}
	}
	databases, tables := f.config.Databases, f.config.Tables
	known, err := f.knownTables(ctx, schemas, slices.Concat(tables.Blacklist, slices.Sorted(maps.Keys(f.config.TableRewrites))))
	if err != nil {
		return err
	}

	missing := func(field string, names []string, have map[string]bool, what string) error {
		names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return have[name] })
		if len(names) == 0 {
			return nil
		}
		return &ghostferry.ConfigError{
			Field:   field,
			Problem: fmt.Sprintf("%s names %q, which %s", field, names, what),
			Remedy:  "correct or remove the names, or grant the account SELECT on them; names match exactly",
		}
	}
	rewrites := func(kind string, ours map[string]string) string { // the setting that has them, see oneRewrites
		if len(ours) == 0 {
			return kind + "Rewrites"
		}
		return kind + "s.Rewrites"
	}
	const noSchema, noTable = "the source does not have or does not show to this account", "no chosen schema has or shows to this account"
	return errors.Join(
		missing("Databases.Whitelist", databases.Whitelist, schemas, noSchema),
		missing("Databases.Blacklist", slices.DeleteFunc(slices.Clone(databases.Blacklist), isSystemSchema), schemas, noSchema),
		missing(rewrites("Database", databases.Rewrites), slices.Sorted(maps.Keys(f.config.DatabaseRewrites)), schemas, noSchema),
		missing("Tables.Whitelist", tables.Whitelist, chosen, noTable),
		missing("Tables.Blacklist", tables.Blacklist, known, noTable),
		missing(rewrites("Table", tables.Rewrites), slices.Sorted(maps.Keys(f.config.TableRewrites)), known, noTable),
	)
}

// isSystemSchema tells of schemas that are never moved, and that a blacklist may name although the
// account does not see them.
func isSystemSchema(name string) bool {
	return slices.Contains([]string{"information_schema", "mysql", "performance_schema", "sys"}, strings.ToLower(name))
}

// knownTables are those of the names that tables of chosen schemas have, moved or not.
func (f *CopydbFerry) knownTables(ctx context.Context, schemas map[string]bool, names []string) (map[string]bool, error) {
	if len(names) == 0 {
		return nil, nil
	}
	chosen, err := f.config.TableFilter.ApplicableDatabases(slices.DeleteFunc(slices.Sorted(maps.Keys(schemas)), isSystemSchema))
	if err != nil || len(chosen) == 0 {
		return nil, err
	}
	var args []any
	marks := func(of []string) string {
		for _, name := range of {
			args = append(args, name)
		}
		return strings.TrimSuffix(strings.Repeat("?,", len(of)), ",")
	}
	return f.namesOnSource(ctx, "tables", "SELECT table_name FROM information_schema.tables WHERE table_schema IN ("+marks(chosen)+") AND table_name IN ("+marks(names)+")", args...)
}

func (f *CopydbFerry) namesOnSource(ctx context.Context, what, query string, args ...any) (map[string]bool, error) {
	failed := func(err error) error { return fmt.Errorf("reading the %s of the source: %w", what, err) }
	rows, err := f.Ferry.SourceDB.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, failed(err)
	}
	defer rows.Close()
	names := map[string]bool{}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, failed(err)
		}
		names[name] = true
	}
	if err := rows.Err(); err != nil {
		return nil, failed(err)
	}
	return names, nil
}

// Phase says in a word or two what the move is doing: a state of the library's, or
// what comes after it.
func (f *CopydbFerry) Phase() string {
	if phase, ok := f.phase.Load().(string); ok && phase != "" {
		return phase
	}
	if phase, ok := cutoverPhases[f.Ferry.Phase()]; ok {
		return phase
	}
	if state, ok := f.Ferry.OverallState.Load().(string); ok {
		return state
	}
	return ghostferry.StateStarting
}

// PreflightContext looks for everything that would stop the move or make it go wrong:
// the library's findings, and copydb's own about names and definitions. It may be called
// at any time before the move, instead of InitializeContext or after it. Nothing is
// written. The error is a [*RefusedError] when it could not look, unless ctx ended.
func (f *CopydbFerry) PreflightContext(ctx context.Context) (*ghostferry.PreflightReport, error) {
	err := f.waitForReplica()
	if err != nil {
		return nil, f.refused(ctx, err)
	}
	report, err := f.Ferry.Preflight(ctx)
	if err != nil {
		return nil, f.refused(ctx, f.explained(err))
	}
	if report.Refused() {
		return report, nil
	}
	// What follows needs tables that can be moved.
	if !f.initialized {
		if err := f.Ferry.InitializeContext(ctx); err != nil {
			return nil, f.refused(ctx, err)
		}
		f.initialized = true
	}
	add := func(code string, err error) {
		if err != nil {
			report.Add(ghostferry.PreflightFinding{Code: code, Check: "copydb", Severity: ghostferry.PreflightError, What: err.Error()})
		}
	}
	add("copydb.switched", f.switched())
	add("copydb.names", f.checkNames(ctx))
	if !f.Ferry.Resuming() {
		_, err := f.definitions(ctx)
		add("copydb.create", err)
	}
	return report, nil
}

// PlanContext tells what the move would do. It may be called where PreflightContext may.
func (f *CopydbFerry) PlanContext(ctx context.Context) (*ghostferry.Plan, error) {
	err := f.waitForReplica()
	if err != nil {
		return nil, f.refused(ctx, err)
	}
	plan, err := f.Ferry.Plan(ctx)
	return plan, f.refused(ctx, err)
}

// Result tells how the move ended, given the first error of its steps.
func (f *CopydbFerry) Result(err error) Result {
	result := Result{Err: err, Tables: len(f.Ferry.Tables), WriteBlockMS: f.block.Milliseconds()}
	if !f.began.IsZero() {
		result.Seconds = time.Since(f.began).Seconds()
	}
	if f.initialized {
		progress := f.Ferry.Progress()
		result.RowsCopied, result.CopySeconds = progress.RowsCopied, progress.CopySeconds
		result.BinlogRowsApplied = progress.BinlogRowsApplied
	}
	if end := f.Ferry.StopCoordinate(); !end.IsZero() {
		result.Coordinate = end.String()
	}
	if v, ok := f.Ferry.Verifier.(ghostferry.ReportingVerifier); ok && f.initialized {
		report := v.Report()
		result.RowsCompared, result.VerifyBlockMS, result.Digest = report.Rows+report.RowsRechecked, int64(1000*report.SecondsDuring), report.Digest
		result.RowsRepaired, result.NotCompared = len(report.Repaired), report.NotCompared()
	}
	switch {
	case err != nil:
		result.Outcome = outcomeOf(err)
	case f.Ferry.Verifier == nil:
		result.Outcome = DoneNotVerified
	case f.fenced():
		result.Outcome, result.Verified = Equal, true
	default:
		result.Outcome, result.Verified = EqualSourceNotFenced, true
	}
	return result
}

// fenced says whether the host stops the writers for the cutover.
func (f *CopydbFerry) fenced() bool {
	return f.config.CutoverLock.URI != "" || f.config.CutoverFence != nil
}
