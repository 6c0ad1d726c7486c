package server

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// ReadOnlyState is how a server refuses writes: Super (MySQL) to administrators, too.
type ReadOnlyState struct{ ReadOnly, Super bool }

// ReadOnlyNow tells whether the server refuses writes.
func (s *Server) ReadOnlyNow(ctx context.Context, q Querier) (ReadOnlyState, error) {
	var state ReadOnlyState
	query := "SELECT @@GLOBAL.read_only, @@GLOBAL.super_read_only"
	if s.IsMariaDB() {
		query = "SELECT @@GLOBAL.read_only, 0"
	}
	if err := q.QueryRowContext(ctx, query).Scan(&state.ReadOnly, &state.Super); err != nil {
		return state, fmt.Errorf("%s: read read_only: %w", s, err)
	}
	return state, nil
}

// SetReadOnlyQuery returns the statement that makes the server's state what is given. Making it
// read-only waits for statements that run and for commits; afterwards commits of transactions that
// had begun before are refused.
func (s *Server) SetReadOnlyQuery(to ReadOnlyState) string {
	onOff := map[bool]string{false: "OFF", true: "ON"}
	switch {
	case s.IsMariaDB():
		return "SET GLOBAL read_only = " + onOff[to.ReadOnly]
	case to.Super:
		return "SET GLOBAL super_read_only = ON" // and read_only with it
	}
	return "SET GLOBAL super_read_only = OFF, GLOBAL read_only = " + onOff[to.ReadOnly]
}

// StrictestReadOnly is the state in which nobody may write whom the server can refuse.
func (s *Server) StrictestReadOnly() ReadOnlyState {
	return ReadOnlyState{ReadOnly: true, Super: !s.IsMariaDB()}
}

// Account is a user name and the host part of its account.
type Account struct{ User, Host string }

// String quotes the account for statements.
func (a Account) String() string {
	return string(sqlesc.AppendString(append(sqlesc.AppendString(nil, []byte(a.User)), '@'), []byte(a.Host)))
}

// ParseAccount reads "user@host", with or without quotes; the host is "%" where there is none.
func ParseAccount(text string) (Account, error) {
	user, host := text, "%"
	if at := strings.LastIndexByte(text, '@'); at >= 0 {
		user, host = text[:at], text[at+1:]
	}
	a := Account{User: strings.Trim(user, "'`\""), Host: strings.Trim(host, "'`\"")}
	if a.User == "" || a.Host == "" {
		return a, fmt.Errorf("%q is no account: write it as user@host", text)
	}
	return a, nil
}

// AccountLocked tells whether an account may not log in. It needs SELECT on the system tables.
func (s *Server) AccountLocked(ctx context.Context, q Querier, a Account) (bool, error) {
	query := "SELECT account_locked = 'Y' FROM mysql.user WHERE User = ? AND Host = ?"
	if s.IsMariaDB() {
		query = "SELECT COALESCE(JSON_VALUE(Priv, '$.account_locked'), 0) IN ('1', 'true') FROM mysql.global_priv WHERE User = ? AND Host = ?"
	}
	var locked bool
	err := q.QueryRowContext(ctx, query, a.User, a.Host).Scan(&locked)
	if errors.Is(err, sql.ErrNoRows) {
		return false, fmt.Errorf("%s: there is no account %s", s, a)
	}
	if err != nil {
		return false, fmt.Errorf("%s: state of account %s: %w", s, a, err)
	}
	return locked, nil
}

// AccountsOf returns the accounts of a user name. It needs SELECT on the system tables.
func (s *Server) AccountsOf(ctx context.Context, q Querier, user string) ([]Account, error) {
	table := "mysql.user"
	if s.IsMariaDB() {
		table = "mysql.global_priv" // with roles, which have no host
	}
	rows, err := q.QueryContext(ctx, "SELECT Host FROM "+table+" WHERE User = ? AND Host <> ''", user)
	if err != nil {
		return nil, fmt.Errorf("%s: accounts of %s: %w", s, user, err)
	}
	defer func() { _ = rows.Close() }()
	var accounts []Account
	for rows.Next() {
		a := Account{User: user}
		if err := rows.Scan(&a.Host); err != nil {
			return nil, err
		}
		accounts = append(accounts, a)
	}
	return accounts, rows.Err()
}

// LockAccountQuery returns the statement after which the account cannot log in, or can again.
// Connections that exist stay.
func (s *Server) LockAccountQuery(a Account, lock bool) string {
	if lock {
		return "ALTER USER " + a.String() + " ACCOUNT LOCK"
	}
	return "ALTER USER " + a.String() + " ACCOUNT UNLOCK"
}

// WritingTransactions returns the ids of clients' connections with a transaction that has changed
// rows and not ended. The server's answer may be 100 ms old. It needs PROCESS.
func (s *Server) WritingTransactions(ctx context.Context, q Querier) ([]int64, error) {
	ids, err := s.ids(ctx, q, "SELECT trx_mysql_thread_id FROM information_schema.INNODB_TRX WHERE trx_rows_modified > 0 AND trx_mysql_thread_id > 0")
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	appliers, err := s.processes(ctx, q, process.replicates)
	return slices.DeleteFunc(ids, func(id int64) bool { return slices.Contains(appliers, id) }), err
}

func (s *Server) ids(ctx context.Context, q Querier, query string) ([]int64, error) {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", s, query, err)
	}
	defer func() { _ = rows.Close() }()
	var ids []int64
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}
