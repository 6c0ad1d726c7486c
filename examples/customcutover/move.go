package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ghostferry-go/ghostferry"
)

// router switches the application's traffic; see the program's comment for the words.
type router interface {
	set(ctx context.Context, word string) error
}

// move is one move and everything that is the host's own about it.
type move struct {
	ferry    *ghostferry.Ferry
	router   router
	throttle *loadThrottler
	verify   *businessVerifier
	failure  *failures
	onBatch  func(*ghostferry.RowBatch) error

	rows, changes, largestBatch atomic.Int64 // listeners are called from several goroutines
}

// moveReport is what became of a move.
type moveReport struct {
	rows, changes, largestBatch int64
	blocked                     time.Duration
}

func newMove(config *ghostferry.Config, r router) *move {
	m := &move{ferry: &ghostferry.Ferry{Config: config}, router: r, failure: newFailures()}
	m.onBatch = m.sawBatch
	m.throttle = &loadThrottler{ferry: m.ferry, limit: 64}
	m.verify = &businessVerifier{ferry: m.ferry}
	m.ferry.Throttler, m.ferry.Verifier, m.ferry.ErrorHandler = m.throttle, m.verify, m.failure
	return m
}

// run moves the data and the traffic. When it returns an error the source has the traffic,
// unless the error says otherwise.
func (m *move) run(ctx context.Context) (*moveReport, error) {
	defer m.ferry.Close()
	if m.ferry.CutoverFence != nil { // which this cutover would find out behind "block"
		return nil, &ghostferry.ConfigError{
			Field: "CutoverFence", Problem: "CutoverFence is closed by Ferry.Cutover only, and here the router stops the writes", Remedy: "remove it",
		}
	}
	if err := m.ferry.InitializeContext(ctx); err != nil {
		return nil, err
	}
	// Before Start: these see rows and changes before they are written.
	m.ferry.DataIterator.AddBatchListener(m.onBatch)
	m.ferry.BinlogStreamer.AddEventListener(m.sawChanges)
	if err := m.ferry.StartContext(ctx); err != nil {
		return nil, err
	}
	blocked, err := m.cutOver(ctx, m.runStreams(ctx))
	if err != nil {
		return nil, err
	}
	return &moveReport{m.rows.Load(), m.changes.Load(), m.largestBatch.Load(), blocked}, nil
}

func (m *move) sawBatch(batch *ghostferry.RowBatch) error {
	size := int64(batch.Size())
	m.rows.Add(size)
	for largest := m.largestBatch.Load(); size > largest; largest = m.largestBatch.Load() {
		m.largestBatch.CompareAndSwap(largest, size)
	}
	return nil
}

func (m *move) sawChanges(events []ghostferry.DMLEvent) error {
	m.changes.Add(int64(len(events)))
	return nil
}

// runStreams starts the run, and returns what waits for its end: after an error it ends the run first,
// which goes on as long as nobody tells it to stop.
func (m *move) runStreams(ctx context.Context) (end func(err error)) {
	ctx, cancel := context.WithCancelCause(ctx)
	var streams sync.WaitGroup
	streams.Go(func() {
		if err := m.ferry.RunContext(ctx); err != nil {
			m.failure.Fatal("run", err)
		}
	})
	return func(err error) {
		if err != nil {
			cancel(err)
		}
		streams.Wait()
		cancel(nil)
	}
}

// cutOver waits for the rows, blocks the writes, and gives them to the target, or back to
// the source when anything goes wrong before that.
func (m *move) cutOver(ctx context.Context, end func(err error)) (blocked time.Duration, err error) {
	if err = m.ferry.WaitUntilRowCopyIsCompleteContext(ctx); err == nil {
		m.throttle.SetDisabled(true) // from here on every moment counts
		err = m.ferry.WaitUntilBinlogStreamerCatchesUpContext(ctx)
	}
	if err != nil {
		end(err)
		return 0, fmt.Errorf("before the cutover, the source has the traffic: %w", err)
	}

	began := time.Now()
	if err = m.router.set(ctx, "block"); err == nil {
		err = m.ferry.FlushBinlogAndStopStreamingContext(ctx)
	}
	end(err)
	if err == nil {
		err = m.judge(ctx)
	}
	if err == nil {
		err = m.router.set(ctx, "target")
		if err == nil {
			return time.Since(began), nil
		}
		return 0, fmt.Errorf("the data are equal, but the router did not take the target; ask it who has the traffic: %w", err)
	}
	if back := m.router.set(context.WithoutCancel(ctx), "source"); back != nil {
		return 0, errors.Join(err, fmt.Errorf("nobody has the traffic, give it to the source by hand: %w", back))
	}
	return 0, fmt.Errorf("given up, the source has the traffic again: %w", err)
}

// judge says whether the target may have the traffic: the streams ended without an error,
// the verifier is content, nobody else wrote to the target, and nobody to the source any more.
func (m *move) judge(ctx context.Context) error {
	if err := m.failure.first(); err != nil {
		return err
	}
	result, err := m.ferry.Verifier.VerifyDuringCutover()
	if err != nil {
		return err
	}
	if !result.DataCorrect {
		return result
	}
	m.ferry.StopTargetVerifier()
	if err := m.failure.first(); err != nil {
		return err
	}
	return m.ferry.CheckLateWrites(ctx)
}
