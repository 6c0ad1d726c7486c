package ghostferry

import (
	"context"
	"errors"
)

// Plan is what a run is going to do, and what stands in its way.
type Plan struct {
	Tables   []TablePlan
	Findings []PlanFinding
}

// TablePlan is what is going to happen to one table.
type TablePlan struct {
	Schema, Table             string
	TargetSchema, TargetTable string
	// Key are the columns of the key that the table is walked by.
	Key []string
	// RowsEstimate and Bytes are the source's own estimates.
	RowsEstimate, Bytes uint64
	// Chunks is about how many pieces the copy has.
	Chunks int
	// Path says how the table is copied and followed.
	Path string
}

// PlanFinding is something that preflight found. Severity is "error", "warning" or "info".
type PlanFinding struct {
	Severity, Check, Subject, Problem, Remedy string
}

// Refused reports whether a finding stops the run.
func (p *Plan) Refused() bool {
	for _, finding := range p.Findings {
		if finding.Severity == "error" {
			return true
		}
	}
	return false
}

// Plan returns what Run is going to do. It may be called after Initialize, also after
// one that failed in its checks: the findings then say why.
func (f *Ferry) Plan(_ context.Context) (*Plan, error) {
	if f.Tables == nil {
		return nil, errors.New("there is no plan before Initialize has loaded the tables")
	}
	p := &Plan{Findings: f.warnings}
	names := newRewrites(f.DatabaseRewrites, f.TableRewrites)
	for _, t := range f.sortedTables() {
		l, err := t.layout()
		if err != nil {
			return nil, err
		}
		tp := TablePlan{Schema: t.Schema, Table: t.Name, RowsEstimate: t.approxRows, Bytes: t.dataLength, Path: f.pathOf(l)}
		tp.TargetSchema, tp.TargetTable = names.table(t.Schema, t.Name)
		for _, k := range l.keys {
			tp.Key = append(tp.Key, l.columns[k].Name)
		}
		tp.Chunks = int(t.dataLength/max(1, f.DataIterationChunkBytes)) + 1
		p.Tables = append(p.Tables, tp)
	}
	return p, nil
}

func (f *Ferry) pathOf(l *tableLayout) string {
	switch {
	case f.CopyFilter != nil:
		return "one worker: the copy filter's query"
	case !l.keyBytes:
		return "conservative: only the server can compare keys; changes are applied one by one"
	case l.replaced:
		return "parallel chunks; changes in two phases"
	}
	return "parallel chunks; changes in one phase"
}
