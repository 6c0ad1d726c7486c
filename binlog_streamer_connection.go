package ghostferry

import (
	"cmp"
	"context"
	"errors"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
)

// streamError is a failure to handle an event: connecting again would not help.
type streamError struct{ err error }

func (e *streamError) Error() string { return e.err.Error() }
func (e *streamError) Unwrap() error { return e.err }

// brokenStream reports whether connecting again may help.
func (s *BinlogStreamer) brokenStream(err error) bool {
	var handling *streamError
	switch {
	case errors.As(err, &handling), !Retryable(err), mysqlerr.TLSRefused(err):
		return false
	case mysqlerr.Number(err) == mysql.ER_MASTER_FATAL_ERROR_READING_BINLOG:
		return false // purged log, duplicate replica id
	case mysqlerr.Classify(err) == mysqlerr.AccessDenied:
		return s.DBConfig.rotates() // the password may just have been rotated
	}
	return true
}

// stream is one connection. It returns nil when the stop position is reached.
func (s *BinlogStreamer) stream(ctx context.Context) error {
	s.askClock(ctx)
	if seat := s.takeSeat(); seat != nil {
		return s.followShared(ctx, seat)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.ctx = ctx
	link := &streamLink{}
	defer link.end()
	go func() {
		select {
		case <-s.stopped:
			cancel()
		case <-ctx.Done():
		}
		link.end()
	}()
	s.forgetTransaction()
	if s.tap != nil {
		s.tap.begins()
	}
	err := s.followDump(ctx, link)
	select {
	case <-s.stopped:
		return nil
	default:
	}
	switch {
	case errors.Is(s.failure, errStopReached):
		return nil
	case errors.Is(s.failure, errJoinsShared):
		return s.failure
	case s.failure != nil:
		return s.handlingError(s.failure)
	}
	return cmp.Or(ctx.Err(), err)
}

// followDump handles events until the connection ends or one cannot be handled.
func (s *BinlogStreamer) followDump(ctx context.Context, link *streamLink) error {
	d, err := s.openDump(ctx, link, s.resumeFrom())
	if err != nil {
		return err
	}
	failpoint("stream.connected")
	d.keep = s.tap != nil || len(s.handlers) > 0 // others read a shared event later; a host may keep its
	for {
		ev, err := d.next()
		if err != nil {
			return err
		}
		if err := s.handleStreamed(ctx, ev); err != nil {
			return err
		}
	}
}

// handlingError is the error of a stream whose event could not be handled: connecting
// again helps only where the event's rows had to be read from the log again.
func (s *BinlogStreamer) handlingError(err error) error {
	var replay *replayError
	if errors.As(err, &replay) && s.brokenStream(replay.err) {
		return replay.err
	}
	return &streamError{err}
}

// handleStreamed handles an event that has just come.
func (s *BinlogStreamer) handleStreamed(ctx context.Context, ev *replication.BinlogEvent) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.tap != nil {
		s.tap.before(ev)
		defer s.tap.after()
	} else { // nobody else has it
		s.packet = ev
	}
	err := safely(func() error { return s.handle(ev) }) // filters and handlers are the host's
	s.dropPacket()
	if err == nil && s.wantsToShare() {
		err = errJoinsShared
	}
	s.failure = err
	return err
}
