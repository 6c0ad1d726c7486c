package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/servers"
	"github.com/ghostferry-go/ghostferry/test/typed"
)

// schema holds one small table for every type.
const schema = "mutated"

// mutatedTable has a column of a type twice, and what is done to its rows.
type mutatedTable struct {
	name  string
	value typed.Value
}

// mutation is a row that is changed on one side only, and how that has to be told.
type mutation struct {
	table, key string
	missing    bool // the row is not on the side that is changed
	added      bool // the row is only on the side that is changed
	columns    string
}

// The rows of a table: what is done to row n is row n of the comment.
//
//	1 a bit of its first value is flipped      4, 5 exchange their values
//	2 NULL moves from one column to the other  6 is deleted
//	3 is left alone                            7 is added
const addedRow = 7

func mutatedTables(flavour servers.Flavour) []mutatedTable {
	values := typed.Values
	if flavour == servers.MySQL {
		values = append(append([]typed.Value(nil), typed.NegativeZeros...), values...)
	}
	tables := make([]mutatedTable, len(values))
	for i, v := range values {
		tables[i] = mutatedTable{fmt.Sprintf("t%02d", i), v}
	}
	return tables
}

func (m mutatedTable) create() string {
	return fmt.Sprintf("CREATE TABLE %s.%s (id INT PRIMARY KEY, a %[3]s, b %[3]s, touched INT NOT NULL DEFAULT 0) ENGINE=InnoDB", schema, m.name, m.value.Decl)
}

func (m mutatedTable) row(id int, a, b string) string {
	return fmt.Sprintf("INSERT INTO %s.%s (id, a, b) VALUES (%d, %s, %s)", schema, m.name, id, a, b)
}

// rows are what the source has.
func (m mutatedTable) rows() []string {
	v := m.value
	return []string{
		m.row(1, v.Value, v.Value), m.row(2, v.Value, "NULL"), m.row(3, v.Other, v.Value),
		m.row(4, v.Value, v.Value), m.row(5, v.Other, v.Value), m.row(6, v.Value, v.Other),
	}
}

// statements make the mutations on one side.
func (m mutatedTable) statements() []string {
	set := func(id int, a, b string) string {
		return fmt.Sprintf("UPDATE %s.%s SET a = %s, b = %s, touched = touched WHERE id = %d", schema, m.name, a, b, id)
	}
	v := m.value
	return []string{
		set(1, v.Other, v.Value), set(2, "NULL", v.Value), set(4, v.Other, v.Value), set(5, v.Value, v.Value),
		fmt.Sprintf("DELETE FROM %s.%s WHERE id = 6", schema, m.name), m.row(addedRow, v.Value, "NULL"),
	}
}

// before are the rows that stand on the target before they are copied: the copy leaves
// them as they are.
func (m mutatedTable) before() []string {
	v := m.value
	return []string{m.row(1, v.Other, v.Value), m.row(2, "NULL", v.Value), m.row(4, v.Other, v.Value), m.row(5, v.Value, v.Value)}
}

// mutations are what statements do.
func (m mutatedTable) mutations() []mutation {
	name := schema + "." + m.name
	return []mutation{
		{table: name, key: "1", columns: "a"}, {table: name, key: "2", columns: "a,b"},
		{table: name, key: "4", columns: "a"}, {table: name, key: "5", columns: "a"},
		{table: name, key: "6", missing: true}, {table: name, key: fmt.Sprint(addedRow), added: true},
	}
}

// kind is what a verifier has to say of a mutation.
func (m mutation) kind(onTarget bool) string {
	missingHere, onlyHere := ghostferry.MismatchRowMissingOnTarget, ghostferry.MismatchRowMissingOnSource
	if !onTarget {
		missingHere, onlyHere = onlyHere, missingHere
	}
	switch {
	case m.missing:
		return string(missingHere)
	case m.added:
		return string(onlyHere)
	}
	return string(ghostferry.MismatchRowChecksumDifference)
}

// execute runs statements on one connection; quiet ones are not in the binary log.
func execute(ctx context.Context, db *sql.DB, quiet bool, statements ...string) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() {
		// Its settings must not reach another user of the pool.
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		_ = conn.Close()
	}()
	setup := []string{"SET sql_mode='STRICT_ALL_TABLES,ALLOW_INVALID_DATES', time_zone='+00:00', NAMES utf8mb4"}
	if quiet {
		setup = append(setup, "SET sql_log_bin=0")
	}
	for _, statement := range append(setup, statements...) {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%.200s: %w", strings.ReplaceAll(statement, "\n", " "), err)
		}
	}
	return nil
}
