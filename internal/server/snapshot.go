package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/retry"
)

// Snapshot starts a consistent-snapshot transaction on conn and returns the binary log position
// that the snapshot stands at: it sees exactly the transactions before File and Pos. GTIDSet is
// left empty; see GTIDsAt. MariaDB only (ErrUnsupported).
//
// conn must be one connection in REPEATABLE READ, as set up by the role SourceSnapshot; a
// transaction that is open on it is committed.
func (s *Server) Snapshot(ctx context.Context, conn Execer) (LogEnd, error) {
	if !s.IsMariaDB() {
		return LogEnd{}, fmt.Errorf("%s: snapshot with a binary log position: %w", s, ErrUnsupported)
	}
	if _, err := conn.ExecContext(ctx, "START TRANSACTION WITH CONSISTENT SNAPSHOT"); err != nil {
		return LogEnd{}, fmt.Errorf("%s: start a consistent snapshot: %w", s, err)
	}
	var (
		at        LogEnd
		isolation string
	)
	// The isolation is asked for because the server does not take a snapshot below REPEATABLE READ
	// and says so in a warning only.
	err := conn.QueryRowContext(ctx, `SELECT
		COALESCE(MAX(IF(VARIABLE_NAME = 'BINLOG_SNAPSHOT_FILE', VARIABLE_VALUE, NULL)), ''),
		CAST(COALESCE(MAX(IF(VARIABLE_NAME = 'BINLOG_SNAPSHOT_POSITION', VARIABLE_VALUE, NULL)), '0') AS UNSIGNED),
		@@SESSION.`+s.isolationVariable()+`
		FROM information_schema.SESSION_STATUS
		WHERE VARIABLE_NAME IN ('BINLOG_SNAPSHOT_FILE', 'BINLOG_SNAPSHOT_POSITION')`).Scan(&at.File, &at.Pos, &isolation)
	if err != nil {
		return LogEnd{}, fmt.Errorf("%s: read the snapshot's binary log position: %w", s, err)
	}
	if isolation != string(repeatableRead) && isolation != "SERIALIZABLE" {
		return LogEnd{}, fmt.Errorf("%s: a consistent snapshot needs a session in %s, this one is in %s",
			s, repeatableRead, isolation)
	}
	if at.File == "" {
		return LogEnd{}, fmt.Errorf("%s: %w: a consistent snapshot has no position", s, ErrBinlogOff)
	}
	return at, nil
}

// ConsistentSnapshot is Snapshot with GTIDSet filled: the place to start a stream at.
func (s *Server) ConsistentSnapshot(ctx context.Context, conn Execer) (LogEnd, error) {
	at, err := s.Snapshot(ctx, conn)
	if err != nil {
		return LogEnd{}, err
	}
	at.GTIDSet, err = s.GTIDsAt(ctx, conn, at.File, at.Pos)
	if errors.Is(err, errNoSuchPosition) {
		return s.snapshotBehindQuiet(ctx, conn, err)
	}
	return at, err
}

// quietLooks bounds how often snapshotBehindQuiet looks for a moment without a commit.
const quietLooks = 2000

// snapshotBehindQuiet is ConsistentSnapshot where the server cannot say which transactions lie
// before a position: BINLOG_GTID_POS does not read past an event larger than max_allowed_packet,
// which a row event with two images of a long row is. The end of the log and gtid_binlog_pos are
// read at different moments, but both change under the log's lock only: when the end is the same
// before and after, nothing was logged between, and the set is what lies before that end.
func (s *Server) snapshotBehindQuiet(ctx context.Context, conn Execer, reason error) (LogEnd, error) {
	end, err := s.LogEnd(ctx, conn)
	for range quietLooks {
		if err != nil {
			return LogEnd{}, err
		}
		var next LogEnd
		next, err = s.LogEnd(ctx, conn)
		if err == nil && next.File == end.File && next.Pos == end.Pos {
			return end, s.seeUpTo(ctx, conn, end)
		}
		end = next
	}
	return LogEnd{}, fmt.Errorf("%w, for its binary log has an event larger than max_allowed_packet, and it is never quiet enough to ask for the end of the log: FLUSH BINARY LOGS on it and try again", reason)
}

// seeUpTo returns when a snapshot sees everything before a position of the log.
func (s *Server) seeUpTo(ctx context.Context, conn Execer, end LogEnd) error {
	for {
		at, err := s.Snapshot(ctx, conn)
		if err != nil || at.File != end.File || at.Pos >= end.Pos {
			return err // another file is a later one: the log was rotated
		}
		if err := retry.Sleep(ctx, time.Millisecond); err != nil { // a commit waits, e.g. for a replica
			return err
		}
	}
}

// GTIDsAt returns MariaDB's GTID position at a position in its binary log. The server may have to
// read the file from its beginning for that: not for the path of every chunk.
func (s *Server) GTIDsAt(ctx context.Context, q Querier, file string, pos uint64) (string, error) {
	if !s.IsMariaDB() {
		return "", fmt.Errorf("%s: GTIDs at a position: %w", s, ErrUnsupported)
	}
	var set *string
	if err := q.QueryRowContext(ctx, "SELECT BINLOG_GTID_POS(?, ?)", file, pos).Scan(&set); err != nil {
		return "", fmt.Errorf("%s: GTIDs at %s:%d: %w", s, file, pos, err)
	}
	if set == nil {
		return "", fmt.Errorf("%s: GTIDs at %s:%d: %w", s, file, pos, errNoSuchPosition)
	}
	return *set, nil
}

var errNoSuchPosition = errors.New("the server does not know this position")

// PreparedXA returns the xids of the XA transactions in the prepared state, as XA COMMIT and
// XA ROLLBACK take them: X'gtrid',X'bqual',formatID. The error is ErrXARecoverDenied when the
// account may not know (MySQL 8.0 and later ask for XA_RECOVER_ADMIN).
func (s *Server) PreparedXA(ctx context.Context, q Querier) ([]string, error) {
	// The plain form: the forms that convert the xid differ between the flavours.
	rows, err := q.QueryContext(ctx, "XA RECOVER")
	if err != nil {
		return nil, s.xaError(err)
	}
	var xids []string
	err = eachRow(rows, func(columns map[string]string) error {
		xid, err := renderXid(columns)
		xids = append(xids, xid)
		return err
	})
	if err != nil {
		return nil, s.xaError(err)
	}
	return xids, nil
}

// XAUsed tells whether an XA transaction was prepared on the server since it was started.
func (s *Server) XAUsed(ctx context.Context, q Querier) (bool, error) {
	var name string
	var count uint64
	if err := q.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Com_xa_prepare'").Scan(&name, &count); err != nil {
		return false, fmt.Errorf("%s: counter of XA PREPARE: %w", s, err)
	}
	return count > 0, nil
}

func (s *Server) xaError(err error) error {
	// ER_XAER_RMERR, "fatal error in the transaction branch", is how MySQL says it.
	if mysqlerr.Number(err) == 1401 || mysqlerr.Classify(err) == mysqlerr.AccessDenied {
		return fmt.Errorf("%s: %w: %w", s, ErrXARecoverDenied, err)
	}
	return fmt.Errorf("%s: XA RECOVER: %w", s, err)
}

func renderXid(columns map[string]string) (string, error) {
	data := columns["data"]
	gtrid, err := strconv.Atoi(columns["gtrid_length"])
	if err != nil || gtrid < 0 || gtrid > len(data) {
		return "", fmt.Errorf("xid %x of gtrid length %q", data, columns["gtrid_length"])
	}
	return fmt.Sprintf("X'%x',X'%x',%s", data[:gtrid], data[gtrid:], columns["formatid"]), nil
}
