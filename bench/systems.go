package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

// The names of the systems in the results.
const (
	ghostferrySystem = "ghostferry"
	insertSystem     = "ghostferry INSERT" // as on a target without local_infile
	keptSystem       = "ghostferry, indexes kept"
	verifiedSystem   = "ghostferry, verified" // until VerifyBeforeCutover of the online verifier has returned
	mysqldumpSystem  = "mysqldump|mysql"
	mydumperSystem   = "mydumper+myloader"
	replicaSystem    = "replica"
	decodeSystem     = "decode only" // ours, with nothing applied
)

// loaderThreads is for mydumper and myloader.
const loaderThreads = 4

// system does what is measured, such as to copy the table to an empty one, and says how long
// it took; the caller fills in what it can know itself.
type system struct {
	name string
	do   func(ctx context.Context, m *measurement) error
}

// systems returns everything that the copy compares.
func (l *lab) systems(o options) []system {
	all := []system{
		{ghostferrySystem, func(ctx context.Context, m *measurement) error { return l.copyWithOurs(ctx, o.ours, m) }},
		{insertSystem, func(ctx context.Context, m *measurement) error {
			return l.copyWithOurs(ctx, slices.Concat(o.ours, []string{"-bulk", "off"}), m)
		}},
		{keptSystem, func(ctx context.Context, m *measurement) error {
			return l.copyWithOurs(ctx, slices.Concat(o.ours, []string{"-defer", "off"}), m)
		}},
		{verifiedSystem, func(ctx context.Context, m *measurement) error {
			return l.copyWithOurs(ctx, slices.Concat(o.ours, []string{"-verifier", "Online"}), m)
		}},
		{limitSystem, l.limit},
		{insertSelectSystem, l.insertSelect},
		{mysqldumpSystem, l.copyWithMysqldump},
		{mydumperSystem, l.copyWithMydumper},
	}
	for _, other := range o.movers {
		all = append(all, system{other.name, func(ctx context.Context, m *measurement) error {
			return l.copyWithCommand(ctx, other, m)
		}})
	}
	return all
}

func (l *lab) copyWithOurs(ctx context.Context, flags []string, m *measurement) error {
	c, err := l.runOurs(ctx, flags, m)
	if err != nil {
		return err
	}
	if int(c.caughtUp.RowsCopied) != m.Rows {
		return fmt.Errorf("our mover says that it copied %d rows, not %d", c.caughtUp.RowsCopied, m.Rows)
	}
	m.Seconds = c.caughtUpAt.Sub(c.startedAt).Seconds()
	c.fill(m)
	return nil
}

// copyWithMysqldump pipes a dump of the rows into the client.
func (l *lab) copyWithMysqldump(ctx context.Context, m *measurement) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dump, err := tool(ctx, servers.Mysqldump, append(clientFlags(l.source),
		"--single-transaction", "--no-create-info", "--skip-triggers", "--no-tablespaces", schema, table)...)
	if err != nil {
		return err
	}
	load, err := tool(ctx, servers.MysqlClient, append(clientFlags(l.target), schema)...)
	if err != nil {
		return err
	}
	dump.Env = append(dump.Env, "MYSQL_PWD="+l.source.Password())
	load.Env = append(load.Env, "MYSQL_PWD="+l.target.Password())
	from, to, err := os.Pipe()
	if err != nil {
		return err
	}
	var dumpSaid, loadSaid bytes.Buffer
	dump.Stdout, dump.Stderr = to, &dumpSaid
	load.Stdin, load.Stderr = from, &loadSaid
	begun := time.Now()
	startErr := errors.Join(dump.Start(), load.Start())
	// The children have their own ends of the pipe.
	if err := errors.Join(startErr, to.Close(), from.Close()); err != nil {
		return err
	}
	dumpErr := outputError("mysqldump", dump.Wait(), &dumpSaid)
	if dumpErr != nil {
		cancel()
	}
	if err := errors.Join(dumpErr, outputError("mysql", load.Wait(), &loadSaid)); err != nil {
		return err
	}
	m.Seconds = time.Since(begun).Seconds()
	m.WallSeconds, m.MoverCPU = m.Seconds, cpuOf(dump, load)
	return nil
}

func clientFlags(s *servers.Server) []string {
	return []string{"--no-defaults", "--protocol=tcp", "--host=" + s.Host, "--port=" + strconv.Itoa(s.Port), "--user=" + s.User()}
}

// copyWithMydumper dumps to files and loads them. myloader would switch the target's
// binary log off without --enable-binlog: the target of every system writes one. The
// dump is cut into as many pieces as keep all threads busy.
func (l *lab) copyWithMydumper(ctx context.Context, m *measurement) error {
	dir := filepath.Join(l.directory, "dump")
	defer func() { _ = os.RemoveAll(dir) }() // the whole directory goes at the end
	account := func(s *servers.Server) []string {
		return []string{"--host=" + s.Host, "--port=" + strconv.Itoa(s.Port), "--user=" + s.User(), "--password=" + s.Password(), "--threads=" + strconv.Itoa(loaderThreads)}
	}
	const piecesPerThread = 4
	dump, err := tool(ctx, servers.Mydumper, append(account(l.source), "--database="+schema, "--tables-list="+table,
		"--rows="+strconv.Itoa(m.Rows/(piecesPerThread*loaderThreads)+1), "--no-schemas", "--outputdir="+dir)...)
	if err != nil {
		return err
	}
	load, err := tool(ctx, servers.Myloader, append(account(l.target), "--enable-binlog", "--database="+schema, "--directory="+dir)...)
	if err != nil {
		return err
	}
	begun := time.Now()
	for _, cmd := range []*exec.Cmd{dump, load} {
		if output, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", mydumperSystem, err, output)
		}
	}
	m.Seconds = time.Since(begun).Seconds()
	m.WallSeconds, m.MoverCPU = m.Seconds, cpuOf(dump, load)
	return nil
}

// copyWithCommand runs a further system; its exit is the end of the copy.
func (l *lab) copyWithCommand(ctx context.Context, other mover, m *measurement) error {
	dir, err := os.MkdirTemp(l.directory, "mover-")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", fillIn(other.command, map[string]string{
		"source_host": l.source.Host, "source_port": strconv.Itoa(l.source.Port),
		"target_host": l.target.Host, "target_port": strconv.Itoa(l.target.Port),
		"user": l.source.User(), "password": l.source.Password(), "schema": schema, "table": table, "dir": dir,
	}))
	begun := time.Now()
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", other.name, err, output)
	}
	m.Seconds = time.Since(begun).Seconds()
	m.WallSeconds, m.MoverCPU = m.Seconds, cpuOf(cmd)
	return nil
}

// fillIn replaces {name} by its value.
func fillIn(command string, values map[string]string) string {
	var pairs []string
	for name, value := range values {
		pairs = append(pairs, "{"+name+"}", value)
	}
	return strings.NewReplacer(pairs...).Replace(command)
}
