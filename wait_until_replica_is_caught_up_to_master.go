package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/ghostferry-go/ghostferry/internal/retry"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

const (
	replicaWaitPollInterval = 600 * time.Millisecond
	replicaWaitFirstPoll    = 20 * time.Millisecond // doubled up to the interval: writers may be stopped meanwhile
	replicaWaitRetries      = 100
	replicaWaitCheck        = 8 // polls between two checks, some 5 s
)

// ReplicatedMasterPositionFetcher finds out how far a replica got in the binary log of
// its primary.
type ReplicatedMasterPositionFetcher interface {
	// Current is the position in the primary's coordinates that the replica has
	// applied everything up to.
	Current(*sql.DB) (mysql.Position, error)
}

// ReplicatedMasterPositionViaCustomQuery asks the replica itself, for instance a
// heartbeat table that the primary writes its position to.
type ReplicatedMasterPositionViaCustomQuery struct {
	// Query returns one row: the file's name and the position in it.
	Query string
}

// Current runs the query.
func (r ReplicatedMasterPositionViaCustomQuery) Current(replicaDB *sql.DB) (mysql.Position, error) {
	var file string
	var position uint32
	err := replicaDB.QueryRow(r.Query).Scan(&file, &position)
	return NewMysqlPosition(file, position, err, replicaDB)
}

// WaitUntilReplicaIsCaughtUpToMaster makes sure that a source that is a replica has
// applied everything that its primary had written at a moment.
type WaitUntilReplicaIsCaughtUpToMaster struct {
	// MasterDB is the primary. Required.
	MasterDB *sql.DB
	// ReplicatedMasterPositionFetcher tells how far the replica is. Required.
	ReplicatedMasterPositionFetcher ReplicatedMasterPositionFetcher
	// Timeout bounds Wait; 0 means no bound.
	Timeout time.Duration

	// ReplicaDB is the replica; a Ferry sets it to its source.
	ReplicaDB *sql.DB

	// master is the server that MasterDB led to when the Ferry was initialized; nil without a Ferry.
	master *server.Server
}

// IsCaughtUp says whether the replica has reached a position of the primary. The
// replica's position is asked for at most as often as retries says (0: without a
// limit), 600 ms apart.
func (w *WaitUntilReplicaIsCaughtUpToMaster) IsCaughtUp(targetMasterPos mysql.Position, retries int) (bool, error) {
	return w.IsCaughtUpContext(context.Background(), targetMasterPos, retries)
}

// IsCaughtUpContext is IsCaughtUp with a context. A question that waits when it ends is not
// waited for.
func (w *WaitUntilReplicaIsCaughtUpToMaster) IsCaughtUpContext(ctx context.Context, targetMasterPos mysql.Position, retries int) (bool, error) {
	current, err := w.current(ctx, retries)
	if err != nil || current.Compare(targetMasterPos) < 0 {
		return false, err
	}
	w.tell(Logger.Infof, current, "replica has reached %s, wanted %s", current, targetMasterPos)
	return true, nil
}

func (w *WaitUntilReplicaIsCaughtUpToMaster) current(ctx context.Context, retries int) (current mysql.Position, err error) {
	err = WithRetriesContext(ctx, retries, replicaWaitPollInterval, w.logger(), "get replicated master position", func() (err error) {
		current, err = answerWithin(ctx, func() (mysql.Position, error) { return w.ReplicatedMasterPositionFetcher.Current(w.ReplicaDB) })
		return err
	})
	if err != nil {
		return current, fmt.Errorf("replicated position of the primary: %w", err)
	}
	return current, nil
}

// Wait is [WaitUntilReplicaIsCaughtUpToMaster.WaitContext] without a context.
func (w *WaitUntilReplicaIsCaughtUpToMaster) Wait() error {
	return w.WaitContext(context.Background())
}

// WaitContext reads the primary's position now and waits until the replica has reached
// it. Past Timeout it ends with "timeout reached before replica is caught up to
// master".
func (w *WaitUntilReplicaIsCaughtUpToMaster) WaitContext(ctx context.Context) error {
	waitCtx := ctx
	if w.Timeout > 0 {
		var cancel context.CancelFunc
		waitCtx, cancel = context.WithTimeout(ctx, w.Timeout)
		defer cancel()
	}

	err := w.wait(waitCtx, Logger.Infof, replicaWaitRetries, func(context.Context) error { return nil })
	if err != nil && ctx.Err() == nil && waitCtx.Err() != nil {
		return fmt.Errorf("timeout reached before replica is caught up to master: %w", err)
	}
	return err
}

// wait says by line what it waits for, and ends as well when check fails, which is asked now and
// then. A server that cannot be asked is asked as often as retries says.
func (w *WaitUntilReplicaIsCaughtUpToMaster) wait(ctx context.Context, line logLine, retries int, check func(ctx context.Context) error) error {
	if w.MasterDB == nil || w.ReplicaDB == nil || w.ReplicatedMasterPositionFetcher == nil {
		return errors.New("waiting for a replica needs MasterDB, ReplicaDB and ReplicatedMasterPositionFetcher")
	}
	var target mysql.Position
	var changed *PrimaryChangedError
	err := WithRetriesContext(ctx, retries, replicaWaitPollInterval, w.logger(), "read current master binlog position", func() error {
		err := answered(ctx, func(ctx context.Context) (err error) {
			target, err = w.masterEnd(ctx)
			return err
		})
		if errors.As(err, &changed) { // which no retry changes
			return nil
		}
		return err
	})
	if changed != nil {
		return changed
	}
	if err != nil {
		return fmt.Errorf("position of the primary: %w", err)
	}

	w.tell(line, target, "waiting for the replica to reach %s", target)
	end := func() {}
	defer func() { end() }()
	for n := 0; ; n++ {
		current, err := w.current(ctx, retries)
		if err != nil {
			return err
		}
		if current.Compare(target) >= 0 {
			w.tell(line, current, "replica has reached %s, wanted %s", current, target)
			return nil
		}
		if n == 0 {
			end = waitingFor(ctx, waitReplica)
		}
		if n%replicaWaitCheck == replicaWaitCheck-1 {
			if err := check(ctx); err != nil {
				return err
			}
		}
		if err := retry.Sleep(ctx, min(replicaWaitFirstPoll<<min(n, 10), replicaWaitPollInterval)); err != nil {
			return err
		}
	}
}

// logLine logs at a level.
type logLine func(logger Logger, format string, args ...any)

func (w *WaitUntilReplicaIsCaughtUpToMaster) tell(line logLine, at mysql.Position, format string, args ...any) {
	line(w.logger().WithField(fieldCoordinate, coordinateFromPosition(at).String()), format, args...)
}

// masterEnd is where the log of the primary ends. Another server's has other files and offsets: the
// replica would seem to have reached them.
func (w *WaitUntilReplicaIsCaughtUpToMaster) masterEnd(ctx context.Context) (mysql.Position, error) {
	conn, err := w.MasterDB.Conn(ctx)
	if err != nil {
		return mysql.Position{}, err
	}
	defer func() { _ = conn.Close() }()
	if err := w.sameMaster(ctx, conn); err != nil {
		return mysql.Position{}, err
	}
	return binlogEnd(ctx, conn)
}

// sameMaster fails when a connection of MasterDB leads to another server than in the beginning.
func (w *WaitUntilReplicaIsCaughtUpToMaster) sameMaster(ctx context.Context, conn server.Querier) error {
	if w.master == nil {
		return nil
	}
	identity, same, err := w.master.SameServer(ctx, conn)
	switch {
	case err != nil:
		return fmt.Errorf("asking the primary of the source: %w", err)
	case same:
		return nil
	}
	return &PrimaryChangedError{Was: w.master.Identity, Is: identity}
}

func (w *WaitUntilReplicaIsCaughtUpToMaster) logger() Logger {
	return taggedLogger(nil, "wait_replica")
}
