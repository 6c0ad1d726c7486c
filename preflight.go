package ghostferry

import (
	"context"
	"database/sql/driver"
	"errors"
	"slices"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/preflight"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// PreflightSeverity says whether a finding stops the run.
type PreflightSeverity string

// The severities of findings.
const (
	// PreflightError stops the run.
	PreflightError PreflightSeverity = "error"
	// PreflightWarning does not, but somebody should know.
	PreflightWarning PreflightSeverity = "warning"
	// PreflightInfo is for the record.
	PreflightInfo PreflightSeverity = "info"
)

// PreflightFinding is one thing that preflight found.
type PreflightFinding struct {
	// Code is for programs and does not change: the check's name, a dot, and what it
	// found, e.g. "binlog.format". docs/operations.md lists all codes.
	Code string `json:"code"`
	// Check is the check's name.
	Check string `json:"check"`
	// Severity says whether it stops the run.
	Severity PreflightSeverity `json:"severity"`
	// Subject is what is at fault: "schema.table", a setting, a server; may be empty.
	Subject string `json:"subject"`
	// What says what is wrong with it.
	What string `json:"what"`
	// Remedy says what to do, with the exact statement where there is one.
	Remedy string `json:"remedy"`

	err error // behind it, may be nil
}

// PreflightFindingError is a finding that stops the run, as an error.
type PreflightFindingError struct {
	final
	// Finding is the finding.
	Finding PreflightFinding
}

// Error gives code, subject, what is wrong and the remedy in one line.
func (e *PreflightFindingError) Error() string { return internalFinding(e.Finding).String() }

// Unwrap returns the error behind the finding, if there is one: a *[NoUsableKeyError],
// a *[ConfigError] and others.
func (e *PreflightFindingError) Unwrap() error { return e.Finding.err }

// Resumable is true: nothing was written.
func (e *PreflightFindingError) Resumable() bool { return true }

// PreflightReport is everything that preflight found, errors first.
type PreflightReport struct {
	// Source and Target say which servers were looked at: flavour, version, address.
	Source string `json:"source"`
	Target string `json:"target"`
	// Tables is how many tables are to be moved.
	Tables int `json:"tables"`
	// Findings are errors, warnings and infos, in this order.
	Findings []PreflightFinding `json:"findings"`
}

// Refused reports whether a finding stops the run.
func (r *PreflightReport) Refused() bool { return r.Count(PreflightError) > 0 }

// Count returns the number of findings of a severity.
func (r *PreflightReport) Count(s PreflightSeverity) int {
	n := 0
	for _, finding := range r.Findings {
		if finding.Severity == s {
			n++
		}
	}
	return n
}

// Err returns nil when the run may begin, and otherwise every finding that stops it as
// a *[PreflightFindingError], joined.
func (r *PreflightReport) Err() error {
	var errs []error
	for _, finding := range r.Findings {
		if finding.Severity == PreflightError {
			errs = append(errs, &PreflightFindingError{Finding: finding})
		}
	}
	return errors.Join(errs...)
}

// Add adds findings of the host's own, and keeps errors first.
func (r *PreflightReport) Add(findings ...PreflightFinding) {
	var sorted []PreflightFinding
	all := slices.Concat(r.Findings, findings)
	for _, severity := range []PreflightSeverity{PreflightError, PreflightWarning, PreflightInfo} {
		for _, finding := range all {
			if finding.Severity == severity {
				sorted = append(sorted, finding)
			}
		}
	}
	r.Findings = sorted
}

// String returns the findings as a table for people, and a line that counts them.
func (r *PreflightReport) String() string {
	internal := make([]preflight.Finding, len(r.Findings))
	for i, finding := range r.Findings {
		internal[i] = internalFinding(finding)
	}
	return preflight.New(internal).Table()
}

// log tells the run's log what does not stop the run; what does is returned as an error.
func (r *PreflightReport) log(logger Logger) {
	for _, finding := range r.Findings {
		switch finding.Severity {
		case PreflightWarning:
			logger.Warn(internalFinding(finding).String())
		case PreflightInfo:
			logger.Info(internalFinding(finding).String())
		}
	}
}

var internalSeverities = map[PreflightSeverity]preflight.Severity{
	PreflightError: preflight.Error, PreflightWarning: preflight.Warning, PreflightInfo: preflight.Info,
}

func internalFinding(f PreflightFinding) preflight.Finding {
	return preflight.Finding{Code: f.Code, Check: f.Check, Severity: internalSeverities[f.Severity], Subject: f.Subject, What: f.What, Remedy: f.Remedy, Err: f.err}
}

// Preflight connects to both servers and looks for everything that would make the run
// fail or go wrong: all faults are reported together, each with its remedy, whether or
// not the run has an earlier one to go on from. Whether the run may begin is what
// [PreflightReport.Err] says; Preflight's own error means that it could not look: a
// wrong configuration, a server that cannot be reached.
//
// It writes nothing, changes nothing about the Ferry, uses connections of its own and
// needs no Initialize, which makes the same checks.
func (f *Ferry) Preflight(ctx context.Context) (*PreflightReport, error) {
	probe, report, err := f.probe(ctx)
	if err != nil {
		return nil, err
	}
	defer probe.closeConnections()
	if !report.Refused() {
		if err := probe.checkResume(ctx); err != nil {
			if ctx.Err() != nil {
				return nil, err
			}
			report.Add(PreflightFinding{Code: "resume.refused", Check: "resume", Severity: PreflightError, Subject: "checkpoint", What: err.Error(), err: err})
		}
	}
	return report, nil
}

// probe is a Ferry of the same configuration that has looked at both servers, and what
// it found. Its connections are the caller's to close.
func (f *Ferry) probe(ctx context.Context) (*Ferry, *PreflightReport, error) {
	probe := &Ferry{Config: f.Config, StateTracker: NewStateTracker(1)}
	if f.WaitUntilReplicaIsCaughtUpToMaster != nil {
		gate := *f.WaitUntilReplicaIsCaughtUpToMaster // it is told the probe's connections
		probe.WaitUntilReplicaIsCaughtUpToMaster = &gate
	}
	if err := f.ValidateConfig(); err != nil {
		return nil, nil, err
	}
	probe.logger = taggedLogger(f.Config.Logger, "preflight")
	report, err := probe.examine(ctx)
	if err != nil {
		probe.closeConnections()
		return nil, nil, err
	}
	return probe, report, nil
}

// examine connects, loads the tables, finds the checkpoint and runs all checks.
func (f *Ferry) examine(ctx context.Context) (*PreflightReport, error) {
	if err := f.fenceOnPrimary(f.CutoverFence); err != nil {
		return nil, err
	}
	if err := f.connect(ctx); err != nil {
		return nil, err
	}
	faults, err := f.loadTables(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.findCheckpoint(ctx); err != nil {
		return nil, err
	}
	if err := f.prepareReplicaGate(ctx); err != nil {
		return nil, err
	}
	return f.runChecks(ctx, faults, true)
}

// runChecks looks for everything that would make the move go wrong. Before the start
// target tables may still be missing: the host may create them until Run. faults are
// those found while the tables were loaded.
func (f *Ferry) runChecks(ctx context.Context, faults []error, beforeTables bool) (*PreflightReport, error) {
	source, err := examiningConn(ctx, f.SourceDB, f.sourceServer)
	if err != nil {
		return nil, err
	}
	defer throwAway(source)
	target, err := examiningConn(ctx, f.TargetDB, f.targetServer)
	if err != nil {
		return nil, err
	}
	defer throwAway(target)
	more, err := moreConns(ctx, f.TargetDB, f.targetServer, len(f.Tables))
	defer func() {
		for _, conn := range more {
			throwAway(conn)
		}
	}()
	if err != nil {
		return nil, err
	}
	names := newRewrites(f.DatabaseRewrites, f.TableRewrites)
	in := preflight.Input{
		Source: source, Target: target, SourceServer: f.sourceServer, TargetServer: f.targetServer, Rename: names.table,
		DatabaseRewrites: f.DatabaseRewrites, TableRewrites: f.TableRewrites,
		CheckpointOn: f.checkpoint != nil, CheckpointSchema: f.CheckpointSchema, Resuming: f.resuming,
		CreateTables: beforeTables, AllowExistingTables: true,
		PartOfRows: f.CopyFilter != nil, AllowReadOnlyTarget: f.AllowSuperUserOnReadOnly,
		SourceIsReplicaOK: f.WaitUntilReplicaIsCaughtUpToMaster != nil, SkipForeignKeys: f.SkipForeignKeyConstraintsCheck, WatchTarget: !f.SkipTargetVerification,
	}
	for _, conn := range more {
		in.MoreTarget = append(in.MoreTarget, conn)
	}
	if f.checkpoint != nil {
		in.RunID = f.checkpoint.runID
	}
	if in.SourceFenced, err = f.leftReadOnly(ctx); err != nil {
		return nil, err
	}
	later, err := f.indexesComeLater(ctx)
	if err != nil {
		return nil, err
	}
	added := f.newToRun()
	for _, t := range f.sortedTables() {
		table := preflight.Table{Schema: t.Schema, Name: t.Name, KeyColumns: t.keyColumnNames(), Bytes: t.dataLength}
		table.IndexesComeLater = later[NewTableIdentifierFromSchemaTable(t)]
		table.NewToRun = added[t.String()]
		table.TargetSchema, table.TargetName = names.table(t.Schema, t.Name)
		if l, err := t.layout(); err == nil && l.scope != nil {
			table.Scope, table.ScopeColumns = l.scope.predicate, l.scope.columnNames()
		}
		in.Tables = append(in.Tables, table)
	}
	in.Tables = append(in.Tables, f.faultyTables(faults)...)
	found, err := preflight.Run(ctx, in)
	if err != nil {
		return nil, err
	}
	report := &PreflightReport{Source: f.sourceServer.String(), Target: f.targetServer.String(), Tables: len(in.Tables), Findings: []PreflightFinding{}}
	for _, finding := range found.Findings {
		report.Findings = append(report.Findings, PreflightFinding{
			Code: finding.Code, Check: finding.Check, Severity: PreflightSeverity(finding.Severity.String()),
			Subject: finding.Subject, What: finding.What, Remedy: finding.Remedy, err: finding.Err,
		})
	}
	report.addFaults(faults)
	return report, nil
}

// moreConns are further connections to look at many tables, as far as the host allows them:
// it may have bounded the pool.
func moreConns(ctx context.Context, db *sql.DB, srv *server.Server, tables int) (conns []*sql.Conn, err error) {
	const most, worthwhile = 3, 500 // tables a connection
	for len(conns) < min(most, tables/worthwhile) {
		if open := db.Stats(); open.MaxOpenConnections > 0 && open.InUse+2 > open.MaxOpenConnections {
			break
		}
		conn, err := examiningConn(ctx, db, srv)
		if err != nil { // they only save time, and an account may have no more
			return conns, ctx.Err()
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

// examiningConn is a connection that is shown whole definitions and on which nothing waits for long
// for a table that somebody alters: privileges are tried on tables.
func examiningConn(ctx context.Context, db *sql.DB, srv *server.Server) (*sql.Conn, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	for _, statement := range append(srv.DefinitionSetup(), "SET SESSION lock_wait_timeout=1") {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			throwAway(conn)
			return nil, err
		}
	}
	return conn, nil
}

// throwAway closes a connection whose session is not like the others of the pool.
func throwAway(conn *sql.Conn) {
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = conn.Close()
}

// faultyTables are the tables that could not be loaded: the checks say why, and what
// else is wrong with them.
func (f *Ferry) faultyTables(faults []error) (tables []preflight.Table) {
	for _, fault := range faults {
		t := tableOfFault(fault)
		if t.SchemaName == "" || f.Tables.Get(t.SchemaName, t.TableName) != nil {
			continue
		}
		table := preflight.Table{Schema: t.SchemaName, Name: t.TableName}
		table.TargetSchema, table.TargetName = newRewrites(f.DatabaseRewrites, f.TableRewrites).table(t.SchemaName, t.TableName)
		if e, ok := errors.AsType[*NoUsableKeyError](fault); ok {
			table.NoKey = e
		}
		tables = append(tables, table)
	}
	return tables
}

// addFaults adds the faults of tables that no check has found anything wrong with.
func (r *PreflightReport) addFaults(faults []error) {
	for _, fault := range faults {
		t := tableOfFault(fault)
		name := fullTableName(t.SchemaName, t.TableName)
		explained := slices.ContainsFunc(r.Findings, func(f PreflightFinding) bool {
			return f.Severity == PreflightError && f.Subject == name
		})
		if !explained {
			r.Add(PreflightFinding{Code: "tables.unusable", Check: "tables", Severity: PreflightError, Subject: name, What: fault.Error(), err: fault})
		}
	}
}

// tableOfFault returns the table of the source that an error of the loading is about.
func tableOfFault(fault error) TableIdentifier {
	if e, ok := errors.AsType[*NoUsableKeyError](fault); ok {
		return TableIdentifier{e.Schema, e.Table}
	}
	if e, ok := errors.AsType[*UnsupportedTableError](fault); ok {
		return TableIdentifier{e.Schema, e.Table}
	}
	if e, ok := errors.AsType[*TableError](fault); ok {
		return TableIdentifier{e.Schema, e.Table}
	}
	return TableIdentifier{}
}

// PreflightCheck describes one of the checks.
type PreflightCheck struct {
	// Name is the part of a code before the dot.
	Name string `json:"name"`
	// Looks says in a line what the check looks at.
	Looks string `json:"looks"`
	// Codes are the codes that it may report.
	Codes []string `json:"codes"`
}

// PreflightChecks describes all checks, in the order in which they are made.
func PreflightChecks() []PreflightCheck {
	var all []PreflightCheck
	for _, c := range preflight.Checks() {
		check := PreflightCheck{Name: c.Name, Looks: c.Looks}
		for _, code := range c.Codes {
			check.Codes = append(check.Codes, c.Name+"."+code)
		}
		all = append(all, check)
	}
	return append(all, PreflightCheck{
		Name: "resume", Looks: "what an interrupted run still needs: the source's binary log from its position on (nothing purged, nothing lost), the copied rows, the tables, rows and names that it began with",
		Codes: []string{"resume.refused"},
	})
}

// estimatedDuration is how long a move of some bytes may take.
func estimatedDuration(bytes uint64) time.Duration { return preflight.Duration(bytes) }
