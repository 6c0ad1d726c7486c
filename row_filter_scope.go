package ghostferry

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync/atomic"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// tableScope is the rows of one table that move: a condition resolved against the
// table. Its SQL form and its Go form give the same answer for every row.
type tableScope struct {
	// immutable
	columns   []scopeColumn
	predicate string // true for rows of the scope; for others false or NULL
	index     string // on the source: begins with the columns, then the key; empty: the key's own

	onTarget atomic.Bool // the target has the index under the same name
}

// scopeColumn is one column of a condition.
type scopeColumn struct {
	at     int // in the table
	column *codec.Column
	values [][]byte        // canonical
	rules  *collationRules // nil: equal bytes are equal values
}

// newTableScope resolves a condition. server knows the rules of collations; nil refuses
// the columns that need them.
func newTableScope(ctx context.Context, table *TableSchema, l *tableLayout, condition RowCondition, server *collationRules) (*tableScope, error) {
	s := &tableScope{}
	for _, name := range sortedNames(condition) {
		c, err := newScopeColumn(ctx, table, l, name, condition[name], server)
		if err != nil {
			return nil, &ConfigError{Field: "CopyFilter", Problem: fmt.Sprintf("the row filter's condition on column %s of %s: %v", sqlesc.Ident(name), table, err), Remedy: "correct the condition, or give the table one of its own in RowFilter.Tables", Err: err}
		}
		s.columns = append(s.columns, c)
	}
	sort.Slice(s.columns, func(i, j int) bool { return s.columns[i].at < s.columns[j].at })
	s.predicate = s.sql()
	s.index = s.chooseIndex(table, l)
	if err := s.check(table); err != nil {
		return nil, err
	}
	return s, nil
}

func newScopeColumn(ctx context.Context, table *TableSchema, l *tableLayout, name string, values []any, server *collationRules) (scopeColumn, error) {
	c := scopeColumn{at: columnByName(table.Columns, name)}
	if c.at < 0 {
		return c, fmt.Errorf("the table has no such column")
	}
	c.column = &l.columns[c.at]
	switch {
	case len(values) == 0:
		return c, fmt.Errorf("it has no value, so no row could satisfy it")
	case c.column.Generated:
		return c, fmt.Errorf("it is generated: name the columns that it is made of")
	}
	if c.column.Kind == codec.Text && !c.column.EqualByBytes() {
		if server == nil {
			return c, fmt.Errorf("which strings are equal under its collation %s only the server knows: use the tables of an initialised Ferry", c.column.Collation)
		}
		c.rules = server.of(c.column)
	}
	for _, v := range values {
		canonical, err := scopeValue(ctx, c.column, v, server)
		if err != nil {
			return c, err
		}
		c.values = append(c.values, canonical)
	}
	if c.rules != nil {
		c.rules.values = c.values
	}
	return c, nil
}

// check refuses tables of which it could not be told who is in the way of a row.
func (s *tableScope) check(table *TableSchema) error {
	for _, index := range table.indexInfos {
		if index.Unique && index.HasExpression && len(s.columns) > 0 {
			return &ConfigError{
				Field:   "CopyFilter",
				Problem: fmt.Sprintf("unique index %s of %s is over an expression: whose row is in the way of another could not be told there", sqlesc.Ident(index.Name), table),
				Remedy:  "leave the table out, or put a generated column in the place of the expression",
			}
		}
	}
	return nil
}

// columnNames are the names of the condition's columns.
func (s *tableScope) columnNames() []string {
	names := make([]string, len(s.columns))
	for i, c := range s.columns {
		names[i] = c.column.Name
	}
	return names
}

// sql is the condition as a predicate.
func (s *tableScope) sql() string {
	if len(s.columns) == 0 {
		return "TRUE"
	}
	terms := make([]string, len(s.columns))
	for i, c := range s.columns {
		name := sqlesc.Ident(c.column.Name)
		literals := make([]string, len(c.values))
		for j, v := range c.values {
			literals[j] = string(appendScopeLiteral(nil, c.column, v))
		}
		if len(literals) == 1 {
			terms[i] = name + " = " + literals[0]
			continue
		}
		terms[i] = name + " IN (" + strings.Join(literals, ",") + ")"
	}
	return "(" + strings.Join(terms, " AND ") + ")"
}

// appendScopeLiteral appends a value in hexadecimal, unless it is a number: a predicate
// then is text in every character set.
func appendScopeLiteral(dst []byte, c *codec.Column, v []byte) []byte {
	if c.Kind == codec.Binary {
		return fmt.Appendf(dst, "X'%x'", v)
	}
	return c.AppendCompared(dst, v)
}

// chooseIndex returns the index by which a key range of the scope is read without
// reading rows of others: it begins with the columns, each of one value, and continues
// with the key. InnoDB appends the primary key to every other index.
func (s *tableScope) chooseIndex(table *TableSchema, l *tableLayout) string {
	for _, c := range s.columns {
		if len(c.values) != 1 {
			return ""
		}
	}
	if len(s.columns) == 0 || s.leads(l.keys, make([]int, len(l.keys))) {
		return ""
	}
	best := ""
	for _, index := range table.indexInfos {
		if !index.Visible || index.HasExpression || !s.leads(index.Columns, index.SubParts) {
			continue
		}
		rest := index.Columns[len(s.columns):]
		switch {
		case isPrefix(l.keys, rest) && !slices.ContainsFunc(index.SubParts, func(n int) bool { return n > 0 }):
			return index.Name
		case len(rest) == 0 && table.keyIndexName == "PRIMARY":
			best = index.Name
		}
	}
	return best
}

// leads reports whether an index begins with just the scope's columns, in any order.
func (s *tableScope) leads(columns, subParts []int) bool {
	if len(columns) < len(s.columns) {
		return false
	}
	for i, at := range columns[:len(s.columns)] {
		if subParts[i] != 0 || !slices.ContainsFunc(s.columns, func(c scopeColumn) bool { return c.at == at }) {
			return false
		}
	}
	return true
}

// isPrefix reports whether all begins with head.
func isPrefix(head, all []int) bool {
	return len(all) >= len(head) && slices.Equal(head, all[:len(head)])
}

// slow reports whether finding the scope's rows takes reading those of others.
func (s *tableScope) slow(table *TableSchema) bool {
	if s.index != "" || len(s.columns) == 0 {
		return false
	}
	l, err := table.layout()
	return err == nil && !s.leads(l.keys, make([]int, len(l.keys)))
}

// holds reports whether a row, given in table order, is in the scope.
func (s *tableScope) holds(ctx context.Context, rows *codec.Rows, row int) (bool, error) {
	for i := range s.columns {
		in, err := s.columns[i].allows(ctx, rows.Value(row, s.columns[i].at))
		if err != nil || !in {
			return false, err
		}
	}
	return true, nil
}

func (c *scopeColumn) allows(ctx context.Context, value []byte) (bool, error) {
	if value == nil {
		return false, nil
	}
	for _, v := range c.values {
		if bytes.Equal(v, value) {
			return true, nil
		}
	}
	if c.rules == nil {
		return false, nil
	}
	return c.rules.allow(ctx, value)
}

// images reports whether a changed row was in the scope, and whether it is now.
func (s *tableScope) images(ctx context.Context, ev DMLEvent) (was, is bool, err error) {
	r, err := rowEventOf(ev)
	if err != nil {
		return false, false, err
	}
	if r.old >= 0 {
		if was, err = s.holds(ctx, r.rows, r.old); err != nil {
			return false, false, err
		}
	}
	if r.new >= 0 {
		is, err = s.holds(ctx, r.rows, r.new)
	}
	return was, is, err
}

// project returns what a change means for the scope: a row that it brings in is
// inserted, one that it takes out is deleted, nil is no change.
func (s *tableScope) project(ctx context.Context, ev DMLEvent) (DMLEvent, error) {
	was, is, err := s.images(ctx, ev)
	if err != nil || !was && !is {
		return nil, err
	}
	r, err := rowEventOf(ev)
	if err != nil || was == (r.old >= 0) && is == (r.new >= 0) {
		return ev, err
	}
	part := &DMLEventBase{event: *r}
	if is {
		part.event.old = -1
		return &BinlogInsertEvent{part}, nil
	}
	part.event.new = -1
	return &BinlogDeleteEvent{part}, nil
}
