package main

import (
	"context"
	"fmt"
	"slices"
)

// benchCopy measures every system in every run, in an order that rotates so that none
// profits from its place.
func benchCopy(ctx context.Context, l *lab, o options, r *report) error {
	all := slices.DeleteFunc(l.systems(o), func(s system) bool { return slices.Contains(o.without, s.name) })
	for run := 1; run <= o.runs; run++ {
		for i := range all {
			s := all[(i+run-1)%len(all)]
			m := measurement{Bench: "copy", System: s.name, Run: run, Rows: o.rows}
			if err := l.measureCopy(ctx, s, o, &m); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			if err := r.add(m); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *lab) measureCopy(ctx context.Context, s system, o options, m *measurement) error {
	if err := l.emptyTarget(ctx); err != nil {
		return err
	}
	clocks, err := startMeter(ctx, l.source, l.target, o.patience)
	if err != nil {
		return err
	}
	if err := s.copy(ctx, m); err != nil {
		return err
	}
	if err := clocks.stop(m); err != nil {
		return err
	}
	return l.mustEqual(ctx, l.targetDB)
}
