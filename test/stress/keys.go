package main

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// keyKind says how one column of a key is written so that texts sort as keys do.
type keyKind int

const (
	signed keyKind = iota
	unsigned
	binary
	collated
)

// table is a moved table: its key columns, which are its first ones or stand where
// ordinals say, and a last column with the version of the row.
type table struct {
	name     string // schema.table
	quoted   string
	columns  []string
	ordinals []int
	kinds    []keyKind
}

// keys writes keys of tables as texts.
type keys struct {
	db      *sql.DB // asked for the order of collated text
	tables  map[string]*table
	weights map[string]string
}

// readKeys looks up the tables of some schemas.
func readKeys(ctx context.Context, db *sql.DB, schemas ...string) (*keys, error) {
	k := &keys{db: db, tables: map[string]*table{}, weights: map[string]string{}}
	for _, schema := range schemas {
		rows, err := db.QueryContext(ctx, `SELECT k.TABLE_NAME, k.COLUMN_NAME, c.ORDINAL_POSITION - 1, c.DATA_TYPE, c.COLUMN_TYPE
FROM information_schema.KEY_COLUMN_USAGE k JOIN information_schema.COLUMNS c USING (TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME)
WHERE k.TABLE_SCHEMA = ? AND k.CONSTRAINT_NAME = 'PRIMARY' ORDER BY k.TABLE_NAME, k.ORDINAL_POSITION`, schema)
		if err != nil {
			return nil, err
		}
		for rows.Next() {
			var name, column, dataType, columnType string
			var ordinal int
			if err := rows.Scan(&name, &column, &ordinal, &dataType, &columnType); err != nil {
				return nil, firstOf(err, rows.Close()) //nolint:sqlclosecheck // one query a schema
			}
			t := k.tables[schema+"."+name]
			if t == nil {
				t = &table{name: schema + "." + name, quoted: "`" + schema + "`.`" + name + "`"}
				k.tables[t.name] = t
			}
			t.columns, t.ordinals = append(t.columns, "`"+column+"`"), append(t.ordinals, ordinal)
			t.kinds = append(t.kinds, kindOf(strings.ToLower(dataType), strings.ToLower(columnType)))
		}
		if err := firstOf(rows.Err(), rows.Close()); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func kindOf(dataType, columnType string) keyKind {
	switch {
	case strings.HasSuffix(dataType, "int") && strings.Contains(columnType, "unsigned"):
		return unsigned
	case strings.HasSuffix(dataType, "int"):
		return signed
	case strings.HasSuffix(dataType, "binary"):
		return binary
	}
	return collated
}

// selectList selects a key as ofTexts wants it.
func (t *table) selectList() string {
	list := make([]string, len(t.columns))
	for i, c := range t.columns {
		list[i] = c
		if t.kinds[i] == collated {
			list[i] = "CAST(" + c + " AS BINARY)"
		}
	}
	return strings.Join(list, ", ")
}

// ofTexts writes a key whose parts are texts, or bytes, as a server gives them.
func (k *keys) ofTexts(ctx context.Context, t *table, parts [][]byte) (string, error) {
	out := make([]string, len(parts))
	for i, part := range parts {
		switch t.kinds[i] {
		case unsigned:
			out[i] = strings.Repeat("0", max(0, 20-len(part))) + string(part)
		case signed:
			n, err := strconv.ParseInt(string(part), 10, 64)
			if err != nil {
				return "", fmt.Errorf("key %q of %s: %w", part, t.name, err)
			}
			out[i] = fmt.Sprintf("%020d", uint64(n)^1<<63)
		case binary:
			out[i] = hex.EncodeToString([]byte(strings.TrimRight(string(part), "\x00")))
		case collated:
			weight, err := k.weight(ctx, t, string(part))
			if err != nil {
				return "", err
			}
			out[i] = weight
		}
	}
	return strings.Join(out, " "), nil
}

// weight asks the server what a text counts for.
func (k *keys) weight(ctx context.Context, t *table, text string) (string, error) {
	text = strings.TrimRight(text, " ") // the shop's collation ignores them
	if w, ok := k.weights[text]; ok {
		return w, nil
	}
	var w string
	err := k.db.QueryRowContext(ctx, "SELECT HEX(WEIGHT_STRING(CONVERT(? USING utf8mb4) COLLATE utf8mb4_unicode_ci))", text).Scan(&w)
	if err != nil {
		return "", fmt.Errorf("key %q of %s: %w", text, t.name, err)
	}
	k.weights[text] = w
	return w, nil
}

// ofEvent writes the key of a row of the log.
func (k *keys) ofEvent(ctx context.Context, t *table, row []any) (string, error) {
	parts := make([][]byte, len(t.ordinals))
	for i, o := range t.ordinals {
		switch v := row[o].(type) {
		case []byte:
			parts[i] = v
		case string:
			parts[i] = []byte(v)
		default:
			parts[i] = fmt.Append(nil, unsignedIf(t.kinds[i] == unsigned, v))
		}
	}
	return k.ofTexts(ctx, t, parts)
}

// unsignedIf undoes that the log does not tell unsigned integers from signed ones.
func unsignedIf(unsigned bool, v any) any {
	if !unsigned {
		return v
	}
	switch n := v.(type) {
	case int8:
		return uint8(n)
	case int16:
		return uint16(n)
	case int32:
		return uint32(n)
	case int64:
		return uint64(n)
	}
	return v
}

// ofCheckpoint writes a bound of a chunk; an open one is "".
func (k *keys) ofCheckpoint(ctx context.Context, t *table, encoded []byte) (string, error) {
	if len(encoded) == 0 {
		return "", nil
	}
	parts := codec.SplitKey(encoded, len(t.columns))
	if len(parts) != len(t.columns) {
		return "", fmt.Errorf("the checkpoint has a key of %d parts for %s", len(parts), t.name)
	}
	return k.ofTexts(ctx, t, parts)
}

// versions reads the version of every row.
func (k *keys) versions(ctx context.Context, conn interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}, t *table) (map[string]uint64, error) {
	rows, err := conn.QueryContext(ctx, "SELECT "+t.selectList()+", stamp FROM "+t.quoted)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	parts := make([][]byte, len(t.columns))
	var stamp uint64
	values := make([]any, 0, len(parts)+1)
	for i := range parts {
		values = append(values, &parts[i])
	}
	values = append(values, &stamp)
	found := map[string]uint64{}
	for rows.Next() {
		if err := rows.Scan(values...); err != nil {
			return nil, err
		}
		key, err := k.ofTexts(ctx, t, parts)
		if err != nil {
			return nil, err
		}
		found[key] = stamp
	}
	return found, rows.Err()
}
