package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
)

// dryRun prints the plan and what speaks against it.
func (p *program) dryRun(ctx context.Context) int {
	config, err := p.readConfig()
	if err != nil {
		return p.finish(copydb.Result{Outcome: copydb.Refused, Err: err})
	}
	ferry := copydb.NewFerry(config)
	refusal := ferry.InitializeContext(ctx)
	plan, err := ferry.PlanContext(ctx)
	if err != nil { // it did not get as far as a plan
		return p.finish(ferry.Result(cmp.Or(refusal, err)))
	}
	if refusal == nil {
		refusal = ferry.StartContext(ctx) // whether the binary log can be read
	}
	if refusal != nil && !plan.Refused() {
		plan.Findings = append(plan.Findings, ghostferry.PlanFinding{Severity: "error", Check: "start", Problem: refusal.Error()})
	}
	if p.options.json {
		err = json.NewEncoder(p.stdout).Encode(plan)
	} else {
		err = printPlan(p.stdout, plan)
	}
	if err != nil {
		fmt.Fprintln(p.stderr, "copydb:", err)
		return copydb.Failed.ExitStatus()
	}
	if plan.Refused() {
		return copydb.Refused.ExitStatus()
	}
	return 0
}

// printPlan prints tables, findings and a last line that sums up.
func printPlan(w io.Writer, plan *ghostferry.Plan) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TABLE\tON THE TARGET\tKEY\tROWS≈\tSIZE\tCHUNKS\tPATH")
	var rows, bytes uint64
	for _, t := range plan.Tables {
		rows, bytes = rows+t.RowsEstimate, bytes+t.Bytes
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n",
			printable(t.Schema+"."+t.Table), printable(t.TargetSchema+"."+t.TargetTable), printable(strings.Join(t.Key, ", ")),
			count(t.RowsEstimate), size(float64(t.Bytes)), t.Chunks, t.Path)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, f := range plan.Findings {
		subject := ""
		if f.Subject != "" {
			subject = printable(f.Subject) + ": "
		}
		fmt.Fprintf(w, "%s: %s: %s%s\n", f.Severity, f.Check, subject, printable(f.Problem))
		if f.Remedy != "" {
			fmt.Fprintf(w, "    remedy: %s\n", printable(f.Remedy))
		}
	}
	verdict := "nothing speaks against it"
	if plan.Refused() {
		verdict = "REFUSED, see the errors above"
	}
	_, err := fmt.Fprintf(w, "dry run: %d tables, about %s rows, %s: %s; nothing was written\n", len(plan.Tables), count(rows), size(float64(bytes)), verdict)
	return err
}
