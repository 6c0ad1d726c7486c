package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"syscall"
	"time"
)

// The systems of what checkpoints cost.
const (
	checkpointCopy  = "copy"
	checkpointDrain = "drain"
	withoutOne      = ", without checkpoint"
)

// benchCheckpoint measures the same copy and drain with checkpoints on the target and
// without, in turn. The drain is of one process that is stopped after its copy while the
// updates are made: without a checkpoint no other could go on.
func benchCheckpoint(ctx context.Context, l *lab, o options, r *report) error {
	kept := slices.Concat(o.ours, []string{"-defer", "off"}) // indexes are not deferred without a checkpoint
	for run := 1; run <= o.runs; run++ {
		systems := []struct {
			suffix string
			flags  []string
		}{{"", kept}, {withoutOne, slices.Concat(kept, []string{"-checkpoint", "off"})}}
		if run%2 == 0 {
			slices.Reverse(systems)
		}
		for i, s := range systems {
			copied := measurement{Bench: "checkpoint", System: checkpointCopy + s.suffix, Run: run, Rows: o.rows}
			drained := measurement{Bench: "checkpoint", System: checkpointDrain + s.suffix, Run: run, Rows: o.updates}
			if err := l.copyAndDrain(ctx, s.flags, o, uint64(2*run+i), &copied, &drained); err != nil {
				return fmt.Errorf("%s: %w", copied.System, err)
			}
			if err := errors.Join(r.add(copied), r.add(drained)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lab) copyAndDrain(ctx context.Context, flags []string, o options, seed uint64, copied, drained *measurement) error {
	if err := l.emptyTarget(ctx); err != nil {
		return err
	}
	clocks, err := startMeter(ctx, l.source, l.target, o.patience)
	if err != nil {
		return err
	}
	var copiedAt, wokenAt time.Time
	c, err := l.runOursUntil(ctx, flags, copied, func(mover *os.Process) (err error) {
		copiedAt = time.Now()
		if err := clocks.stop(copied); err != nil {
			return err
		}
		if err := mover.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		err = l.update(ctx, load{table: quoted, updates: o.updates, keys: l.rows, perTransaction: 1}, seed) // repeated, half of them would change nothing
		if err == nil {
			clocks, err = startMeter(ctx, l.source, l.target, o.patience)
		}
		wokenAt = time.Now()
		return errors.Join(err, mover.Signal(syscall.SIGCONT))
	})
	if err != nil {
		return err
	}
	if int(c.caughtUp.RowsCopied) != copied.Rows || int(c.caughtUp.BinlogApplied) != drained.Rows {
		return fmt.Errorf("our mover did not copy %d rows and drain %d updates: %+v", copied.Rows, drained.Rows, c.caughtUp)
	}
	copied.Seconds, drained.Seconds = copiedAt.Sub(c.startedAt).Seconds(), c.caughtUpAt.Sub(wokenAt).Seconds()
	if err := clocks.stop(drained); err != nil {
		return err
	}
	return l.mustEqual(ctx, l.targetDB)
}
