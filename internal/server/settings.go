package server

import (
	"context"
	"fmt"
	"strings"
)

// GlobalVariables returns those of the named global variables that the server has. It needs no
// privilege. The names are part of the statement: they must be constants of the caller's.
func (s *Server) GlobalVariables(ctx context.Context, q Querier, names ...string) (map[string]string, error) {
	vars, err := globalVariables(ctx, q, names)
	if err != nil {
		return nil, fmt.Errorf("%s: read global variables: %w", s, err)
	}
	return vars, nil
}

// ReplicaFilters returns the filters by which a replica leaves out changes of its primary, by the
// lower-case name of the option (replicate_do_db, replicate_wild_ignore_table, …); empty when the
// server is nobody's replica or has no filters. On MySQL it needs REPLICATION CLIENT.
func (s *Server) ReplicaFilters(ctx context.Context, q Querier) (map[string]string, error) {
	names := []string{
		"replicate_do_db", "replicate_ignore_db", "replicate_do_table", "replicate_ignore_table",
		"replicate_wild_do_table", "replicate_wild_ignore_table",
	}
	if s.IsMariaDB() {
		return s.setOf(ctx, q, names)
	}
	statement := "SHOW SLAVE STATUS"
	if s.mysqlAtLeast(8, 0, 22) {
		statement = "SHOW REPLICA STATUS"
	}
	rows, err := q.QueryContext(ctx, statement)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", s, statement, err)
	}
	filters := map[string]string{}
	err = eachRow(rows, func(columns map[string]string) error {
		for _, name := range names {
			if columns[name] != "" {
				filters[name] = columns[name]
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", s, statement, err)
	}
	return filters, nil
}

// setOf returns those of the named variables that are not empty.
func (s *Server) setOf(ctx context.Context, q Querier, names []string) (map[string]string, error) {
	vars, err := s.GlobalVariables(ctx, q, names...)
	for name, value := range vars {
		if value == "" {
			delete(vars, name)
		}
	}
	return vars, err
}

// HasReplica tells whether the other server is connected to this one as its replica. MySQL only
// (ErrUnsupported); it needs REPLICATION SLAVE.
func (s *Server) HasReplica(ctx context.Context, q Querier, other *Server) (bool, error) {
	if !s.mysqlAtLeast(8, 0, 0) {
		return false, fmt.Errorf("%s: list of replicas: %w", s, ErrUnsupported)
	}
	statement := s.ReplicaHostsQuery()
	rows, err := q.QueryContext(ctx, statement)
	if err != nil {
		return false, fmt.Errorf("%s: %s: %w", s, statement, err)
	}
	found := false
	err = eachRow(rows, func(columns map[string]string) error {
		uuid := columns["replica_uuid"] + columns["slave_uuid"] // by version
		found = found || uuid != "" && strings.EqualFold(uuid, other.Identity)
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("%s: %s: %w", s, statement, err)
	}
	return found, nil
}

// IndexExpressionColumn is the column of information_schema.STATISTICS with the expression of an
// index part, or an expression for the empty string on servers without such indexes.
func (s *Server) IndexExpressionColumn() string {
	if s.mysqlAtLeast(8, 0, 13) {
		return "COALESCE(EXPRESSION, '')"
	}
	return "''"
}

// CheckConstraintsQuery returns the statement that lists the enforced CHECK constraints of a schema
// (its one placeholder) as table, name and clause; empty when the server has none.
func (s *Server) CheckConstraintsQuery() string {
	switch {
	case s.IsMariaDB():
		return `SELECT TABLE_NAME, CONSTRAINT_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS
			WHERE CONSTRAINT_SCHEMA = ? ORDER BY TABLE_NAME, CONSTRAINT_NAME`
	case s.mysqlAtLeast(8, 0, 16):
		return `SELECT t.TABLE_NAME, c.CONSTRAINT_NAME, c.CHECK_CLAUSE
			FROM information_schema.CHECK_CONSTRAINTS c JOIN information_schema.TABLE_CONSTRAINTS t
				ON t.CONSTRAINT_SCHEMA = c.CONSTRAINT_SCHEMA AND t.CONSTRAINT_NAME = c.CONSTRAINT_NAME
			WHERE t.TABLE_SCHEMA = ? AND t.CONSTRAINT_TYPE = 'CHECK' AND t.ENFORCED = 'YES' ORDER BY t.TABLE_NAME, c.CONSTRAINT_NAME`
	}
	return ""
}

// ForeignKeysNeedPrivilege tells whether creating a table with foreign keys needs REFERENCES on the
// tables that they refer to.
func (s *Server) ForeignKeysNeedPrivilege() bool { return !s.IsMariaDB() }

// DefinitionSetup returns the statements after which a session is shown definitions whole: a MySQL
// may hide primary keys that it has generated from SHOW CREATE TABLE and information_schema.
func (s *Server) DefinitionSetup() []string {
	if s.mysqlAtLeast(8, 0, 30) {
		return []string{"SET SESSION show_gipk_in_create_table_and_information_schema = ON"}
	}
	return nil
}

// StatisticsSetup returns the statements after which a session reads sizes and counters of tables
// from information_schema as they are, and not as they were up to a day ago.
func (s *Server) StatisticsSetup() []string {
	if s.mysqlAtLeast(8, 0, 0) {
		return []string{"SET SESSION information_schema_stats_expiry = 0"}
	}
	return nil
}

// Supported tells whether the server's release is one that the library is made for: MySQL 8.0
// and newer, MariaDB 10.11 and newer.
func (s *Server) Supported() bool {
	return s.mysqlAtLeast(8, 0, 0) || s.mariaAtLeast(10, 11, 0)
}

// RetentionVariables are the names of the settings that limit the binary log by its size; 0 is no
// limit.
func (s *Server) RetentionVariables() []string {
	return []string{"max_binlog_total_size", "binlog_space_limit"}
}

// HasType tells whether the server has a column type, by its name in information_schema, that only
// one flavour has.
func (s *Server) HasType(dataType string) bool {
	switch dataType {
	case "vector":
		return s.mysqlAtLeast(9, 0, 0) || s.mariaAtLeast(11, 7, 0)
	case "json": // MariaDB's is another name of LONGTEXT
		return !s.IsMariaDB()
	case "uuid", "inet6":
		return s.IsMariaDB()
	case "inet4":
		return s.mariaAtLeast(10, 10, 0)
	}
	return true
}

// IndexSetup returns the statements after which a session creates indexes faster: MySQL sorts in
// buffers of 1 MiB by default, and merges the more often the smaller they are.
func (s *Server) IndexSetup() []string {
	if s.mysqlAtLeast(8, 0, 27) {
		return []string{"SET SESSION innodb_ddl_buffer_size = 33554432"}
	}
	return nil
}

// FollowsAnother tells whether the server is another's replica, with a receiver that runs or
// tries to connect. It needs REPLICATION CLIENT; REPLICA MONITOR on MariaDB.
func (s *Server) FollowsAnother(ctx context.Context, q Querier) (follows bool, err error) {
	statement, column := "SHOW SLAVE STATUS", "Slave_IO_Running"
	switch {
	case s.IsMariaDB():
		statement = "SHOW ALL SLAVES STATUS"
	case s.mysqlAtLeast(8, 0, 22):
		statement, column = "SHOW REPLICA STATUS", "Replica_IO_Running"
	}
	rows, err := q.QueryContext(ctx, statement)
	if err == nil {
		err = eachRow(rows, func(columns map[string]string) error {
			follows = follows || columns[strings.ToLower(column)] != "No"
			return nil
		})
	}
	if err != nil {
		return false, fmt.Errorf("%s: %s: %w", s, statement, err)
	}
	return follows, nil
}
