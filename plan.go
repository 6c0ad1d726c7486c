package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// Plan is what a run is going to do. What stands in its way is what [Ferry.Preflight]
// says.
type Plan struct {
	// Tables are the tables that move, by name.
	Tables []TablePlan `json:"tables"`
	// RowsEstimate and Bytes are the sums over the tables.
	RowsEstimate uint64 `json:"rows_estimate"`
	Bytes        uint64 `json:"bytes"`
	// SecondsEstimate is how long copy and comparison may take, at a low speed.
	SecondsEstimate float64 `json:"seconds_estimate"`
	// Resuming says that the run goes on from an earlier one.
	Resuming bool `json:"resuming"`
}

// TablePlan is what is going to happen to one table.
type TablePlan struct {
	// Schema and Table name it on the source.
	Schema string `json:"schema"`
	Table  string `json:"table"`
	// TargetSchema and TargetTable name it on the target.
	TargetSchema string `json:"target_schema"`
	TargetTable  string `json:"target_table"`
	// Key are the columns of the key that the table is walked by.
	Key []string `json:"key"`
	// RowsEstimate and Bytes are the source's own estimates; Bytes are those of the
	// rows without secondary indexes.
	RowsEstimate uint64 `json:"rows_estimate"`
	Bytes        uint64 `json:"bytes"`
	// Chunks is about how many pieces the copy has.
	Chunks int `json:"chunks"`
	// Path says how the table is copied and followed.
	Path string `json:"path"`
	// CopiedBy is the statement that writes its copied rows, "LOAD DATA" or "INSERT".
	CopiedBy string `json:"copied_by"`
	// DeferredIndexes are the indexes of the target's table that are created when the rows
	// are copied, by name; of a run that goes on, those that are still owed.
	DeferredIndexes []string `json:"deferred_indexes,omitempty"`
}

// Plan returns what Run is going to do. Like Preflight it needs no Initialize and writes
// nothing; after Initialize it uses what that has loaded. Tables that cannot be moved
// are not in it: the preflight's report names them.
func (f *Ferry) Plan(ctx context.Context) (*Plan, error) {
	if f.Tables != nil {
		return f.plan(ctx)
	}
	probe, _, err := f.probe(ctx)
	if err != nil {
		return nil, err
	}
	defer probe.closeConnections()
	return probe.plan(ctx)
}

func (f *Ferry) plan(ctx context.Context) (*Plan, error) {
	p := &Plan{Tables: []TablePlan{}, Resuming: f.resuming}
	names := newRewrites(f.DatabaseRewrites, f.TableRewrites)
	deferred, err := f.planIndexes(ctx)
	if err != nil {
		return nil, err
	}
	tables := f.sortedTables()
	all := bytesOf(tables)
	for _, t := range tables {
		l, err := t.layout()
		if err != nil {
			continue // preflight has said so
		}
		tp := TablePlan{Schema: t.Schema, Table: t.Name, RowsEstimate: t.approxRows, Bytes: t.dataLength, Path: f.pathOf(l), Key: t.keyColumnNames()}
		tp.TargetSchema, tp.TargetTable = names.table(t.Schema, t.Name)
		tp.Chunks = int(t.dataLength/uint64(chunkSize(int(f.DataIterationChunkBytes), f.UpdatableConfig.workers(), all, f.loads(l)))) + 1
		tp.CopiedBy = "INSERT"
		if f.loads(l) {
			tp.CopiedBy = "LOAD DATA"
		}
		tp.DeferredIndexes = deferred[NewTableIdentifierFromSchemaTable(t)]
		p.Tables = append(p.Tables, tp)
		p.RowsEstimate, p.Bytes = p.RowsEstimate+tp.RowsEstimate, p.Bytes+tp.Bytes
	}
	p.SecondsEstimate = estimatedDuration(p.Bytes).Seconds()
	return p, nil
}

func (f *Ferry) pathOf(l *tableLayout) string {
	switch {
	case l.scope != nil && l.keyBytes:
		return "parallel chunks of the row filter's rows; changes in two phases"
	case l.scope != nil:
		return "conservative: the row filter's rows; only the server can compare keys, changes are applied one by one"
	case f.CopyFilter != nil:
		return "one worker: the copy filter's query"
	case !l.keyBytes:
		return "conservative: only the server can compare keys; changes are applied one by one"
	case l.replaced:
		return "parallel chunks; changes in two phases"
	}
	return "parallel chunks; changes in one phase"
}

// planIndexes returns the names of the indexes that are created later: those that an
// earlier process of the run owes, else those that a fresh run will defer. A table that
// the target does not have yet is taken to be created as it is on the source.
func (f *Ferry) planIndexes(ctx context.Context) (map[TableIdentifier][]string, error) {
	names := map[TableIdentifier][]string{}
	if f.resume != nil {
		records, err := f.checkpoint.indexRecords(ctx)
		if err != nil {
			return nil, err
		}
		for id, t := range f.resume.tables {
			if r := records[t.number]; r != nil {
				names[id] = indexNames(r.deferred)
			}
		}
		return names, nil
	}
	if f.resuming || f.defersNothing() {
		return names, nil
	}
	var onTarget, onSource *deferredPlan
	for _, t := range f.sortedTables() {
		if t.dataLength < f.DeferSecondaryIndexesMinBytes {
			continue
		}
		if onTarget == nil {
			var err error
			if onTarget, err = f.newDeferredPlan(ctx, f.TargetDB, f.targetServer); err != nil {
				return nil, err
			}
			defer onTarget.session.discard() //nolint:gocritic // made once, at the first table
			if onSource, err = f.newDeferredPlan(ctx, f.SourceDB, f.sourceServer); err != nil {
				return nil, err
			}
			defer onSource.session.discard() //nolint:gocritic // made once, at the first table
		}
		schema, table := newRewrites(f.DatabaseRewrites, f.TableRewrites).table(t.Schema, t.Name)
		deferred, err := onTarget.of(ctx, t, schema, table)
		if mysqlerr.Classify(err) == mysqlerr.UnknownObject {
			deferred, err = onSource.of(ctx, t, t.Schema, t.Name)
		}
		if err != nil {
			return nil, err
		}
		names[NewTableIdentifierFromSchemaTable(t)] = deferred
	}
	return names, nil
}

// deferredPlan tells what would be deferred of tables as one server defines them.
type deferredPlan struct {
	unique  bool
	session *session
	needed  map[TableIdentifier]neededColumns
}

func (f *Ferry) newDeferredPlan(ctx context.Context, db *sql.DB, srv *server.Server) (*deferredPlan, error) {
	needed, err := readNeededColumns(ctx, db)
	if err != nil {
		return nil, err
	}
	s, err := (&deferredIndexes{db: db, server: srv}).session(ctx)
	return &deferredPlan{unique: f.DeferSecondaryIndexes == DeferIndexesAll, session: s, needed: needed}, err
}

func (p *deferredPlan) of(ctx context.Context, t *TableSchema, schema, table string) ([]string, error) {
	definition, err := showCreateTable(ctx, p.session, schema, table)
	if err != nil {
		return nil, err
	}
	deferred, err := deferredOf(t, definition, p.unique, p.needed[TableIdentifier{strings.ToLower(schema), strings.ToLower(table)}])
	if err != nil && !errors.Is(err, errNotUnderstood) { // then they stay
		return nil, fmt.Errorf("%s: %w", fullTableName(schema, table), err)
	}
	return indexNames(deferred), nil
}

func indexNames(indexes []indexDefinition) (names []string) {
	for _, index := range indexes {
		names = append(names, index.Name)
	}
	return names
}
