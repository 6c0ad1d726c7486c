package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
)

// rehearsal is what a dry run found; its JSON form is for programs.
type rehearsal struct {
	Plan      *ghostferry.Plan            `json:"plan"`
	Preflight *ghostferry.PreflightReport `json:"preflight"`
	// Refused says that the move would be refused.
	Refused bool `json:"refused"`
}

// dryRun prints the plan and what speaks against it.
func (p *program) dryRun(ctx context.Context) int {
	config, err := p.readConfig()
	if err != nil {
		return p.finish(copydb.Result{Outcome: copydb.Refused, Err: err})
	}
	ferry := p.newFerry(config)
	defer func() { _ = ferry.Close() }()
	found, err := rehearse(ctx, ferry)
	if err != nil { // it did not get as far as a plan
		return p.finish(ferry.Result(err))
	}
	if p.options.json {
		err = json.NewEncoder(p.stdout).Encode(found)
	} else {
		err = found.print(p.stdout)
	}
	if err != nil {
		fmt.Fprintln(p.stderr, "copydb:", err)
		return copydb.Failed.ExitStatus()
	}
	if found.Refused {
		return copydb.Refused.ExitStatus()
	}
	return 0
}

// rehearse looks, plans, and makes the first steps of a move, up to reading the binary
// log: nothing is written.
func rehearse(ctx context.Context, ferry *copydb.CopydbFerry) (*rehearsal, error) {
	report, err := ferry.PreflightContext(ctx)
	if err != nil {
		return nil, err
	}
	plan, err := ferry.PlanContext(ctx)
	if err != nil {
		return nil, err
	}
	if !report.Refused() {
		if err := ferry.StartContext(ctx); err != nil {
			report.Add(ghostferry.PreflightFinding{Code: "copydb.start", Check: "copydb", Severity: ghostferry.PreflightError, What: err.Error()})
		}
	}
	return &rehearsal{plan, report, report.Refused()}, nil
}

// print prints tables, findings and a last line that sums up.
func (r *rehearsal) print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TABLE\tON THE TARGET\tKEY\tROWS≈\tSIZE\tCHUNKS\tCOPIED BY\tINDEXES AFTERWARDS\tPATH")
	for _, t := range r.Plan.Tables {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s\n",
			printable(t.Schema+"."+t.Table), printable(t.TargetSchema+"."+t.TargetTable), printable(strings.Join(t.Key, ", ")),
			count(t.RowsEstimate), size(float64(t.Bytes)), t.Chunks, t.CopiedBy, printable(cmp.Or(strings.Join(t.DeferredIndexes, ", "), "-")), t.Path)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprint(w, "\n", r.Preflight)
	verdict := "nothing speaks against it"
	if r.Refused {
		verdict = "REFUSED, see the errors above"
	}
	_, err := fmt.Fprintf(w, "dry run: %d tables, about %s rows, %s, estimated to take up to %s: %s; nothing was written\n", len(r.Plan.Tables),
		count(r.Plan.RowsEstimate), size(float64(r.Plan.Bytes)), duration(time.Duration(r.Plan.SecondsEstimate*float64(time.Second))), verdict)
	return err
}
