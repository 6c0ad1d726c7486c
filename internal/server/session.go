package server

import (
	"sort"
	"strings"
)

// Role is what a connection is for; it decides the session's settings.
type Role int

const (
	// Target sessions write copied rows and applied events, and read them back for verification.
	Target Role = iota + 1
	// Source sessions read rows in READ COMMITTED.
	Source
	// SourceSnapshot sessions read rows in REPEATABLE READ, as Snapshot needs it.
	SourceSnapshot
)

// isolation is the value of the server's isolation variable.
type isolation string

const (
	// readCommitted takes no gap locks: copiers and appliers do not block their neighbours.
	readCommitted isolation = "READ-COMMITTED"
	// repeatableRead keeps one snapshot for a whole transaction.
	repeatableRead isolation = "REPEATABLE-READ"
)

// LooseMode is the sql_mode, as an SQL expression, in which a Target session stores what it
// cannot in StrictMode, its own one: an ENUM value of index 0. The rest is the same, and what
// does not fit is a warning that has to be looked at.
const (
	LooseMode  = "'NO_BACKSLASH_ESCAPES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION'"
	StrictMode = "'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION'"
)

// NoSelectLimit is the sql_select_limit of sessions, as an SQL expression: a limit would silently
// shorten every read. DEFAULT is none where the server has one, because it is the global value.
const NoSelectLimit = "18446744073709551615"

// netTimeout is the session's net_write_timeout and net_read_timeout in seconds: how long the
// server waits for a client that has stopped reading, or pauses while sending. Sessions that hold
// locks on the target set less.
const netTimeout = "600"

// SessionVariables returns the session variables of a role with their values as SQL expressions,
// in the form that the driver's Config.Params takes, so that a connection that is made anew has
// them too.
//
// The character set of statements is not among them: it is the driver's own option, utf8mb4.
func (s *Server) SessionVariables(role Role) map[string]string {
	vars := map[string]string{
		"time_zone":         "'+00:00'",
		"autocommit":        "1", // a server's init_connect may have switched it off
		"sql_select_limit":  NoSelectLimit,
		"sql_safe_updates":  "0",
		"net_write_timeout": netTimeout,
		"net_read_timeout":  netTimeout,
		// Column bytes as they are stored, and not converted to the connection's character set:
		// conversion loses what a column holds of another encoding.
		"character_set_results": "NULL",
	}
	// No limit of the server's on a long read; ours are contexts.
	if s.IsMariaDB() {
		vars["max_statement_time"] = "0"
	} else {
		vars["max_execution_time"] = "0"
	}
	vars["lc_messages"] = "'en_US'" // some warnings are told apart by their text
	level := readCommitted
	switch role {
	case Target:
		// Checks of foreign keys are off because a delete of a parent would cascade, and rows
		// arrive in any order; checks of unique keys stay on because InnoDB may otherwise store
		// a duplicate in a secondary index without an error.
		vars["foreign_key_checks"] = "0"
		vars["unique_checks"] = "1"
		// Strict, so that a value that does not fit is an error and not another value. What the
		// source could store must be storable: no rule about zero or invalid dates, and 0 stays 0
		// in an AUTO_INCREMENT column.
		vars["sql_mode"] = StrictMode
		if s.IsMariaDB() {
			// Rows arrive as they are: the source may have some that were written with checks off.
			vars["check_constraint_checks"] = "0"
		}
	default:
		vars["sql_mode"] = "'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,ALLOW_INVALID_DATES'"
		if role == SourceSnapshot {
			level = repeatableRead
		}
	}
	vars[s.isolationVariable()] = "'" + string(level) + "'"
	return vars
}

// SessionSetup returns SessionVariables as statements for a connection at hand.
func (s *Server) SessionSetup(role Role) []string {
	vars := s.SessionVariables(role)
	assignments := make([]string, 0, len(vars))
	for name, value := range vars {
		assignments = append(assignments, name+"="+value)
	}
	sort.Strings(assignments)
	return []string{"SET " + strings.Join(assignments, ", ")}
}

// isolationVariable is the name of the variable that holds the isolation level.
func (s *Server) isolationVariable() string {
	if s.IsMariaDB() && !s.AtLeast(11, 1, 1) || !s.IsMariaDB() && !s.AtLeast(5, 7, 20) {
		return "tx_isolation"
	}
	return "transaction_isolation"
}

// LockingReadSuffix is what makes a SELECT take shared row locks, with a leading space.
func (s *Server) LockingReadSuffix() string {
	if s.mysqlAtLeast(8, 0, 0) {
		return " FOR SHARE"
	}
	return " LOCK IN SHARE MODE"
}

// UpsertRowAlias tells how ON DUPLICATE KEY UPDATE names the row that was to be inserted: true
// means INSERT … VALUES … AS new ON DUPLICATE KEY UPDATE c=new.c, false means c=VALUES(c), which
// newer MySQL versions answer with one warning a column.
func (s *Server) UpsertRowAlias() bool { return s.mysqlAtLeast(8, 0, 19) }
