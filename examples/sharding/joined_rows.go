package sharding

import (
	"context"
	sqlorig "database/sql"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-sql-driver/mysql"

	"github.com/ghostferry-go/ghostferry"
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

// conflict says that a row of others is in the way of the one with the key.
func (t *joinedTable) conflict(key, index string) error {
	return &ghostferry.TargetConflictError{Table: t.onTarget, Key: t.shown(key), Index: index, Others: true}
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
