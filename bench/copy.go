package main

import (
	"context"
	"fmt"
	"slices"
)

// benchCopy measures every system.
func benchCopy(ctx context.Context, l *lab, o options, r *report) error {
	return inTurn(o, l.systems(o), func(s system, run int) error {
		m := measurement{Bench: "copy", System: s.name, Run: run, Rows: o.rows}
		if err := l.measureCopy(ctx, s, o, &m); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		return r.add(m)
	})
}

// inTurn measures every system that is not left out in every run, in an order that rotates
// so that none profits from its place.
func inTurn(o options, systems []system, measure func(s system, run int) error) error {
	systems = slices.DeleteFunc(systems, func(s system) bool { return slices.Contains(o.without, s.name) })
	for run := 1; run <= o.runs; run++ {
		for i := range systems {
			if err := measure(systems[(i+run-1)%len(systems)], run); err != nil {
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
	if err := s.do(ctx, m); err != nil {
		return err
	}
	if err := clocks.stop(m); err != nil {
		return err
	}
	return l.mustEqual(ctx, l.targetDB)
}
