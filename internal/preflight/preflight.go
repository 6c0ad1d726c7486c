// Package preflight looks for everything that would make a move fail or go wrong, before the first
// row moves: one check a file, all faults reported together, each with its remedy.
//
// No check writes to either server. What cannot be seen is reported, not assumed to be right.
package preflight

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/server"
)

// Table is one table of the move.
type Table struct {
	Schema, Name             string // on the source
	TargetSchema, TargetName string // on the target
	// KeyColumns are the columns of the key that the table is copied by, in key order; none means
	// that the table has no usable key.
	KeyColumns []string
	// NoKey says why the table has no usable key, when the caller knows more than that.
	NoKey error
	// Scope is a predicate that is true for the rows that move; empty: not known, or all.
	Scope string
	// ScopeColumns are the columns that Scope compares.
	ScopeColumns []string
	// Bytes is about how large the table is on the source.
	Bytes uint64
	// IndexesComeLater: secondary indexes that the target's table lacks are created by the run.
	IndexesComeLater bool
	// NewToRun: the run is resumed, and the earlier one had not written to this target table.
	NewToRun bool
}

// String returns schema.table of the source.
func (t Table) String() string { return t.Schema + "." + t.Name }

// Target returns schema.table of the target.
func (t Table) Target() string { return t.TargetSchema + "." + t.TargetName }

// scopedBy tells whether the column's values decide which rows move.
func (t Table) scopedBy(column string) bool {
	return slices.ContainsFunc(t.ScopeColumns, func(c string) bool { return strings.EqualFold(c, column) })
}

// Input is what is to be checked.
type Input struct {
	// Source and Target are used by the account that the move will use, one statement at a time.
	Source, Target             server.Querier
	SourceServer, TargetServer *server.Server
	// MoreTarget are further connections like Target, where many tables are to be looked at.
	MoreTarget []server.Querier
	Tables     []Table
	// Rename gives the target's names of a table of the source, moved or not; nil changes none.
	Rename func(schema, table string) (targetSchema, targetTable string)
	// DatabaseRewrites and TableRewrites are the settings that Rename follows.
	DatabaseRewrites, TableRewrites map[string]string

	// CheckpointOn says that the move keeps a checkpoint in CheckpointSchema on the target, under
	// the name RunID.
	CheckpointOn     bool
	CheckpointSchema string
	RunID            string
	// Resuming says that an earlier run has already written to the target tables.
	Resuming bool
	// CreateTables says that the move creates the target's schemas and tables.
	CreateTables bool
	// AllowExistingTables lets CreateTables find tables that are there already, and use them.
	AllowExistingTables bool
	// PartOfRows says that a filter chooses rows: target tables may hold those of other tenants.
	PartOfRows bool
	// AllowReadOnlyTarget accepts a target with read_only, for accounts that may write anyway.
	AllowReadOnlyTarget bool
	// SourceIsReplicaOK accepts a read-only source, because the move waits for its primary.
	SourceIsReplicaOK bool
	// SourceFenced says that an earlier process of the run has made the source read-only.
	SourceFenced bool
	// WatchTarget says that the move follows the target's binary log, to notice what others write.
	WatchTarget bool
	// SkipForeignKeys warns of foreign keys that would be refused.
	SkipForeignKeys bool
}

// run is one run of all checks. It is used by one goroutine.
type run struct {
	Input
	findings []Finding
	check    string // the one that runs now

	source, target structures
	foreignKeys    []foreignKey // of moved tables, on the source
	// deniedSource and deniedTarget are the tables that the account may not read there, by their
	// name on that server: the privilege check has said so, and no other check repeats it.
	deniedSource, deniedTarget map[string]bool
}

// Check describes a check for documentation.
type Check struct {
	Name string
	// Looks says in a line what it looks at.
	Looks string
	// Codes are the findings it can report, without the check's name in front.
	Codes []string
}

// checks are all checks in the order of their findings. The privilege check is first because it
// tells the others what they cannot see.
var checks = []struct {
	Check
	check func(r *run, ctx context.Context) error
}{
	{Check{"privileges", "every privilege that the two accounts need, by trying where that has no effect, else by SHOW GRANTS",
		[]string{"binlog", "source", "target", "checkpoint"}}, (*run).checkPrivileges},
	{Check{"versions", "releases older than MySQL 8.0 and MariaDB 10.11; two flavours",
		[]string{"untested", "flavours"}}, (*run).checkVersions},
	{Check{"same-server", "a target that is the source itself",
		[]string{"same"}}, (*run).checkSameServer},
	{Check{"binlog", "the source's binary log: on, ROW, full images, no partial JSON, GTIDs strictly on or off",
		[]string{"off", "format", "row-image", "partial-json", "gtid-transition", "replica-log", "row-metadata"}}, (*run).checkBinlog},
	{Check{"binlog-filters", "schemas that binlog_do_db or binlog_ignore_db keep out of the source's binary log; definitions run from such a schema",
		[]string{"unlogged", "statements"}}, (*run).checkBinlogFilters},
	{Check{"target-binlog", "the target's binary log, when it is watched: on, ROW, with statements before their rows; where a filter chooses rows also full images, no partial JSON",
		[]string{"off", "format", "statements", "row-image", "partial-json"}}, (*run).checkTargetBinlog},
	{Check{"retention", "how long the source keeps its binary log, against the estimated duration of the move",
		[]string{"short", "by-size"}}, (*run).checkRetention},
	{Check{"replication", "filters of a source that is a replica; a target that replicates from the source",
		[]string{"filtered", "filters", "target-follows"}}, (*run).checkReplication},
	{Check{"read-only", "a read-only target; a source that is a replica without its primary, or that a cutover has left fenced",
		[]string{"source", "source-fenced", "target", "target-super"}}, (*run).checkReadOnly},
	{Check{"tables", "that the tables are there, of InnoDB, and each has a name of its own on the target (letter case included); rewrites that rename none of them",
		[]string{"none", "missing-on-source", "missing-on-target", "exists", "kind", "versioned", "engine", "same-name", "rewrite-unused", "unusable"}}, (*run).checkTables},
	{Check{"types", "columns whose values cannot be carried exactly, or whose type the target does not have",
		[]string{"unsupported", "target-lacks", "negative-zero", "by-session"}}, (*run).checkTypes},
	{Check{"key", "that each table has a key by which its rows can be told apart exactly, and a large one a key in whose order it can be read",
		[]string{"none", "not-unique", "nullable", "inexact", "overlaps", "mixed-order"}}, (*run).checkKeys},
	{Check{"foreign-keys", "cascades that the binary log does not record; parents that do not move along",
		[]string{"unlogged-cascade", "parent-missing", "parent-stays"}}, (*run).checkForeignKeys},
	{Check{"create", "what keeps the target from creating the missing tables: collations it lacks, settings that refuse them",
		[]string{"collation", "default-collation", "primary-key", "page-size"}}, (*run).checkCreate},
	{Check{"target-structure", "each difference of a target table that exists: columns, keys, indexes, collations, generated columns, partitions, CHECK constraints",
		[]string{"column-missing", "column-type", "column-charset", "column-collation", "column-null", "column-generated", "column-default", "column-extra",
			"auto-increment", "no-key", "unique-extra", "index-missing", "partitions", "check-extra"}}, (*run).checkTargetStructure},
	{Check{"target-rows", "target tables that hold rows already",
		[]string{"rows"}}, (*run).checkTargetRows},
	{Check{"target-triggers", "triggers on target tables, which would fire for every row moved",
		[]string{"trigger"}}, (*run).checkTargetTriggers},
	{Check{"checkpoint", "the checkpoint's schema: somebody else's tables in it, other runs that have not finished",
		[]string{"foreign", "other-run"}}, (*run).checkCheckpoint},
	{Check{"prepared-xa", "XA transactions that are prepared, on the source or on a target that is watched",
		[]string{"prepared", "unknown"}}, (*run).checkPreparedXA},
	{Check{"packet-size", "max_allowed_packet of both servers against the longest rows that the tables allow",
		[]string{"row"}}, (*run).checkPacketSize},
	{Check{"size", "the bytes to be moved; the free disk of a server cannot be asked by SQL",
		[]string{"bytes"}}, (*run).checkSize},
	{Check{"settings", "settings under which applications behave differently on the target: sql_mode, time zone, letter case of names, character set",
		[]string{"sql-mode", "time-zone", "letter-case", "character-set"}}, (*run).checkSettings},
	{Check{"not-moved", "views, triggers, routines, events and sequences of the moved schemas, which do not move",
		[]string{"views", "triggers", "routines", "events", "sequences"}}, (*run).checkNotMoved},
}

// Unchecked is the code, behind the name of any check, of a check that could not be made.
const Unchecked = "unchecked"

// Checks describes all checks, in their order.
func Checks() []Check {
	all := make([]Check, len(checks))
	for i, c := range checks {
		all[i] = c.Check
	}
	return all
}

// Run runs every check and returns what they found, errors first. Its own error means that the
// servers could not be asked to the end: a lost connection, or the end of ctx. Whether the move
// may begin is what Report.Err says.
func Run(ctx context.Context, in Input) (*Report, error) {
	r := &run{Input: in, deniedSource: map[string]bool{}, deniedTarget: map[string]bool{}}
	group, groupCtx := errgroup.WithContext(ctx) // two servers, and of many tables each takes a second
	group.Go(func() (err error) {
		if r.source, err = readStructures(groupCtx, in.Source, in.SourceServer, in.sourceSchemas()); err != nil {
			return fmt.Errorf("read the table definitions of the source: %w", err)
		}
		return nil
	})
	group.Go(func() (err error) {
		if r.target, err = readStructures(groupCtx, in.Target, in.TargetServer, in.targetSchemas()); err != nil {
			return fmt.Errorf("read the table definitions of the target: %w", err)
		}
		return nil
	})
	err := group.Wait()
	if err != nil {
		return nil, err
	}
	if r.foreignKeys, err = r.readForeignKeys(ctx); err != nil {
		return nil, err
	}
	for _, c := range checks {
		r.check = c.Name
		if err := c.check(r, ctx); err != nil {
			switch mysqlerr.Classify(err) {
			case mysqlerr.AccessDenied, mysqlerr.UnknownObject, mysqlerr.Permanent:
				if ctx.Err() == nil {
					r.fault(Unchecked, "", fmt.Sprintf("could not be checked: %v", err), "see the error; what is not checked is not trusted")
					continue
				}
			}
			return nil, fmt.Errorf("preflight check %s: %w", c.Name, err)
		}
	}
	return New(r.findings), nil
}

// fault reports an error of the running check, warn a warning, note what is for the record. The
// code is one of the check's own.
func (r *run) fault(code, subject, what, remedy string) {
	r.find(Error, code, subject, what, remedy)
}

func (r *run) warn(code, subject, what, remedy string) {
	r.find(Warning, code, subject, what, remedy)
}

func (r *run) note(code, subject, what, remedy string) {
	r.find(Info, code, subject, what, remedy)
}

func (r *run) find(severity Severity, code, subject, what, remedy string) {
	r.findings = append(r.findings, Finding{
		Code: r.check + "." + code, Check: r.check, Severity: severity, Subject: subject, What: what, Remedy: remedy,
	})
}

// because attaches the error behind the last finding.
func (r *run) because(err error) {
	r.findings[len(r.findings)-1].Err = err
}

// pairs calls f for each table that exists on both sides.
func (r *run) pairs(f func(t Table, source, target *structure)) {
	for _, t := range r.Tables {
		source, target := r.source.table(t.Schema, t.Name), r.target.table(t.TargetSchema, t.TargetName)
		if source != nil && target != nil {
			f(t, source, target)
		}
	}
}

func (in Input) sourceSchemas() []string {
	return distinct(in.Tables, func(t Table) string { return t.Schema })
}

func (in Input) targetSchemas() []string {
	return distinct(in.Tables, func(t Table) string { return t.TargetSchema })
}

// distinct returns what of gives for each table, once each, in their order.
func distinct(tables []Table, of func(Table) string) []string {
	var names []string
	seen := map[string]bool{}
	for _, t := range tables {
		if name := of(t); !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}
