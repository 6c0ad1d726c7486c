package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/ghostferry-go/ghostferry/internal/server"
	"github.com/ghostferry-go/ghostferry/test/servers"
	"github.com/ghostferry-go/ghostferry/test/shop"
)

// fence is what an operator puts behind copydb's callbacks: the lock makes the
// source read-only, the unlock sends the application to the target.
type fence struct {
	*console
	flavour   servers.Flavour
	source    *sql.DB // the operator's
	rogue     *sql.DB // somebody who has not heard of the move, on the source
	targetApp *sql.DB
	writer    *shop.Writer

	// before are the writer's counts when the source had been fenced. They are
	// written by the lock and read after copydb has ended.
	before shop.Stats

	mu struct {
		sync.Mutex
		requested, locked, unlocked time.Time
	}
}

func newFence(d *demo) *fence {
	return &fence{console: d.console, flavour: d.flavour, source: d.sourceRoot, rogue: d.sourceApp, targetApp: d.targetApp, writer: d.writer}
}

// closed says whether the source refuses writes.
func (f *fence) closed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.mu.locked.IsZero()
}

// opened says whether the application has been sent to the target.
func (f *fence) opened() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.mu.unlocked.IsZero()
}

// block is the time from the request to lock until the application was sent to
// the target, zero if that never happened.
func (f *fence) block() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.mu.unlocked.IsZero() {
		return 0
	}
	return f.mu.unlocked.Sub(f.mu.requested)
}

// lock returns when nobody can commit anything on the source any more.
func (f *fence) lock(ctx context.Context) error {
	f.mu.Lock()
	if f.mu.requested.IsZero() {
		f.mu.requested = time.Now()
	}
	requested := f.mu.requested
	f.mu.Unlock()

	// Both refuse even the commit of a transaction that has begun before. MySQL
	// can also refuse administrators.
	readOnly := "SET GLOBAL super_read_only = ON"
	if f.flavour == servers.MariaDB {
		readOnly = "SET GLOBAL read_only = ON"
	}
	if err := f.despiteLocks(ctx, readOnly); err != nil {
		return fmt.Errorf("%s: %w", readOnly, err)
	}
	if err := f.untilNoneInFlight(ctx); err != nil {
		return err
	}
	if err := f.mustBeRefused(ctx); err != nil {
		return err
	}
	f.before = f.writer.Stats()
	f.mu.Lock()
	f.mu.locked = time.Now()
	took := f.mu.locked.Sub(requested)
	f.mu.Unlock()
	f.printf("lock: the source is read-only, nothing is in flight and a rogue write was refused, after %d ms", took.Milliseconds())
	return nil
}

// despiteLocks runs a statement that waits for all running statements and lets no
// other begin. One of those may itself wait for a row that a transaction between
// two statements has locked, and then all wait for each other until the row lock
// times out; so whatever still runs after a moment is killed.
func (f *fence) despiteLocks(ctx context.Context, statement string) error {
	done := make(chan error, 1)
	go func() {
		_, err := f.source.ExecContext(ctx, statement)
		done <- err
	}()
	moment := time.NewTicker(30 * time.Millisecond)
	defer moment.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-moment.C:
			if err := f.killStatements(ctx); err != nil {
				return errors.Join(err, <-done)
			}
		}
	}
}

// killStatements kills what the application is running, not its connections.
func (f *fence) killStatements(ctx context.Context) error {
	srv, err := server.Detect(ctx, f.source)
	if err != nil {
		return err
	}
	ids, err := srv.Connections(ctx, f.source, []string{appAccount})
	if err != nil {
		return err
	}
	f.printf("lock: killing what the application's %d connections are waiting in", len(ids))
	for _, id := range ids {
		if err := srv.Kill(ctx, f.source, "QUERY", id); err != nil {
			return err
		}
	}
	return nil
}

// untilNoneInFlight waits for the transactions that had already changed rows: the
// server refuses their commits, so they roll back as soon as their clients notice.
// INNODB_TRX would be easier to read, but who reads it more often than every
// 100 ms always sees the same answer.
func (f *fence) untilNoneInFlight(ctx context.Context) error {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		var kind, name, status string
		if err := f.source.QueryRowContext(ctx, "SHOW ENGINE INNODB STATUS").Scan(&kind, &name, &status); err != nil {
			return err
		}
		// What comes before the list may tell of transactions long gone.
		_, list, found := strings.Cut(status, "LIST OF TRANSACTIONS FOR EACH SESSION")
		if !found {
			return errors.New("SHOW ENGINE INNODB STATUS lists no transactions")
		}
		inFlight := strings.Count(list, "undo log entries")
		if inFlight == 0 {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("%d transactions are still in flight: %w", inFlight, ctx.Err())
		}
	}
}

// mustBeRefused tries to write as a client that nobody told to stop.
func (f *fence) mustBeRefused(ctx context.Context) error {
	tx, err := f.rogue.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	_, err = tx.ExecContext(ctx, "INSERT INTO "+database+".events_empty (happened_at) VALUES (NOW(6))")
	var refusal *mysql.MySQLError
	if errors.As(err, &refusal) && refusal.Number == 1290 {
		return nil
	}
	if err == nil {
		return errors.New("the source is read-only and yet took a write")
	}
	return err
}

// unlock lets the application go on, on the target.
func (f *fence) unlock() {
	f.writer.SwitchTo(f.targetApp, func(ctx context.Context, tx *sql.Tx, connection int) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO "+afterward+".writes (connection) VALUES (?)", connection)
		return err
	})
	f.mu.Lock()
	f.mu.unlocked = time.Now()
	f.mu.Unlock()
	f.printf("unlock: the application goes on on the target, in %s.writes; the shop stays untouched until it has been compared", afterward)
}

// hooks is the HTTP server that copydb calls.
type hooks struct {
	address string
	server  *http.Server
	done    chan struct{}
}

func (f *fence) serve(ctx context.Context) (*hooks, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listening for copydb's callbacks: %w", err)
	}
	handler := http.NewServeMux()
	handler.HandleFunc("POST /lock", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
		defer cancel()
		if err := f.lock(ctx); err != nil {
			f.printf("lock failed: %v", err)
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	handler.HandleFunc("POST /unlock", func(http.ResponseWriter, *http.Request) { f.unlock() })
	h := &hooks{
		address: "http://" + listener.Addr().String(),
		server:  &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second},
		done:    make(chan struct{}),
	}
	go func() {
		defer close(h.done)
		_ = h.server.Serve(listener) // always ends with the error of Close
	}()
	return h, nil
}

func (h *hooks) stop() {
	_ = h.server.Close()
	<-h.done
}
