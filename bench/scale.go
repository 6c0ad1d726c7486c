package main

import (
	"context"
	"errors"
	"fmt"
)

// narrow is a table of which twenty million rows fit in the buffer pool.
const narrow = "CREATE TABLE %s (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, v INT NOT NULL)"

// fillNarrow are the statements that fill it.
func fillNarrow(rows int) []string {
	return doubled("INSERT INTO %s (v) VALUES (1)", "INSERT INTO %s (v) SELECT v+1 FROM %s", rows)
}

// scaleSizes are the sizes of the part scale, each ten times the one before.
func scaleSizes(o options) []int {
	return []int{max(1, o.scaleRows/100), max(1, o.scaleRows/10), o.scaleRows}
}

func scaleSystem(rows int) string { return fmt.Sprintf("%d narrow rows", rows) }

func scaleLimit(rows int) string { return scaleSystem(rows) + ", " + limitSystem }

// benchScale copies tables each ten times as large as the one before, beside what the target
// takes of ready files. Our mover's start is
// left out of the seconds: it would make the smallest look slow, and so the growth small.
func benchScale(ctx context.Context, l *lab, o options, r *report) error {
	for _, rows := range scaleSizes(o) {
		if err := scaleRows(ctx, l, o, r, rows); err != nil {
			return err
		}
	}
	return nil
}

func scaleRows(ctx context.Context, l *lab, o options, r *report, rows int) (err error) {
	progress("scale: making a table of %d narrow rows", rows)
	w, err := l.newWorld(ctx, "scale", narrow, 1, fillNarrow(rows)...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.drop(ctx)) }()
	move := w.ours(o.ours...)
	return w.inTurn(ctx, o, r, measurement{Bench: "scale", Rows: rows}, []system{
		{scaleSystem(rows), func(ctx context.Context, m *measurement) error {
			err := move(ctx, m)
			m.Seconds -= m.LoadSeconds
			return err
		}},
		{scaleLimit(rows), w.limit},
	})
}
