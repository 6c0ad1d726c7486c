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
	"ALTER": DDL, "DROP": DDL, "TRUNCATE": DDL, "RENAME": DDL, "CREATE": DDL, "OPTIMIZE": Other,
	"INSERT": DML, "UPDATE": DML, "DELETE": DML, "REPLACE": DML, "LOAD": DML, "WITH": DML, "CALL": DML,
}

// Statement is a scanned statement: its kind and the words and names in it.
type Statement struct {
	Kind   StatementKind
	Verb   string            // first word, upper case
	what   []string          // the words that follow it, upper case, the first few
	tokens map[string]string // lower-case names and words, to their spelling
}

// maxWords is how many words at the beginning say what a statement does.
const maxWords = 5

// ScanStatement finds the kind of a statement. Comments, versioned ones excepted, and
// string literals do not count.
func ScanStatement(text string) Statement {
	s := Statement{tokens: map[string]string{}}
	var words []string
	for i := 0; i < len(text); {
		switch c := text[i]; {
		case c == '/' && strings.HasPrefix(text[i:], "/*"):
			i = skipComment(text, i)
		case c == '#' || c == '-' && strings.HasPrefix(text[i:], "-- "):
			i = skipLine(text, i)
		case c == '\'' || c == '"':
			i = skipQuoted(text, i, c)
		case c == '`':
			end := skipQuoted(text, i, c)
			s.add(strings.ReplaceAll(text[i+1:max(i+1, end-1)], "``", "`"))
			i = end
		case isWordByte(c):
			end := i
			for end < len(text) && isWordByte(text[end]) {
				end++
			}
			s.add(text[i:end])
			if len(words) < maxWords {
				words = append(words, strings.ToUpper(text[i:end]))
			}
			i = end
		default:
			i++
		}
	}
	if len(words) > 0 {
		s.Verb, s.what = words[0], words[1:]
		s.Kind = kindByFirstWord[words[0]]
		if words[0] == "ROLLBACK" && slices.Contains(words[:min(3, len(words))], "TO") {
			s.Kind = Savepoint
		}
	}
	return s
}

// DropsSchema reports whether the statement drops a whole schema.
func (s *Statement) DropsSchema() bool {
	return s.Verb == "DROP" && len(s.what) > 0 && (s.what[0] == "DATABASE" || s.what[0] == "SCHEMA")
}

// ChangesTables reports whether a DDL statement may change an existing table that it
// mentions. Making a table does not (it exists: nothing happens), nor does anything
// about views, triggers, routines, events, accounts and temporary tables.
func (s *Statement) ChangesTables() bool {
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
	return true // TRUNCATE t
}

func (s *Statement) add(word string) { s.tokens[strings.ToLower(word)] = word }

// Mentions reports whether a name occurs in the statement, in any case.
func (s *Statement) Mentions(name string) bool {
	_, ok := s.tokens[strings.ToLower(name)]
	return ok
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

// skipQuoted returns the index after the closing quote; doubled quotes and, outside
// identifiers, backslashes escape.
func skipQuoted(text string, i int, quote byte) int {
	for i++; i < len(text); i++ {
		switch {
		case text[i] == '\\' && quote != '`':
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
