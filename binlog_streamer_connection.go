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
	cfg, err := s.syncerConfig(ctx, link)
	if err != nil {
		return err
	}
	s.forgetTransaction()
	if s.tap != nil {
		s.tap.begins()
	}
	syncer := replication.NewBinlogSyncer(cfg)
	defer link.end(syncer)
	from := s.resumeFrom()
	var stream *replication.BinlogStreamer
	if from.GTIDSet != "" {
		set, err := mysql.ParseGTIDSet(cfg.Flavor, from.GTIDSet)
		if err != nil {
			return &streamError{err}
		}
		stream, err = syncer.StartSyncGTID(set)
		if err != nil {
			return cmp.Or(link.login.refused(), err)
		}
	} else if stream, err = syncer.StartSync(from.Position()); err != nil {
		return cmp.Or(link.login.refused(), err)
	}
	failpoint("stream.connected")
	go func() {
		select {
		case <-s.stopped:
			cancel()
		case <-ctx.Done():
		}
	}()
	_, err = stream.GetEvent(ctx) // returns only when the connection ends
	cancel()
	link.end(syncer) // from here on no event is being handled
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
	return err
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

// HandleEvent is called for every event of the stream, on one goroutine.
func (h eventHandler) HandleEvent(ev *replication.BinlogEvent) error {
	if h.ctx.Err() != nil {
		return h.ctx.Err()
	}
	if h.s.tap != nil {
		h.s.tap.before(ev)
		defer h.s.tap.after()
	} else { // nobody else has it
		h.s.packet = ev
	}
	err := h.s.handle(ev)
	h.s.dropPacket()
	if err == nil && h.s.wantsToShare() {
		err = errJoinsShared
	}
	h.s.failure = err
	return err
}

type eventHandler struct {
	s   *BinlogStreamer
	ctx context.Context
}

func (s *BinlogStreamer) syncerConfig(ctx context.Context, link *streamLink) (replication.BinlogSyncerConfig, error) {
	none := replication.BinlogSyncerConfig{}
	period := s.HeartbeatPeriod
	if period <= 0 {
		period = defaultHeartbeatPeriod
	}
	var err error
	if link.dial, err = s.DBConfig.dialer(2 * period); err != nil {
		return none, err
	}
	encrypted, err := s.DBConfig.tlsConfig()
	if err != nil {
		return none, err
	}
	pass, err := s.DBConfig.password(ctx)
	if err != nil {
		return none, err
	}
	var flags uint16
	if (s.own != nil || s.statements) && s.srv.IsMariaDB() {
		flags = replication.BINLOG_SEND_ANNOTATE_ROWS_EVENT // it sends statements only when asked
	}
	return replication.BinlogSyncerConfig{
		DumpCommandFlag: flags,
		ServerID:        s.MyServerId, Flavor: s.srv.NativeFlavour(),
		Host: s.DBConfig.Host, Port: s.DBConfig.Port, User: s.DBConfig.User, Password: pass,
		TLSConfig:               encrypted,
		RawModeEnabled:          true, // only what concerns us is decoded, and by our codec
		VerifyChecksum:          true,
		HeartbeatPeriod:         period,
		Dialer:                  link.connect,
		DisableRetrySync:        true, // reconnecting is ours: it must begin at a transaction's start
		DiscardGTIDSet:          true,
		EventCacheCount:         1,
		Logger:                  NewSlogLogger(quieter(s.logger)),
		SynchronousEventHandler: eventHandler{s: s, ctx: ctx},
	}, nil
}
