package copydb

import (
	"fmt"
	"strings"

	"github.com/ghostferry-go/ghostferry"
)

// renameTo gives the target's names of a table of the source.
type renameTo func(ghostferry.TableIdentifier) ghostferry.TableIdentifier

// renameCreateDatabase makes "CREATE DATABASE IF NOT EXISTS" with another name out of
// what SHOW CREATE DATABASE says.
func renameCreateDatabase(statement, target string) (string, error) {
	s := scanner{text: statement}
	if !s.words("CREATE", "DATABASE") {
		return "", fmt.Errorf("SHOW CREATE DATABASE answered something else than a CREATE DATABASE statement: %s", statement)
	}
	name := s.next()
	for name.kind != quotedName && name.kind != end { // past IF NOT EXISTS
		name = s.next()
	}
	if name.kind != quotedName {
		return "", fmt.Errorf("no name in the statement that creates the schema: %s", statement)
	}
	return "CREATE DATABASE IF NOT EXISTS " + ghostferry.QuoteField(target) + statement[name.end:], nil
}

// renameCreateTable gives the statement that SHOW CREATE TABLE says for a table of the
// source the target's names: that of the table itself and those that its foreign keys
// refer to, which are returned. Everything else stays as it is.
func renameCreateTable(statement string, table ghostferry.TableIdentifier, rename renameTo) (create string, parents []ghostferry.TableIdentifier, err error) {
	s := scanner{text: statement}
	if !s.words("CREATE", "TABLE") {
		return "", nil, fmt.Errorf("SHOW CREATE TABLE answered something else than a CREATE TABLE statement: %s", statement)
	}
	var renamed strings.Builder
	copied := 0
	replace := func(at identifier) {
		target := rename(at.table)
		renamed.WriteString(statement[copied:at.start])
		renamed.WriteString(ghostferry.QuotedTableNameFromString(target.SchemaName, target.TableName))
		copied = at.end
	}

	name, ok := s.identifier(table.SchemaName)
	if !ok {
		return "", nil, fmt.Errorf("no name in the statement that creates the table: %s", statement)
	}
	// A server that folds names may show another spelling than the one asked for.
	name.table = table
	replace(name)
	for token := s.next(); token.kind != end; token = s.next() {
		if token.kind != word || !strings.EqualFold(token.text, "REFERENCES") {
			continue
		}
		parent, ok := s.identifier(table.SchemaName)
		if !ok {
			return "", nil, fmt.Errorf("no table behind REFERENCES in the statement that creates the table: %s", statement)
		}
		replace(parent)
		parents = append(parents, rename(parent.table))
	}
	renamed.WriteString(statement[copied:])
	return renamed.String(), parents, nil
}

// equalCollations are collations of the same character set that take the same texts for
// equal, and sort them alike, under the names that MySQL and MariaDB have for them.
var equalCollations = [][2]string{{"utf8mb4_0900_bin", "utf8mb4_nopad_bin"}}

// renameCollations gives the collations of a definition the names that the target has for
// them. Names of columns and tables are quoted there, so a word is none.
func renameCollations(statement string, names map[string]string) string {
	if len(names) == 0 {
		return statement
	}
	s := scanner{text: statement}
	var renamed strings.Builder
	copied := 0
	for token := s.next(); token.kind != end; token = s.next() {
		if name, ok := names[token.text]; ok && token.kind == word {
			renamed.WriteString(statement[copied:token.start])
			renamed.WriteString(name)
			copied = token.end
		}
	}
	return renamed.String() + statement[copied:]
}

// withoutCollation takes the default collation out of a definition, COLLATE [=] name outside of
// parentheses, where lacks says so, and returns the name. Without it the target takes its own
// default for the character set, which the definition names in front of it.
func withoutCollation(statement string, lacks func(name string) bool) (without, name string) {
	s := scanner{text: statement}
	depth, before := 0, 0
	for token := s.next(); token.kind != end; token = s.next() {
		switch {
		case token.kind == other && token.text == "(":
			depth++
		case token.kind == other && token.text == ")":
			depth--
		case depth == 0 && token.kind == word && strings.EqualFold(token.text, "COLLATE"):
			named := s.next()
			if named.kind == other && named.text == "=" {
				named = s.next()
			}
			if named.kind == word && lacks(named.text) {
				return statement[:before] + statement[named.end:], named.text
			}
			token = named
		}
		before = token.end
	}
	return statement, ""
}

// kind tells the tokens of a statement apart as far as finding names asks for it.
type kind int

const (
	end            kind = iota
	word                // letters, digits, _ and $, not quoted
	quotedName          // in backquotes; text is without them
	literal             // in single or double quotes
	versionComment      // the opening or closing mark of a comment that is executed
	other
)

type token struct {
	kind       kind
	text       string
	start, end int // in the statement
}

func (t token) isName() bool { return t.kind == word || t.kind == quotedName }

// identifier is where a statement names a table.
type identifier struct {
	table      ghostferry.TableIdentifier
	start, end int
}

// scanner reads a statement token by token. Strings are read as a server without
// ANSI_QUOTES and NO_BACKSLASH_ESCAPES writes them.
type scanner struct {
	text string
	at   int
}

// words reads the given words and says whether they were there.
func (s *scanner) words(expected ...string) bool {
	for _, text := range expected {
		if token := s.next(); token.kind != word || !strings.EqualFold(token.text, text) {
			return false
		}
	}
	return true
}

// identifier reads `table` or `schema`.`table`.
func (s *scanner) identifier(defaultSchema string) (identifier, bool) {
	first := s.next()
	if !first.isName() {
		return identifier{}, false
	}
	found := identifier{ghostferry.TableIdentifier{SchemaName: defaultSchema, TableName: first.text}, first.start, first.end}
	before := s.at
	if dot := s.next(); dot.kind != other || dot.text != "." {
		s.at = before
		return found, true
	}
	second := s.next()
	found.table = ghostferry.TableIdentifier{SchemaName: first.text, TableName: second.text}
	found.end = second.end
	return found, second.isName()
}

// next reads one token, past blanks and comments that are not executed.
func (s *scanner) next() token {
	for s.at < len(s.text) && strings.IndexByte(" \t\r\n", s.text[s.at]) >= 0 {
		s.at++
	}
	start, rest := s.at, s.text[s.at:]
	take := func(kind kind, length int) token {
		s.at = start + length
		return token{kind, rest[:length], start, s.at}
	}
	switch {
	case rest == "":
		return token{end, "", start, start}
	case strings.IndexByte("`'\"", rest[0]) >= 0:
		length, closed := quoted(rest)
		if !closed {
			return take(other, length)
		}
		if rest[0] != '`' {
			return take(literal, length)
		}
		name := take(quotedName, length)
		name.text = strings.ReplaceAll(rest[1:length-1], "``", "`")
		return name
	case strings.HasPrefix(rest, "/*!") || strings.HasPrefix(rest, "/*M!"):
		length := strings.IndexByte(rest, '!') + 1
		for length < len(rest) && rest[length] >= '0' && rest[length] <= '9' {
			length++
		}
		return take(versionComment, length)
	case strings.HasPrefix(rest, "*/"):
		return take(versionComment, 2)
	case strings.HasPrefix(rest, "/*"):
		s.at = len(s.text)
		if length := strings.Index(rest[2:], "*/"); length >= 0 {
			s.at = start + 2 + length + 2
		}
		return s.next()
	}
	length := 0
	for length < len(rest) && inWord(rest[length]) {
		length++
	}
	if length > 0 {
		return take(word, length)
	}
	return take(other, 1)
}

// quoted is the length of the quoted text at the beginning of s, both quotes included,
// and whether the second one is there. A doubled quote is part of the text.
func quoted(s string) (length int, closed bool) {
	quote := s[0]
	for i := 1; i < len(s); i++ {
		switch {
		case quote != '`' && s[i] == '\\':
			i++
		case s[i] == quote && i+1 < len(s) && s[i+1] == quote:
			i++
		case s[i] == quote:
			return i + 1, true
		}
	}
	return len(s), false
}

func inWord(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
