// Package server is the only place that knows one server flavour or version from another: which
// statement asks for what, what a variable is called, what a server can do.
//
// Nothing in it keeps a connection: every method that asks the server takes the handle to ask.
package server

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Querier is what *sql.DB, *sql.Conn, *sql.Tx and their wrappers have in common for reading.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Execer is a Querier that can also execute statements.
type Execer interface {
	Querier
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Flavour is the family a server belongs to.
type Flavour int

const (
	// MySQL stands for Oracle's MySQL and what behaves like it: Percona Server, Aurora, RDS.
	MySQL Flavour = iota
	// MariaDB stands for MariaDB Server.
	MariaDB
)

// String returns the flavour's proper name.
func (f Flavour) String() string {
	if f == MariaDB {
		return "MariaDB"
	}
	return "MySQL"
}

// Errors that callers ask for.
var (
	// ErrBinlogOff: the server writes no binary log, so there is nothing to follow.
	ErrBinlogOff = errors.New("the binary log is off")
	// ErrBarrierTimeout: a set of transactions did not become committed in time.
	ErrBarrierTimeout = errors.New("timed out waiting for transactions to commit")
	// ErrUnsupported: the server's flavour or version does not have what was asked for.
	ErrUnsupported = errors.New("not supported by this server")
	// ErrXARecoverDenied: the account may not list prepared XA transactions.
	ErrXARecoverDenied = errors.New("listing prepared XA transactions is denied")
)

// Server describes one server as Detect saw it. It is immutable and may be shared.
type Server struct {
	Flavour Flavour
	// Version is the whole version text, suffixes included, for instance "10.11.19-MariaDB-log".
	Version             string
	Major, Minor, Patch int

	// ServerID is the replication server id. Several servers may share one by mistake.
	ServerID uint32
	// Identity tells this server from any other, whatever address it was reached by: server_uuid
	// on MySQL; on MariaDB server_uid (a digest of network card and port) with the server id, and
	// before 10.6 host name, port and server id. A copied data directory copies server_uuid.
	Identity string
	Hostname string
	Port     int

	// GTIDMode is true when every transaction in the binary log carries a usable GTID: gtid_mode
	// exactly ON on MySQL; on MariaDB whenever there is a binary log.
	GTIDMode bool
	// GTIDModeSetting is MySQL's gtid_mode as it is (OFF, OFF_PERMISSIVE, ON_PERMISSIVE, ON);
	// empty on MariaDB.
	GTIDModeSetting string

	// IdleLimit is after how long without a statement the server is to end a session of ours that
	// writes; 0 means the default. Detect leaves it.
	IdleLimit time.Duration

	LogBin         bool
	BinlogFormat   string // ROW, STATEMENT or MIXED
	BinlogRowImage string // FULL, MINIMAL, NOBLOB, on MariaDB FULL_NODUP too
	// BinlogRowValueOptions is empty or PARTIAL_JSON; always empty on MariaDB.
	BinlogRowValueOptions string
	// StatementsLogged is true when the statement stands before its row events:
	// binlog_rows_query_log_events, on MariaDB binlog_annotate_row_events.
	StatementsLogged bool
	// BinlogRetention is how long binary logs are kept before the server purges them; 0 means
	// for ever.
	BinlogRetention time.Duration

	// LogsReplicated is true when a replica writes what it replicates to its own binary log:
	// log_replica_updates.
	LogsReplicated bool
	// CascadesLogged is true when the rows that a foreign key's cascade changes are in the binary
	// log: MySQL executes cascades above the storage engine since 9.6, unless
	// innodb_native_foreign_keys is on.
	CascadesLogged bool

	// LocalInfile is true when the server takes LOAD DATA LOCAL.
	LocalInfile bool

	MaxAllowedPacket    uint64 // bytes
	LowerCaseTableNames int
	// ReadOnly is true when ordinary accounts cannot write: read_only or super_read_only.
	ReadOnly bool
	// PartialRevokes is true when _ and % in the schema name of a GRANT stand for themselves and
	// not for any character.
	PartialRevokes bool
	// SuperReadOnly is true when no account can write; always false on MariaDB before 12.
	SuperReadOnly bool
}

// detected lists the variables that Detect asks for; a server lacks some of them.
var detected = []string{
	"version", "server_id", "server_uuid", "server_uid", "hostname", "port",
	"gtid_mode", "log_bin", "binlog_format", "binlog_row_image", "binlog_row_value_options", "binlog_rows_query_log_events", "binlog_annotate_row_events",
	"binlog_expire_logs_seconds", "expire_logs_days", "binlog_expire_logs_auto_purge",
	"log_replica_updates", "log_slave_updates", "innodb_native_foreign_keys", "partial_revokes",
	"max_allowed_packet", "lower_case_table_names", "read_only", "super_read_only", "local_infile",
}

// SameName reports whether two names of schemas or tables are one to the server.
func (s *Server) SameName(a, b string) bool {
	return a == b || s.LowerCaseTableNames != 0 && strings.ToLower(a) == strings.ToLower(b) //nolint:staticcheck // EqualFold keeps İ and i apart, which the server does not
}

// Detect asks a server what it is, in one round trip. It needs no privilege.
func Detect(ctx context.Context, q Querier) (*Server, error) {
	vars, err := globalVariables(ctx, q, detected)
	if err != nil {
		return nil, fmt.Errorf("detect the server's flavour and settings: %w", err)
	}
	s := &Server{
		Hostname:              vars["hostname"],
		GTIDModeSetting:       strings.ToUpper(vars["gtid_mode"]),
		LogBin:                isOn(vars["log_bin"]),
		BinlogFormat:          strings.ToUpper(vars["binlog_format"]),
		BinlogRowImage:        strings.ToUpper(vars["binlog_row_image"]),
		BinlogRowValueOptions: strings.ToUpper(vars["binlog_row_value_options"]),
		StatementsLogged:      isOn(vars["binlog_rows_query_log_events"]) || isOn(vars["binlog_annotate_row_events"]),
		BinlogRetention:       binlogRetention(vars),
		LogsReplicated:        isOn(vars["log_replica_updates"]) || isOn(vars["log_slave_updates"]),
		PartialRevokes:        isOn(vars["partial_revokes"]),
		LocalInfile:           isOn(vars["local_infile"]),
		ReadOnly:              isOn(vars["read_only"]) || isOn(vars["super_read_only"]),
		SuperReadOnly:         isOn(vars["super_read_only"]) || vars["read_only"] == "NO_LOCK_NO_ADMIN",
	}
	if err := s.parseVersion(vars["version"]); err != nil {
		return nil, err
	}
	numbers := []struct {
		name string
		bits int
		set  func(uint64)
	}{
		{"server_id", 32, func(n uint64) { s.ServerID = uint32(n) }},
		{"port", 32, func(n uint64) { s.Port = int(n) }},
		{"max_allowed_packet", 64, func(n uint64) { s.MaxAllowedPacket = n }},
		{"lower_case_table_names", 8, func(n uint64) { s.LowerCaseTableNames = int(n) }},
	}
	for _, number := range numbers {
		n, err := strconv.ParseUint(vars[number.name], 10, number.bits)
		if err != nil {
			return nil, fmt.Errorf("server %s: variable %s: %w", s.Version, number.name, err)
		}
		number.set(n)
	}
	s.GTIDMode = s.LogBin && (s.IsMariaDB() || s.GTIDModeSetting == "ON")
	native, known := vars["innodb_native_foreign_keys"]
	s.CascadesLogged = known && !isOn(native)
	s.Identity = s.identity(vars)
	return s, nil
}

// SameServer reports whether q leads to this server, and how the one there is identified.
func (s *Server) SameServer(ctx context.Context, q Querier) (identity string, same bool, err error) {
	vars, err := globalVariables(ctx, q, []string{"server_uuid", "server_uid", "server_id", "hostname", "port"})
	if err != nil {
		return "", false, fmt.Errorf("%s: asking who the server is: %w", s, err)
	}
	there := Server{Hostname: vars["hostname"]}
	for name, set := range map[string]func(uint64){
		"server_id": func(n uint64) { there.ServerID = uint32(n) },
		"port":      func(n uint64) { there.Port = int(n) },
	} {
		n, err := strconv.ParseUint(vars[name], 10, 32)
		if err != nil {
			return "", false, fmt.Errorf("%s: variable %s: %w", s, name, err)
		}
		set(n)
	}
	identity = there.identity(vars)
	return identity, identity == s.Identity, nil
}

// StartedAt returns when the server process began, in unix seconds by its own clock and
// within a second: what tells a restart from a connection that broke.
func (s *Server) StartedAt(ctx context.Context, q Querier) (int64, error) {
	const together, attempts = 500 * time.Millisecond, 5 // what lies between the two answers is in the result
	for attempt := 1; ; attempt++ {
		var name string
		var uptime, now int64
		began := time.Now()
		if err := q.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Uptime'").Scan(&name, &uptime); err != nil {
			return 0, fmt.Errorf("%s: read its uptime: %w", s, err)
		}
		if err := q.QueryRowContext(ctx, "SELECT UNIX_TIMESTAMP()").Scan(&now); err != nil {
			return 0, fmt.Errorf("%s: read its clock: %w", s, err)
		}
		if time.Since(began) < together || attempt == attempts {
			return now - uptime, nil
		}
	}
}

func (s *Server) identity(vars map[string]string) string {
	switch {
	case vars["server_uuid"] != "":
		return vars["server_uuid"]
	case vars["server_uid"] != "":
		// The digest knows network card and port only; containers may share both.
		return fmt.Sprintf("%s:%d", vars["server_uid"], s.ServerID)
	default:
		return fmt.Sprintf("%s:%d:%d", s.Hostname, s.Port, s.ServerID)
	}
}

// parseVersion understands "8.4.3", "9.7.0-log", "10.11.19-MariaDB-0+deb12u1" and the
// "5.5.5-10.11.19-MariaDB" that some proxies pass on from MariaDB's handshake.
func (s *Server) parseVersion(version string) error {
	s.Version = version
	if strings.Contains(strings.ToLower(version), "mariadb") {
		s.Flavour = MariaDB
		version = strings.TrimPrefix(version, "5.5.5-")
	}
	numbers := strings.FieldsFunc(version, func(r rune) bool { return r < '0' || r > '9' })
	for i, part := range []*int{&s.Major, &s.Minor, &s.Patch} {
		if i >= len(numbers) {
			return fmt.Errorf("server version %q is not of the form major.minor.patch", s.Version)
		}
		n, err := strconv.Atoi(numbers[i])
		if err != nil {
			return fmt.Errorf("server version %q: %w", s.Version, err)
		}
		*part = n
	}
	return nil
}

// IsMariaDB tells whether the server is a MariaDB.
func (s *Server) IsMariaDB() bool { return s.Flavour == MariaDB }

// AtLeast tells whether the server's version is major.minor.patch or newer. The two flavours count
// differently; ask for the flavour first.
func (s *Server) AtLeast(major, minor, patch int) bool {
	if s.Major != major {
		return s.Major > major
	}
	if s.Minor != minor {
		return s.Minor > minor
	}
	return s.Patch >= patch
}

// JSONTable tells whether the server has a JSON type and reads documents as tables.
func (s *Server) JSONTable() bool { return s.mysqlAtLeast(8, 0, 4) }

// String returns flavour, version and address as the server names itself.
func (s *Server) String() string {
	return fmt.Sprintf("%s %s at %s:%d", s.Flavour, s.Version, s.Hostname, s.Port)
}

// NativeFlavour is what the replication client calls the flavour: "mysql" or "mariadb".
func (s *Server) NativeFlavour() string { return strings.ToLower(s.Flavour.String()) }

func (s *Server) mysqlAtLeast(major, minor, patch int) bool {
	return !s.IsMariaDB() && s.AtLeast(major, minor, patch)
}

func (s *Server) mariaAtLeast(major, minor, patch int) bool {
	return s.IsMariaDB() && s.AtLeast(major, minor, patch)
}

// isOn reads a boolean or enumerated variable: anything but OFF, 0 and nothing is on.
func isOn(value string) bool {
	return value != "" && value != "0" && !strings.EqualFold(value, "OFF")
}

func binlogRetention(vars map[string]string) time.Duration {
	if purge, ok := vars["binlog_expire_logs_auto_purge"]; ok && !isOn(purge) {
		return 0
	}
	if seconds, err := strconv.ParseUint(vars["binlog_expire_logs_seconds"], 10, 32); err == nil && seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	days, err := strconv.ParseFloat(vars["expire_logs_days"], 64)
	if err != nil {
		return 0
	}
	return time.Duration(days * 24 * float64(time.Hour))
}

// globalVariables returns those of the named variables that the server has.
func globalVariables(ctx context.Context, q Querier, names []string) (map[string]string, error) {
	// Names are constants of ours; no value of a user gets here.
	rows, err := q.QueryContext(ctx,
		"SHOW GLOBAL VARIABLES WHERE Variable_name IN ('"+strings.Join(names, "','")+"')")
	if err != nil {
		return nil, err
	}
	vars := map[string]string{}
	err = eachRow(rows, func(columns map[string]string) error {
		vars[columns["variable_name"]] = columns["value"]
		return nil
	})
	return vars, err
}

// eachRow calls f with every row as text by lower-case column name, NULL being empty, and closes
// rows. It is for the SHOW statements whose columns differ among versions.
func eachRow(rows *sql.Rows, f func(columns map[string]string) error) error {
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	values := make([]sql.NullString, len(names))
	targets := make([]any, len(names))
	for i := range values {
		targets[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		columns := make(map[string]string, len(names))
		for i, name := range names {
			columns[strings.ToLower(name)] = values[i].String
		}
		if err := f(columns); err != nil {
			return err
		}
	}
	return rows.Err()
}
