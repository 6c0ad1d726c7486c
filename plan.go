package ghostferry

import (
	"context"
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
}

// Plan returns what Run is going to do. Like Preflight it needs no Initialize and writes
// nothing; after Initialize it uses what that has loaded. Tables that cannot be moved
// are not in it: the preflight's report names them.
func (f *Ferry) Plan(ctx context.Context) (*Plan, error) {
	if f.Tables != nil {
		return f.plan()
	}
	probe, _, err := f.probe(ctx)
	if err != nil {
		return nil, err
	}
	defer probe.closeConnections()
	return probe.plan()
}

func (f *Ferry) plan() (*Plan, error) {
	p := &Plan{Tables: []TablePlan{}, Resuming: f.resuming}
	names := newRewrites(f.DatabaseRewrites, f.TableRewrites)
	for _, t := range f.sortedTables() {
		l, err := t.layout()
		if err != nil {
			continue // preflight has said so
		}
		tp := TablePlan{Schema: t.Schema, Table: t.Name, RowsEstimate: t.approxRows, Bytes: t.dataLength, Path: f.pathOf(l), Key: t.keyColumnNames()}
		tp.TargetSchema, tp.TargetTable = names.table(t.Schema, t.Name)
		tp.Chunks = int(t.dataLength/max(1, f.DataIterationChunkBytes)) + 1
		tp.CopiedBy = "INSERT"
		if f.targetServer != nil && f.targetServer.LocalInfile && f.BulkLoad != bulkLoadOff && l.bulk() && l.scope == nil {
			tp.CopiedBy = "LOAD DATA"
		}
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
