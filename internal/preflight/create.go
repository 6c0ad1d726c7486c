package preflight

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// checkCreate looks for what would keep the target from creating the tables that it does not have.
func (r *run) checkCreate(ctx context.Context) error {
	if !r.CreateTables {
		return nil
	}
	var missing []Table
	for _, t := range r.Tables {
		if s := r.source.table(t.Schema, t.Name); s != nil && r.target.table(t.TargetSchema, t.TargetName) == nil {
			missing = append(missing, t)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := r.checkCollations(ctx, missing); err != nil {
		return err
	}
	return r.checkCreateSettings(ctx, missing)
}

// repertoire is what a server has to keep text by.
type repertoire struct {
	collations, charsets map[string]bool // canonical
}

// has says whether the server has a collation.
func (p repertoire) has(collation string) bool {
	// MariaDB lists collations that several character sets share without the set's name.
	_, bare, _ := strings.Cut(collation, "_")
	return p.collations[canonicalCollation(collation)] || p.collations[bare]
}

func (r *run) targetRepertoire(ctx context.Context) (repertoire, error) {
	known := map[string]bool{}
	rows, err := r.Target.QueryContext(ctx, "SELECT COALESCE(COLLATION_NAME, '') FROM information_schema.COLLATIONS")
	err = each(rows, err, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		known[canonicalCollation(name)] = true
		return err
	})
	if err != nil {
		return repertoire{}, fmt.Errorf("read the collations of the target: %w", err)
	}
	charsets := map[string]bool{}
	rows, err = r.Target.QueryContext(ctx, "SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS")
	err = each(rows, err, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		charsets[canonicalCharset(name)] = true
		return err
	})
	if err != nil {
		return repertoire{}, fmt.Errorf("read the character sets of the target: %w", err)
	}
	return repertoire{known, charsets}, nil
}

// checkCollations names the collations that the target does not have.
func (r *run) checkCollations(ctx context.Context, tables []Table) error {
	target, err := r.targetRepertoire(ctx)
	if err != nil {
		return err
	}
	if err := r.checkSchemaDefaults(ctx, tables, target); err != nil {
		return err
	}
	for _, t := range tables {
		source := r.source.table(t.Schema, t.Name)
		lacking := map[string][]string{}
		onlyBySource := map[string]bool{} // no other definition on the target would do
		for c := range source.allColumns() {
			if c.collation != "" && !target.has(c.collation) {
				lacking[c.collation] = append(lacking[c.collation], c.name)
				onlyBySource[c.collation] = onlyBySource[c.collation] || source.inUnique(c.name) || t.scopedBy(c.name) || !target.charsets[c.charset]
			}
		}
		if lacking[source.collation] == nil {
			r.checkDefault(target, t.String(), source.collation, fmt.Sprintf("ALTER TABLE %s DEFAULT CHARACTER SET", sqlesc.Table(t.Schema, t.Name)))
		}
		for collation, columns := range lacking {
			remedy := "create the target's table yourself, with a collation of the same character set that the target has: the values are kept, comparing and sorting differ"
			if onlyBySource[collation] {
				// Another collation takes other values for equal, of a unique key as of a row filter.
				remedy = leaveOut + ", or give the columns a collation on the source that both servers have"
			}
			r.fault("collation", t.String(), fmt.Sprintf("the target does not have the collation %s of %s", collation, someOf(columns)), remedy)
		}
	}
	return nil
}

// checkSchemaDefaults looks at the default collations of the schemas that will be created.
func (r *run) checkSchemaDefaults(ctx context.Context, tables []Table, target repertoire) error {
	seen := map[string]bool{}
	for _, t := range tables {
		if seen[t.TargetSchema] {
			continue
		}
		seen[t.TargetSchema] = true
		var there int
		if err := r.Target.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?", t.TargetSchema).Scan(&there); err != nil {
			return fmt.Errorf("look for schema %s on the target: %w", t.TargetSchema, err)
		}
		if there > 0 {
			continue
		}
		var collation string
		err := r.Source.QueryRowContext(ctx, "SELECT COALESCE(MAX(DEFAULT_COLLATION_NAME), '') FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = ?", t.Schema).Scan(&collation)
		if err != nil {
			return fmt.Errorf("read the default collation of schema %s: %w", t.Schema, err)
		}
		r.checkDefault(target, t.Schema, collation, fmt.Sprintf("ALTER DATABASE %s DEFAULT CHARACTER SET", sqlesc.Ident(t.Schema)))
	}
	return nil
}

// checkDefault looks at a default collation, which no value has: where the target lacks it,
// the default is left out of what is created there.
func (r *run) checkDefault(target repertoire, subject, collation, alter string) {
	charset, _, _ := strings.Cut(collation, "_")
	switch {
	case collation == "" || target.has(collation):
	case target.charsets[canonicalCharset(charset)]:
		r.warn("default-collation", subject, fmt.Sprintf("the target does not have its default collation %s, and takes its own for character set %s: no value changes, columns that are added later compare and sort otherwise", collation, charset),
			"give it a default that both servers have: "+alter+" … COLLATE … on the source, which changes no column")
	default:
		r.fault("default-collation", subject, fmt.Sprintf("the target does not have the character set %s, which is its default", charset),
			"give it a default that both servers have: "+alter+" … on the source, which changes no column")
	}
}

// checkCreateSettings looks at the target's settings that refuse definitions.
func (r *run) checkCreateSettings(ctx context.Context, tables []Table) error {
	names := []string{"sql_require_primary_key", "innodb_force_primary_key", "innodb_page_size"}
	there, err := r.SourceServer.GlobalVariables(ctx, r.Source, names...)
	if err != nil {
		return err
	}
	here, err := r.TargetServer.GlobalVariables(ctx, r.Target, names...)
	if err != nil {
		return err
	}
	var without []string
	for _, t := range tables {
		if !slices.ContainsFunc(r.source.table(t.Schema, t.Name).uniques, func(u index) bool { return u.name == "PRIMARY" }) {
			without = append(without, t.String())
		}
	}
	for _, name := range names[:2] {
		if here[name] == "ON" && len(without) > 0 {
			r.fault("primary-key", "target, "+name, fmt.Sprintf("it is ON on the target, which then refuses to create %s without a primary key", someOf(without)),
				"on the target: SET GLOBAL "+name+" = OFF, or create the tables yourself")
		}
	}
	source, _ := strconv.Atoi(there["innodb_page_size"])
	target, _ := strconv.Atoi(here["innodb_page_size"])
	if target < source {
		r.warn("page-size", "target, innodb_page_size", fmt.Sprintf("it is %d on the source and %d on the target: a wide table or a long index may not fit", source, target),
			"move to a server with pages of the source's size")
	}
	return nil
}
