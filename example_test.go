package ghostferry_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/ghostferry-go/ghostferry"
)

// chosen is a host's table filter: every table of some schemas.
type chosen []string

func (c chosen) ApplicableDatabases([]string) ([]string, error) { return c, nil }

func (c chosen) ApplicableTables(all []*ghostferry.TableSchema) ([]*ghostferry.TableSchema, error) {
	return all, nil
}

func exampleConfig() *ghostferry.Config {
	return &ghostferry.Config{
		Source:       &ghostferry.DatabaseConfig{Host: "10.0.0.1", Port: 3306, User: "ferry", Pass: os.Getenv("SOURCE_PASSWORD")},
		Target:       &ghostferry.DatabaseConfig{Host: "10.0.0.2", Port: 3306, User: "ferry", Pass: os.Getenv("TARGET_PASSWORD")},
		TableFilter:  chosen{"shop"},
		VerifierType: ghostferry.VerifierTypeOnline,
	}
}

// What the application of these examples does when it is told to.
func stopWriters(context.Context) error { return nil }
func toTarget(context.Context) error    { return nil }
func backToWork(context.Context) error  { return nil }

// A whole move: it ends when the application has been sent to the target.
func Example() {
	ctx := context.Background()
	ferry := &ghostferry.Ferry{Config: exampleConfig()}
	defer ferry.Close()
	if err := ferry.InitializeContext(ctx); err != nil { // connects and checks; writes nothing
		log.Panic(err)
	}
	if err := ferry.StartContext(ctx); err != nil { // no change is missed from here on
		log.Panic(err)
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	run := make(chan error, 1)
	go func() { run <- ferry.RunContext(running) }() // copies, follows and compares, all at once

	ferry.AllowCutover() // from now on, as soon as little is left to do; AutomaticCutover says so from the beginning
	report, err := ferry.Cutover(ctx, ghostferry.CutoverHooks{Fence: stopWriters, Switch: toTarget, Unfence: backToWork})
	if err != nil { // the run's as well, where that has failed
		stop()
		<-run
		log.Panic(err)
	}
	fmt.Println("equal at", report.Coordinate, "after a write block of", report.WriteBlock)
	if err := <-run; err != nil { // a write to the source that came after all
		log.Panic(err)
	}
}

// What a host asks a cutover's error for.
func ExampleFerry_Cutover() {
	ctx := context.Background()
	config := exampleConfig()
	config.UpdatableConfig.MaxWriteBlock = ghostferry.Duration(5 * time.Second) // an attempt that takes longer is given up, and another follows
	ferry := &ghostferry.Ferry{Config: config}
	// InitializeContext, StartContext, and RunContext in a goroutine, as in the package's example.
	_, err := ferry.Cutover(ctx, ghostferry.CutoverHooks{Fence: stopWriters, Switch: toTarget, Unfence: backToWork})
	failure, ok := errors.AsType[*ghostferry.CutoverError](err)
	if !ok {
		return // there was no attempt, or it succeeded
	}
	switch failure.Traffic {
	case ghostferry.TrafficOnTarget:
		fmt.Println("the application writes to the target; leave both sides alone:", err)
	case ghostferry.TrafficUnknown:
		fmt.Println("see where the application writes before anything else:", err)
	case ghostferry.TrafficOnSource:
		if failure.Blocked {
			fmt.Println("the writers are still stopped:", failure.UnfenceErr)
		}
		if late, ok := errors.AsType[*ghostferry.LateWriteError](err); ok {
			fmt.Println("not all writers were stopped:", late.Tables)
		}
		if failure.Following {
			time.Sleep(time.Minute) // then Cutover again: the run goes on meanwhile
		}
	}
}

// What stands in the way of a move and what it is going to do, before anything is written.
func ExampleFerry_Preflight() {
	ctx := context.Background()
	ferry := &ghostferry.Ferry{Config: exampleConfig()}
	report, err := ferry.Preflight(ctx)
	if err != nil {
		log.Panic(err)
	}
	for _, finding := range report.Findings {
		fmt.Printf("%s %s: %s: %s; %s\n", finding.Severity, finding.Code, finding.Subject, finding.What, finding.Remedy)
	}
	if report.Refused() {
		return
	}
	plan, err := ferry.Plan(ctx)
	if err != nil {
		log.Panic(err)
	}
	for _, table := range plan.Tables {
		fmt.Printf("%s.%s: about %d rows, by %s\n", table.Schema, table.Table, table.RowsEstimate, table.CopiedBy)
	}
}

// One tenant's rows of shared tables. Several such moves of a source share its binary log.
func ExampleRowFilter() {
	ctx := context.Background()
	shared := &ghostferry.SharedStreamer{Source: exampleConfig().Source}
	if err := shared.Start(ctx); err != nil {
		log.Panic(err)
	}
	defer shared.Close()
	for tenant := range 2 {
		config := exampleConfig()
		config.RunID = fmt.Sprintf("tenant-%d", tenant) // each has its own checkpoint
		config.SharedStreamer = shared
		config.CopyFilter = &ghostferry.RowFilter{
			Where:  ghostferry.RowCondition{"tenant_id": {tenant}},
			Tables: map[string]ghostferry.RowCondition{"shop.countries": {}}, // has no tenants: all of it
		}
		ferry := &ghostferry.Ferry{Config: config}
		defer ferry.Close()
		// Each is moved as in the package's example.
	}
}

// A configuration's faults are reported at once, each with its setting and what to do.
func ExampleConfigErrors() {
	config := &ghostferry.Config{}
	err := ghostferry.DecodeConfig(strings.NewReader(`{"Source": {"Hots": "10.0.0.1", "Port": "3306"}}`), config)
	for _, fault := range ghostferry.ConfigErrors(err) {
		fmt.Printf("%s: %s\n", fault.Field, fault.Problem)
	}
	// Output:
	// Source.Hots: Source.Hots is not a known setting
	// Source.Port: Source.Port is a text, it must be an integer between 0 and 65535
}

// A supervisor starts a program again where that goes on, and calls for somebody otherwise.
func ExampleResumable() {
	for _, err := range []error{
		ghostferry.ErrInterrupted,
		&ghostferry.FencedError{RunID: "shop", Epoch: 3},
		&ghostferry.SchemaChangedError{Schema: "shop", Table: "orders", Change: "column total is gone"},
	} {
		fmt.Printf("%t: %v\n", ghostferry.Resumable(err), err)
	}
	// Output:
	// true: interrupted; the run can be resumed
	// false: run shop was taken over by another process (epoch 3): this process has stopped writing; let the other one finish
	// false: the definition of table `shop`.`orders` has changed since the run began: column total is gone; undo the change, or start again with an empty table
}
