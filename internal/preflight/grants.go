package preflight

import (
	"context"
	"fmt"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/server"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// grants are what SHOW GRANTS says of the current account, active roles included. The raw lines
// are not kept: MariaDB's hold password hashes.
type grants struct {
	account string // as GRANT takes it
	on      *server.Server
	global  map[string]bool
	schemas []schemaGrant
	tables  []tableGrant
}

// schemaGrant is a grant on a pattern of schemas.
type schemaGrant struct {
	grantee    string
	pattern    string // as written: _ and % match, a backslash takes that away
	privileges map[string]bool
}

type tableGrant struct {
	schema, table string
	privileges    map[string]bool
}

func readGrants(ctx context.Context, q server.Querier, on *server.Server) (*grants, error) {
	g := &grants{on: on, global: map[string]bool{}}
	var user string
	if err := q.QueryRowContext(ctx, "SELECT CURRENT_USER()").Scan(&user); err != nil {
		return nil, fmt.Errorf("read the current account: %w", err)
	}
	g.account = quoteAccount(user)
	rows, err := q.QueryContext(ctx, "SHOW GRANTS")
	err = each(rows, err, func(scan func(...any) error) error {
		var line string
		if err := scan(&line); err != nil {
			return err
		}
		g.add(line)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("SHOW GRANTS: %w", err)
	}
	return g, nil
}

// quoteAccount renders user@host, where the user may hold an @ and the host may not.
func quoteAccount(account string) string {
	i := strings.LastIndexByte(account, '@')
	if i < 0 {
		return sqlesc.Ident(account)
	}
	return sqlesc.Ident(account[:i]) + "@" + sqlesc.Ident(account[i+1:])
}

// add takes in one line: GRANT privileges ON object TO grantee …. Other lines (roles, default
// roles, proxies, grants on routines) say nothing about tables. Partial revokes are not taken in:
// what they take away is found by trying.
func (g *grants) add(line string) {
	p := &grantParser{rest: line}
	if !p.word("GRANT") {
		return
	}
	privileges, ok := p.privileges()
	if !ok {
		return
	}
	schema, table, ok := p.object()
	if !ok || !p.word("TO") {
		return
	}
	switch {
	case schema == "*":
		for privilege := range privileges {
			g.global[privilege] = true
		}
	case table == "*":
		grantee := ""
		if g.on.IsMariaDB() { // unites an account with its roles; MySQL takes all as one
			grantee = p.rest
		}
		g.schemas = append(g.schemas, schemaGrant{grantee, schema, privileges})
	default:
		g.tables = append(g.tables, tableGrant{schema, table, privileges})
	}
}

// has tells whether the account has a privilege on a table, or with an empty table on a schema.
func (g *grants) has(privilege, schema, table string) bool {
	if holds(g.global, privilege) {
		return true
	}
	grantees := map[string]schemaGrant{}
	for _, s := range g.schemas {
		// Of several matching patterns the server uses the most specific one alone.
		if best, ok := grantees[s.grantee]; g.matches(s.pattern, schema) && (!ok || moreSpecific(s.pattern, best.pattern)) {
			grantees[s.grantee] = s
		}
	}
	for _, s := range grantees {
		if holds(s.privileges, privilege) {
			return true
		}
	}
	for _, t := range g.tables {
		if t.schema == schema && t.table == table && holds(t.privileges, privilege) {
			return true
		}
	}
	return false
}

// hasGlobal tells whether the account has a privilege on *.*.
func (g *grants) hasGlobal(privilege string) bool { return holds(g.global, privilege) }

func holds(privileges map[string]bool, privilege string) bool {
	privilege = canonicalPrivilege(privilege)
	return privileges[privilege] || privileges["ALL PRIVILEGES"]
}

// statement returns the GRANT that gives the privileges on a schema. Where there is a grant on a
// pattern that the server uses for this schema, it is extended: a second one would hide it.
func (g *grants) statement(privileges []string, schema string) string {
	pattern := ""
	for _, s := range g.schemas {
		if g.matches(s.pattern, schema) && (pattern == "" || moreSpecific(s.pattern, pattern)) {
			pattern = s.pattern
		}
	}
	if pattern == "" {
		pattern = schema
		if !g.on.PartialRevokes {
			pattern = strings.NewReplacer(`\`, `\\`, `_`, `\_`, `%`, `\%`).Replace(schema)
		}
	}
	return fmt.Sprintf("GRANT %s ON %s.* TO %s", strings.Join(privileges, ", "), sqlesc.Ident(pattern), g.account)
}

// globalStatement returns the GRANT that gives the privileges on everything.
func (g *grants) globalStatement(privileges []string) string {
	return fmt.Sprintf("GRANT %s ON *.* TO %s", strings.Join(privileges, ", "), g.account)
}

// matches tells whether a grant's pattern covers a schema.
func (g *grants) matches(pattern, schema string) bool {
	if g.on.LowerCaseTableNames != 0 {
		pattern, schema = strings.ToLower(pattern), strings.ToLower(schema)
	}
	if g.on.PartialRevokes {
		return pattern == schema
	}
	return like([]rune(pattern), []rune(schema))
}

// like is SQL's LIKE: _ is any character, % any number of them, a backslash takes the meaning away.
func like(pattern, s []rune) bool {
	for len(pattern) > 0 {
		switch c := pattern[0]; {
		case c == '%':
			for i := 0; i <= len(s); i++ {
				if like(pattern[1:], s[i:]) {
					return true
				}
			}
			return false
		case len(s) == 0:
			return false
		case c == '_':
			pattern, s = pattern[1:], s[1:]
		default:
			if c == '\\' && len(pattern) > 1 {
				pattern = pattern[1:]
			}
			if pattern[0] != s[0] {
				return false
			}
			pattern, s = pattern[1:], s[1:]
		}
	}
	return len(s) == 0
}

// moreSpecific orders patterns as the servers do: the later the first wildcard, the more specific.
func moreSpecific(a, b string) bool { return firstWildcard(a) > firstWildcard(b) }

func firstWildcard(pattern string) int {
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '\\':
			i++
		case '_', '%':
			return i
		}
	}
	return 1 << 30
}

// grantParser reads a GRANT statement as the servers print it.
type grantParser struct{ rest string }

func (p *grantParser) space() { p.rest = strings.TrimLeft(p.rest, " ") }

// word takes w if it is next and a word of its own.
func (p *grantParser) word(w string) bool {
	p.space()
	rest, ok := strings.CutPrefix(p.rest, w)
	if !ok || rest != "" && rest[0] != ' ' {
		return false
	}
	p.rest = rest
	return true
}

// privileges takes everything up to ON. Privileges on columns are left out: they are not on the
// whole table. It fails on a grant of roles, which are quoted.
func (p *grantParser) privileges() (map[string]bool, bool) {
	privileges := map[string]bool{}
	for {
		var words []string
		columns := false
		for {
			p.space()
			if p.rest == "" || isQuote(p.rest[0]) {
				return nil, false
			}
			if p.rest[0] == '(' {
				if !p.parenthesis() {
					return nil, false
				}
				columns = true
				continue
			}
			if p.rest[0] == ',' || len(words) > 0 && p.word("ON") {
				break
			}
			end := strings.IndexAny(p.rest, " ,(")
			if end < 0 {
				return nil, false
			}
			words = append(words, p.rest[:end])
			p.rest = p.rest[end:]
		}
		if !columns {
			privileges[canonicalPrivilege(strings.Join(words, " "))] = true
		}
		if p.rest == "" || p.rest[0] != ',' {
			return privileges, true
		}
		p.rest = p.rest[1:]
	}
}

// canonicalPrivilege gives the several names of one privilege a single one.
func canonicalPrivilege(name string) string {
	switch name = strings.ToUpper(name); name {
	case "ALL":
		return "ALL PRIVILEGES"
	case "REPLICATION CLIENT":
		return "BINLOG MONITOR"
	case "REPLICATION REPLICA":
		return "REPLICATION SLAVE"
	}
	return name
}

// parenthesis takes a list of columns.
func (p *grantParser) parenthesis() bool {
	p.rest = p.rest[1:]
	for p.rest != "" {
		switch c := p.rest[0]; {
		case c == ')':
			p.rest = p.rest[1:]
			return true
		case isQuote(c):
			if _, ok := p.name(); !ok {
				return false
			}
		default:
			p.rest = p.rest[1:]
		}
	}
	return false
}

// object takes *.*, `schema`.* or `schema`.`table`.
func (p *grantParser) object() (schema, table string, ok bool) {
	p.word("TABLE")
	p.space()
	if schema, ok = p.name(); !ok || !strings.HasPrefix(p.rest, ".") {
		return "", "", false
	}
	p.rest = p.rest[1:]
	table, ok = p.name()
	return schema, table, ok
}

// name takes a quoted name, or *.
func (p *grantParser) name() (string, bool) {
	if p.rest == "" {
		return "", false
	}
	if p.rest[0] == '*' {
		p.rest = p.rest[1:]
		return "*", true
	}
	quote := p.rest[0]
	if !isQuote(quote) {
		return "", false
	}
	var name []byte
	for i := 1; i < len(p.rest); i++ {
		if p.rest[i] != quote {
			name = append(name, p.rest[i])
			continue
		}
		if i+1 < len(p.rest) && p.rest[i+1] == quote {
			name = append(name, quote)
			i++
			continue
		}
		p.rest = p.rest[i+1:]
		return string(name), true
	}
	return "", false
}

func isQuote(c byte) bool { return c == '`' || c == '"' || c == '\'' }
