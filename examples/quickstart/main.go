// Quickstart moves the schema "shop" while it is written: quickstart < CONFIG.json, with
// {"Source": {"Host": …, "Port": …, "User": …, "Pass": …}, "Target": {the same}}.
// The target has the schema's tables, empty. For the cutover ./stop-writers is run,
// which ends when the application has stopped writing.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

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
	err := ghostferry.DecodeConfig(os.Stdin, config)
	if err == nil {
		err = move(context.Background(), config, func(ctx context.Context) error {
			return exec.CommandContext(ctx, "./stop-writers").Run()
		})
	}
	if err != nil {
		log.Fatal(err) // run it again: it goes on where it was
	}
}

// move returns when the target has everything and was found equal; stopWrites is the
// cutover hook, after which nobody may write to the source.
func move(ctx context.Context, config *ghostferry.Config, stopWrites func(context.Context) error) error {
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
	run, runCtx := errgroup.WithContext(ctx)
	run.Go(func() error { return ferry.RunContext(runCtx) })
	run.Go(func() error {
		for _, step := range []func(context.Context) error{
			ferry.WaitUntilRowCopyIsCompleteContext, ferry.WaitUntilBinlogStreamerCatchesUpContext,
			stopWrites, ferry.FlushBinlogAndStopStreamingContext,
		} {
			if err := step(runCtx); err != nil {
				return err
			}
		}
		return nil
	})
	if err := run.Wait(); err != nil {
		return err
	}
	verdict, err := ferry.Verifier.VerifyDuringCutover()
	fmt.Printf("%d rows copied, %d changes followed, equal at %v: %v\n", rows.Load(), changes.Load(), ferry.StopCoordinate(), verdict.DataCorrect)
	if err == nil && !verdict.DataCorrect {
		err = verdict
	}
	return errors.Join(err, ferry.StopTargetVerifierContext(ctx))
}
