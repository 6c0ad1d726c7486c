package ghostferry

import (
	"cmp"
	"context"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// The writes of a run do not check foreign keys, because rows arrive in any order. So
// the run itself looks for rows whose parent is missing: in all moved tables before the
// cutover, while changes still arrive, and there leaves out what the source has, too.
// What remains is looked at once more at the end, behind the fence: a bounded number of
// rows by their keys. A row that becomes an orphan in between has become one on the source,
// too, whose server checks foreign keys; cascades that the log does not hold are refused by
// preflight, and rows are compared by the verifier.

// maxOrphans is how many rows without a parent are looked at together. When as many of one
// foreign key are in doubt no more are looked for, and the run ends before it stops the writers.
const maxOrphans = 1000

// auditTold is how often the log says how far the audit is.
const auditTold = time.Minute

// foreignKeyAudit is one foreign key of a moved table on the target.
type foreignKeyAudit struct {
	table         *TableSchema
	layout        *tableLayout
	name          string
	child, parent TableIdentifier // on the target
	source        *TableSchema    // of the parent, known when there are orphans; nil: it does not move
	columns       []string        // of the child
	referenced    []string        // of the parent, one for each
	// doubtful are the keys of rows that had no parent on the target, and had one on the source,
	// when it was last looked.
	doubtful []keyTuple
	// unlooked: there are orphans with keys behind this one that were not looked at; nil: all were.
	unlooked keyTuple
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
	f.orphaned = nil
	defer f.orphanReads.drop()
	told := time.Now()
	for i, k := range keys {
		if time.Since(told) >= auditTold {
			f.logger.Infof("rows without a parent are looked for: %d of the target's %d foreign keys are checked, the next is %s of %s", i, len(keys), k.name, sqlesc.Table(k.child.SchemaName, k.child.TableName))
			told = time.Now()
		}
		if err := f.auditForeignKey(ctx, k); err != nil {
			return fmt.Errorf("looking for rows of %s without a parent by foreign key %s: %w", sqlesc.Table(k.child.SchemaName, k.child.TableName), k.name, err)
		}
		if len(k.doubtful) > 0 {
			f.orphaned = append(f.orphaned, k)
		}
	}
	unlooked := func(k *foreignKeyAudit) bool { return k.unlooked != nil }
	if slices.ContainsFunc(f.orphaned, unlooked) && !f.SkipForeignKeyConstraintsCheck {
		// Behind the fence it would come to the same: nobody could say that all rows have parents.
		return f.judgeOrphans(ctx)
	}
	if len(keys) > 0 {
		f.logger.Infof("%d foreign keys of the target were checked, rows without a parent that may have one on the source were found by %d of them", len(keys), len(f.orphaned))
	}
	return nil
}

// auditForeignKey goes through the orphans of one foreign key in the order of their keys.
func (f *Ferry) auditForeignKey(ctx context.Context, k *foreignKeyAudit) error {
	var after keyTuple
	told, hint := false, ""
	for {
		orphans, err := f.orphansAfter(ctx, k, after, hint)
		if hint != "" && mysqlerr.Number(err) == mysqlerr.NoSuchKey { // it is there, and invisible
			hint = ""
			continue
		}
		if err != nil || len(orphans) == 0 {
			return err
		}
		if len(k.doubtful) >= maxOrphans {
			// Those of pages before may have parents by now.
			if k.doubtful, err = f.lookAgain(ctx, k, k.doubtful); err != nil {
				return err
			}
			if len(k.doubtful) >= maxOrphans {
				k.unlooked = after
				return nil
			}
		}
		if after == nil {
			k.source = f.movedTo(k.parent)
		}
		doubtful, same, err := f.onlyOnTarget(ctx, k, orphans)
		if err != nil {
			return err
		}
		if len(same) > 0 && !told {
			f.logger.WithField(fieldTable, fullTableName(k.child.SchemaName, k.child.TableName)).Warnf("rows of %s have no parent by foreign key %s, on the source as well: keys %s", k.table, k.name, strings.Join(k.texts(same), ", "))
			told = true
		}
		if k.source != nil && len(doubtful) > 0 {
			if doubtful, err = f.lookAgain(ctx, k, doubtful); err != nil {
				return err
			}
		}
		k.doubtful = append(k.doubtful, doubtful...)
		if len(orphans) < maxOrphans {
			return nil
		}
		if after == nil {
			// There are many: by another index all of them would be found again for each page.
			if hint, err = f.keyIndexHint(ctx, k); err != nil {
				return err
			}
		}
		after = orphans[len(orphans)-1]
	}
}

// lookAgain returns those of the rows that are in doubt still when what the source's log has by
// now is on the target: a row may have come there before its parent.
func (f *Ferry) lookAgain(ctx context.Context, k *foreignKeyAudit, doubtful []keyTuple) ([]keyTuple, error) {
	end, err := f.sourceLogEnd(ctx)
	if err != nil {
		return nil, err
	}
	if err := f.BinlogWriter.WaitUntilApplied(ctx, end); err != nil {
		return nil, err
	}
	return f.stillOnlyOnTarget(ctx, k, doubtful)
}

// stillOnlyOnTarget returns those of the rows that still have no parent on the target and one on the source.
func (f *Ferry) stillOnlyOnTarget(ctx context.Context, k *foreignKeyAudit, doubtful []keyTuple) ([]keyTuple, error) {
	orphans, err := f.orphansAmong(ctx, k, doubtful)
	if err != nil {
		return nil, err
	}
	doubtful, _, err = f.onlyOnTarget(ctx, k, orphans)
	return doubtful, err
}

// judgeOrphans looks again for the rows in doubt: when nothing moves any more, or before when the
// verdict is certain. Orphans that the source has, too, are let be: the target is what the source is.
func (f *Ferry) judgeOrphans(ctx context.Context) error {
	defer f.orphanReads.drop()
	verdict := &OrphanRowsError{}
	for _, k := range f.orphaned {
		ours, err := f.stillOnlyOnTarget(ctx, k, k.doubtful)
		if err != nil {
			return fmt.Errorf("looking again for rows of %s without a parent by foreign key %s: %w", sqlesc.Table(k.child.SchemaName, k.child.TableName), k.name, err)
		}
		if len(ours) == 0 && k.unlooked == nil {
			continue
		}
		found := OrphanedForeignKey{
			Table: fullTableName(k.child.SchemaName, k.child.TableName), Name: k.name,
			Parent: fullTableName(k.parent.SchemaName, k.parent.TableName), Keys: k.texts(ours),
		}
		if k.unlooked != nil {
			found.LookedAtUpTo = k.layout.describeKey(k.unlooked)
		}
		verdict.ForeignKeys = append(verdict.ForeignKeys, found)
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

// keyIndexHint returns the hint for the index of the key, which the target need not have.
func (f *Ferry) keyIndexHint(ctx context.Context, k *foreignKeyAudit) (hint string, err error) {
	err = f.targetPatience.do(ctx, f.DBWriteRetries, func(ctx context.Context, _ int) error {
		there, err := hasIndex(ctx, f.TargetDB, k.child, k.layout.keyIndex)
		if there {
			hint = k.layout.forceKeyIndex()
		}
		return err
	})
	return hint, err
}

// orphansAfter returns the first rows of the target behind a key, nil: of all, that have no
// parent, in the order of their keys and not more than maxOrphans.
func (f *Ferry) orphansAfter(ctx context.Context, k *foreignKeyAudit, after keyTuple, hint string) (orphans []keyTuple, err error) {
	err = f.readTarget(ctx, func(ctx context.Context, s *session) error {
		orphans = nil
		stmt := k.appendOrphans(s.statement(), k.child, k.parent, hint, "")
		if after != nil {
			stmt = k.layout.appendAfter(append(stmt, " AND "...), after)
		}
		return k.find(ctx, s, fmt.Appendf(stmt, " ORDER BY %s LIMIT %d", k.layout.keyOrder(false), maxOrphans), &orphans)
	})
	return orphans, err
}

// orphansAmong returns those of the rows that have no parent on the target.
func (f *Ferry) orphansAmong(ctx context.Context, k *foreignKeyAudit, keys []keyTuple) (orphans []keyTuple, err error) {
	err = f.readTarget(ctx, func(ctx context.Context, s *session) error {
		orphans = nil
		return k.findAmong(ctx, s, k.child, k.parent, "", keys, &orphans)
	})
	return orphans, err
}

// onlyOnTarget divides orphans into those that are none on the source and those that are the same
// there. When the parent does not move, its name there is not known, and all are the first.
func (f *Ferry) onlyOnTarget(ctx context.Context, k *foreignKeyAudit, orphans []keyTuple) (only, same []keyTuple, err error) {
	if k.source == nil || len(orphans) == 0 {
		return orphans, nil, nil
	}
	var there []keyTuple
	err = f.sourcePatience.doWhile(ctx, edgeAttempts, retryableRead, func(ctx context.Context, _ int) error {
		return f.reader.readOnce(ctx, f.gate.mark(), func(s *session, suffix string) error {
			there = nil
			return k.findAmong(ctx, s, NewTableIdentifierFromSchemaTable(k.table), NewTableIdentifierFromSchemaTable(k.source), suffix, orphans, &there)
		})
	})
	if err != nil {
		return nil, nil, err
	}
	known := map[string]bool{}
	for _, key := range there {
		known[key.encode()] = true
	}
	for _, key := range orphans {
		if known[key.encode()] {
			same = append(same, key)
		} else {
			only = append(only, key)
		}
	}
	return only, same, nil
}

// readTarget reads of the target, and waits for outages.
func (f *Ferry) readTarget(ctx context.Context, read func(ctx context.Context, s *session) error) error {
	return f.targetPatience.do(ctx, f.DBWriteRetries, func(ctx context.Context, _ int) error {
		s, err := f.orphanReads.get(ctx)
		if err != nil {
			return err
		}
		if err := read(ctx, s); err != nil {
			f.orphanReads.failed(s, err)
			return err
		}
		f.orphanReads.put(ctx, s)
		return nil
	})
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
		var keys []*foreignKeyAudit
		err = f.targetPatience.do(ctx, f.DBWriteRetries, func(ctx context.Context, _ int) (err error) {
			keys, err = readForeignKeys(ctx, f.TargetDB, TableIdentifier{schema, table})
			return err
		})
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

// movedTo returns the table that moves to a name on the target, nil when none does.
func (f *Ferry) movedTo(id TableIdentifier) *TableSchema {
	names := newRewrites(f.DatabaseRewrites, f.TableRewrites)
	for _, t := range f.Tables {
		schema, table := names.table(t.Schema, t.Name)
		if f.targetServer.SameName(schema, id.SchemaName) && f.targetServer.SameName(table, id.TableName) {
			return t
		}
	}
	return nil
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

// appendOrphans appends a query for the keys of a child table's rows that have no parent, to which
// conditions may be added. A row with a NULL in the foreign key needs no parent. suffix is a lock clause.
func (k *foreignKeyAudit) appendOrphans(stmt []byte, child, parent TableIdentifier, hint, suffix string) []byte {
	var conditions, same []string
	for i, column := range k.columns {
		column = "c." + sqlesc.Ident(column)
		conditions = append(conditions, column+" IS NOT NULL")
		same = append(same, "p."+sqlesc.Ident(k.referenced[i])+"="+column)
	}
	return append(stmt, "SELECT "+k.layout.keySelectList()+" FROM "+sqlesc.Table(child.SchemaName, child.TableName)+" AS c"+hint+" WHERE "+
		strings.Join(conditions, " AND ")+" AND NOT EXISTS (SELECT 1 FROM "+sqlesc.Table(parent.SchemaName, parent.TableName)+" AS p WHERE "+strings.Join(same, " AND ")+suffix+")"...)
}

// findAmong appends those of the keys whose rows have no parent.
func (k *foreignKeyAudit) findAmong(ctx context.Context, s *session, child, parent TableIdentifier, suffix string, keys []keyTuple, found *[]keyTuple) error {
	for len(keys) > 0 {
		stmt := append(k.appendOrphans(s.statement(), child, parent, "", suffix), " AND "...)
		stmt, n := k.layout.appendKeyList(stmt, len(keys), maxStatementBytes, func(i int) keyTuple { return keys[i] })
		if err := k.find(ctx, s, append(stmt, suffix...), found); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// find appends the keys that a query returns.
func (k *foreignKeyAudit) find(ctx context.Context, s *session, stmt []byte, found *[]keyTuple) error {
	return s.query(ctx, stmt, func(values []driver.Value) error {
		key, err := k.layout.keyOfValues(values)
		*found = append(*found, key)
		return err
	})
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

// OrphanedForeignKey is a foreign key with rows that have no parent.
type OrphanedForeignKey struct {
	// Table and Parent are "schema.table" on the target, Name is the constraint's.
	Table, Name, Parent string
	// Keys are some of the rows' keys. None, when those that had no parent have one by now, and others
	// were not looked at.
	Keys []string
	// LookedAtUpTo is empty when all rows were looked at. Else a thousand had no parent, and there are
	// more with keys behind this one, which were not looked at: the run has ended before the cutover.
	LookedAtUpTo string
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
		rows := strings.Join(k.Keys, ", ")
		if k.LookedAtUpTo != "" {
			rows = cmp.Or(rows, "none any more of those found first") + "; those behind " + k.LookedAtUpTo + " were not looked at"
		}
		texts = append(texts, fmt.Sprintf("foreign key %s of %s to %s (rows %s)", k.Name, k.Table, k.Parent, rows))
	}
	return fmt.Sprintf("rows of the target have no parent by %s: move the parent tables too, or put the parents there, and run again", strings.Join(texts, "; "))
}
