package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unique"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/server"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// dml are the privileges on every target table, in the order in which they are reported.
var dml = []string{"SELECT", "INSERT", "UPDATE", "DELETE"}

// checkPrivileges names every privilege that the accounts lack, with the GRANT that gives it. What
// can be tried without effect is tried; SHOW GRANTS answers the rest, and says how to grant.
func (r *run) checkPrivileges(ctx context.Context) error {
	source := &privileges{run: r, side: "source", q: r.Source, on: r.SourceServer, denied: r.deniedSource}
	target := &privileges{run: r, side: "target", q: r.Target, on: r.TargetServer, denied: r.deniedTarget}
	for _, p := range []*privileges{source, target} {
		var err error
		if p.grants, err = readGrants(ctx, p.q, p.on); err != nil {
			return fmt.Errorf("%s: %w", p.side, err)
		}
	}
	if err := source.checkBinlog(ctx, ""); err != nil {
		return err
	}
	if r.WatchTarget {
		if err := target.checkBinlog(ctx, skipWatch); err != nil {
			return err
		}
	}
	for _, t := range r.Tables {
		if err := source.check(ctx, t.Schema, t.Name, "SELECT"); err != nil {
			return err
		}
	}
	source.report("source", "")
	for _, t := range r.Tables {
		if err := target.check(ctx, t.TargetSchema, t.TargetName, r.targetNeeds(t)...); err != nil {
			return err
		}
	}
	r.checkParentPrivileges(target)
	target.report("target", "")
	if r.CheckpointOn {
		// The table's name is not of interest: the privileges are needed on the schema.
		if err := target.check(ctx, r.CheckpointSchema, "", append([]string{"CREATE"}, dml...)...); err != nil {
			return err
		}
		target.report("checkpoint", `, or switch the checkpoint off (Checkpoint: "off"): an interrupted move then starts again`)
	}
	return nil
}

// targetNeeds are the privileges on one target table.
func (r *run) targetNeeds(t Table) []string {
	needs := slices.Clone(dml)
	if r.TargetServer.TriggersNeedPrivilege() {
		needs = append(needs, "TRIGGER") // they are looked for again when the tables are there
	}
	if r.CreateTables && r.target.table(t.TargetSchema, t.TargetName) == nil {
		needs = append(needs, "CREATE")
	}
	if s := r.source.table(t.Schema, t.Name); s != nil && s.increments() && !r.PartOfRows {
		needs = append(needs, "ALTER") // carries the next AUTO_INCREMENT value over
	}
	return needs
}

// increments tells whether the table has an AUTO_INCREMENT column.
func (s *structure) increments() bool {
	return slices.ContainsFunc(s.columns, func(c unique.Handle[column]) bool { return c.Value().increments })
}

// checkParentPrivileges notes where foreign keys cannot be created: that needs a privilege on the
// tables they refer to.
func (r *run) checkParentPrivileges(target *privileges) {
	if !r.CreateTables || !r.TargetServer.ForeignKeysNeedPrivilege() {
		return
	}
	for _, k := range r.foreignKeys {
		schema, table := k.parentSchema, k.parentTable
		if r.Rename != nil {
			schema, table = r.Rename(schema, table)
		}
		if r.target.table(k.table.TargetSchema, k.table.TargetName) == nil && !target.grants.has("REFERENCES", schema, table) {
			target.note(schema, table, []string{"REFERENCES"})
		}
	}
}

// privileges gathers what one account lacks.
type privileges struct {
	run    *run
	side   string
	q      server.Querier
	on     *server.Server
	grants *grants
	denied map[string]bool

	tried   map[string]bool // schemas of which one table was tried
	missing []missing       // by schema, in order of appearance
}

// missing is what is missing in one schema.
type missing struct {
	schema     string
	privileges []string
	tables     []string
}

// checkBinlog checks the privileges on *.* that following the binary log needs.
func (p *privileges) checkBinlog(ctx context.Context, alternative string) error {
	var lacks []string
	for _, privilege := range p.on.BinlogPrivileges() {
		has := p.grants.hasGlobal(privilege)
		denied, known, err := p.on.TryBinlogPrivilege(ctx, p.q, privilege)
		if err != nil {
			return fmt.Errorf("%s: %w", p.side, err)
		}
		if known {
			has = !denied
		}
		if !has {
			lacks = append(lacks, privilege)
		}
	}
	if len(lacks) > 0 {
		p.run.fault("binlog", p.side, fmt.Sprintf("the account %s lacks %s, which following the binary log needs",
			p.grants.account, strings.Join(lacks, ", ")),
			"on the "+p.side+": "+p.grants.globalStatement(lacks)+alternative)
	}
	return nil
}

// check notes which of the privileges the account lacks on a table, which need not exist; an empty
// table means the schema.
func (p *privileges) check(ctx context.Context, schema, table string, needs ...string) error {
	if p.tried == nil {
		p.tried = map[string]bool{}
	}
	// A server has no denials for single tables: where SHOW GRANTS has the privilege on the
	// schema, trying one of its tables shows whether that grant is in force.
	first := !p.tried[schema]
	p.tried[schema] = true
	var lacks []string
	for _, privilege := range needs {
		has := p.grants.has(privilege, schema, table)
		if first || !has {
			denied, known, err := p.try(ctx, privilege, schema, table)
			if err != nil {
				return fmt.Errorf("%s: try %s on %s.%s: %w", p.side, privilege, schema, table, err)
			}
			if known {
				has = !denied
			}
		}
		if !has {
			lacks = append(lacks, privilege)
		}
	}
	if len(lacks) > 0 {
		p.note(schema, table, lacks)
	}
	return nil
}

// try runs a statement that needs the privilege and has no effect: EXPLAIN asks for what the
// statement it explains would ask for, and missing tables are noticed after missing privileges.
func (p *privileges) try(ctx context.Context, privilege, schema, table string) (denied, known bool, err error) {
	if table == "" {
		table = "nosuchtable"
	}
	name := sqlesc.Table(schema, table)
	var statement string
	switch privilege {
	case "SELECT":
		statement = "SELECT * FROM " + name + " LIMIT 0"
		if p.side == "source" { // where rows are locked, too
			statement += p.on.LockingReadSuffix()
		}
	case "INSERT":
		statement = "EXPLAIN INSERT INTO " + name + " VALUES ()"
		if columns := p.columns(schema, table); len(columns) > 0 {
			statement = fmt.Sprintf("EXPLAIN INSERT INTO %s (%s) VALUES (NULL%s)", name,
				sqlesc.Idents(columns), strings.Repeat(", NULL", len(columns)-1))
		}
	case "UPDATE":
		columns := p.columns(schema, table)
		if len(columns) == 0 {
			columns = []string{"nosuchcolumn"}
		}
		statement = "EXPLAIN UPDATE " + name + " SET "
		for i, column := range columns {
			if i > 0 {
				statement += ", "
			}
			statement += sqlesc.Ident(column) + " = NULL"
		}
		statement += " WHERE FALSE"
	case "DELETE":
		statement = "EXPLAIN DELETE FROM " + name + " WHERE FALSE"
	default:
		return false, false, nil
	}
	rows, err := p.q.QueryContext(ctx, statement)
	err = each(rows, err, func(func(...any) error) error { return nil })
	switch class := mysqlerr.Classify(err); {
	case class == mysqlerr.AccessDenied:
		return true, true, nil
	case class == mysqlerr.ReadOnly: // said before privileges are looked at
		return false, false, nil
	case class == mysqlerr.LockWait: // somebody alters the table; privileges are looked at before
		return false, true, nil
	case class == mysqlerr.OK || mysqlerr.Number(err) != 0 && !mysqlerr.Retryable(class):
		return false, true, nil // the server has got past the privileges
	default:
		return false, false, err
	}
}

// columns are the columns that can be written.
func (p *privileges) columns(schema, table string) []string {
	t := p.run.target.table(schema, table)
	if p.side != "target" || t == nil {
		return nil
	}
	var names []string
	for c := range t.allColumns() {
		if !c.generated {
			names = append(names, c.name)
		}
	}
	return names
}

func (p *privileges) note(schema, table string, lacks []string) {
	i := 0
	for i < len(p.missing) && p.missing[i].schema != schema {
		i++
	}
	if i == len(p.missing) {
		p.missing = append(p.missing, missing{schema: schema})
	}
	m := &p.missing[i]
	for _, privilege := range lacks {
		if !slices.Contains(m.privileges, privilege) {
			m.privileges = append(m.privileges, privilege)
		}
		if privilege == "SELECT" {
			p.denied[schema+"."+table] = true
		}
	}
	if name := schema + "." + table; table != "" && !slices.Contains(m.tables, name) {
		m.tables = append(m.tables, name)
	}
}

// report turns what is missing so far into findings, and forgets it.
func (p *privileges) report(code, alternative string) {
	for _, m := range p.missing {
		subject := fmt.Sprintf("%s, schema %s", p.side, m.schema)
		problem := fmt.Sprintf("the account %s lacks %s", p.grants.account, strings.Join(m.privileges, ", "))
		if len(m.tables) > 0 {
			problem += " on " + someOf(m.tables)
		}
		p.run.fault(code, subject, problem,
			"on the "+p.side+": "+p.grants.statement(m.privileges, m.schema)+alternative)
	}
	p.missing, p.tried = nil, nil
}

// someOf joins the first few names and counts the others.
func someOf(names []string) string {
	const some = 5
	if len(names) <= some {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:some], ", "), len(names)-some)
}

// denied tells whether err only repeats what the privilege check has reported.
func denied(err error) bool {
	return mysqlerr.Classify(err) == mysqlerr.AccessDenied || errors.Is(err, server.ErrXARecoverDenied)
}
