package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/ghostferry-go/ghostferry"
)

// moves are what the process does at once: one, or one a tenant.
type moves struct {
	ferries []*ghostferry.Ferry
	shared  *ghostferry.SharedStreamer // nil without -shared
}

func newMoves(ctx context.Context, o options) (*moves, error) {
	if o.tenants == "" {
		config, err := o.config()
		if err != nil {
			return nil, err
		}
		return &moves{ferries: []*ghostferry.Ferry{{Config: config}}}, nil
	}
	column, values, ok := strings.Cut(o.tenants, "=")
	if !ok {
		return nil, fmt.Errorf("-tenants is %q: say column=value,…", o.tenants)
	}
	m := &moves{}
	for value := range strings.SplitSeq(values, ",") {
		config, err := o.config()
		if err != nil {
			return nil, err
		}
		if o.shared && m.shared == nil {
			m.shared = &ghostferry.SharedStreamer{Source: config.Source, Logger: config.Logger}
			if err := m.shared.Start(ctx); err != nil {
				return nil, err
			}
		}
		config.SharedStreamer = m.shared
		config.CopyFilter = &ghostferry.RowFilter{Where: ghostferry.RowCondition{column: {value}}}
		m.ferries = append(m.ferries, &ghostferry.Ferry{Config: config})
	}
	return m, nil
}

func (m *moves) close() error {
	if m.shared == nil {
		return nil
	}
	return m.shared.Close()
}

// each does the same to all moves at once.
func (m *moves) each(ctx context.Context, f func(context.Context, *ghostferry.Ferry) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, ferry := range m.ferries {
		group.Go(func() error { return f(ctx, ferry) })
	}
	return group.Wait()
}

// move copies what is not copied yet, follows to the log's end and stops there.
func (m *moves) move(ctx context.Context, follow bool) error {
	if err := m.each(ctx, func(ctx context.Context, f *ghostferry.Ferry) error { return f.InitializeContext(ctx) }); err != nil {
		return err
	}
	// Not with a context that ends when each returns: what Start starts goes on.
	if err := m.each(ctx, func(_ context.Context, f *ghostferry.Ferry) error { return f.StartContext(ctx) }); err != nil {
		return err
	}
	if err := m.say("running"); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ran := make(chan error, 1)
	go func() {
		ran <- m.each(ctx, func(ctx context.Context, f *ghostferry.Ferry) error { return f.RunContext(ctx) })
	}()
	err := m.cutOver(ctx, follow)
	if err != nil {
		cancel(err)
	}
	return errors.Join(err, <-ran)
}

func (m *moves) cutOver(ctx context.Context, follow bool) error {
	if err := m.each(ctx, func(ctx context.Context, f *ghostferry.Ferry) error { return f.WaitUntilRowCopyIsCompleteContext(ctx) }); err != nil {
		return err
	}
	if follow {
		if err := m.say("copied"); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			return err
		}
	}
	if err := m.each(ctx, func(ctx context.Context, f *ghostferry.Ferry) error {
		return f.WaitUntilBinlogStreamerCatchesUpContext(ctx)
	}); err != nil {
		return err
	}
	if err := m.say("caught_up"); err != nil {
		return err
	}
	return m.each(ctx, func(ctx context.Context, f *ghostferry.Ferry) error { return f.FlushBinlogAndStopStreamingContext(ctx) })
}

// say prints an event with the sums of all moves.
func (m *moves) say(what string) error {
	e := event{Event: what, Resuming: true}
	for _, f := range m.ferries {
		progress := f.Progress()
		e.Resuming = e.Resuming && f.Resuming()
		e.RowsCopied += progress.RowsCopied
		e.BinlogApplied += progress.BinlogRowsApplied
		if v, ok := f.Verifier.(ghostferry.ReportingVerifier); ok {
			report := v.Report()
			e.RowsVerified += report.Rows
			e.VerifySeconds = max(e.VerifySeconds, report.SecondsBefore)
		}
	}
	if m.shared != nil {
		e.RowEventsDecoded = m.shared.Stats().RowEventsDecoded
	}
	return e.print()
}

func (e event) print() (err error) {
	if e.PeakRSSMB, err = peakRSSMB(); err != nil {
		return err
	}
	if e.CPUSeconds, err = cpuSeconds(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(e)
}
