package ghostferry

import (
	"errors"
	"slices"
	"strings"
)

// indexDefinition is one index as SHOW CREATE TABLE writes it.
type indexDefinition struct {
	// Name is the index's, without quotes; empty for the primary key.
	Name string `json:"name"`
	// Clause is what ALTER TABLE … ADD takes: UNIQUE KEY `u` (`a`(10) DESC) COMMENT '…'.
	Clause string `json:"clause"`

	kind    string   // "PRIMARY", "UNIQUE", "" or "FULLTEXT" and others
	columns []string // of its parts in their order; empty where a part is an expression
	virtual bool     // one of its columns is VIRTUAL
}

// errNotUnderstood: a definition that this file cannot read; the table's indexes stay.
var errNotUnderstood = errors.New("the table's definition is not understood")

// tableElements splits a CREATE TABLE statement, as the server shows it, into the texts
// between its outer parentheses: columns, indexes and constraints, in their order.
func tableElements(statement string) ([]string, error) {
	begin := outside(statement, 0, func(c byte, depth int) bool { return c == '(' && depth == 1 })
	if begin < 0 {
		return nil, errNotUnderstood
	}
	var elements []string
	for at := begin + 1; ; {
		end := outside(statement, at, func(c byte, depth int) bool { return c == ',' && depth == 0 || c == ')' && depth < 0 })
		if end < 0 {
			return nil, errNotUnderstood
		}
		elements = append(elements, strings.TrimSpace(statement[at:end]))
		if statement[end] == ')' {
			return elements, nil
		}
		at = end + 1
	}
}

// outside returns the place of the first byte from at on that stands in no quotes and for
// which is says true, or -1. depth counts parentheses from 0, the byte's own included.
func outside(text string, at int, is func(c byte, depth int) bool) int {
	depth := 0
	for ; at < len(text); at++ {
		c := text[at]
		switch c {
		case '`', '\'', '"':
			end := quotedEnd(text, at)
			if end < 0 {
				return -1
			}
			at = end
			continue
		case '(':
			depth++
		case ')':
			depth--
		}
		if is(c, depth) {
			return at
		}
	}
	return -1
}

// quotedEnd returns the place of the closing quote of the text that begins at a quote, or
// -1. A quote inside is doubled; a backslash escapes, except in names.
func quotedEnd(text string, at int) int {
	quote := text[at]
	for i := at + 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && quote != '`':
			i++
		case text[i] != quote:
		case i+1 < len(text) && text[i+1] == quote:
			i++
		default:
			return i
		}
	}
	return -1
}

// says tells whether words stand in an element in no quotes and no parentheses.
func says(element, words string) bool {
	for at := 0; ; at++ {
		at = outside(element, at, func(c byte, depth int) bool { return c == ' ' && depth == 0 })
		if at < 0 {
			return false
		}
		if rest, ok := strings.CutPrefix(element[at+1:], words); ok && (rest == "" || rest[0] == ' ') {
			return true
		}
	}
}

// columnsThatSay are the columns among a table's elements whose definitions have a word.
func columnsThatSay(elements []string, word string) (columns []string) {
	for _, element := range elements {
		if !strings.HasPrefix(element, "`") || !says(element, word) {
			continue
		}
		if end := quotedEnd(element, 0); end > 0 {
			columns = append(columns, strings.ReplaceAll(element[1:end], "``", "`"))
		}
	}
	return columns
}

// indexesOf picks the indexes out of a table's elements.
func indexesOf(elements []string) ([]indexDefinition, error) {
	virtual := neededColumns(columnsThatSay(elements, "VIRTUAL"))
	var indexes []indexDefinition
	for _, element := range elements {
		kind, rest, ok := indexKind(element)
		if !ok {
			continue
		}
		index := indexDefinition{Clause: element, kind: kind}
		if kind != "PRIMARY" {
			if !strings.HasPrefix(rest, "`") {
				return nil, errNotUnderstood
			}
			end := quotedEnd(rest, 0)
			if end < 0 {
				return nil, errNotUnderstood
			}
			index.Name = strings.ReplaceAll(rest[1:end], "``", "`")
			rest = strings.TrimSpace(rest[end+1:])
		}
		parts, err := tableElements(rest)
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			column := ""
			if strings.HasPrefix(part, "`") {
				end := quotedEnd(part, 0)
				if end < 0 {
					return nil, errNotUnderstood
				}
				column = strings.ReplaceAll(part[1:end], "``", "`")
			}
			index.columns = append(index.columns, column)
			index.virtual = index.virtual || virtual.has(column)
		}
		indexes = append(indexes, index)
	}
	return indexes, nil
}

// indexKind says whether an element is an index, of which kind, and what follows the word
// KEY. Columns begin with a quote; constraints, checks and periods with words of their own.
func indexKind(element string) (kind, rest string, ok bool) {
	if strings.HasPrefix(element, "`") || strings.HasPrefix(element, "CONSTRAINT ") {
		return "", "", false
	}
	if rest, ok = strings.CutPrefix(element, "KEY "); ok {
		return "", rest, true
	}
	kind, rest, ok = strings.Cut(element, " KEY ")
	return kind, rest, ok && !strings.ContainsAny(kind, " (`")
}

// neededColumns are the columns of a table on the target whose index cannot be missed, as
// its first column: those of foreign keys from and to the table, and AUTO_INCREMENT.
type neededColumns []string

func (n neededColumns) has(column string) bool {
	return slices.ContainsFunc(n, func(c string) bool { return strings.EqualFold(c, column) })
}

// are tells whether these are the columns, in any order.
func (n neededColumns) are(columns []string) bool {
	return len(n) == len(columns) && !slices.ContainsFunc(columns, func(c string) bool { return !n.has(c) })
}

// deferrable returns the indexes that can be dropped from an empty table and created when
// its rows are there so that the table's definition is the same as before, byte by byte.
//
// Not deferred are the primary key; what somebody needs meanwhile; unique indexes of the key,
// by which rows are found, whatever their names are on the target; FULLTEXT and SPATIAL
// indexes, which cannot be created while rows are written; indexes on expressions, behind
// which the server keeps hidden columns; unique ones of a table without a primary key,
// whose rows are ordered by one of them. A table with a unique index by hash, MariaDB's for
// long values, keeps all: the server would copy the whole table to create another one.
//
// A server shows indexes by kind, those of one kind in the order of their creation. So an
// index stays, too, when one of its kind that stays comes behind it. MySQL shows those with an
// expression or a VIRTUAL column, mixed, behind the ordinary ones. MariaDB, which has no
// expressions, shows those with a VIRTUAL column among the ordinary ones.
func deferrable(indexes []indexDefinition, unique bool, needed, key neededColumns, kept ...string) []indexDefinition {
	if slices.ContainsFunc(indexes, func(i indexDefinition) bool { return i.unique() && says(i.Clause, "USING HASH") }) {
		return nil
	}
	functional := func(i indexDefinition) bool { return slices.Contains(i.columns, "") }
	hasFunctional := slices.ContainsFunc(indexes, functional)
	hasPrimary := slices.ContainsFunc(indexes, func(i indexDefinition) bool { return i.kind == "PRIMARY" })
	var deferred []indexDefinition
	stays := map[string]bool{} // kinds of which one stays behind
	for _, index := range slices.Backward(indexes) {
		can := !functional(index) && !needed.has(index.columns[0]) &&
			!slices.ContainsFunc(kept, func(name string) bool { return strings.EqualFold(name, index.Name) })
		switch index.kind {
		case "":
		case "UNIQUE":
			can = can && unique && hasPrimary && !strings.Contains(index.Clause, "WITHOUT OVERLAPS") && !key.are(index.columns)
		default:
			can = false
		}
		kind := index.kind
		switch {
		case kind == "UNIQUE" || kind == "FULLTEXT" || kind == "PRIMARY":
		case functional(index) || index.virtual && hasFunctional:
			kind = "functional"
		default:
			kind = ""
		}
		if !can || stays[kind] {
			stays[kind] = true
			continue
		}
		deferred = append(deferred, index)
	}
	slices.Reverse(deferred)
	return deferred
}

func (i indexDefinition) unique() bool { return strings.HasPrefix(i.Clause, "UNIQUE ") }
