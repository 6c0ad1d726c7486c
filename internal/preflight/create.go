package preflight

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
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

// checkCollations names the collations that the target does not have.
func (r *run) checkCollations(ctx context.Context, tables []Table) error {
	known := map[string]bool{}
	rows, err := r.Target.QueryContext(ctx, "SELECT COALESCE(COLLATION_NAME, '') FROM information_schema.COLLATIONS")
	err = each(rows, err, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		known[canonicalCharset(name)] = true
		return err
	})
	if err != nil {
		return fmt.Errorf("read the collations of the target: %w", err)
	}
	for _, t := range tables {
		lacking := map[string][]string{}
		for _, c := range r.source.table(t.Schema, t.Name).columns {
			// MariaDB lists collations that several character sets share without the set's name.
			_, bare, _ := strings.Cut(c.collation, "_")
			if c.collation != "" && !known[canonicalCharset(c.collation)] && !known[bare] {
				lacking[c.collation] = append(lacking[c.collation], c.name)
			}
		}
		for collation, columns := range lacking {
			r.fault("collation", t.String(), fmt.Sprintf("the target does not have the collation %s of %s", collation, someOf(columns)),
				"create the target's table yourself, with a collation that the target has")
		}
	}
	return nil
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
