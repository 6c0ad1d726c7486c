package ghostferry

import (
	"context"
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/server"
)

// enumZeroRows bounds a statement with ENUM values of index 0: each of them is a warning,
// and servers keep 64 at least (max_error_count).
const enumZeroRows = 16

// holdsEnumZero reports whether the row has an ENUM value of index 0, which stands for
// text that is none of the members. In strict mode no statement stores it.
func (l *tableLayout) holdsEnumZero(r rowRef) bool {
	for _, c := range l.enums {
		if v := r.rows.Value(r.row, c); len(v) == 1 && v[0] == '0' {
			return true
		}
	}
	return false
}

// splitEnumZeros takes the rows with such values out, without changing rows.
func (l *tableLayout) splitEnumZeros(rows []rowRef) (others, zeros []rowRef) {
	for i, r := range rows {
		switch {
		case l.holdsEnumZero(r):
			if zeros == nil {
				others = append([]rowRef(nil), rows[:i]...)
			}
			zeros = append(zeros, r)
		case zeros != nil:
			others = append(others, r)
		}
	}
	if zeros == nil {
		return rows, nil
	}
	return others, zeros
}

// insertEnumZeros is insert for rows with ENUM values of index 0, in a session that is
// not strict meanwhile. Every warning has to be about one of these values: otherwise
// another one was not stored as it is.
func (w *tableWriter) insertEnumZeros(ctx context.Context, s *session, rows []rowRef, columns []int, tail string) (total int64, err error) {
	if _, err := s.execText(ctx, "SET SESSION sql_mode="+server.LooseMode); err != nil {
		return 0, err
	}
	defer func() { // also behind a duplicate, after which the session goes on
		if _, strict := s.execText(ctx, "SET SESSION sql_mode="+server.StrictMode); strict != nil && err == nil {
			err = strict
		}
	}()
	for len(rows) > 0 {
		n := min(len(rows), max(1, enumZeroRows/len(w.layout.enums)))
		affected, n, err := w.insertSome(ctx, s, rows[:n], columns, tail) // one statement: it has the warnings
		if err != nil {
			return total, err
		}
		if err := w.onlyEnumWarnings(ctx, s); err != nil {
			return total, err
		}
		total += affected
		rows = rows[n:]
	}
	return total, nil
}

// onlyEnumWarnings looks at the warnings of the last statement.
func (w *tableWriter) onlyEnumWarnings(ctx context.Context, s *session) error {
	const dataTruncated = "1265"
	return s.query(ctx, append(s.statement(), "SHOW WARNINGS"...), func(values []driver.Value) error {
		code, text := warningText(values[1]), warningText(values[2])
		for _, c := range w.layout.enums {
			if code == dataTruncated && strings.Contains(text, "column '"+w.layout.columns[c].Name+"' at row") {
				return nil
			}
		}
		return fmt.Errorf("%s: a row with an ENUM value of index 0 was not stored as it is: %s %s", w.quoted, code, text)
	})
}

// enumColumns are the columns that may hold such values.
func enumColumns(columns []codec.Column) (enums []int) {
	for i := range columns {
		if columns[i].Kind == codec.Enum && !columns[i].Generated {
			enums = append(enums, i)
		}
	}
	return enums
}
