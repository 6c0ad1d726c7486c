package ghostferry

import (
	"context"
	"errors"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
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

// noteReplication remembers whether the source follows another server from the beginning, as
// in a ring of primaries.
func (f *Ferry) noteReplication(ctx context.Context) {
	f.followedAtStart, _ = f.sourceServer.FollowsAnother(ctx, f.SourceDB) // who may not ask is not told later either
}

// mustBePrimary fails when the source has been demoted since the run began; it waits for a
// source that is away.
func (f *Ferry) mustBePrimary(ctx context.Context) error {
	return f.sourcePatience.do(ctx, 0, func(ctx context.Context, _ int) error { return answered(ctx, f.demoted) })
}

// demoted fails when the source is demoted. One that only is read-only may have been fenced by
// its operator.
func (f *Ferry) demoted(ctx context.Context) error {
	if f.WaitUntilReplicaIsCaughtUpToMaster != nil || f.followedAtStart {
		return nil
	}
	readOnly, err := isReadOnly(ctx, f.SourceDB)
	if err != nil || !readOnly {
		return err
	}
	follows, err := f.sourceServer.FollowsAnother(ctx, f.SourceDB)
	if err != nil {
		f.cannotAskDemotion.Do(func() {
			f.logger.WithError(err).Warn("the source is read-only, and it cannot be asked whether it has become a replica: if another server has taken its place, the target will not have that one's changes")
		})
		return nil //nolint:nilerr // said above
	}
	if follows {
		return origin("ferry", &SourceDemotedError{Source: hostPort(f.Source)})
	}
	return nil
}

// demotionInterval is how often a run looks whether its source is still a primary.
const demotionInterval = 5 * time.Second

// watchDemotion ends the run when the source has been demoted.
func (f *Ferry) watchDemotion(ctx context.Context, run *lifecycle.Group) error {
	return every(ctx, demotionInterval, func() {
		var demoted *SourceDemotedError
		if err := f.demoted(ctx); errors.As(err, &demoted) { // another error is the stream's to tell
			run.Cancel(err)
		}
	})
}
