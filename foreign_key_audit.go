package ghostferry

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/server"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// The writes of a run do not check foreign keys, because rows arrive in any order. So
// the run itself looks for rows whose parent is missing: in all moved tables before the
// cutover, while changes still arrive, and at its end once more for the rows found then.
// A row that becomes an orphan in between has become one on the source, too, whose
// server checks foreign keys; cascades that the log does not hold are refused by
// preflight, and rows are compared by the verifier.

// maxOrphans bounds the rows that are remembered of one foreign key.
const maxOrphans = 1000

// foreignKeyAudit is one foreign key of a moved table on the target.
type foreignKeyAudit struct {
	table         *TableSchema
	layout        *tableLayout
	name          string
	child, parent TableIdentifier // on the target
	columns       []string        // of the child
	referenced    []string        // of the parent, one for each
	// orphans are the keys of rows without a parent when it was last looked; more than
	// maxOrphans are not all remembered.
	orphans []keyTuple
}

// auditForeignKeys looks for orphans among all rows of the target's moved tables.
func (f *Ferry) auditForeignKeys(ctx context.Context) error {
	if f.CopyFilter != nil {
		return nil // tables that tenants share: not ours to judge
	}
	keys, err := f.targetForeignKeys(ctx)
	if err != nil {
		return fmt.Errorf("reading the target's foreign keys: %w", err)
	}
	if len(keys) == 0 {
		return nil
	}
	s, err := openSession(ctx, f.TargetDB, f.targetServer, server.Target)
	if err != nil {
		return err
	}
	defer s.discard()
	f.orphaned = nil
	for _, k := range keys {
		if k.orphans, err = k.find(ctx, s, k.child, k.parent, nil); err != nil {
			return fmt.Errorf("looking for rows of %s without a parent by foreign key %s: %w", sqlesc.Table(k.child.SchemaName, k.child.TableName), k.name, err)
		}
		if len(k.orphans) > 0 {
			f.orphaned = append(f.orphaned, k)
		}
	}
	f.logger.Infof("%d foreign keys of the target were checked, rows without a parent were found by %d of them", len(keys), len(f.orphaned))
	return nil
}

// judgeOrphans looks again, when nothing moves any more, for the orphans found before.
// Those that the source has, too, are only logged: the target is what the source is.
func (f *Ferry) judgeOrphans(ctx context.Context) error {
	if len(f.orphaned) == 0 {
		return nil
	}
	target, err := openSession(ctx, f.TargetDB, f.targetServer, server.Target)
	if err != nil {
		return err
	}
	defer target.discard()
	source, err := openSession(ctx, f.SourceDB, f.sourceServer, server.Source)
	if err != nil {
		return err
	}
	defer source.discard()
	verdict := &OrphanRowsError{}
	for _, k := range f.orphaned {
		orphans, err := k.find(ctx, target, k.child, k.parent, k.orphans)
		if err != nil {
			return err
		}
		if len(orphans) == 0 {
			continue
		}
		ours, err := f.onlyOnTarget(ctx, source, k, orphans)
		if err != nil {
			return err
		}
		if len(ours) == 0 {
			f.logger.WithField(fieldTable, fullTableName(k.child.SchemaName, k.child.TableName)).Warnf("rows of %s have no parent by foreign key %s, on the source as well: keys %s", k.table, k.name, k.describe(orphans))
			continue
		}
		verdict.ForeignKeys = append(verdict.ForeignKeys, OrphanedForeignKey{
			Table: fullTableName(k.child.SchemaName, k.child.TableName), Name: k.name,
			Parent: fullTableName(k.parent.SchemaName, k.parent.TableName), Keys: k.texts(ours),
		})
	}
	if len(verdict.ForeignKeys) == 0 {
		return nil
	}
	if f.SkipForeignKeyConstraintsCheck {
		f.logger.WithError(verdict).Warn("rows without a parent are let be")
		return nil
	}
	return verdict
}

// onlyOnTarget returns the orphans that have a parent on the source. When the parent
// does not move, its name there is not known, and all count.
func (f *Ferry) onlyOnTarget(ctx context.Context, s *session, k *foreignKeyAudit, orphans []keyTuple) ([]keyTuple, error) {
	names := newRewrites(f.DatabaseRewrites, f.TableRewrites)
	for _, t := range f.Tables {
		schema, table := names.table(t.Schema, t.Name)
		if !f.targetServer.SameName(schema, k.parent.SchemaName) || !f.targetServer.SameName(table, k.parent.TableName) {
			continue
		}
		there, err := k.find(ctx, s, NewTableIdentifierFromSchemaTable(k.table), NewTableIdentifierFromSchemaTable(t), orphans)
		if err != nil {
			return nil, err
		}
		known := map[string]bool{}
		for _, key := range there {
			known[key.encode()] = true
		}
		var only []keyTuple
		for _, key := range orphans {
			if !known[key.encode()] {
				only = append(only, key)
			}
		}
		return only, nil
	}
	return orphans, nil
}

// targetForeignKeys reads the foreign keys of the moved tables as they are on the target.
func (f *Ferry) targetForeignKeys(ctx context.Context) ([]*foreignKeyAudit, error) {
	names := newRewrites(f.DatabaseRewrites, f.TableRewrites)
	var all []*foreignKeyAudit
	for _, t := range f.sortedTables() {
		l, err := t.layout()
		if err != nil {
			return nil, err
		}
		schema, table := names.table(t.Schema, t.Name)
		keys, err := readForeignKeys(ctx, f.TargetDB, TableIdentifier{schema, table})
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			k.table, k.layout = t, l
		}
		all = append(all, keys...)
	}
	return all, nil
}

// readForeignKeys reads the foreign keys of one table.
func readForeignKeys(ctx context.Context, db *sql.DB, table TableIdentifier) (keys []*foreignKeyAudit, err error) {
	rows, err := db.QueryContext(ctx, `SELECT CONSTRAINT_NAME, COLUMN_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME
		FROM information_schema.KEY_COLUMN_USAGE WHERE TABLE_SCHEMA=? AND TABLE_NAME=? AND REFERENCED_TABLE_NAME IS NOT NULL
		ORDER BY CONSTRAINT_NAME, ORDINAL_POSITION`, table.SchemaName, table.TableName)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name, column, referenced string
		var parent TableIdentifier
		if err := rows.Scan(&name, &column, &parent.SchemaName, &parent.TableName, &referenced); err != nil {
			return nil, err
		}
		if n := len(keys); n == 0 || keys[n-1].name != name {
			keys = append(keys, &foreignKeyAudit{name: name, child: table, parent: parent})
		}
		last := keys[len(keys)-1]
		last.columns, last.referenced = append(last.columns, column), append(last.referenced, referenced)
	}
	return keys, rows.Err()
}

// find returns the keys of rows of a child table that have no parent, at most
// maxOrphans and one: among the rows with the given keys if there are not more, else
// among all. A row with a NULL in the foreign key needs no parent.
func (k *foreignKeyAudit) find(ctx context.Context, s *session, child, parent TableIdentifier, among []keyTuple) ([]keyTuple, error) {
	var conditions, same []string
	for i, column := range k.columns {
		column = "c." + sqlesc.Ident(column)
		conditions = append(conditions, column+" IS NOT NULL")
		same = append(same, "p."+sqlesc.Ident(k.referenced[i])+"="+column)
	}
	stmt := append(s.statement(), "SELECT "+k.layout.keySelectList()+" FROM "+sqlesc.Table(child.SchemaName, child.TableName)+" AS c WHERE "+
		strings.Join(conditions, " AND ")+" AND NOT EXISTS (SELECT 1 FROM "+sqlesc.Table(parent.SchemaName, parent.TableName)+" AS p WHERE "+strings.Join(same, " AND ")+")"...)
	if len(among) > 0 && len(among) <= maxOrphans {
		stmt, _ = k.layout.appendKeyList(append(stmt, " AND "...), len(among), 0, func(i int) keyTuple { return among[i] })
	}
	stmt = fmt.Appendf(stmt, " LIMIT %d", maxOrphans+1)
	var found []keyTuple
	err := s.query(ctx, stmt, func(values []driver.Value) error {
		key := make(keyTuple, len(values))
		for i, column := range k.layout.keys {
			v, err := k.layout.columns[column].AppendDriver([]byte{}, values[i])
			if err != nil {
				return err
			}
			key[i] = v
		}
		found = append(found, key)
		return nil
	})
	return found, err
}

// texts renders some of the keys for messages.
func (k *foreignKeyAudit) texts(keys []keyTuple) (texts []string) {
	for _, key := range keys[:min(len(keys), maxNamedKeys)] {
		texts = append(texts, k.layout.describeKey(key))
	}
	if more := len(keys) - maxNamedKeys; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return texts
}

func (k *foreignKeyAudit) describe(keys []keyTuple) string { return strings.Join(k.texts(keys), ", ") }

// OrphanedForeignKey is a foreign key with rows that have no parent.
type OrphanedForeignKey struct {
	// Table and Parent are "schema.table" on the target, Name is the constraint's.
	Table, Name, Parent string
	// Keys are some of the rows' keys.
	Keys []string
}

// OrphanRowsError says that rows of the target have no parent, which they have on the
// source, or would have if the parent table had moved.
type OrphanRowsError struct {
	final
	// ForeignKeys are those that are violated.
	ForeignKeys []OrphanedForeignKey
}

// Error names the foreign keys and the rows.
func (e *OrphanRowsError) Error() string {
	var texts []string
	for _, k := range e.ForeignKeys {
		texts = append(texts, fmt.Sprintf("foreign key %s of %s to %s (rows %s)", k.Name, k.Table, k.Parent, strings.Join(k.Keys, ", ")))
	}
	return fmt.Sprintf("rows of the target have no parent by %s: move the parent tables too, or put the parents there, and run again", strings.Join(texts, "; "))
}
