package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/faultproxy"
)

// The slow link of benchLink is between the source and the mover.
const (
	linkBits      = 50_000_000
	linkRoundTrip = 20 * time.Millisecond
	linkRows      = 200_000
)

// benchLink copies over a slow link, plain and compressed.
func benchLink(ctx context.Context, l *lab, o options, r *report) (err error) {
	rows := min(o.rows, linkRows)
	w, err := l.newWorld(ctx, "far", strings.Replace(fiveIndexes, ", KEY c (c(20)), KEY pad (pad), KEY kc (k, c(10)), UNIQUE KEY ki (k, id)", "", 1), 1,
		fmt.Sprintf("INSERT INTO %%s SELECT * FROM %s WHERE id<=%d", quoted, rows))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.drop(ctx)) }()
	link, err := faultproxy.StartLink(address(l.source), linkBits, linkRoundTrip)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, link.Close()) }()
	for run := 1; run <= o.runs; run++ {
		for _, s := range []struct {
			name  string
			flags []string
		}{{"plain", nil}, {"compressed", []string{"-compress"}}} {
			_, before := link.Bytes()
			m := measurement{Bench: "link", System: s.name, Run: run, Rows: rows}
			move := w.ours(slices.Concat(o.ours, []string{"-source", link.Addr()}, s.flags)...)
			if err := w.measure(ctx, o, r, m, func(ctx context.Context, m *measurement) error {
				err := move(ctx, m)
				_, after := link.Bytes()
				m.LinkMB = float64(after-before) / 1e6
				return err
			}); err != nil {
				return err
			}
		}
	}
	return nil
}
