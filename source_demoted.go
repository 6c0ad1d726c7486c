package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
	"github.com/ghostferry-go/ghostferry/internal/server"
)

// SourceDemotedError says that the source has become somebody's read-only replica since the
// run began: the application writes to another server, and what the source has is not all.
type SourceDemotedError struct {
	final
	// Source is the server's address.
	Source string
}

// Error names the server and what to do.
func (e *SourceDemotedError) Error() string {
	return "the source " + e.Source + " is read-only and follows another server since the run began: it was demoted, and the application writes elsewhere; " +
		"point the configuration at the new primary and start the same command again, it goes on there if that server has every transaction (MySQL with GTIDs); or make the source the primary again"
}

// Resumable is true: on the new primary, or on the source when it is one again.
func (e *SourceDemotedError) Resumable() bool { return true }

// PrimaryChangedError says that MasterDB of WaitUntilReplicaIsCaughtUpToMaster does not lead to the
// primary of the source any more that it led to when the run began: to another server, or to this
// one as somebody's read-only replica. The application writes to another server then, and what
// MasterDB has is not all.
type PrimaryChangedError struct {
	final
	// Was and Is are the identities (server_uuid; server_uid and server_id on MariaDB) of the
	// server in the beginning and now: the same of one that was demoted.
	Was, Is string
}

// Error says what has changed and what to do.
func (e *PrimaryChangedError) Error() string {
	change := fmt.Sprintf("is another server (%s, before %s)", e.Is, e.Was)
	if e.Was == e.Is {
		change = fmt.Sprintf("(%s) is read-only and follows another server", e.Is)
	}
	return "the primary of the source " + change + " since the run began: see that the source follows the server that the application writes to, " +
		"point MasterDB of WaitUntilReplicaIsCaughtUpToMaster (copydb, sharding: SourceReplicationMaster) at that one, and start the same command again, it goes on"
}

// Resumable is true: the log of the source, which the run follows, is the same.
func (e *PrimaryChangedError) Resumable() bool { return true }

// noteReplication remembers whether the server that the application writes to follows another one
// from the beginning, as in a ring of primaries. Who may not ask is not told later either.
func (f *Ferry) noteReplication(ctx context.Context) {
	if gate := f.WaitUntilReplicaIsCaughtUpToMaster; gate != nil && gate.master != nil {
		f.followedAtStart, _ = gate.master.FollowsAnother(ctx, gate.MasterDB)
		return
	}
	f.followedAtStart, _ = f.sourceServer.FollowsAnother(ctx, f.SourceDB)
}

// mustBePrimary fails when the source, or the primary of one that is a replica, has been demoted
// since the run began; it waits for a server that is away.
func (f *Ferry) mustBePrimary(ctx context.Context) error {
	return f.sourcePatience.do(ctx, 0, func(ctx context.Context, _ int) error { return answered(ctx, f.demoted) })
}

// demoted fails when the server that the application is to write to is not the primary any more.
func (f *Ferry) demoted(ctx context.Context) error {
	if gate := f.WaitUntilReplicaIsCaughtUpToMaster; gate != nil {
		if gate.master == nil { // set after Initialize
			return nil
		}
		return origin("wait_replica", f.primaryChanged(ctx, gate))
	}
	demoted, err := f.isDemoted(ctx, f.sourceServer, f.SourceDB)
	if err == nil && demoted {
		err = origin("ferry", &SourceDemotedError{Source: hostPort(f.Source)})
	}
	return err
}

// primaryChanged asks on one connection: another may lead to another server.
func (f *Ferry) primaryChanged(ctx context.Context, gate *WaitUntilReplicaIsCaughtUpToMaster) error {
	conn, err := gate.MasterDB.Conn(ctx)
	if err != nil {
		return fmt.Errorf("asking the primary of the source: %w", err)
	}
	defer func() { _ = conn.Close() }()
	if err := gate.sameMaster(ctx, conn); err != nil {
		return err
	}
	demoted, err := f.isDemoted(ctx, gate.master, conn)
	switch {
	case err != nil:
		return fmt.Errorf("asking the primary of the source: %w", err)
	case demoted:
		return &PrimaryChangedError{Was: gate.master.Identity, Is: gate.master.Identity}
	}
	return nil
}

// isDemoted tells whether a server has become a read-only replica since the run began. One that only is
// read-only may have been fenced, by us or by its operator.
func (f *Ferry) isDemoted(ctx context.Context, srv *server.Server, q server.Querier) (bool, error) {
	if f.followedAtStart {
		return false, nil
	}
	readOnly, err := isReadOnly(ctx, q)
	if err != nil || !readOnly {
		return false, err
	}
	follows, err := srv.FollowsAnother(ctx, q)
	if err != nil {
		f.cannotAskDemotion.Do(func() {
			f.logger.WithError(err).Warn("the source, or its primary, is read-only, and it cannot be asked whether it has become a replica: if another server has taken its place, the target will not have that one's changes")
		})
		return false, nil //nolint:nilerr // said above
	}
	return follows, nil
}

// demotionInterval is how often a run looks whether its source is still a primary.
const demotionInterval = 5 * time.Second

// watchDemotion ends the run when the source has been demoted, or the target replaced. A source that
// is a replica may follow the new primary, so that the run goes on to where the cutover is refused.
func (f *Ferry) watchDemotion(ctx context.Context, run *lifecycle.Group) error {
	var told sync.Once
	return every(ctx, demotionInterval, func() {
		var demoted *SourceDemotedError
		var changed *PrimaryChangedError
		switch err := answered(ctx, f.demoted); { // another error is the stream's to tell
		case errors.As(err, &demoted):
			run.Cancel(err)
		case errors.As(err, &changed):
			told.Do(func() { f.logger.WithError(err).Warn("the cutover will be refused") })
		}
		var replaced *ServerChangedError
		if err := answered(ctx, f.sameTarget); errors.As(err, &replaced) {
			run.Cancel(err)
		}
	})
}
