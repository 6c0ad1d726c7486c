package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

// The table of the benchmark is sysbench's.
const (
	schema = "sbtest"
	table  = "sbtest1"
	quoted = "`" + schema + "`.`" + table + "`"
)

const moverPackage = "github.com/ghostferry-go/ghostferry/bench/mover"

// lab is the two servers with the table on the source, and our mover, built.
type lab struct {
	directory          string // temporary
	profiles           string // directory of our mover's profiles
	flavour            servers.Flavour
	source, target     *servers.Server
	sourceDB, targetDB *sql.DB
	rows               int
}

// serverOptions are the same for every server of a run.
func serverOptions(flavour servers.Flavour, name string) servers.Options {
	o := servers.Options{
		Flavour: flavour, Name: name, GTID: true, NoRowsQueryEvents: true, BufferPoolMB: 2048, RedoLogMB: 1024, LocalInfile: true, Flushes: true,
		Flags: []string{"--max-allowed-packet=64M"}, // MySQL's default
	}
	if flavour == servers.MySQL {
		o.Flags = append(o.Flags, "--skip-replica-start", "--replica-parallel-workers=4")
	}
	return o
}

// newLab starts the servers and makes the table.
func newLab(ctx context.Context, o options, profiles string) (_ *lab, err error) {
	l := &lab{rows: o.rows, flavour: o.flavour, profiles: profiles}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if l.directory, err = os.MkdirTemp("", "ghostferry-bench-"); err != nil {
		return nil, err
	}
	progress("starting two servers and building the mover")
	building, buildCtx := errgroup.WithContext(ctx)
	building.Go(func() error { return l.build(buildCtx) })
	l.source, l.target, err = servers.StartPair(ctx, serverOptions(l.flavour, "source"), serverOptions(l.flavour, "target"))
	if err = errors.Join(err, building.Wait()); err != nil {
		return nil, err
	}
	if l.sourceDB, err = l.source.DB(ctx); err != nil {
		return nil, err
	}
	if l.targetDB, err = l.target.DB(ctx); err != nil {
		return nil, err
	}
	return l, l.seed(ctx)
}

func (l *lab) build(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-o", l.moverPath(), moverPackage)
	if output, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the mover: %w\n%s", err, output)
	}
	return nil
}

func (l *lab) moverPath() string { return filepath.Join(l.directory, "mover") }

// seed makes the table on the source with sysbench.
func (l *lab) seed(ctx context.Context) error {
	if _, err := l.sourceDB.ExecContext(ctx, "CREATE DATABASE "+schema); err != nil {
		return err
	}
	progress("sysbench makes a table of %d rows on the source", l.rows)
	begun := time.Now()
	sysbench, err := tool(ctx, servers.Sysbench, "oltp_read_write", "--db-driver=mysql", "--mysql-host="+l.source.Host,
		"--mysql-port="+strconv.Itoa(l.source.Port), "--mysql-user="+l.source.User(), "--mysql-password="+l.source.Password(),
		"--mysql-db="+schema, "--tables=1", "--table-size="+strconv.Itoa(l.rows), "prepare")
	if err != nil {
		return err
	}
	if output, err := sysbench.CombinedOutput(); err != nil {
		return fmt.Errorf("sysbench: %w\n%s", err, output)
	}
	progress("the table is there after %.1f s", time.Since(begun).Seconds())
	return nil
}

// tool prepares a client program; its errors go where its output goes.
func tool(ctx context.Context, t servers.Tool, args ...string) (*exec.Cmd, error) {
	argv, env, err := servers.ToolCommand(ctx, t)
	if err != nil {
		return nil, err
	}
	argv = slices.Concat(argv, args)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	return cmd, nil
}

func address(s *servers.Server) string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// emptyTarget leaves the table on the target, empty and with its indexes, and no trace
// of earlier runs.
func (l *lab) emptyTarget(ctx context.Context) error {
	var name, ddl string
	if err := l.sourceDB.QueryRowContext(ctx, "SHOW CREATE TABLE "+quoted).Scan(&name, &ddl); err != nil {
		return err
	}
	conn, err := l.targetDB.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for _, statement := range []string{
		"DROP DATABASE IF EXISTS _ghostferry", "DROP DATABASE IF EXISTS " + schema, "CREATE DATABASE " + schema, "USE " + schema, ddl,
		"FLUSH BINARY LOGS", "PURGE BINARY LOGS BEFORE NOW()",
	} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("emptying the target: %s: %w", statement, err)
		}
	}
	return nil
}

// mustEqual compares the table with the source's. It is no part of any measurement.
func (l *lab) mustEqual(ctx context.Context, other *sql.DB) error {
	var sums [2]string
	group, ctx := errgroup.WithContext(ctx)
	for i, db := range []*sql.DB{l.sourceDB, other} {
		group.Go(func() error {
			var name string
			return db.QueryRowContext(ctx, "CHECKSUM TABLE "+quoted).Scan(&name, &sums[i])
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("comparing: %w", err)
	}
	if sums[0] != sums[1] {
		return fmt.Errorf("the table differs from the source's: its checksum is %s, not %s", sums[1], sums[0])
	}
	return nil
}

// close stops the servers and removes everything.
func (l *lab) close() error {
	var errs []error
	for _, s := range []*servers.Server{l.source, l.target} {
		if s != nil {
			errs = append(errs, discard(s))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(l.directory))...)
}

// discard stops a server whose data nobody needs any more.
func discard(s *servers.Server) error {
	var err error
	if s.PID() != 0 {
		err = s.Kill()
	}
	return errors.Join(err, s.Stop())
}

// outputError adds what a program said to how it ended.
func outputError(name string, err error, said *bytes.Buffer) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w\n%s", name, err, bytes.TrimSpace(said.Bytes()))
}
