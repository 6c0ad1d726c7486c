package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// LogEnd is a place in a server's binary log.
type LogEnd struct {
	// File and Pos are a byte position between two transactions.
	File string
	Pos  uint64
	// GTIDSet is what the server said of its GTIDs; how it relates to File and Pos is said by the
	// method that made it. Empty without GTIDs.
	GTIDSet string
}

// LogEnd returns the end of the server's binary log. File and Pos are an upper bound: every change
// that any session can see by now lies before them.
//
// GTIDSet is not: on MySQL it is @@gtid_executed, which lacks transactions that are in the log and
// still committing, and may lack some that a snapshot already shows. On MariaDB it is
// @@gtid_binlog_pos read after File and Pos, and covers them.
//
// It needs REPLICATION CLIENT (MariaDB: BINLOG MONITOR). The error is ErrBinlogOff when there is
// no log.
func (s *Server) LogEnd(ctx context.Context, q Querier) (LogEnd, error) {
	status, err := s.binlogStatus(ctx, q)
	if err != nil {
		return LogEnd{}, err
	}
	end := LogEnd{File: status["file"], GTIDSet: oneLine(status["executed_gtid_set"])}
	if end.File == "" {
		return LogEnd{}, fmt.Errorf("%s: %w: start the server with log_bin", s, ErrBinlogOff)
	}
	if end.Pos, err = strconv.ParseUint(status["position"], 10, 64); err != nil {
		return LogEnd{}, fmt.Errorf("%s: position of the binary log: %w", s, err)
	}
	if s.IsMariaDB() {
		if err := q.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_binlog_pos").Scan(&end.GTIDSet); err != nil {
			return LogEnd{}, fmt.Errorf("%s: read gtid_binlog_pos: %w", s, err)
		}
	}
	return end, nil
}

// BinlogFilters returns the server's binlog_do_db and binlog_ignore_db lists: changes that they
// exclude never reach the binary log. It needs what LogEnd needs.
func (s *Server) BinlogFilters(ctx context.Context, q Querier) (do, ignore []string, err error) {
	status, err := s.binlogStatus(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	return splitList(status["binlog_do_db"]), splitList(status["binlog_ignore_db"]), nil
}

// binlogStatus returns the one row of the statement that tells the end of the log, by lower-case
// column name, or no columns when the log is off.
func (s *Server) binlogStatus(ctx context.Context, q Querier) (map[string]string, error) {
	statement := s.binlogStatusStatement()
	rows, err := q.QueryContext(ctx, statement)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", s, statement, err)
	}
	status := map[string]string{}
	err = eachRow(rows, func(columns map[string]string) error {
		status = columns
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", s, statement, err)
	}
	return status, nil
}

func (s *Server) binlogStatusStatement() string {
	if s.mysqlAtLeast(8, 2, 0) {
		return "SHOW BINARY LOG STATUS"
	}
	return "SHOW MASTER STATUS"
}

// ExecutedGTIDSet returns @@gtid_executed without its line breaks: a lower bound of what any later
// read sees, hence right for a start and wrong for an end. MariaDB has nothing of the kind
// (ErrUnsupported): gtid_binlog_pos already holds transactions that reads do not see yet; use
// ConsistentSnapshot.
func (s *Server) ExecutedGTIDSet(ctx context.Context, q Querier) (string, error) {
	if s.IsMariaDB() {
		return "", fmt.Errorf("%s: set of executed GTIDs: %w", s, ErrUnsupported)
	}
	var set string
	if err := q.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_executed").Scan(&set); err != nil {
		return "", fmt.Errorf("%s: read gtid_executed: %w", s, err)
	}
	return oneLine(set), nil
}

// WaitForGTIDSet returns when every transaction of set is committed on the server, hence visible
// to a read that begins later. The error is ErrBarrierTimeout when that took longer than timeout
// (at least a millisecond). MySQL only: MariaDB's MASTER_GTID_WAIT does not wait for the server's
// own commits (ErrUnsupported).
func (s *Server) WaitForGTIDSet(ctx context.Context, q Querier, set string, timeout time.Duration) error {
	if s.IsMariaDB() {
		return fmt.Errorf("%s: waiting for GTIDs: %w", s, ErrUnsupported)
	}
	if i := strings.IndexFunc(set, func(r rune) bool { return !isGTIDRune(r) }); i >= 0 {
		return fmt.Errorf("GTID set %q: unexpected character at offset %d", set, i)
	}
	timeout = max(timeout, time.Millisecond) // 0 would mean for ever
	// Text rather than a placeholder: this is on the path of every chunk, and a placeholder may
	// cost a second round trip.
	statement := fmt.Sprintf("SELECT WAIT_FOR_EXECUTED_GTID_SET(%s, %.3f)", sqlesc.String(set), timeout.Seconds())
	var timedOut int
	if err := q.QueryRowContext(ctx, statement).Scan(&timedOut); err != nil {
		return fmt.Errorf("%s: wait for GTID set %s: %w", s, set, err)
	}
	if timedOut != 0 {
		return fmt.Errorf("%s: %w: %s not executed after %v: a commit is stalled "+
			"(semi-synchronous replication without a replica?) or the set is not of this server", s, ErrBarrierTimeout, set, timeout)
	}
	return nil
}

// LackedGTIDs returns the transactions of set that are not committed on the server, empty when
// it has them all. MySQL only (ErrUnsupported).
func (s *Server) LackedGTIDs(ctx context.Context, q Querier, set string) (string, error) {
	if s.IsMariaDB() {
		return "", fmt.Errorf("%s: comparing GTID sets: %w", s, ErrUnsupported)
	}
	var lacked string
	if err := q.QueryRowContext(ctx, "SELECT GTID_SUBTRACT(?, @@GLOBAL.gtid_executed)", set).Scan(&lacked); err != nil {
		return "", fmt.Errorf("%s: compare GTID set %s: %w", s, set, err)
	}
	return oneLine(lacked), nil
}

// isGTIDRune allows what a GTID set is made of: UUIDs, tags, intervals.
func isGTIDRune(r rune) bool {
	return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("-_:, \n", r)
}

// PurgedGTIDSet returns the GTIDs whose transactions are no longer in the binary log. MySQL only
// (ErrUnsupported).
func (s *Server) PurgedGTIDSet(ctx context.Context, q Querier) (string, error) {
	if s.IsMariaDB() {
		return "", fmt.Errorf("%s: set of purged GTIDs: %w", s, ErrUnsupported)
	}
	var set string
	if err := q.QueryRowContext(ctx, "SELECT @@GLOBAL.gtid_purged").Scan(&set); err != nil {
		return "", fmt.Errorf("%s: read gtid_purged: %w", s, err)
	}
	return oneLine(set), nil
}

// GTIDSetBefore returns the GTIDs of all transactions before a file of the binary log. It needs
// REPLICATION SLAVE. MySQL only (ErrUnsupported).
func (s *Server) GTIDSetBefore(ctx context.Context, q Querier, file string) (string, error) {
	if s.IsMariaDB() {
		return "", fmt.Errorf("%s: set of GTIDs before a file: %w", s, ErrUnsupported)
	}
	statement := "SHOW BINLOG EVENTS IN " + sqlesc.String(file) + " LIMIT 2" // the format description, and the set
	rows, err := q.QueryContext(ctx, statement)
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w", s, statement, err)
	}
	set, found := "", false
	err = eachRow(rows, func(columns map[string]string) error {
		if columns["event_type"] == "Previous_gtids" {
			set, found = oneLine(columns["info"]), true
		}
		return nil
	})
	if err == nil && !found {
		err = errors.New("the file does not begin with a set of GTIDs")
	}
	if err != nil {
		return "", fmt.Errorf("%s: %s: %w", s, statement, err)
	}
	return set, nil
}

// LogFile is one file of a binary log.
type LogFile struct {
	Name string
	Size uint64 // bytes
}

// LogFiles returns the files of the binary log, oldest first. It needs REPLICATION CLIENT
// (MariaDB: BINLOG MONITOR).
func (s *Server) LogFiles(ctx context.Context, q Querier) ([]LogFile, error) {
	rows, err := q.QueryContext(ctx, "SHOW BINARY LOGS")
	if err != nil {
		return nil, fmt.Errorf("%s: SHOW BINARY LOGS: %w", s, err)
	}
	var files []LogFile
	err = eachRow(rows, func(columns map[string]string) error {
		size, err := strconv.ParseUint(columns["file_size"], 10, 64)
		files = append(files, LogFile{columns["log_name"], size})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: SHOW BINARY LOGS: %w", s, err)
	}
	return files, nil
}

// ReplicaServerIDs returns the server ids of the replicas that are connected at present, so that a
// new one can avoid them. It needs REPLICATION SLAVE; on MariaDB since 10.5 REPLICATION MASTER
// ADMIN, which following the binary log does not need: there a denial is to be expected.
func (s *Server) ReplicaServerIDs(ctx context.Context, q Querier) ([]uint32, error) {
	statement := s.ReplicaHostsQuery()
	rows, err := q.QueryContext(ctx, statement)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", s, statement, err)
	}
	var ids []uint32
	err = eachRow(rows, func(columns map[string]string) error {
		id, err := strconv.ParseUint(columns["server_id"], 10, 32)
		ids = append(ids, uint32(id))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", s, statement, err)
	}
	return ids, nil
}

// ReplicaHostsQuery returns the statement that lists the connected replicas.
func (s *Server) ReplicaHostsQuery() string {
	if s.mysqlAtLeast(8, 0, 22) {
		return "SHOW REPLICAS"
	}
	return "SHOW SLAVE HOSTS"
}

// BinlogPrivileges returns the privileges, on *.*, that following the binary log and asking for its
// end need.
func (s *Server) BinlogPrivileges() []string {
	if s.mariaAtLeast(10, 5, 2) {
		return []string{"REPLICATION SLAVE", "BINLOG MONITOR"}
	}
	return []string{"REPLICATION SLAVE", "REPLICATION CLIENT"}
}

// TryBinlogPrivilege tries whether the account has one of BinlogPrivileges, by a statement without
// effect. known is false when there is no such statement.
func (s *Server) TryBinlogPrivilege(ctx context.Context, q Querier, privilege string) (denied, known bool, err error) {
	switch privilege {
	case "REPLICATION SLAVE":
		if s.IsMariaDB() { // lists its replicas to REPLICATION MASTER ADMIN only
			return false, false, nil
		}
		_, err = s.ReplicaServerIDs(ctx, q)
	default:
		_, err = s.binlogStatus(ctx, q)
	}
	if mysqlerr.Classify(err) == mysqlerr.AccessDenied {
		return true, true, nil
	}
	return false, err == nil, err
}

// TriggersNeedPrivilege tells whether an account needs the TRIGGER privilege to see the triggers
// of a table that it may write.
func (s *Server) TriggersNeedPrivilege() bool { return !s.IsMariaDB() }

// oneLine removes the line breaks that the server puts after each UUID of a GTID set.
func oneLine(set string) string { return strings.ReplaceAll(set, "\n", "") }

func splitList(list string) []string {
	if list == "" {
		return nil
	}
	return strings.Split(list, ",")
}
