// Quickstart moves the schema "shop" while it is written: quickstart < CONFIG.json, with
// {"Source": {"Host": …, "Port": …, "User": …, "Pass": …}, "Target": {the same}}.
// The target has the schema's tables, empty. The cutover runs ./writers with one word, and
// waits for its end: stop (the application has stopped writing), target (it writes to the target
// now) or, when the cutover is given up, start (it goes on with the source).
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"sync/atomic"
	"syscall"

	"github.com/ghostferry-go/ghostferry"
)

// shop chooses what to move: every table of one schema.
type shop struct{}

// ApplicableDatabases returns those of the given schemas that move.
func (shop) ApplicableDatabases([]string) ([]string, error) { return []string{"shop"}, nil }

// ApplicableTables returns those of the given tables that move.
func (shop) ApplicableTables(all []*ghostferry.TableSchema) ([]*ghostferry.TableSchema, error) {
	return all, nil
}

func main() {
	config := &ghostferry.Config{TableFilter: shop{}, VerifierType: ghostferry.VerifierTypeOnline, AutomaticCutover: true}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM) // or writers would stay stopped
	err := ghostferry.DecodeConfig(os.Stdin, config)
	if err == nil {
		err = move(ctx, config, ghostferry.CutoverHooks{Fence: writers("stop"), Unfence: writers("start"), Switch: writers("target")})
	}
	stop()
	if err != nil {
		log.Fatal(err) // it says who has the traffic; while that is the source, run it again: it goes on where it was
	}
}

func writers(word string) func(context.Context) error {
	return func(ctx context.Context) error { return exec.CommandContext(ctx, "./writers", word).Run() }
}

// move returns when the target has everything, was found equal, and has the application.
func move(ctx context.Context, config *ghostferry.Config, hooks ghostferry.CutoverHooks) error {
	ferry := &ghostferry.Ferry{Config: config}
	defer ferry.Close()
	if err := ferry.InitializeContext(ctx); err != nil {
		return err
	}
	var rows, changes atomic.Int64 // listeners are called from several goroutines
	ferry.DataIterator.AddBatchListener(func(batch *ghostferry.RowBatch) error { rows.Add(int64(batch.Size())); return nil })
	ferry.BinlogStreamer.AddEventListener(func(events []ghostferry.DMLEvent) error { changes.Add(int64(len(events))); return nil })
	if err := ferry.StartContext(ctx); err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	run := make(chan error, 1)
	go func() { run <- ferry.RunContext(running) }()
	report, err := ferry.Cutover(ctx, hooks)
	if err != nil {
		stop()
		return cmp.Or(err, <-run) // the cutover's: it says where the application writes, and why the run has failed
	}
	fmt.Printf("%d rows copied, %d changes followed, equal at %v, writers stopped for %s\n", rows.Load(), changes.Load(), report.Coordinate, report.WriteBlock)
	return <-run
}
