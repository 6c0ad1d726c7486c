package binlog

import (
	"slices"
	"strings"
)

// StatementKind is what a statement in the log means to a mover of rows.
type StatementKind uint8

// Kinds of statements.
const (
	Other     StatementKind = iota // neither rows nor table definitions: grants, FLUSH, …
	Begin                          // starts a transaction
	Commit                         // ends one
	Rollback                       // ends one without effect (non-transactional engines log it)
	Savepoint                      // SAVEPOINT, RELEASE, ROLLBACK TO: full rows follow or were taken back in the log cache
	XA                             // any XA statement
	DDL                            // changes a table definition or drops rows without row events
	DML                            // changes rows by statement
)

var kindByFirstWord = map[string]StatementKind{
	"BEGIN": Begin, "START": Begin, "COMMIT": Commit, "ROLLBACK": Rollback,
	"SAVEPOINT": Savepoint, "RELEASE": Savepoint, "XA": XA,
	"ALTER": DDL, "DROP": DDL, "TRUNCATE": DDL, "RENAME": DDL, "CREATE": DDL,
	// SELECT, DO and VALUES are in the log only when a function in them changed rows.
	"INSERT": DML, "UPDATE": DML, "DELETE": DML, "REPLACE": DML, "LOAD": DML, "WITH": DML, "CALL": DML,
	"SELECT": DML, "DO": DML, "VALUES": DML, "TABLE": DML, "EXECUTE": DML,
	"GRANT": Other, "REVOKE": Other, "FLUSH": Other, "OPTIMIZE": Other, "ANALYZE": Other, "REPAIR": Other, "CHECK": Other,
	"SET": Other, "INSTALL": Other, "UNINSTALL": Other, "PURGE": Other, "RESET": Other, "USE": Other, "KILL": Other,
}

// Statement is a scanned statement: its kind and the words and names in it.
type Statement struct {
	Kind  StatementKind
	Verb  string   // first word, upper case
	what  []string // the words that follow it, upper case, the first few
	names []name
}

// name is a name or word of a statement, lower case, with what stands before it and a dot.
type name struct{ qualifier, name string }

// maxWords is how many words at the beginning say what a statement does: CREATE OR
// REPLACE ALGORITHM=UNDEFINED DEFINER=… SQL SECURITY DEFINER VIEW.
const maxWords = 16

// Modes of SQL that decide what is a name and what a string.
const (
	modeANSIQuotes         = 4
	modeNoBackslashEscapes = 1 << 20
)

// ScanStatement finds the kind of a statement. Comments, versioned ones excepted, and
// string literals do not count.
func ScanStatement(q Query) Statement {
	var s Statement
	var words []string
	text, dot := q.Text, false
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '/' && strings.HasPrefix(text[i:], "/*"):
			i = skipComment(text, i)
		case c == '#' || c == '-' && strings.HasPrefix(text[i:], "-- "):
			i = skipLine(text, i)
		case c == '`' || c == '"' && q.mode&modeANSIQuotes != 0:
			end := skipQuoted(text, i, false)
			quote := text[i : i+1]
			s.add(strings.ReplaceAll(text[i+1:max(i+1, end-1)], quote+quote, quote), dot)
			i, dot = end, false
		case c == '\'' || c == '"':
			i, dot = skipQuoted(text, i, q.mode&modeNoBackslashEscapes == 0), false
		case isWordByte(c):
			end := i
			for end < len(text) && isWordByte(text[end]) {
				end++
			}
			s.add(text[i:end], dot)
			if len(words) < maxWords {
				words = append(words, strings.ToUpper(text[i:end]))
			}
			i, dot = end, false
		default:
			dot = c == '.' || dot && (c == ' ' || c == '\n' || c == '\t' || c == '\r')
			i++
		}
	}
	if len(words) > 0 {
		s.Verb, s.what = words[0], words[1:]
		s.Kind = kindOf(words)
	}
	return s
}

// kindOf judges by the first words; what it does not know counts as a definition.
func kindOf(words []string) StatementKind {
	kind, known := kindByFirstWord[words[0]]
	switch {
	case !known:
		return DDL
	case words[0] == "ROLLBACK" && slices.Contains(words[:min(3, len(words))], "TO"):
		return Savepoint
	case len(words) > 1 && (words[0] == "SET" && words[1] == "STATEMENT" || words[0] == "ANALYZE" && kindByFirstWord[words[1]] == DML && words[1] != "TABLE"):
		return DML // MariaDB: SET STATEMENT … FOR UPDATE …; ANALYZE UPDATE …
	}
	return kind
}

// DropsSchema reports whether the statement drops a whole schema.
func (s *Statement) DropsSchema() bool {
	return s.Verb == "DROP" && len(s.what) > 0 && (s.what[0] == "DATABASE" || s.what[0] == "SCHEMA")
}

// ChangesTables reports whether a DDL statement may change an existing table that it
// mentions. Making a table does not (it exists: nothing happens), nor does anything
// about views, triggers, routines, events, accounts and temporary tables.
func (s *Statement) ChangesTables() bool {
	switch s.Verb {
	case "RENAME":
		return len(s.what) == 0 || s.what[0] != "USER"
	case "CREATE", "ALTER", "DROP":
	default:
		return true
	}
	for i, word := range s.what {
		switch word {
		case "TABLE", "TABLES":
			replaced := i >= 2 && s.what[i-1] == "REPLACE"
			return s.Verb != "CREATE" || replaced
		case "INDEX":
			return true
		case "VIEW", "TRIGGER", "PROCEDURE", "FUNCTION", "EVENT", "USER", "ROLE", "SERVER", "TEMPORARY", "SEQUENCE", "PACKAGE",
			"DATABASE", "SCHEMA", "TABLESPACE", "LOGFILE", "INSTANCE", "RESOURCE", "UNDO":
			return false
		}
	}
	return true
}

func (s *Statement) add(word string, dot bool) {
	n := name{name: strings.ToLower(word)}
	if dot && len(s.names) > 0 {
		n.qualifier = s.names[len(s.names)-1].name
	}
	s.names = append(s.names, n)
}

// Mentions reports whether a name occurs in the statement, in any case.
func (s *Statement) Mentions(word string) bool {
	word = strings.ToLower(word)
	return slices.ContainsFunc(s.names, func(n name) bool { return n.name == word })
}

// MentionsTable reports whether schema.table occurs in the statement, or the table
// alone where the schema is the session's.
func (s *Statement) MentionsTable(schema, table, session string) bool {
	schema, table = strings.ToLower(schema), strings.ToLower(table)
	current := schema == strings.ToLower(session)
	return slices.ContainsFunc(s.names, func(n name) bool {
		return n.name == table && (n.qualifier == schema || current && n.qualifier == "")
	})
}

func isWordByte(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// skipComment returns the end of the comment at i; of a versioned comment only the
// opening is skipped, because the server executes what is in it.
func skipComment(text string, i int) int {
	if strings.HasPrefix(text[i:], "/*!") || strings.HasPrefix(text[i:], "/*M!") {
		i += 3
		for i < len(text) && (text[i] == '!' || text[i] >= '0' && text[i] <= '9') {
			i++
		}
		return i
	}
	end := strings.Index(text[i+2:], "*/")
	if end < 0 {
		return len(text)
	}
	return i + 2 + end + 2
}

func skipLine(text string, i int) int {
	end := strings.IndexByte(text[i:], '\n')
	if end < 0 {
		return len(text)
	}
	return i + end + 1
}

// skipQuoted returns the index after the closing quote; doubled quotes escape, and
// backslashes where they do.
func skipQuoted(text string, i int, backslashes bool) int {
	quote := text[i]
	for i++; i < len(text); i++ {
		switch {
		case text[i] == '\\' && backslashes:
			i++
		case text[i] == quote:
			if i+1 < len(text) && text[i+1] == quote {
				i++
				continue
			}
			return i + 1
		}
	}
	return len(text)
}
