package ghostferry

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/retry"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// readOnlyFence is FenceReadOnly.
type readOnlyFence struct {
	fencedServer
	before *server.ReadOnlyState // nil: nothing was changed
}

// Fence makes the server read-only.
func (f *readOnlyFence) Fence(ctx context.Context) error {
	if err := f.connect(ctx); err != nil {
		return err
	}
	now, err := f.srv.ReadOnlyNow(ctx, f.db)
	if err != nil {
		return err
	}
	if left := f.left.Load(); f.before == nil && left != nil {
		f.before = left.Before
	}
	if f.before == nil {
		f.before = &now
		if now.ReadOnly {
			f.logger.Warn("the source is read-only before the fence closes; it will stay so if the cutover is given up")
		}
	}
	if err := f.note(ctx, fenceNote{Kind: FenceReadOnly, Before: f.before}); err != nil {
		return err
	}
	conn, err := f.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	defer func() { _ = conn.Close() }()
	statement := f.srv.SetReadOnlyQuery(f.srv.StrictestReadOnly())
	if err := f.closing(ctx, conn, statement, f.killStatements); err != nil {
		return fmt.Errorf("fence of %s: %s: %w", f.address, statement, err)
	}
	if err := f.untilNoneInFlight(ctx); err != nil {
		return err
	}
	return f.mustHaveNoXA(ctx)
}

// Fenced fails when somebody has made the server writable.
func (f *readOnlyFence) Fenced(ctx context.Context) error {
	now, err := f.srv.ReadOnlyNow(ctx, f.db)
	if err == nil && now != f.srv.StrictestReadOnly() {
		err = errors.New("somebody has made the source writable again")
	}
	return err
}

// Unfence makes the server what it was before.
func (f *readOnlyFence) Unfence(ctx context.Context) error {
	if f.before == nil {
		return nil
	}
	statement := f.srv.SetReadOnlyQuery(*f.before)
	if err := f.mayOpen(statement); err != nil {
		return err
	}
	if err := f.endWaiting(ctx); err != nil {
		return err
	}
	if _, err := f.db.ExecContext(ctx, statement); err != nil {
		return fmt.Errorf("unfence %s: %s: %w", f.address, statement, err)
	}
	f.before = nil
	f.opened(ctx)
	return nil
}

// adopt takes over what the server was before an earlier process made it read-only.
func (f *readOnlyFence) adopt(ctx context.Context, note *fenceNote) (closed bool, err error) {
	if err := f.connect(ctx); err != nil {
		return false, err
	}
	now, err := f.srv.ReadOnlyNow(ctx, f.db)
	if err != nil || note.Before == nil || now == *note.Before {
		return false, err
	}
	f.before, f.noted = note.Before, note
	return true, nil
}

// accountFence is FenceAccounts.
type accountFence struct {
	fencedServer
	accounts []server.Account
	locked   []server.Account // by us
}

// Fence locks the accounts and ends their connections.
func (f *accountFence) Fence(ctx context.Context) error {
	if err := f.connect(ctx); err != nil {
		return err
	}
	if err := f.chooseAccounts(ctx); err != nil {
		return err
	}
	if err := f.lock(ctx); err != nil {
		return err
	}
	if err := f.endConnections(ctx); err != nil {
		return err
	}
	return f.mustHaveNoXA(ctx)
}

// lock locks the accounts. A lock that is given up must not come after Unfence.
func (f *accountFence) lock(ctx context.Context) error {
	conn, err := f.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("fence of %s: %w", f.address, err)
	}
	defer func() { _ = conn.Close() }()
	nothing := func(context.Context) error { return nil } // it waits for no statement of theirs
	for _, a := range f.locked {
		if err := f.closing(ctx, conn, f.srv.LockAccountQuery(a, true), nothing); err != nil {
			return fmt.Errorf("fence of %s: locking account %s: %w", f.address, a, err)
		}
	}
	return nil
}

// chooseAccounts notes which accounts are to be locked: those that are not locked already,
// unless that was an earlier process of the run. What becomes of each may not be known later.
func (f *accountFence) chooseAccounts(ctx context.Context) error {
	if left := f.left.Load(); left != nil && len(f.locked) == 0 {
		f.locked = slices.Clone(left.Locked)
	}
	if err := f.mustBeAll(ctx); err != nil {
		return err
	}
	for _, a := range f.accounts {
		locked, err := f.srv.AccountLocked(ctx, f.db, a)
		if err != nil {
			return err
		}
		if !locked && !slices.Contains(f.locked, a) {
			f.locked = append(f.locked, a)
		}
	}
	return f.note(ctx, fenceNote{Kind: FenceAccounts, Locked: slices.Clone(f.locked)})
}

// mustBeAll refuses accounts whose user can log in by another account as well: a server does
// not tell which of them a connection belongs to, and the other's would come back for ever.
func (f *accountFence) mustBeAll(ctx context.Context) error {
	for _, user := range f.users() {
		accounts, err := f.srv.AccountsOf(ctx, f.db, user)
		if err != nil {
			return err
		}
		for _, other := range accounts {
			if slices.Contains(f.accounts, other) {
				continue
			}
			locked, err := f.srv.AccountLocked(ctx, f.db, other)
			if err != nil {
				return err
			}
			if !locked {
				return fmt.Errorf("fence: user %s has account %s, too, and connections of the two cannot be told apart: name it in CutoverFence.Accounts as well, lock it, or use another kind of fence", user, other)
			}
		}
	}
	return nil
}

// adopt takes over the accounts that an earlier process has locked.
func (f *accountFence) adopt(ctx context.Context, note *fenceNote) (closed bool, err error) {
	if err := f.connect(ctx); err != nil {
		return false, err
	}
	f.locked, f.noted = nil, note
	for _, a := range note.Locked {
		locked, err := f.srv.AccountLocked(ctx, f.db, a)
		if err != nil {
			return false, err
		}
		if locked {
			f.locked = append(f.locked, a)
		}
	}
	return len(f.locked) > 0, nil
}

func (f *accountFence) users() []string {
	names := make([]string, len(f.accounts))
	for i, a := range f.accounts {
		names[i] = a.User
	}
	return names
}

// endConnections kills the accounts' connections and waits until they are gone: then their
// transactions are rolled back.
func (f *accountFence) endConnections(ctx context.Context) error {
	killed := map[int64]bool{}
	for {
		ids, err := f.srv.Connections(ctx, f.db, f.users())
		if err != nil {
			return fmt.Errorf("fence: looking for the accounts' connections: %w", err)
		}
		if len(ids) == 0 {
			return nil
		}
		var alive []int64
		for _, id := range ids {
			if !killed[id] {
				alive = append(alive, id)
				killed[id] = true
			}
		}
		if err := f.kill(ctx, "CONNECTION", alive); err != nil {
			return err
		}
		if err := retry.Sleep(ctx, fencePoll); err != nil {
			return fmt.Errorf("fence: %d connections are still there: %w", len(ids), causeOf(ctx, err))
		}
	}
}

// Fenced fails when an account is unlocked or connected.
func (f *accountFence) Fenced(ctx context.Context) error {
	for _, a := range f.accounts {
		locked, err := f.srv.AccountLocked(ctx, f.db, a)
		if err != nil {
			return err
		}
		if !locked {
			return fmt.Errorf("somebody has unlocked account %s", a)
		}
	}
	ids, err := f.srv.Connections(ctx, f.db, f.users())
	if err == nil && len(ids) > 0 {
		err = fmt.Errorf("%d connections of the fenced accounts are there again", len(ids))
	}
	return err
}

// Unfence unlocks the accounts that Fence has locked.
func (f *accountFence) Unfence(ctx context.Context) error {
	if len(f.locked) > 0 {
		if err := f.mayOpen(f.srv.LockAccountQuery(f.locked[0], false)); err != nil {
			return err
		}
	}
	if err := f.endWaiting(ctx); err != nil {
		return err
	}
	for len(f.locked) > 0 {
		a := f.locked[len(f.locked)-1]
		if _, err := f.db.ExecContext(ctx, f.srv.LockAccountQuery(a, false)); err != nil {
			return fmt.Errorf("unfence %s: unlocking account %s: %w", f.address, a, err)
		}
		f.locked = f.locked[:len(f.locked)-1]
	}
	f.opened(ctx)
	return nil
}

// tableFence is FenceLockTables.
type tableFence struct {
	fencedServer
	tables []*TableSchema
	conn   *sql.Conn // holds the locks; nil: there are none
}

// Fence locks the tables for reading. That waits for the transactions that have changed them.
func (f *tableFence) Fence(ctx context.Context) error {
	if err := f.connect(ctx); err != nil {
		return err
	}
	if f.conn != nil {
		if f.Fenced(ctx) == nil {
			return nil
		}
		f.discard()
	}
	conn, err := f.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("fence: %w", err)
	}
	f.conn = conn
	names := make([]string, len(f.tables))
	for i, t := range f.tables {
		names[i] = QuotedTableName(t) + " READ"
	}
	began := time.Now()
	err = f.closing(ctx, conn, "LOCK TABLES "+strings.Join(names, ", "), func(ctx context.Context) error {
		return f.endTransactions(ctx, time.Since(began) < idlePatience*f.killAfter)
	})
	if err != nil {
		f.discard()
		return fmt.Errorf("fence: locking %d tables: %w", len(f.tables), err)
	}
	return f.mustHaveNoXA(ctx)
}

// endTransactions ends the statements of transactions that have changed rows, or, when that was
// not enough, their connections.
func (f *tableFence) endTransactions(ctx context.Context, statements bool) error {
	ids, err := f.srv.WritingTransactions(ctx, f.db)
	if err != nil || !statements {
		return errors.Join(err, f.kill(ctx, "CONNECTION", ids))
	}
	running, err := f.srv.RunningStatements(ctx, f.db, f.own...)
	if err != nil {
		return err
	}
	return f.kill(ctx, "QUERY", slices.DeleteFunc(ids, func(id int64) bool { return !slices.Contains(running, id) }))
}

// Fenced fails when the connection that holds the locks is gone, and they with it.
func (f *tableFence) Fenced(ctx context.Context) error {
	if f.conn == nil {
		return errors.New("the tables are not locked")
	}
	if _, err := f.conn.ExecContext(ctx, "DO 1"); err != nil {
		return fmt.Errorf("the connection that held the table locks is gone: %w", err)
	}
	return nil
}

// adopt has nothing to take over: the locks ended with the process that held them.
func (f *tableFence) adopt(context.Context, *fenceNote) (closed bool, err error) { return false, nil }

// Unfence unlocks the tables.
func (f *tableFence) Unfence(ctx context.Context) error {
	f.discard()
	return f.endWaiting(ctx)
}

// discard ends the connection, which unlocks the tables whatever state it is in.
func (f *tableFence) discard() {
	if f.conn != nil {
		_ = f.conn.Raw(func(any) error { return driver.ErrBadConn })
		_ = f.conn.Close()
		f.conn = nil
	}
}

// Close disconnects those who still wait for the locks, before they end: what they want to
// write would land on a source that nobody reads any more.
func (f *tableFence) Close(ctx context.Context) error {
	var err error
	if f.conn != nil {
		var ids []int64
		if ids, err = f.srv.WaitingForTableLocks(ctx, f.db); err == nil {
			err = f.kill(ctx, "CONNECTION", ids)
		}
	}
	f.discard()
	return errors.Join(err, f.db.Close())
}
