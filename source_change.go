package ghostferry

import (
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
// run began with: its files and offsets mean nothing there.
type ServerChangedError struct {
	final
	// Was and Is are the identities (server_uuid; server_uid and server_id on MariaDB).
	Was, Is string
}

// Error names both servers and what to do.
func (e *ServerChangedError) Error() string {
	return fmt.Sprintf("the address now leads to another server (%s, before %s): point the configuration at the server that the run began with and start again, or start afresh with empty target tables", e.Is, e.Was)
}

// Resumable is true: on the server that the run began with it goes on.
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

// checkServer makes sure, before the stream is connected again, that it is the same
// server and that it has everything it has sent.
func (s *BinlogStreamer) checkServer(ctx context.Context) error {
	srv, err := server.Detect(ctx, s.DB)
	if err != nil {
		return err
	}
	if srv.Identity != s.srv.Identity {
		return &ServerChangedError{Was: s.srv.Identity, Is: srv.Identity}
	}
	end, err := srv.LogEnd(ctx, s.DB)
	if err != nil {
		return err
	}
	at := s.resumeFrom()
	if ends := (BinlogCoordinate{File: end.File, Pos: end.Pos}); at.File != "" && ends.CompareFilePos(at) < 0 {
		return &LostTransactionsError{Missing: fmt.Sprintf("its log ends at %s, and was read up to %s:%d", ends, at.File, at.Pos)}
	}
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
