package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// process is a connection of a server, as far as the account may see it.
type process struct {
	id                         int64
	user, command, state, info string // info is the statement that runs
}

// replicates tells whether this is what applies another server's log. To kill it ends replication.
// One with a PRIVILEGE_CHECKS_USER (MySQL) cannot be told from that user's connections here.
func (p process) replicates() bool { return p.user == "system user" }

// listProcesses is not a query of information_schema: MySQL fails to make that table (error 3854)
// while somebody's statement holds bytes that are no text.
const listProcesses = "SHOW FULL PROCESSLIST"

// processes lists the connections that a condition holds for, without those that list.
func (s *Server) processes(ctx context.Context, q Querier, holds func(process) bool) (ids []int64, err error) {
	rows, err := q.QueryContext(ctx, listProcesses)
	if err == nil {
		err = eachRow(rows, func(columns map[string]string) error {
			id, err := strconv.ParseInt(columns["id"], 10, 64)
			p := process{id, columns["user"], columns["command"], columns["state"], columns["info"]}
			if err == nil && !strings.HasSuffix(p.info, listProcesses) && holds(p) {
				ids = append(ids, id)
			}
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", s, listProcesses, err)
	}
	return ids, nil
}

// Connections returns the ids of the connections whose user is one of the given. It needs PROCESS.
func (s *Server) Connections(ctx context.Context, q Querier, users []string) ([]int64, error) {
	return s.processes(ctx, q, func(p process) bool { return slices.Contains(users, p.user) })
}

// RunningStatements returns the ids of connections that execute a statement of a client which has
// none of the given texts: neither this one, nor replication's or the server's own. One that the
// server does not show yet is left out: it may have one of the texts.
func (s *Server) RunningStatements(ctx context.Context, q Querier, without ...string) ([]int64, error) {
	return s.processes(ctx, q, func(p process) bool {
		spared := slices.ContainsFunc(without, func(text string) bool { return strings.Contains(p.info, text) })
		return (p.command == "Query" || p.command == "Execute") && p.info != "" && !p.replicates() && !spared
	})
}

// WaitingForTableLocks returns the ids of clients' connections that wait for another's LOCK TABLES.
func (s *Server) WaitingForTableLocks(ctx context.Context, q Querier) ([]int64, error) {
	return s.processes(ctx, q, func(p process) bool {
		return strings.HasPrefix(p.state, "Waiting for table") && strings.HasSuffix(p.state, "lock") && !p.replicates()
	})
}

// ThreadIdle tells whether a connection of the same account waits for its next statement; false
// when there is none, or it is not shown to the account.
func (s *Server) ThreadIdle(ctx context.Context, q Querier, id int64) (bool, error) {
	ids, err := s.processes(ctx, q, func(p process) bool { return p.id == id && p.command == "Sleep" })
	return len(ids) > 0, err
}

// Kill ends a connection ("CONNECTION") or its statement ("QUERY"). One that is gone is no
// error.
func (s *Server) Kill(ctx context.Context, e Execer, what string, id int64) error {
	_, err := e.ExecContext(ctx, fmt.Sprintf("KILL %s %d", what, id))
	const noSuchThread = 1094
	if refusal, ok := errors.AsType[*mysql.MySQLError](err); ok && refusal.Number == noSuchThread {
		return nil
	}
	return err
}

// EndConnection ends a connection and tells whether it is gone; its end may take a moment.
func (s *Server) EndConnection(ctx context.Context, e Execer, id int64) (gone bool, err error) {
	if err := s.Kill(ctx, e, "CONNECTION", id); err != nil {
		return false, err
	}
	ids, err := s.processes(ctx, e, func(p process) bool { return p.id == id })
	return err == nil && len(ids) == 0, err
}
