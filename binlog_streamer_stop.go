package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/retry"
	"github.com/ghostferry-go/ghostferry/internal/server"
)

// errStopReached ends the stream at its stop position.
var errStopReached = errors.New("the stop position is reached")

// FlushAndStop ends the stream at the log's present end. It returns at once; Run
// returns when the end is reached.
func (s *BinlogStreamer) FlushAndStop() {
	if err := s.flushAndStop(context.Background()); err != nil {
		fatal(s.ErrorHandler, s.logger, "binlog_streamer", err)
	}
}

// flushLimit bounds how long the log's end is asked for: writers wait for it.
const flushLimit = time.Minute

func (s *BinlogStreamer) flushAndStop(ctx context.Context) error {
	s.initialize()
	ctx, cancel := context.WithTimeoutCause(ctx, flushLimit, fmt.Errorf("the server has not told it within %s", flushLimit))
	defer cancel()
	var end BinlogCoordinate
	err := retry.Do(ctx, retry.Policy{Attempts: 100, First: 50 * time.Millisecond, Max: 600 * time.Millisecond}, Retryable, nil,
		func(ctx context.Context) error {
			at, err := s.logEnd(ctx)
			end = at
			return err
		})
	if err != nil {
		return fmt.Errorf("reading the stop position: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopAt = end
	traceStop(s, end)
	s.logger.WithField(fieldCoordinate, end.String()).Info("the stream stops here")
	if !s.inTxn {
		s.checkStopLocked()
	}
	return nil
}

// logEnd returns the end of the server's log, an upper bound of what is visible.
func (s *BinlogStreamer) logEnd(ctx context.Context) (BinlogCoordinate, error) {
	srv := s.srv
	if srv == nil {
		var err error
		if srv, err = server.Detect(ctx, s.DB); err != nil {
			return BinlogCoordinate{}, err
		}
	}
	at, err := logEndOf(ctx, srv, s.DB)
	if changed, ok := errors.AsType[*ServerChangedError](err); ok && s.own != nil {
		changed.Follows, changed.Target = false, true
	}
	return at, err
}

// checkStopLocked closes stopped when the stop position is set and reached.
func (s *BinlogStreamer) checkStopLocked() bool {
	if s.stopAt.File == "" || s.streamed.File == "" || s.streamed.CompareFilePos(s.stopAt) < 0 {
		return false
	}
	select {
	case <-s.stopped:
	default:
		close(s.stopped)
	}
	return true
}

// goOn forgets a stop position that is not reached, and reports whether the stream goes on.
func (s *BinlogStreamer) goOn() bool {
	s.initialize()
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.stopped:
		return false
	default:
		s.stopAt = BinlogCoordinate{}
		return true
	}
}

// stopCoordinate returns the stop position, zero until one is set.
func (s *BinlogStreamer) stopCoordinate() BinlogCoordinate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopAt
}
