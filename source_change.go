package ghostferry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/server"
)

// commitPatience is how long transactions that were delivered may still be committing: a
// stalled semi-synchronous commit gives up after ten seconds, unless configured otherwise.
const commitPatience = 15 * time.Second

// ServerChangedError says that an address leads to another server than the one that the
// run began with: its files and offsets mean nothing there. With MySQL's GTIDs a run can be
// continued on another server that has all transactions, elsewhere it cannot: MariaDB keeps
// no set of what was executed.
type ServerChangedError struct {
	final
	// Was and Is are the identities (server_uuid; server_uid and server_id on MariaDB).
	Was, Is string
	// Follows is true where the run goes on with the other server when it is started again,
	// provided that this one has every transaction: MySQL with GTIDs.
	Follows bool
	// Target is true when it is the target's address. The run goes on with the other server when
	// it is started again, if that one has the rows and the checkpoint.
	Target bool
}

// Error names both servers and what to do.
func (e *ServerChangedError) Error() string {
	if e.Target {
		return fmt.Sprintf("the target's address now leads to another server (%s, before %s): start the same command again, it goes on there if that server has the run's checkpoint, and compares anew all that was copied", e.Is, e.Was)
	}
	if e.Follows {
		return fmt.Sprintf("the address now leads to another server (%s, before %s): start the same command again, it goes on there if that server has every transaction", e.Is, e.Was)
	}
	return fmt.Sprintf("the address now leads to another server (%s, before %s): point the configuration at the server that the run began with and start again, or start afresh with empty target tables", e.Is, e.Was)
}

// Resumable is true: on the server that the run began with, or one that Follows, it goes on.
func (e *ServerChangedError) Resumable() bool { return true }

// LostTransactionsError says that a server no longer has transactions that were read
// from its binary log: it crashed without having written them, was restored to an older
// copy, or its log was reset.
type LostTransactionsError struct {
	ruined
	// Missing are the transactions: a GTID set, or a stretch of the log.
	Missing string
}

// Error names the transactions and what to do.
func (e *LostTransactionsError) Error() string {
	return fmt.Sprintf("the server lacks transactions that were read from its log before: %s; it lost them in a crash, was restored, or its log was reset: start afresh with empty target tables", e.Missing)
}

// follow says which process of the server is followed, and by which event its log is known.
func (s *BinlogStreamer) follow(source sourceProcess, mark logMark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.process, s.mark = source, mark
	s.unconfirmed.follows(source)
}

// checkServer makes sure, before the stream is connected again, that it is the same
// server and that it has everything it has sent.
func (s *BinlogStreamer) checkServer(ctx context.Context) error {
	s.forgetTransaction()
	srv, err := server.Detect(ctx, s.DB)
	if err != nil {
		return err
	}
	if srv.Identity != s.srv.Identity {
		return s.otherServer(ctx, srv)
	}
	end, err := srv.LogEnd(ctx, s.DB)
	if err != nil {
		return err
	}
	at := s.resumeFrom()
	if ends := (BinlogCoordinate{File: end.File, Pos: end.Pos}); at.File != "" && ends.CompareFilePos(at) < 0 {
		return &LostTransactionsError{Missing: fmt.Sprintf("its log ends at %s, and was read up to %s:%d", ends, at.File, at.Pos)}
	}
	if err := s.hasTransactions(ctx, srv, at); err != nil {
		return err
	}
	if s.unconfirmed == nil {
		return nil
	}
	return s.checkRestart(ctx, at)
}

// hasTransactions makes sure that a server has the transactions of a set. One that is
// still being committed there may have been delivered already, so it is waited for.
func (s *BinlogStreamer) hasTransactions(ctx context.Context, srv *server.Server, at BinlogCoordinate) error {
	if srv.IsMariaDB() || at.GTIDSet == "" {
		return nil
	}
	missing, err := srv.LackedGTIDs(ctx, s.DB, at.GTIDSet)
	if err != nil || missing == "" {
		return err
	}
	if err := srv.WaitForGTIDSet(ctx, s.DB, missing, commitPatience); !errors.Is(err, server.ErrBarrierTimeout) {
		return err
	}
	return &LostTransactionsError{Missing: missing}
}

// otherServer judges another server at the address. One that has everything is where the
// run goes on when it is started again: then nothing is under way that belongs to the log
// of the server before.
func (s *BinlogStreamer) otherServer(ctx context.Context, srv *server.Server) error {
	changed := &ServerChangedError{Was: s.srv.Identity, Is: srv.Identity, Target: s.own != nil}
	at := s.resumeFrom()
	if srv.IsMariaDB() || !srv.GTIDMode || at.GTIDSet == "" || s.unconfirmed == nil {
		return changed
	}
	changed.Follows = true
	return cmp.Or[error](s.hasTransactions(ctx, srv, at), changed)
}

// checkRestart makes sure that the server's log still has what was delivered, by content,
// and, if the server was restarted, that it has not lost what was read of its rows.
func (s *BinlogStreamer) checkRestart(ctx context.Context, at BinlogCoordinate) error {
	s.mu.Lock()
	mark, broken, process := s.mark, s.broken, s.process
	s.mu.Unlock()
	for _, m := range []logMark{mark, broken} {
		if err := s.holdsMark(ctx, m); err != nil {
			return err
		}
	}
	now := sourceProcess{identity: s.srv.Identity}
	var err error
	if now.started, err = s.srv.StartedAt(ctx, s.DB); err != nil || process.sameAs(now) {
		return err
	}
	read := s.unconfirmed.restarted()
	if read.File != "" && read.CompareFilePos(at) > 0 {
		// The file of the last transaction is the same: all of it was kept, if it is as long.
		files, err := s.srv.LogFiles(ctx, s.DB)
		if err != nil {
			return err
		}
		if size, _ := fileSize(files, read.File); read.File != mark.file || size < read.Pos {
			return &UnconfirmedRowsError{ReadUpTo: read, StreamedUpTo: at}
		}
	}
	s.mu.Lock()
	s.process = now
	s.mu.Unlock()
	if s.restarted != nil {
		if err := s.restarted(ctx, now); err != nil {
			return err
		}
	}
	s.unconfirmed.follows(now)
	return nil
}
