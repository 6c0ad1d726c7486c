package sharding

import (
	"context"
	sqlorig "database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-sql-driver/mysql"

	"github.com/ghostferry-go/ghostferry"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// duplicateOf tells whether an error says that a row has a unique value that is taken, and in
// which index, where the server's text tells it.
func (t *joinedTable) duplicateOf(err error) (index string, is bool) {
	var refused *mysql.MySQLError
	if !errors.As(err, &refused) || refused.Number != duplicate {
		return "", false
	}
	const before = " for key '" // in the value, too, perhaps
	_, name, _ := strings.Cut(refused.Message[max(0, strings.LastIndex(refused.Message, before)):], before)
	return strings.TrimPrefix(strings.TrimSuffix(name, "'"), t.schema.Name+"."), true
}

// makeWay removes the row that this move has brought and that still holds a unique value which
// another row has on the source by now. It is noted, and brought again as it is by then. False
// when somebody else's row, or one that another tenant shares, holds the value.
func (j *joinedTables) makeWay(ctx context.Context, tx *sql.Tx, t *joinedTable, key, index string, values [][]byte, present map[string]*joinedRow) (made bool, err error) {
	where, args := t.holds(index, values)
	if where == "" {
		return false, nil
	}
	holders, err := column(ctx, tx, "SELECT CAST(j."+t.key+" AS BINARY) FROM "+t.onTarget+" AS j WHERE "+where+" FOR UPDATE", args...)
	if err != nil {
		return false, err
	}
	for _, holder := range holders {
		text, _ := holder.([]byte)
		if string(text) == key {
			continue
		}
		result, err := tx.ExecContext(ctx, "DELETE FROM "+t.onTarget+j.ours(t, nil), t.number(text), j.run, t.schema.Name, text)
		if err != nil {
			return false, err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return false, err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+j.record+" WHERE run_id=? AND name=? AND row_key=?", j.run, t.schema.Name, text); err != nil {
			return false, err
		}
		delete(present, string(text))
		j.noteKey(t, text)
		made = true
	}
	return made, nil
}

// holds is the condition of the row that has a row's values in a unique index; empty where the
// index is not known by its columns.
func (t *joinedTable) holds(index string, values [][]byte) (where string, args []any) {
	for _, of := range t.schema.Indexes {
		if !strings.EqualFold(of.Name, index) {
			continue
		}
		for _, name := range of.Columns {
			at := slices.Index(t.ordinals, t.schema.FindColumn(name))
			if at < 0 {
				return "", nil
			}
			equals := "=?"
			if collation := t.schema.Columns[t.ordinals[at]].Collation; collation != "" && collation != "binary" {
				charset, _, _ := strings.Cut(collation, "_")
				equals = "=CONVERT(? USING " + charset + ") COLLATE " + collation
			}
			where, args = where+" AND j."+ghostferry.QuoteField(name)+equals, append(args, values[at])
		}
	}
	return strings.TrimPrefix(where, " AND "), args
}

// conflict says that a row of others is in the way of the one with the key.
func (t *joinedTable) conflict(key, index string) error {
	return &ghostferry.TargetConflictError{Table: t.onTarget, Key: t.shown(key), Index: index, Others: true}
}

// sharedConflict says that a row which others use is not what it is on the source.
func (t *joinedTable) sharedConflict(key string) error {
	return fmt.Errorf("%w: it is a joined row that the tenant shares on the target with rows that are there to stay, or that this move has not brought, and the source has other values: "+
		"make the two rows equal, on the side where a change does no harm, and run the same command again; let nobody change rows that tenants share while one of them is moved and another was", t.conflict(key, "PRIMARY"))
}

// shown is a key for messages.
func (t *joinedTable) shown(key string) string {
	if utf8.ValidString(key) && !strings.ContainsFunc(key, unicode.IsControl) {
		return key
	}
	return fmt.Sprintf("0x%x", key)
}

// queryer is a pool or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sqlorig.Rows, error)
}

// each calls row for every row of a query.
func each(ctx context.Context, q queryer, query string, args []any, row func(values [][]byte)) error {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	for rows.Next() {
		values, err := ghostferry.ScanByteRow(rows, len(names))
		if err != nil {
			return err
		}
		row(values)
	}
	return errors.Join(rows.Err(), rows.Close())
}

// column returns the only column of a query.
func column(ctx context.Context, q queryer, query string, args ...any) (values []any, err error) {
	err = each(ctx, q, query, args, func(row [][]byte) { values = append(values, row[0]) })
	return values, err
}
