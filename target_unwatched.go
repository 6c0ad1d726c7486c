package ghostferry

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
)

// A watch goes on only in the log that it has followed: the same server's, which still has what was
// read there, at the same place. Elsewhere it is not known what others wrote in between. Then the
// watch begins anew, and all that was copied is compared anew: that finds whatever they changed.

// watchedPlace is up to where the target's log was watched.
type watchedPlace struct {
	at     BinlogCoordinate // zero: it was not
	server string           // whose log that is; empty: not known
	mark   logMark          // of the last transaction that was seen, zero when none is known
	// gap: what others wrote before it is not known, except by a comparison.
	gap bool
}

// UnwatchedError says that the target's binary log cannot be watched from where it was watched up
// to, so that it is not known what others wrote there since.
type UnwatchedError struct {
	final
	// Coordinate is up to where it was watched.
	Coordinate mysql.Position
	// Reason is why it cannot be watched from there.
	Reason string
	// Remedy says what to do.
	Remedy string
}

// Error names the place, the reason and the remedy.
func (e *UnwatchedError) Error() string {
	return fmt.Sprintf("what others wrote to the target since %s in its binary log is not known: %s: %s", coordinateFromPosition(e.Coordinate), e.Reason, e.Remedy)
}

// Resumable is true: the next process compares anew what was copied.
func (e *UnwatchedError) Resumable() bool { return true }

// cannotWatch is err as a watch tells it whose place the target's log does not have any more.
func (s *BinlogStreamer) cannotWatch(err error) error {
	if s.own == nil {
		return err
	}
	reason := ""
	if lost, ok := errors.AsType[*LostTransactionsError](err); ok {
		reason = lost.Missing
	} else if mysqlerr.Number(err) == mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG {
		reason = err.Error()
	}
	if reason == "" {
		return err
	}
	return &UnwatchedError{
		Coordinate: s.resumeFrom().Position(), Reason: reason + " (as a rule it was purged or reset, or the server was replaced or restored)",
		Remedy: "start the same command again, where that place is gone it compares anew what was copied",
	}
}

// watchFrom returns where the watch goes on; zero where that is not possible, and then sees to it
// that all that was copied is compared.
func (f *Ferry) watchFrom(ctx context.Context) (watchedPlace, error) {
	if !f.resuming {
		return watchedPlace{}, nil
	}
	place, err := f.watchedBefore()
	if err != nil || place.at.IsZero() && !place.gap {
		return place, err
	}
	reason, err := f.cannotGoOnFrom(ctx, place)
	if err != nil || reason == "" && !place.gap {
		return place, err
	}
	if f.Verifier == nil && f.readBefore() {
		return place, &UnwatchedError{
			Coordinate: place.at.Position(), Reason: cmp.Or(reason, "an earlier process could not watch all of it"),
			Remedy: "set VerifierType, so that what was copied is compared, or set SkipTargetVerification to accept that it is not known",
		}
	}
	if reason == "" { // the verifier has what is left to compare
		return place, nil
	}
	f.logger.WithField(fieldCoordinate, place.at.String()).Warnf("the target's binary log is watched from its present end on and not from %s: %s; all that was copied is compared anew, to find what others wrote meanwhile", place.at, reason)
	f.compareAll = true
	return watchedPlace{gap: f.readBefore()}, nil
}

// watchedBefore is up to where earlier processes have watched the target.
func (f *Ferry) watchedBefore() (place watchedPlace, err error) {
	if f.resume != nil {
		return f.resume.watched, nil
	}
	if place, err = f.StateToResumeFrom.watched(); err != nil {
		err = fmt.Errorf("the state to resume from is damaged: %w", err)
	}
	return place, err
}

func (s *SerializableState) watched() (place watchedPlace, err error) {
	place = watchedPlace{at: coordinateFromPosition(s.LastStoredBinlogPositionForTargetVerifier), server: s.TargetIdentity, gap: s.TargetUnwatched}
	place.mark, err = parseLogMark(s.LastWatchedTargetLogMark)
	return place, err
}

// cannotGoOnFrom returns why the watch cannot go on from a place; empty: it can. Which server the
// places of earlier versions belong to is not known.
func (f *Ferry) cannotGoOnFrom(ctx context.Context, place watchedPlace) (reason string, err error) {
	if place.server != "" && place.server != f.targetServer.Identity {
		return fmt.Sprintf("the target is another server (%s, before %s)", f.targetServer.Identity, place.server), nil
	}
	files, err := f.targetServer.LogFiles(ctx, f.TargetDB)
	if err != nil {
		return "", err
	}
	size, known := fileSize(files, place.at.File)
	switch {
	case !known:
		return "the target no longer has binary log file " + place.at.File, nil
	case size < place.at.Pos:
		return fmt.Sprintf("%s ends at %d", place.at.File, size), nil
	}
	s, err := f.newLogReader(ctx, f.TargetDB, f.Target, f.targetServer, "target_log_check")
	if err != nil {
		return "", err
	}
	err = s.holdsMark(ctx, place.mark)
	if lost, ok := errors.AsType[*LostTransactionsError](err); ok {
		return lost.Missing, nil
	}
	return "", err
}

// sameTarget fails when the target's address leads to another server than the one that is
// watched: a connection that is open may stay with the old one, and see nobody write.
func (f *Ferry) sameTarget(ctx context.Context) error {
	if f.TargetVerifier == nil {
		return nil
	}
	identity, same, err := f.targetServer.SameServer(ctx, f.TargetDB)
	if err != nil || same {
		return err
	}
	return origin("ferry", &ServerChangedError{Was: f.targetServer.Identity, Is: identity, Target: true})
}
