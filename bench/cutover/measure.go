package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/compare"
	"github.com/ghostferry-go/ghostferry/test/servers"
	"github.com/ghostferry-go/ghostferry/test/shop"
)

// abortBudget is the write block's budget of the cutovers that exceed it.
const abortBudget = 200 * time.Millisecond

func (b *bench) measure(ctx context.Context) error {
	fence, err := b.ferry.NewFence(&ghostferry.FenceConfig{Kind: b.o.fence})
	if err != nil {
		return err
	}
	defer func() { _ = fence.Close(context.WithoutCancel(ctx)) }()
	hooks := ghostferry.FenceHooks(fence)
	// The application tries again where it was: its connections wait for this word once they
	// have been refused.
	hooks.Unfence = func(ctx context.Context) error {
		err := fence.Unfence(ctx)
		b.writer.SwitchTo(b.app, nil)
		return err
	}
	if err := b.ferry.WaitUntilRowCopyIsCompleteContext(ctx); err != nil {
		return err
	}
	progress("the rows are there; the writer goes on")
	rehearsal, err := b.ferry.RehearseCutover(ctx)
	if err != nil {
		return err
	}
	b.result.Forecast = ms(rehearsal.Predicted)
	if err := b.cycles(ctx, hooks); err != nil {
		return err
	}
	if err := b.exceedBudget(ctx, hooks); err != nil {
		return err
	}
	return b.finish(ctx, hooks)
}

// cycles stops the writers, drains, compares, and lets them go on, again and again.
func (b *bench) cycles(ctx context.Context, hooks ghostferry.CutoverHooks) error {
	var blocks, fences, drains, verifies []time.Duration
	before, begun := b.writer.Stats(), time.Now()
	for n := 1; n <= b.o.cycles; n++ {
		committed := b.writer.Stats().Committed
		report, err := b.ferry.DrillCutover(ctx, hooks)
		if err != nil {
			return fmt.Errorf("cycle %d: %w", n, err)
		}
		if !report.Verdict.DataCorrect {
			return fmt.Errorf("cycle %d: %w", n, report.Verdict)
		}
		blocks, fences = append(blocks, report.WriteBlock), append(fences, report.Fence)
		drains, verifies = append(drains, report.Drain), append(verifies, report.Verify)
		if n%10 == 0 {
			progress("cycle %d of %d: the block was %.0f ms (fence %.0f, drain %.0f, verify %.0f)", n, b.o.cycles,
				ms(report.WriteBlock), ms(report.Fence), ms(report.Drain), ms(report.Verify))
		}
		// Some work between two cycles, so that there is something to drain and compare.
		enough := committed + max(1, b.o.rate/10)
		if err := b.writer.UntilCommitted(ctx, func(s shop.Stats) bool { return s.Committed >= enough }); err != nil {
			return err
		}
	}
	b.result.Rate = float64(b.writer.Stats().Committed-before.Committed) / time.Since(begun).Seconds()
	b.result.Median, b.result.P95, b.result.Max = ms(quantile(blocks, 0.5)), ms(quantile(blocks, 0.95)), ms(slices.Max(blocks))
	b.result.Parts = parts{ms(quantile(fences, 0.5)), ms(quantile(drains, 0.5)), ms(quantile(verifies, 0.5))}
	return nil
}

// exceedBudget has cutovers that take longer than they may, by turns in the drain, in the
// comparison and in a hook, and measures from the word that they are given up to the writer's
// next commit.
func (b *bench) exceedBudget(ctx context.Context, hooks ghostferry.CutoverHooks) error {
	b.ferry.Update(ghostferry.UpdatableConfig{MaxWriteBlock: ghostferry.Duration(abortBudget)})
	defer b.ferry.Update(ghostferry.UpdatableConfig{MaxWriteBlock: -1})
	targetDB, err := b.target.DB(ctx)
	if err != nil {
		return err
	}
	lock, err := targetDB.Conn(ctx)
	if err != nil {
		return err
	}
	defer lock.Close()
	var resumed []time.Duration
	for n := range b.o.aborts {
		took, err := b.giveUp(ctx, b.obstructed(n, hooks, lock))
		if err != nil {
			return err
		}
		resumed = append(resumed, took)
		if _, err := lock.ExecContext(ctx, "UNLOCK TABLES"); err != nil {
			return err
		}
	}
	b.result.Aborts = len(resumed)
	if len(resumed) > 0 {
		b.result.Resumed = ms(slices.Max(resumed))
	}
	return nil
}

// obstructed are hooks with which the n-th cutover cannot end.
func (b *bench) obstructed(n int, hooks ghostferry.CutoverHooks, lock *sql.Conn) ghostferry.CutoverHooks {
	fence := hooks.Fence
	takeLock := func(ctx context.Context) error {
		_, err := lock.ExecContext(ctx, "LOCK TABLES `"+database+"`.customers WRITE")
		return err
	}
	hooks.Fence = func(ctx context.Context) error {
		if n%3 == 0 { // the change cannot be applied
			if err := takeLock(ctx); err != nil {
				return err
			}
		}
		// There is something to drain and to compare.
		source, err := b.source.DB(ctx)
		if err != nil {
			return err
		}
		if _, err := source.ExecContext(ctx, "UPDATE `"+database+"`.customers SET email = CONCAT(email, '.x') LIMIT 1"); err != nil {
			return err
		}
		return fence(ctx)
	}
	hooks.Fenced = func(ctx context.Context) error {
		if n%3 == 1 { // the row cannot be compared
			return takeLock(ctx)
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return hooks
}

// giveUp returns how long the writer waited for its next commit once a cutover was given up:
// when its budget was over, or when it was told by an estimate.
func (b *bench) giveUp(ctx context.Context, hooks ghostferry.CutoverHooks) (time.Duration, error) {
	var asked, opened, first time.Time
	resumed := make(chan error, 1)
	unfence := hooks.Unfence
	hooks.Unfence = func(ctx context.Context) error {
		asked = time.Now()
		committed := b.writer.Stats().Committed // nobody writes
		go func() {
			resumed <- b.writer.UntilCommitted(context.WithoutCancel(ctx), func(s shop.Stats) bool {
				first = s.LastCommit
				return s.Committed > committed
			})
		}()
		err := unfence(ctx)
		opened = time.Now()
		return err
	}
	_, err := b.ferry.DrillCutover(ctx, hooks)
	failure, failed := errors.AsType[*ghostferry.CutoverError](err)
	given, late := errors.AsType[*ghostferry.WriteBlockBudgetError](err)
	if !failed || !late {
		return 0, fmt.Errorf("a cutover that takes longer than %s ended with: %w", abortBudget, err)
	}
	if err := <-resumed; err != nil {
		return 0, err
	}
	decided := asked
	if given.Needs == 0 {
		decided = opened.Add(abortBudget - failure.WriteBlock) // its block has begun before the budget did, or with it
	}
	progress("given up in the %s: the writer's next commit came %.1f ms later", given.Phase, ms(first.Sub(decided)))
	return first.Sub(decided), nil
}

// finish switches over and compares every row.
func (b *bench) finish(ctx context.Context, hooks ghostferry.CutoverHooks) error {
	hooks.Switch = func(context.Context) error { return nil } // the shop stays closed
	report, err := b.ferry.Cutover(ctx, hooks)
	if err != nil {
		return err
	}
	if err := <-b.ran; err != nil {
		return err
	}
	b.ran <- nil
	b.result.Final = ms(report.WriteBlock)
	sourceDB, err := b.source.DB(ctx)
	if err != nil {
		return err
	}
	targetDB, err := b.target.DB(ctx)
	if err != nil {
		return err
	}
	equal, err := compare.Compare(ctx, sourceDB, targetDB, compare.Options{Databases: map[string]string{database: database}})
	if err != nil {
		return err
	}
	if b.result.Equal = equal.Equal(); !b.result.Equal {
		return fmt.Errorf("source and target differ in %d rows, the first: %v", equal.DifferenceCount, equal.Differences[0])
	}
	return nil
}

func (b *bench) close() error {
	var errs []error
	if b.writer != nil {
		_, err := b.writer.Stop()
		errs = append(errs, err)
	}
	if b.app != nil {
		errs = append(errs, b.app.Close())
	}
	if b.ferry != nil {
		errs = append(errs, b.ferry.Close())
	}
	for _, s := range []*servers.Server{b.source, b.target} {
		if s != nil {
			errs = append(errs, s.Stop())
		}
	}
	return errors.Join(errs...)
}

func quantile(durations []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(durations))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func endpoint(s *servers.Server) *ghostferry.DatabaseConfig {
	return &ghostferry.DatabaseConfig{Host: s.Host, Port: uint16(s.Port), User: s.User(), Pass: s.Password()}
}

// one is a table filter that takes all tables of one schema.
type one string

// ApplicableDatabases returns the schema.
func (o one) ApplicableDatabases([]string) ([]string, error) { return []string{string(o)}, nil }

// ApplicableTables returns all tables.
func (o one) ApplicableTables(tables []*ghostferry.TableSchema) ([]*ghostferry.TableSchema, error) {
	return tables, nil
}

func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench cutover: "+format+"\n", args...)
}
