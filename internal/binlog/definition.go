package binlog

import (
	"slices"
	"strings"
)

// change is what a definition changes.
type change struct {
	what       string // the statement's kind for people: "ALTER TABLE"
	tables     []name // tables whose definition or rows change
	schema     string // the schema that is dropped
	understood bool   // false: every table that the statement mentions may be meant
	replaces   bool   // OR REPLACE, of a view or routine
	stored     []name // views and routines that the statement is about
	fires      name   // the table that a new trigger is on

	// made is the table that is new with the statement, madeSchema the schema; empty where
	// one that exists may have been left as it is (IF NOT EXISTS).
	made       name
	madeSchema string
}

// parser reads a statement's tokens from at on.
type parser struct {
	tokens []token
	at     int
}

// peek returns the next word in upper case, empty when something else comes.
func (p *parser) peek() string { return p.peekAt(0) }

func (p *parser) peekAt(n int) string {
	if p.at+n < len(p.tokens) && p.tokens[p.at+n].kind == wordToken {
		return strings.ToUpper(p.tokens[p.at+n].text)
	}
	return ""
}

func (p *parser) word() string {
	w := p.peek()
	p.at++
	return w
}

// skip passes the next word if it is this one.
func (p *parser) skip(word string) {
	if p.peek() == word {
		p.at++
	}
}

func (p *parser) skipWords(words ...string) {
	for _, w := range words {
		p.skip(w)
	}
}

// name reads a name with at most one qualifier. MariaDB takes a dot in front of one without.
func (p *parser) name() (n name, ok bool) {
	if p.at+1 < len(p.tokens) && p.tokens[p.at].is(".") && p.tokens[p.at+1].isName() {
		p.at++
	}
	if p.at >= len(p.tokens) || !p.tokens[p.at].isName() {
		return n, false
	}
	n.name = p.tokens[p.at].text
	p.at++
	if p.at+1 < len(p.tokens) && p.tokens[p.at].is(".") && p.tokens[p.at+1].isName() {
		n.qualifier, n.name = n.name, p.tokens[p.at+1].text
		p.at += 2
	}
	return n, true
}

// untilWord moves behind the next occurrence of a word, or to the end.
func (p *parser) untilWord(word string) bool {
	for p.at < len(p.tokens) {
		if p.word() == word {
			return true
		}
	}
	return false
}

// definition reads what a definition whose verb has been read changes. Making a table
// changes none (it exists: nothing happens), nor does anything about views, triggers,
// routines, events, accounts and temporary tables.
func (p *parser) definition(verb string) change {
	switch verb {
	case "TRUNCATE":
		p.skip("TABLE")
		return p.listed("TRUNCATE TABLE")
	case "RENAME":
		return p.rename()
	case "ALTER", "CREATE", "DROP":
	default:
		return change{what: verb}
	}
	replaces, temporary := false, false
	for {
		switch word := p.word(); word {
		case "REPLACE":
			replaces = true
		case "TEMPORARY":
			temporary = true
		case "TABLE", "TABLES":
			if temporary || verb == "CREATE" && !replaces {
				c := change{what: verb + " TABLE", understood: true}
				if !temporary && p.peek() != "IF" {
					c.made, _ = p.name()
				}
				return c
			}
			return p.table(verb)
		case "INDEX":
			p.untilWord("ON")
			return p.listed(verb + " INDEX")
		case "DATABASE", "SCHEMA":
			return p.schema(verb, replaces)
		case "VIEW", "PROCEDURE", "FUNCTION", "PACKAGE":
			return change{what: verb + " " + word, understood: true, replaces: replaces, stored: p.stored()}
		case "TRIGGER":
			return change{what: verb + " TRIGGER", understood: true, replaces: replaces, fires: p.trigger(verb)}
		case "EVENT", "USER", "ROLE", "SERVER", "SEQUENCE",
			"TABLESPACE", "LOGFILE", "INSTANCE", "RESOURCE", "UNDO", "LIBRARY", "MASKING":
			return change{what: verb + " " + word, understood: true, replaces: replaces}
		case "":
			if p.at >= len(p.tokens) {
				return change{what: verb}
			}
		}
	}
}

// trigger reads the table of CREATE TRIGGER.
func (p *parser) trigger(verb string) (table name) {
	if verb == "CREATE" {
		p.skipWords("IF", "NOT", "EXISTS")
		p.name()
		p.untilWord("ON")
		table, _ = p.name()
	}
	return table
}

func (p *parser) table(verb string) change {
	switch verb {
	case "ALTER":
		return p.alterTable()
	case "CREATE":
		p.skipWords("IF", "NOT", "EXISTS")
		return p.listed("CREATE OR REPLACE TABLE")
	}
	return p.listed("DROP TABLE")
}

// listed reads a list of tables.
func (p *parser) listed(what string) change {
	c := change{what: what}
	p.skipWords("IF", "EXISTS")
	for {
		n, ok := p.name()
		if !ok {
			return c
		}
		c.tables, c.understood = append(c.tables, n), true
		if p.at >= len(p.tokens) || !p.tokens[p.at].is(",") {
			return c
		}
		p.at++
	}
}

// stored reads the names of views and routines.
func (p *parser) stored() []name {
	p.skipWords("BODY", "IF", "NOT", "EXISTS")
	var list []name
	for {
		n, ok := p.name()
		if !ok {
			return list
		}
		list = append(list, n)
		if p.at >= len(p.tokens) || !p.tokens[p.at].is(",") {
			return list
		}
		p.at++
	}
}

// rename reads RENAME TABLE a TO b, c TO d: every name is changed.
func (p *parser) rename() change {
	c := change{what: "RENAME TABLE"}
	if word := p.word(); word != "TABLE" && word != "TABLES" {
		c.what, c.understood = "RENAME "+word, word == "USER"
		return c
	}
	p.skipWords("IF", "EXISTS")
	for {
		n, ok := p.name()
		if !ok {
			return c
		}
		c.tables, c.understood = append(c.tables, n), true
		for p.at < len(p.tokens) && !p.tokens[p.at].is(",") {
			if p.word() == "TO" {
				break
			}
		}
		if p.at < len(p.tokens) && p.tokens[p.at].is(",") {
			p.at++
		}
	}
}

// alterTable reads ALTER TABLE a …, which may change a second table: that of EXCHANGE
// PARTITION … WITH TABLE b, CONVERT TABLE b TO PARTITION, CONVERT PARTITION … TO TABLE
// b, and the new name of RENAME.
func (p *parser) alterTable() change {
	c := p.listed("ALTER TABLE")
	if !c.understood {
		return c
	}
	for previous := ""; p.at < len(p.tokens); {
		word := p.word()
		other := word == "TABLE" && (previous == "WITH" || previous == "TO" || previous == "CONVERT")
		switch {
		case word == "PARTITION" && slices.Contains(partitionVerbs, previous) && c.what == "ALTER TABLE":
			c.what += " … " + previous + " PARTITION"
		case word == "RENAME":
			switch p.peek() {
			case "COLUMN", "INDEX", "KEY", "CONSTRAINT":
			default:
				p.skipWords("TO", "AS")
				if p.at < len(p.tokens) && p.tokens[p.at].is("=") {
					p.at++
				}
				other = true
			}
		}
		if other {
			if n, ok := p.name(); ok {
				c.tables = append(c.tables, n)
			}
		}
		previous = word
	}
	return c
}

// partitionVerbs stand before PARTITION in the clauses that change rows or partitions.
var partitionVerbs = []string{"EXCHANGE", "TRUNCATE", "DROP", "ADD", "CONVERT", "REORGANIZE", "COALESCE"}

// schema: MariaDB's CREATE OR REPLACE DATABASE is DROP DATABASE IF EXISTS and CREATE DATABASE, in
// one statement of the log.
func (p *parser) schema(verb string, replaces bool) change {
	c := change{what: verb + " DATABASE", understood: true}
	switch {
	case replaces:
		c.what = "CREATE OR REPLACE DATABASE"
		p.skipWords("IF", "NOT", "EXISTS")
	case verb == "DROP":
		p.skipWords("IF", "EXISTS")
	case verb == "CREATE" && p.peek() != "IF":
		n, _ := p.name()
		c.madeSchema = n.name
		return c
	default:
		return c
	}
	n, ok := p.name()
	c.schema, c.understood = n.name, ok
	return c
}
