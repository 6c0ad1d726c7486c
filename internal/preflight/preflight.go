// Package preflight looks for everything that would make a move fail or go wrong, before the first
// row moves: one check a file, all faults reported together, each with its remedy.
//
// No check writes to either server. What cannot be seen is reported, not assumed to be right.
package preflight

import (
	"context"
	"fmt"

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
}

// String returns schema.table of the source.
func (t Table) String() string { return t.Schema + "." + t.Name }

// Target returns schema.table of the target.
func (t Table) Target() string { return t.TargetSchema + "." + t.TargetName }

// Input is what is to be checked.
type Input struct {
	// Source and Target are used by the account that the move will use, one statement at a time.
	Source, Target             server.Querier
	SourceServer, TargetServer *server.Server
	Tables                     []Table

	// CheckpointOn says that the move keeps a checkpoint in CheckpointSchema on the target.
	CheckpointOn     bool
	CheckpointSchema string
	// Resuming says that an earlier run has already written to the target tables.
	Resuming bool
	// CreateTables says that the move creates the target's schemas and tables.
	CreateTables bool
	// AllowExistingTables lets CreateTables find tables that are there already, and use them.
	AllowExistingTables bool
	// AllowTargetRows accepts target tables that hold rows: those of other tenants.
	AllowTargetRows bool
	// AllowReadOnlyTarget accepts a target with read_only, for accounts that may write anyway.
	AllowReadOnlyTarget bool
	// SourceIsReplicaOK accepts a read-only source, because the move waits for its primary.
	SourceIsReplicaOK bool
	// SkipForeignKeys accepts foreign keys on moved tables.
	SkipForeignKeys bool
}

// run is one run of all checks. It is used by one goroutine.
type run struct {
	Input
	findings []Finding
	check    string // the one that runs now

	source, target structures
	// deniedSource and deniedTarget are the tables that the account may not read there, by their
	// name on that server: the privilege check has said so, and no other check repeats it.
	deniedSource, deniedTarget map[string]bool
}

// checks are all checks in the order of their findings. The privilege check is first because it
// tells the others what they cannot see.
var checks = []struct {
	name  string
	check func(r *run, ctx context.Context) error
}{
	{"privileges", (*run).checkPrivileges},
	{"same-server", (*run).checkSameServer},
	{"binlog", (*run).checkBinlog},
	{"binlog-filters", (*run).checkBinlogFilters},
	{"read-only", (*run).checkReadOnly},
	{"tables", (*run).checkTables},
	{"key", (*run).checkKeys},
	{"foreign-keys", (*run).checkForeignKeys},
	{"target-structure", (*run).checkTargetStructure},
	{"target-rows", (*run).checkTargetRows},
	{"target-triggers", (*run).checkTargetTriggers},
	{"prepared-xa", (*run).checkPreparedXA},
	{"packet-size", (*run).checkPacketSize},
}

// Run runs every check and returns what they found, errors first. Its own error means that the
// servers could not be asked to the end: a lost connection, or the end of ctx. Whether the move
// may begin is what Report.Err says.
func Run(ctx context.Context, in Input) (*Report, error) {
	r := &run{Input: in, deniedSource: map[string]bool{}, deniedTarget: map[string]bool{}}
	var err error
	if r.source, err = readStructures(ctx, in.Source, in.SourceServer, in.sourceSchemas()); err != nil {
		return nil, fmt.Errorf("read the table definitions of the source: %w", err)
	}
	if r.target, err = readStructures(ctx, in.Target, in.TargetServer, in.targetSchemas()); err != nil {
		return nil, fmt.Errorf("read the table definitions of the target: %w", err)
	}
	for _, c := range checks {
		r.check = c.name
		if err := c.check(r, ctx); err != nil {
			switch mysqlerr.Classify(err) {
			case mysqlerr.AccessDenied, mysqlerr.UnknownObject, mysqlerr.Permanent:
				if ctx.Err() == nil {
					r.fault("", fmt.Sprintf("could not be checked: %v", err), "see the error; what is not checked is not trusted")
					continue
				}
			}
			return nil, fmt.Errorf("preflight check %s: %w", c.name, err)
		}
	}
	return newReport(r.findings), nil
}

// fault reports an error of the running check; warn a warning.
func (r *run) fault(subject, problem, remedy string) {
	r.findings = append(r.findings, Finding{r.check, Error, subject, problem, remedy})
}

func (r *run) warn(subject, problem, remedy string) {
	r.findings = append(r.findings, Finding{r.check, Warning, subject, problem, remedy})
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
