package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

// replica is a native replica of the source with four appliers; it follows only in drain.
type replica struct {
	server *servers.Server
	db     *sql.DB
}

// newReplica starts a third server on a copy of the source's files, so that it has the
// same rows in the same pages and the same executed transactions.
func (l *lab) newReplica(ctx context.Context) (_ *replica, err error) {
	if l.source.DataDir == "" {
		return nil, errors.New("the source was started by others, so its files cannot be copied: use -only copy, or let the benchmark start its own servers")
	}
	rep := &replica{}
	if rep.server, err = servers.Start(ctx, serverOptions(servers.MySQL, "replica")); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, discard(rep.server))
		}
	}()
	if rep.db, err = rep.server.DB(ctx); err != nil {
		return nil, err
	}
	for _, stop := range []struct {
		server *servers.Server
		db     *sql.DB
	}{{l.source, l.sourceDB}, {rep.server, rep.db}} {
		if err := shutDown(ctx, stop.server, stop.db); err != nil {
			return nil, err
		}
	}
	if err := copyFiles(ctx, l.source.DataDir, rep.server.DataDir); err != nil {
		return nil, err
	}
	if err := errors.Join(l.source.Restart(ctx), rep.server.Restart(ctx)); err != nil {
		return nil, err
	}
	// The statement takes no parameters; a throwaway server's account has no quotes.
	_, err = rep.db.ExecContext(ctx, fmt.Sprintf("CHANGE REPLICATION SOURCE TO SOURCE_HOST='%s', SOURCE_PORT=%d, SOURCE_USER='%s', "+
		"SOURCE_PASSWORD='%s', SOURCE_AUTO_POSITION=1, GET_SOURCE_PUBLIC_KEY=1", l.source.Host, l.source.Port, l.source.User(), l.source.Password()))
	return rep, err
}

// shutDown ends a server in order; its files stay.
func shutDown(ctx context.Context, s *servers.Server, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, "SHUTDOWN"); err != nil {
		return fmt.Errorf("shutting %s down: %w", s.Name, err)
	}
	db.SetMaxIdleConns(0) // they are broken now
	db.SetMaxIdleConns(2)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for s.PID() != 0 {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s to shut down: %w", s.Name, ctx.Err())
		}
	}
	return nil
}

// copyFiles replaces a stopped server's data directory by a copy of another's, without
// the file that holds the server's identity.
func copyFiles(ctx context.Context, from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if output, err := exec.CommandContext(ctx, "cp", "-r", "--reflink=auto", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copying the source's files: %w\n%s", err, output)
	}
	return os.Remove(filepath.Join(to, "auto.cnf"))
}

// drain starts replication and returns how long it took until everything that the
// source has executed is on the replica; then replication is stopped again.
func (rep *replica) drain(ctx context.Context, source *sql.DB) (time.Duration, error) {
	var all string
	if err := source.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_executed").Scan(&all); err != nil {
		return 0, err
	}
	begun := time.Now()
	if _, err := rep.db.ExecContext(ctx, "START REPLICA"); err != nil {
		return 0, err
	}
	const seconds = 600
	var timedOut bool
	if err := rep.db.QueryRowContext(ctx, "SELECT WAIT_FOR_EXECUTED_GTID_SET(?, ?)", all, seconds).Scan(&timedOut); err != nil {
		return 0, err
	}
	took := time.Since(begun)
	if timedOut {
		return 0, fmt.Errorf("the replica did not execute the source's transactions within %d s: see SHOW REPLICA STATUS", seconds)
	}
	_, err := rep.db.ExecContext(ctx, "STOP REPLICA")
	return took, err
}
