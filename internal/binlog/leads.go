package binlog

import (
	"slices"
	"strings"
)

// A statement changes tables that it does not name by views, triggers and routines. Each is
// led to by a name: a view's or routine's own, the name of a trigger's table. Here names
// count without their schemas and without letter case, so that rather too many lead somewhere.

// Words returns every name and word of the statement in lower case.
func (s *Statement) Words() []string {
	words := make([]string, len(s.names))
	for i, n := range s.names {
		words[i] = strings.ToLower(n.name)
	}
	return words
}

// StoredWords returns the names and words in the text of a view, trigger or routine that was
// written in an SQL mode, given by names.
func StoredWords(text, sqlMode string) []string {
	q := Query{Text: text}
	for name, bit := range map[string]uint64{"ANSI_QUOTES": modeANSIQuotes, "NO_BACKSLASH_ESCAPES": modeNoBackslashEscapes} {
		if strings.Contains(sqlMode, name) {
			q.mode |= bit
		}
	}
	s := ScanStatement(q, true)
	return s.Words()
}

// Redefines reports whether a definition may change where names lead: it makes, changes or
// removes a view, trigger or routine, or the table of a trigger.
func (s *Statement) Redefines() bool {
	switch {
	case s.Kind != DDL:
		return false
	case !s.changed.understood || s.changed.schema != "":
		return true
	case s.Verb == "DROP TABLE":
		return len(s.changed.tables) > 0 // temporary ones are not listed
	case strings.HasPrefix(s.Verb, "ALTER TABLE"):
		return len(s.changed.tables) > 1 // RENAME
	case s.Verb == "RENAME TABLE" || s.Verb == "CREATE OR REPLACE TABLE":
		return true
	}
	_, object, _ := strings.Cut(s.Verb, " ")
	return slices.Contains([]string{"VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "PACKAGE"}, object)
}

// Selects reports whether the statement makes a table of what a query gives.
func (s *Statement) Selects() bool { return s.selects }

// selects looks for a query in what has not been read: SELECT, or VALUES ( that is not of a
// partition (VALUES LESS THAN, VALUES IN).
func (p *parser) selects() bool {
	for at := p.at; at < len(p.tokens); at++ {
		switch t := p.tokens[at]; {
		case t.kind != wordToken:
		case strings.EqualFold(t.text, "SELECT"),
			strings.EqualFold(t.text, "VALUES") && at+1 < len(p.tokens) && p.tokens[at+1].is("("):
			return true
		}
	}
	return false
}

// OnlyAdds reports whether what a definition of Redefines does is to make something new.
func (s *Statement) OnlyAdds() bool {
	return s.changed.understood && strings.HasPrefix(s.Verb, "CREATE ") && s.changed.schema == "" &&
		!s.changed.replaces && s.Verb != "CREATE OR REPLACE TABLE"
}

// OfTrigger reports whether a definition is of a trigger, whose table DROP TRIGGER does not name.
func (s *Statement) OfTrigger() bool { return s.Kind == DDL && strings.HasSuffix(s.Verb, " TRIGGER") }

// FiresOn reports whether a definition is of a new trigger on schema.table, in a session whose
// schema is session.
func (s *Statement) FiresOn(schema, table, session string) bool {
	return s.OfTrigger() && s.containsTable([]name{s.changed.fires}, schema, table, session)
}

// Redefined returns the names of what a definition of Redefines is about, in lower case: of a
// trigger none, of what is not understood every word.
func (s *Statement) Redefined() []string {
	if !s.changed.understood {
		return s.Words()
	}
	var names []string
	for _, n := range slices.Concat(s.changed.tables, s.changed.stored, []name{{name: s.changed.schema}}) {
		names = append(names, strings.ToLower(n.name))
	}
	return names
}

// TableName is a table, or with an empty Table a schema, as the server tells it from others.
type TableName struct{ Schema, Table string }

// Made returns the table or schema that is new with the statement, in a session whose schema is
// session.
func (s *Statement) Made(session string) (made TableName, ok bool) {
	switch {
	case s.Kind != DDL:
		return made, false
	case s.changed.madeSchema != "":
		return s.fold(TableName{Schema: s.changed.madeSchema}), true
	case s.changed.made.name != "":
		return s.resolve(s.changed.made, session), true
	}
	return made, false
}

// Dropped returns the tables or the schema that the statement drops, if that is all it does.
func (s *Statement) Dropped(session string) []TableName {
	switch {
	case s.Kind != DDL:
	case s.changed.schema != "" && s.Verb == "DROP DATABASE":
		return []TableName{s.fold(TableName{Schema: s.changed.schema})}
	case s.Verb == "DROP TABLE":
		dropped := make([]TableName, len(s.changed.tables))
		for i, n := range s.changed.tables {
			dropped[i] = s.resolve(n, session)
		}
		return dropped
	}
	return nil
}

func (s *Statement) resolve(n name, session string) TableName {
	schema := n.qualifier
	if schema == "" {
		schema = session
	}
	return s.fold(TableName{schema, n.name})
}

func (s *Statement) fold(t TableName) TableName {
	if s.folds {
		return TableName{strings.ToLower(t.Schema), strings.ToLower(t.Table)}
	}
	return t
}
