package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// verdict is what became of the rows of one road in one table.
type verdict struct {
	rows        int    // on the source
	differences string // the first one, empty when there is none
}

// judge compares a table on both servers, row by row, by what the servers say of every bit.
func (w *world) judge(ctx context.Context, t *table) (map[int]verdict, error) {
	source, err := t.read(ctx, w.sourceDB)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	target, err := t.read(ctx, w.targetDB)
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	verdicts := map[int]verdict{}
	for n, road := range roads {
		numbers := t.rowsOf(n)
		if len(numbers) == 0 {
			continue
		}
		var v verdict
		fail := func(r int, what string) {
			if v.differences == "" {
				v.differences = fmt.Sprintf("row %d %s", r, what)
			}
		}
		for _, i := range numbers {
			r := rowNumber(n, i)
			there, here := source[r], target[r]
			if there != "" {
				v.rows++
			}
			switch {
			case (there == "") != (road.kind == remove):
				fail(r, "is not on the source as it was written: the case is wrong")
			case there != here:
				fail(r, fmt.Sprintf("(%s): source %.200s, target %.200s", strings.Join(t.Values[i], ","), there, here))
			}
			delete(source, r)
			delete(target, r)
		}
		verdicts[n] = v
	}
	delete(source, lastRow)
	if target[lastRow] != "" {
		delete(target, lastRow)
	}
	for r := range target {
		v := verdicts[0]
		v.differences = fmt.Sprintf("row %d is on the target only", r)
		verdicts[0] = v
	}
	return verdicts, nil
}

// read returns what a server says of every row, by r.
func (t *table) read(ctx context.Context, db *sql.DB) (map[int]string, error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		_ = conn.Close()
	}()
	if _, err := conn.ExecContext(ctx, "SET SESSION sql_mode='', time_zone='+00:00'"); err != nil {
		return nil, err
	}
	shows := t.show()
	rows, err := conn.QueryContext(ctx, "SELECT r,"+strings.Join(shows, ",")+" FROM "+sqlesc.Table(t.schema, t.name))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[int]string{}
	texts := make([]sql.NullString, len(shows))
	for rows.Next() {
		var r int
		into := []any{&r}
		for i := range texts {
			into = append(into, &texts[i])
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		var b strings.Builder
		for _, text := range texts {
			if !text.Valid {
				text.String = "NULL"
			}
			b.WriteString(text.String + "|")
		}
		if out[r] != "" {
			return nil, fmt.Errorf("row %d is there twice", r)
		}
		out[r] = b.String()
	}
	return out, rows.Err()
}
