package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// retryable reports whether a transaction lost against another.
func retryable(err error) bool {
	var e *mysql.MySQLError
	return errors.As(err, &e) && (e.Number == 1213 || e.Number == 1205)
}

// scan calls f with the text of every row of a query; the text is f's until it returns.
func scan(ctx context.Context, db *sql.DB, query string, f func(row []byte) error) error {
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	values, pointers := make([]sql.RawBytes, len(names)), make([]any, len(names))
	for i := range values {
		pointers[i] = &values[i]
	}
	var text []byte
	for rows.Next() {
		if err := rows.Scan(pointers...); err != nil {
			return err
		}
		text = text[:0]
		for _, v := range values {
			if v == nil {
				text = append(text, "NULL,"...)
			} else {
				text = fmt.Appendf(text, "%q,", v)
			}
		}
		if err := f(text); err != nil {
			return err
		}
	}
	return rows.Err()
}

// sameRows compares all rows of a tenant on both sides; it returns how many there are, and
// where the sides differ first, empty when they do not.
func sameRows(ctx context.Context, source, target *sql.DB, tenant int) (rows int64, difference string, err error) {
	for _, name := range tableNames {
		query := fmt.Sprintf("SELECT * FROM %s WHERE tenant_id=%d ORDER BY tenant_id, id", table(name), tenant)
		var expected [][]byte
		if err := scan(ctx, source, query, func(row []byte) error { expected = append(expected, bytes.Clone(row)); return nil }); err != nil {
			return rows, "", err
		}
		at := 0
		err := scan(ctx, target, query, func(row []byte) error {
			if difference == "" && (at >= len(expected) || !bytes.Equal(expected[at], row)) {
				difference = fmt.Sprintf("tenant %d, %s: the target has %s", tenant, name, row)
			}
			at++
			return nil
		})
		if err != nil {
			return rows, "", err
		}
		if difference == "" && at < len(expected) {
			difference = fmt.Sprintf("tenant %d, %s: the target lacks %s", tenant, name, expected[at])
		}
		rows += int64(at)
	}
	return rows, difference, nil
}

// digestOfOthers digests every row of the target that is of none of the tenants that move.
func digestOfOthers(ctx context.Context, target *sql.DB) (string, error) {
	hash := sha256.New()
	for _, name := range tableNames {
		query := fmt.Sprintf("SELECT * FROM %s WHERE tenant_id NOT BETWEEN 1 AND %d ORDER BY tenant_id, id", table(name), tenants)
		err := scan(ctx, target, query, func(row []byte) error { _, err := hash.Write(append(row, '\n')); return err })
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// dumpThreads counts the replicas that a server has.
func dumpThreads(ctx context.Context, db *sql.DB) (n int, err error) {
	// Not of information_schema, which MySQL fails to make while a statement holds bytes that are no text.
	err = scan(ctx, db, "SHOW PROCESSLIST", func(row []byte) error {
		if strings.Contains(string(row), `,"Binlog Dump`) {
			n++
		}
		return nil
	})
	return n, err
}
