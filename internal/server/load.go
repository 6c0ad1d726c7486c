package server

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
)

// ErrNotReplicating is what ReplicaLag returns when no lag can be told: the server is nobody's
// replica, or its replication has stopped.
var ErrNotReplicating = errors.New("replication does not run")

// ReplicaLag returns by how many seconds the server says it is behind its source; with several
// channels, the greatest. It needs REPLICATION CLIENT (MariaDB: REPLICA MONITOR).
func (s *Server) ReplicaLag(ctx context.Context, q Querier) (float64, error) {
	statement := "SHOW ALL SLAVES STATUS"
	switch {
	case s.IsMariaDB():
	case s.mysqlAtLeast(8, 0, 22):
		statement = "SHOW REPLICA STATUS"
	default:
		statement = "SHOW SLAVE STATUS"
	}
	rows, err := q.QueryContext(ctx, statement)
	if err != nil {
		return 0, fmt.Errorf("%s: %s: %w", s, statement, err)
	}
	channels, lag := 0, 0.0
	err = eachRow(rows, func(columns map[string]string) error {
		channels++
		text := columns["seconds_behind_source"]
		if text == "" {
			text = columns["seconds_behind_master"]
		}
		if text == "" { // NULL
			return ErrNotReplicating
		}
		seconds, err := strconv.ParseFloat(text, 64)
		lag = max(lag, seconds)
		return err
	})
	if err == nil && channels == 0 {
		err = ErrNotReplicating
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w", s, err)
	}
	return lag, nil
}

// ThreadsRunning returns how many connections execute a statement, the one that asks included.
func (s *Server) ThreadsRunning(ctx context.Context, q Querier) (int64, error) {
	return s.status(ctx, q, "Threads_running")
}

// HistoryListLength returns how many transactions InnoDB has yet to purge. MySQL needs PROCESS.
func (s *Server) HistoryListLength(ctx context.Context, q Querier) (int64, error) {
	if s.IsMariaDB() {
		return s.status(ctx, q, "Innodb_history_list_length")
	}
	var n int64
	err := q.QueryRowContext(ctx, "SELECT COUNT FROM information_schema.INNODB_METRICS WHERE NAME='trx_rseg_history_len' AND STATUS='enabled'").Scan(&n)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("%s: the counter trx_rseg_history_len is off: SET GLOBAL innodb_monitor_enable='trx_rseg_history_len'", s)
	}
	if err != nil {
		return 0, fmt.Errorf("%s: length of the history list: %w", s, err)
	}
	return n, nil
}

// status returns a global status variable; its name is a constant of ours.
func (s *Server) status(ctx context.Context, q Querier, name string) (int64, error) {
	var variable string
	var n int64
	if err := q.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE '"+name+"'").Scan(&variable, &n); err != nil {
		return 0, fmt.Errorf("%s: status %s: %w", s, name, err)
	}
	return n, nil
}
