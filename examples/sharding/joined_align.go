package sharding

import (
	"bytes"
	"context"
	sqlorig "database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-mysql-org/go-mysql/schema"

	"github.com/ghostferry-go/ghostferry"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// joinedRow is a row on the target.
type joinedRow struct {
	values    [][]byte
	brought   bool // by this move
	other     bool // rows of others use it
	elsewhere bool // another move has brought it
	// With siblings: one of them has brought it; only they and this move use it.
	sibling, together bool
}

func (r *joinedRow) othersUse() bool { return r.other || r.elsewhere }

// align makes the rows with the keys what they are on the source, in one transaction.
func (j *joinedTables) align(ctx context.Context, t *joinedTable, keys []any) error {
	marks := placeholders(len(keys))
	wanted, err := j.sourceRows(ctx, t, marks, keys)
	if err != nil {
		return err
	}
	err = j.ferry.InOwnedTransaction(ctx, func(ctx context.Context, tx *sql.Tx) error { return j.alignWith(ctx, tx, t, nil, marks, keys, wanted) })
	if !errors.Is(err, errTogether) {
		return err
	}
	return j.ferry.InOwnedTransaction(ctx, func(ctx context.Context, tx *sql.Tx) error {
		with, err := j.siblings(ctx, tx, t) // first, for its locks
		if err != nil {
			return err
		}
		// With nothing read beside them: what the transaction sees from its first such read on is as
		// new as these locks, and the flags of targetRows are right.
		if _, err = column(ctx, tx, "SELECT 1 FROM "+t.onTarget+" AS j WHERE j."+t.key+" IN ("+marks+") FOR UPDATE", keys...); err != nil {
			return err
		}
		// Once more: a sibling may have written a newer value since, and had its last look.
		if wanted, err = j.sourceRows(ctx, t, marks, keys); err != nil {
			return err
		}
		return j.alignWith(ctx, tx, t, with, marks, keys, wanted)
	})
}

// alignWith is align in a transaction. Without siblings it fails with errTogether when they matter.
func (j *joinedTables) alignWith(ctx context.Context, tx *sql.Tx, t *joinedTable, with *siblings, marks string, keys []any, wanted map[string][][]byte) error {
	present, err := j.targetRows(ctx, tx, t, with, marks, keys)
	if err != nil {
		return err
	}
	for key := range wanted {
		row := present[key]
		switch {
		case row == nil || row.brought && !row.other:
		case with == nil && (!row.brought || !equal(wanted[key], row.values)): // others use it, or brought it: siblings, perhaps
			return errTogether
		case row.sibling && !row.brought: // it is this move's to take back as well
			if err := j.recordRow(ctx, tx, t, key); err != nil {
				return err
			}
		}
	}
	// First: a key that only looks different, by its case, is the same for the target.
	for key, row := range present {
		if _, stays := wanted[key]; !stays && row.brought {
			if err := j.drop(ctx, tx, t, key, row); err != nil {
				return err
			}
		}
	}
	for key, values := range wanted {
		if err := j.put(ctx, tx, t, with, key, values, present); err != nil {
			return err
		}
	}
	return nil
}

// sourceRows reads the tenant's rows with the keys, by the key's text.
func (j *joinedTables) sourceRows(ctx context.Context, t *joinedTable, marks string, keys []any) (map[string][][]byte, error) {
	rows := map[string][][]byte{}
	err := each(ctx, j.source, "SELECT "+t.selected("j")+" FROM "+t.onSource+" AS j WHERE j."+t.key+" IN ("+marks+") AND "+t.belongs("j", j.locking)+j.locking, keys,
		func(values [][]byte) { rows[string(values[0])] = values[1:] })
	return rows, err
}

// targetRows reads the rows with the keys, whosever, and locks them.
func (j *joinedTables) targetRows(ctx context.Context, tx *sql.Tx, t *joinedTable, with *siblings, marks string, keys []any) (map[string]*joinedRow, error) {
	recorded := func(which string) string {
		return "EXISTS (SELECT 1 FROM " + j.record + " WHERE name=? AND row_key=CAST(j." + t.key + " AS BINARY) AND run_id" + which + ")"
	}
	flags := []string{recorded("=?"), t.shared("j", nil, false), recorded("<>?"), "FALSE", "FALSE"}
	args := []any{t.schema.Name, j.run, t.schema.Name, j.run}
	if with != nil && len(with.runs) > 0 {
		flags[3], flags[4] = recorded(" IN ("+placeholders(len(with.runs))+")"), "NOT "+t.shared("j", with, false)
		args = append(append(args, t.schema.Name), with.runs...)
	}
	rows := map[string]*joinedRow{}
	err := each(ctx, tx, "SELECT "+strings.Join(flags, ",")+","+t.selected("j")+" FROM "+t.onTarget+" AS j WHERE j."+t.key+" IN ("+marks+") FOR UPDATE", append(args, keys...), func(values [][]byte) {
		is := func(flag int) bool { return string(values[flag]) == "1" }
		row := &joinedRow{brought: is(0), other: is(1), elsewhere: is(2), sibling: is(3), values: values[len(flags)+1:]}
		row.together = is(4) && (row.brought || row.sibling)
		rows[string(values[len(flags)])] = row
	})
	return rows, err
}

func placeholders(n int) string { return strings.TrimSuffix(strings.Repeat("?,", n), ",") }

func (j *joinedTables) recordRow(ctx context.Context, tx *sql.Tx, t *joinedTable, key string) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO "+j.record+" (run_id,name,row_key) VALUES (?,?,?) ON DUPLICATE KEY UPDATE run_id=run_id", j.run, t.schema.Name, []byte(key))
	return err
}

// selected is the key as bytes and all columns, FLOAT as the exact number that it is.
func (t *joinedTable) selected(alias string) string {
	exprs := []string{"CAST(" + alias + "." + t.key + " AS BINARY)"}
	for i, quoted := range t.columns {
		expr := alias + "." + quoted
		if strings.HasPrefix(strings.ToLower(t.schema.Columns[t.ordinals[i]].RawType), "float") {
			expr += "*1e0"
		}
		exprs = append(exprs, expr)
	}
	return strings.Join(exprs, ",")
}

// put inserts a row, or changes one that this move has brought.
func (j *joinedTables) put(ctx context.Context, tx *sql.Tx, t *joinedTable, with *siblings, key string, values [][]byte, present map[string]*joinedRow) error {
	for {
		err := j.write(ctx, tx, t, with, key, values, present[key])
		index, is := t.duplicateOf(err)
		if !is {
			return err
		}
		if index == "PRIMARY" { // somebody was faster, and the whole transaction looks again; or it is the same by collation only
			return fmt.Errorf("%w: %w", t.conflict(key, index), err)
		}
		if made, failed := j.makeWay(ctx, tx, t, key, index, values, present); failed != nil {
			return failed
		} else if !made {
			return t.conflict(key, index)
		}
	}
}

// write is put for a row whose unique values are free.
func (j *joinedTables) write(ctx context.Context, tx *sql.Tx, t *joinedTable, with *siblings, key string, values [][]byte, row *joinedRow) error {
	args := make([]any, len(values))
	for i, v := range values {
		if v != nil {
			args[i] = v
		}
	}
	var err error
	switch {
	case row == nil:
		if _, err = tx.ExecContext(ctx, "INSERT INTO "+t.onTarget+" ("+strings.Join(t.columns, ",")+") VALUES ("+placeholders(len(args))+")", args...); err == nil {
			err = j.recordRow(ctx, tx, t, key)
		}
	case equal(values, row.values):
		return nil
	case !row.together && (!row.brought || row.other):
		return t.sharedConflict(key)
	default:
		args = append(args, t.number([]byte(key)), j.run, t.schema.Name, []byte(key)) //nolint:makezero // the values come first
		var result sqlorig.Result
		if result, err = tx.ExecContext(ctx, "UPDATE "+t.onTarget+" SET "+strings.Join(t.columns, "=?,")+"=?"+j.ours(t, with), args...); err == nil {
			if n, counted := result.RowsAffected(); counted == nil && n == 0 {
				err = errLookAgain
			}
		}
	}
	if err != nil {
		return fmt.Errorf("row %s: %w", t.shown(key), err)
	}
	return nil
}

// ours is the condition of every statement that changes joined rows: one of this move, and
// of nobody else but, unless nil, the siblings.
func (j *joinedTables) ours(t *joinedTable, with *siblings) string {
	return " WHERE " + t.onTarget + "." + t.key + "=? AND EXISTS (SELECT 1 FROM " + j.record + " WHERE run_id=? AND name=? AND row_key=?) AND NOT " + t.shared(t.onTarget, with, true)
}

// drop removes a row that this move has brought and that is no longer the tenant's. One
// that others point to by now is theirs, and so is one that another move has brought as well: what
// points to it may still be on its way.
func (j *joinedTables) drop(ctx context.Context, tx *sql.Tx, t *joinedTable, key string, row *joinedRow) error {
	if !row.othersUse() {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+t.onTarget+j.ours(t, nil), t.number([]byte(key)), j.run, t.schema.Name, []byte(key)); err != nil {
			return fmt.Errorf("row %s: %w", t.shown(key), err)
		}
	}
	_, err := tx.ExecContext(ctx, "DELETE FROM "+j.record+" WHERE run_id=? AND name=? AND row_key=?", j.run, t.schema.Name, []byte(key))
	return err
}

// removeAll removes every row that this move has brought and nobody else points to, and
// returns how many.
func (j *joinedTables) removeAll(ctx context.Context) (removed int64, err error) {
	for _, t := range j.tables {
		keys, err := column(ctx, j.target, "SELECT row_key FROM "+j.record+" WHERE run_id=? AND name=?", j.run, t.schema.Name)
		if err != nil {
			return removed, err
		}
		for some := range slices.Chunk(keys, joinedPage) {
			n, err := j.remove(ctx, t, some)
			if err != nil {
				return removed, err
			}
			removed += n
		}
	}
	return removed, nil
}

func (j *joinedTables) remove(ctx context.Context, t *joinedTable, keys []any) (removed int64, err error) {
	args := make([]any, len(keys))
	for i, key := range keys {
		args[i] = t.number(key)
	}
	err = again(func() error {
		removed = 0
		return j.ferry.InOwnedTransaction(ctx, func(ctx context.Context, tx *sql.Tx) error {
			rows, err := j.targetRows(ctx, tx, t, nil, placeholders(len(keys)), args)
			if err != nil {
				return err
			}
			for text, row := range rows {
				if err := j.drop(ctx, tx, t, text, row); err != nil {
					return err
				}
				if !row.othersUse() {
					removed++
				}
			}
			return nil
		})
	})
	if err != nil {
		return 0, err
	}
	return removed, nil
}

func equal(a, b [][]byte) bool {
	for i := range a {
		if !bytes.Equal(a[i], b[i]) || (a[i] == nil) != (b[i] == nil) {
			return false
		}
	}
	return len(a) == len(b)
}

// isUnique reports whether a column by itself tells a table's rows apart.
func isUnique(table *ghostferry.TableSchema, column string) bool {
	return slices.ContainsFunc(table.Indexes, func(index *schema.Index) bool {
		return index.NoneUnique == 0 && len(index.Columns) == 1 && strings.EqualFold(index.Columns[0], column)
	})
}
