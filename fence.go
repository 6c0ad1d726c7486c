package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
	"github.com/ghostferry-go/ghostferry/internal/retry"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// Values of [FenceConfig.Kind].
const (
	// FenceReadOnly makes the server read-only: super_read_only on MySQL, which refuses
	// everybody; read_only on MariaDB, which still lets accounts with READ_ONLY ADMIN write.
	FenceReadOnly = "read_only"
	// FenceAccounts locks the named accounts and ends their connections. What other accounts,
	// events and the definers of routines write is not stopped.
	FenceAccounts = "accounts"
	// FenceLockTables locks the moved tables for reading (LOCK TABLES … READ) on a connection
	// that stays open: writers wait, and go on on the source if the process dies.
	FenceLockTables = "lock_tables"
)

// FenceConfig chooses a ready-made fence, for those who have no hooks of their own.
type FenceConfig struct {
	// Kind is one of the Fence constants.
	Kind string
	// Connection is the server that the application writes to, with an account that may do
	// what the kind needs. Default: Source. Where that is a replica
	// (WaitUntilReplicaIsCaughtUpToMaster) it has to be set, to the primary.
	Connection *DatabaseConfig
	// Accounts are those of FenceAccounts, as user@host.
	Accounts []string
	// KillAfter is how long statements that keep the fence from closing are waited for before
	// they are killed; connections that are idle in a transaction are given five times as
	// long. Default "200ms"; negative: they are waited for as long as the budget lasts.
	KillAfter Duration
}

const (
	defaultKillAfter = 200 * time.Millisecond
	fencePoll        = 5 * time.Millisecond
	// idlePatience is how many times as long as statements those are waited for that are idle
	// in a transaction.
	idlePatience = 5
	// endPatience is how long the end of a connection is waited for, by processes that have to
	// end, too.
	endPatience = 2 * time.Second
)

// Fence stops the writers of a server and lets them go on again. Its methods are called one
// after the other; each is idempotent. Unfence restores what there was before, and nothing
// else: what had been fenced already stays so.
type Fence interface {
	// Fence returns when nothing can be committed any more by whom it stops.
	Fence(ctx context.Context) error
	// Unfence undoes what Fence did.
	Unfence(ctx context.Context) error
	// Fenced fails when the fence is no longer closed.
	Fenced(ctx context.Context) error
	// Close ends its connections. What lives on a connection, as LOCK TABLES does, ends:
	// whoever still waits behind it is disconnected first.
	Close(ctx context.Context) error
}

// NewFence makes a ready-made fence, after Initialize.
func (f *Ferry) NewFence(config *FenceConfig) (Fence, error) {
	f.ensureInitialized()
	checked := &Config{CutoverFence: config}
	var faults []error
	checked.validateFence(func(field, problem, remedy string) {
		faults = append(faults, &ConfigError{Field: field, Problem: problem, Remedy: remedy})
	})
	if err := f.fenceOnPrimary(config); err != nil {
		faults = append(faults, err)
	}
	if len(faults) > 0 {
		return nil, joinErrors(faults)
	}
	connection := f.Source // validated already
	if config.Connection != nil {
		own := *config.Connection // validation fills it, and several fences may be made at once
		own.Params = maps.Clone(own.Params)
		if err := own.Validate(); err != nil {
			return nil, fmt.Errorf("fence: connection: %w", err)
		}
		connection = &own
	}
	db, err := connection.SqlDB(f.logger)
	if err != nil {
		return nil, fmt.Errorf("fence: %w", err)
	}
	base := fencedServer{
		db: db, address: hostPort(connection), logger: taggedLogger(f.logger, "fence"), killAfter: time.Duration(config.KillAfter),
		own:        []string{sql.Annotation(connection.Marginalia), sql.Annotation(f.Source.Marginalia)},
		checkpoint: f.checkpoint, left: &f.fenceLeft,
	}
	if f.WaitUntilReplicaIsCaughtUpToMaster != nil {
		base.replica = f.sourceServer.Identity
	}
	if base.killAfter == 0 {
		base.killAfter = defaultKillAfter
	}
	switch config.Kind {
	case FenceReadOnly:
		return &readOnlyFence{fencedServer: base}, nil
	case FenceAccounts:
		fence := &accountFence{fencedServer: base}
		for _, text := range config.Accounts {
			a, err := server.ParseAccount(text)
			if err != nil {
				return nil, errors.Join(err, db.Close())
			}
			fence.accounts = append(fence.accounts, a)
		}
		return fence, nil
	case FenceLockTables:
		return &tableFence{fencedServer: base, tables: f.sortedTables()}, nil
	}
	return nil, errors.Join(fmt.Errorf("there is no fence of kind %q", config.Kind), db.Close())
}

// fenceOnPrimary refuses a fence that would close on a replica: the application goes on writing
// on its primary, and what it writes stays there. MasterDB does not tell how to connect to it.
func (f *Ferry) fenceOnPrimary(config *FenceConfig) error {
	if config == nil || f.WaitUntilReplicaIsCaughtUpToMaster == nil {
		return nil
	}
	if config.Connection != nil && hostPort(config.Connection) != hostPort(f.Source) {
		return nil
	}
	return fenceOnReplica()
}

// fenceOnReplica is the fault of such a fence, known by its address or, when it connects, by its identity.
func fenceOnReplica() error {
	return &ConfigError{
		Field: "CutoverFence.Connection", Problem: "the fence would close on Source, which is a replica: the application writes to its primary, and would not be stopped",
		Remedy: "set CutoverFence.Connection to the primary, with an account that may do there what the fence needs",
	}
}

// FenceHooks returns hooks of a fence, for Cutover; Switch is the host's, or CutoverUnlock.
func FenceHooks(fence Fence) CutoverHooks {
	hooks := CutoverHooks{Fence: fence.Fence, Unfence: fence.Unfence, Fenced: fence.Fenced}
	if ready, ok := fence.(readyFence); ok {
		hooks.switching = ready.switching
	}
	return hooks
}

// fencedServer is what the fences have in common: the server, and how those in the way are
// dealt with.
type fencedServer struct {
	db        *sql.DB
	address   string         // host:port, for errors
	srv       *server.Server // nil until connected
	logger    Logger
	killAfter time.Duration // negative: never
	replica   string        // identity of a source that is one, which must not be fenced; empty: it is none
	own       []string      // the mover's own statements have one of these texts

	checkpoint *checkpoint                // remembers what was closed; nil: nobody does
	left       *atomic.Pointer[fenceNote] // of a process that may have switched the traffic; holds nil: there was none
	noted      *fenceNote                 // what the checkpoint says now

	waiting int64 // connection whose statement may still close the fence; 0: there is none
}

// note keeps what is about to be closed.
func (s *fencedServer) note(ctx context.Context, note fenceNote) error {
	note.Switching = note.Switching || s.left.Load() != nil
	if err := s.checkpoint.noteFence(ctx, &note); err != nil {
		return fmt.Errorf("fence: noting it in the checkpoint: %w", err)
	}
	s.noted = &note
	return nil
}

// opened forgets the note. A failure does no harm: the next process of the run finds the
// fence open, and forgets it then.
func (s *fencedServer) opened(ctx context.Context) {
	if s.noted == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, hastyTimeout) // the writers go on already
	defer cancel()
	if err := s.checkpoint.noteFence(ctx, nil); err != nil {
		s.logger.WithError(err).Warn("the checkpoint still says that the fence is closed; it is open")
	}
	s.noted = nil
}

// switching notes that the traffic is about to be switched.
func (s *fencedServer) switching(ctx context.Context) error {
	if s.noted == nil {
		return nil
	}
	note := *s.noted
	note.Switching = true
	return s.note(ctx, note)
}

// mayOpen refuses to let writers go on where the application may write to the target.
func (s *fencedServer) mayOpen(statement string) error {
	if s.left.Load() == nil {
		return nil
	}
	return fmt.Errorf("unfence: an earlier process of this run had begun to switch the traffic to the target: look where the application writes; if that is the source, say there: %s", statement)
}

func (s *fencedServer) connect(ctx context.Context) (err error) {
	if s.srv == nil {
		s.srv, err = server.Detect(ctx, s.db)
	}
	if err != nil {
		return fmt.Errorf("fence of %s: %w", s.address, err)
	}
	if s.replica != "" && s.srv.Identity == s.replica {
		return fenceOnReplica()
	}
	return nil
}

// Close ends the connections.
func (s *fencedServer) Close(context.Context) error { return s.db.Close() }

// closing executes the statement that closes the fence, which waits for statements and
// transactions, and deals with those that are still in its way after killAfter. A statement
// that is given up is ended on the server, too: it would go on waiting there, hold up every
// writer behind it, and close the fence after Unfence has opened it.
func (s *fencedServer) closing(ctx context.Context, conn *sql.Conn, statement string, inTheWay func(ctx context.Context) error) error {
	var id int64
	if err := conn.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&id); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		_, err := conn.ExecContext(ctx, statement)
		done <- err
	}()
	var late <-chan time.Time
	if s.killAfter >= 0 {
		timer := time.NewTicker(max(s.killAfter, fencePoll))
		defer timer.Stop()
		late = timer.C
	}
	for {
		select {
		case err := <-done:
			if err != nil && ctx.Err() != nil {
				return errors.Join(causeOf(ctx, err), s.endConnection(ctx, id))
			}
			return err
		case <-late:
			if err := inTheWay(ctx); err != nil {
				s.logger.WithError(err).Warn("what keeps the fence from closing cannot be killed")
			}
		}
	}
}

// endConnection ends a connection of ours whose statement was given up, and returns when it
// is gone.
func (s *fencedServer) endConnection(ctx context.Context, id int64) error {
	s.waiting = id
	ctx, cancel := lifecycle.Detach(ctx, endPatience)
	defer cancel()
	for {
		gone, err := s.srv.EndConnection(ctx, s.db, id)
		if gone {
			s.waiting = 0
			return nil
		}
		if err == nil {
			err = retry.Sleep(ctx, fencePoll)
		}
		if err != nil {
			return fmt.Errorf("fence of %s: connection %d still waits to close the fence and may do so later: KILL it: %w", s.address, id, err)
		}
	}
}

// endWaiting ends what closing could not, because the server did not answer then: it would
// close the fence when it is open again.
func (s *fencedServer) endWaiting(ctx context.Context) error {
	if s.waiting == 0 {
		return nil
	}
	return s.endConnection(ctx, s.waiting)
}

// killStatements ends statements that run, other than the mover's own. Their connections stay.
func (s *fencedServer) killStatements(ctx context.Context) error {
	ids, err := s.srv.RunningStatements(ctx, s.db, s.own...)
	if err != nil {
		return err
	}
	return s.kill(ctx, "QUERY", ids)
}

// kill kills connections, or their statements; those that are gone are no error.
func (s *fencedServer) kill(ctx context.Context, what string, ids []int64) error {
	for _, id := range ids {
		s.logger.Warnf("the fence kills %s of connection %d, which is in its way", what, id)
		if err := s.srv.Kill(ctx, s.db, what, id); err != nil {
			return err
		}
	}
	return nil
}

// untilNoneInFlight waits until no transaction is open that has changed rows; after killAfter
// it ends their connections.
func (s *fencedServer) untilNoneInFlight(ctx context.Context) error {
	began := time.Now()
	for {
		ids, err := s.srv.WritingTransactions(ctx, s.db)
		if err != nil {
			return fmt.Errorf("fence: looking for transactions in flight: %w", err)
		}
		if len(ids) == 0 {
			return nil
		}
		if s.killAfter >= 0 && time.Since(began) >= idlePatience*s.killAfter {
			if err := s.kill(ctx, "CONNECTION", ids); err != nil {
				return err
			}
		}
		// Who asks more often sees the same answer again.
		if err := retry.Sleep(ctx, 101*time.Millisecond); err != nil {
			return fmt.Errorf("fence: %d transactions are still in flight: %w", len(ids), causeOf(ctx, err))
		}
	}
}

// mustHaveNoXA refuses to go on while XA transactions are prepared: no fence keeps them from
// being committed later.
func (s *fencedServer) mustHaveNoXA(ctx context.Context) error {
	xids, err := s.srv.PreparedXA(ctx, s.db)
	if err != nil {
		s.logger.WithError(err).Warn("prepared XA transactions cannot be listed; those that changed moved tables are known from the log")
		return nil
	}
	if len(xids) > 0 {
		return &PreparedTransactionsError{XIDs: xids}
	}
	return nil
}
