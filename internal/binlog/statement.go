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
	Savepoint                      // SAVEPOINT, RELEASE, ROLLBACK TO
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

// Statement is a scanned statement.
type Statement struct {
	Kind StatementKind
	// Verb names the statement for people: its first word in upper case, with the kind of
	// object and the partition clause of a definition: ALTER TABLE … EXCHANGE PARTITION.
	Verb string
	// Savepoint is the name in SAVEPOINT and ROLLBACK TO, lower case; BacksOut says that
	// it is the latter.
	Savepoint string
	BacksOut  bool

	names   []name // every name and word of the statement
	changed change // what a definition changes
	selects bool   // a definition of a table contains a query
	folds   bool   // names differ by more than the case of letters
}

// name is a name or word of a statement, with what stands before it and a dot.
type name struct{ qualifier, name string }

// Modes of SQL that decide what is a name and what a string.
const (
	modeANSIQuotes         = 4
	modeMSSQL              = 1 << 10 // MariaDB's: names in [brackets]
	modeNoBackslashEscapes = 1 << 20
)

// ScanStatement finds out what a statement is about. Comments, versioned ones excepted,
// and string literals do not count. foldCase says that the server does not tell names of
// schemas and tables apart by the case of their letters (lower_case_table_names).
func ScanStatement(q Query, foldCase bool) Statement {
	tokens := tokenize(q)
	s := Statement{folds: foldCase}
	for i := range tokens {
		if t := &tokens[i]; t.isName() {
			n := name{name: t.text}
			if i >= 2 && tokens[i-1].is(".") && tokens[i-2].isName() {
				n.qualifier = tokens[i-2].text
			}
			s.names = append(s.names, n)
		}
	}
	first := slices.IndexFunc(tokens, func(t token) bool { return t.kind == wordToken })
	if first < 0 {
		return s
	}
	p := &parser{tokens: tokens, at: first}
	s.Verb = p.word()
	if at := p.at; s.Verb == "SET" && p.peek() == "STATEMENT" { // MariaDB: SET STATEMENT variable=value FOR …
		if p.untilWord("FOR") {
			s.Verb = p.word()
		} else {
			p.at = at
		}
	}
	s.Kind = p.kindOf(s.Verb)
	switch s.Kind {
	case Savepoint:
		s.Savepoint, s.BacksOut = p.savepoint(s.Verb)
	case DDL:
		s.changed = p.definition(s.Verb)
		s.Verb = s.changed.what
		s.selects = strings.HasPrefix(s.Verb, "CREATE ") && strings.HasSuffix(s.Verb, " TABLE") && p.selects()
	}
	return s
}

// kindOf judges by the first words, of which verb has been read; what it does not know
// counts as a definition.
func (p *parser) kindOf(verb string) StatementKind {
	kind, known := kindByFirstWord[verb]
	next := p.peek()
	switch {
	case !known:
		return DDL
	case verb == "ROLLBACK" && (next == "TO" || next == "WORK" && p.peekAt(1) == "TO"):
		return Savepoint
	case verb == "SET" && next == "STATEMENT", verb == "ANALYZE" && !slices.Contains(analyzedTables, next):
		return DML // MariaDB: ANALYZE [FORMAT=JSON] UPDATE …
	}
	return kind
}

// analyzedTables are the words behind ANALYZE that lead to tables, and not to a statement that is
// executed.
var analyzedTables = []string{"TABLE", "TABLES", "LOCAL", "NO_WRITE_TO_BINLOG"}

// savepoint reads the name of SAVEPOINT s and ROLLBACK [WORK] TO [SAVEPOINT] s.
func (p *parser) savepoint(verb string) (name string, backsOut bool) {
	switch verb {
	case "RELEASE":
		return "", false
	case "ROLLBACK":
		p.skip("WORK")
		p.skip("TO")
		if p.peek() == "SAVEPOINT" && p.at+1 < len(p.tokens) {
			p.at++
		}
		backsOut = true
	}
	n, _ := p.name()
	return strings.ToLower(n.name), backsOut
}

// Mentions reports whether a name occurs in the statement.
func (s *Statement) Mentions(word string) bool {
	return slices.ContainsFunc(s.names, func(n name) bool { return s.SameName(n.name, word) })
}

// MentionsTable reports whether schema.table occurs in the statement, or the table
// alone where the schema is the session's.
func (s *Statement) MentionsTable(schema, table, session string) bool {
	return s.containsTable(s.names, schema, table, session)
}

// ChangesTable reports whether a definition may change schema.table or its rows, in a
// session whose schema is session. What it does not understand counts by its names.
func (s *Statement) ChangesTable(schema, table, session string) bool {
	switch {
	case s.Kind != DDL:
		return false
	case s.changed.schema != "":
		return s.SameName(s.changed.schema, schema)
	case s.changed.understood:
		return s.containsTable(s.changed.tables, schema, table, session)
	}
	return s.MentionsTable(schema, table, session)
}

// DropsSchema reports whether the statement drops a whole schema.
func (s *Statement) DropsSchema() bool { return s.changed.schema != "" }

func (s *Statement) containsTable(names []name, schema, table, session string) bool {
	current := s.SameName(schema, session)
	return slices.ContainsFunc(names, func(n name) bool {
		return s.SameName(n.name, table) && (n.qualifier == "" && current || n.qualifier != "" && s.SameName(n.qualifier, schema))
	})
}

// SameName reports whether two names of schemas or tables are one to the server.
func (s *Statement) SameName(a, b string) bool {
	return a == b || s.folds && strings.ToLower(a) == strings.ToLower(b) //nolint:staticcheck // EqualFold keeps İ and i apart, which the server does not
}
