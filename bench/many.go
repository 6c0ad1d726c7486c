package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

// fiveIndexes is sysbench's table with four more.
const fiveIndexes = "CREATE TABLE %s (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL, c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL, KEY k (k), KEY c (c(20)), KEY pad (pad), KEY kc (k, c(10)), UNIQUE KEY ki (k, id))"

// benchIndexes measures a table of five secondary indexes with and without deferring them.
func benchIndexes(ctx context.Context, l *lab, o options, r *report) (err error) {
	progress("indexes: making the table of %d rows", o.rows)
	w, err := l.newWorld(ctx, "five", fiveIndexes, 1, "INSERT INTO %s SELECT * FROM "+quoted)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.drop(ctx)) }()
	for run := 1; run <= o.runs; run++ {
		for _, s := range []struct{ name, mode string }{{"deferred", "all"}, {"kept", "off"}} {
			m := measurement{Bench: "indexes", System: s.name, Run: run, Rows: o.rows}
			if err := w.measure(ctx, o, r, m, w.ours(slices.Concat(o.ours, []string{"-defer", s.mode})...)); err != nil {
				return err
			}
		}
	}
	return nil
}

// benchTables measures many small tables beside mydumper and myloader, and what the target
// takes of ready files.
func benchTables(ctx context.Context, l *lab, o options, r *report) (err error) {
	const perTable = 10_000
	tables := max(1, o.rows/perTable)
	progress("tables: making %d tables of %d rows", tables, perTable)
	w, err := l.newWorld(ctx, "many", "CREATE TABLE %s (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL, c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL, KEY k (k))", tables,
		fmt.Sprintf("INSERT INTO %%s (k, c, pad) SELECT k, c, pad FROM %s WHERE id<=%d", quoted, min(perTable, o.rows)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.drop(ctx)) }()
	rows := min(perTable, o.rows)
	systems := []system{
		{ghostferrySystem, w.ours(o.ours...)},
		{mydumperSystem, w.mydumper},
		{limitSystem, w.limit},
	}
	return w.inTurn(ctx, o, r, measurement{Bench: "tables", Rows: tables * rows}, systems)
}

// mydumper moves the whole schema; see copyWithMydumper.
func (w *world) mydumper(ctx context.Context, m *measurement) (err error) {
	l := w.l
	dir := filepath.Join(l.directory, "dump")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	account := func(s *servers.Server) []string {
		return []string{"--host=" + s.Host, "--port=" + strconv.Itoa(s.Port), "--user=" + s.User(), "--password=" + s.Password(), "--threads=" + strconv.Itoa(loaderThreads)}
	}
	dump, err := tool(ctx, servers.Mydumper, append(account(l.source), "--database="+w.schema, "--no-schemas", "--outputdir="+dir)...)
	if err != nil {
		return err
	}
	load, err := tool(ctx, servers.Myloader, append(account(l.target), "--enable-binlog", "--database="+w.schema, "--directory="+dir)...)
	if err != nil {
		return err
	}
	m.Seconds, err = elapsed(func() error {
		for _, cmd := range []*exec.Cmd{dump, load} {
			if output, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%w\n%s", err, output)
			}
		}
		return nil
	})
	if err == nil {
		m.WallSeconds, m.MoverCPU = m.Seconds, cpuOf(dump, load)
	}
	return err
}
