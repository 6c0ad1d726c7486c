//go:build trace

package trace

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/ghostferry-go/ghostferry/test/harness"
)

func createTables(t *testing.T, p *harness.Pair) {
	t.Helper()
	p.Create(t, schema,
		"CREATE TABLE rotated (id INT NOT NULL PRIMARY KEY, u INT NULL, n INT NOT NULL, UNIQUE KEY u (u))",
		"CREATE TABLE plain (id BIGINT NOT NULL PRIMARY KEY, n INT NOT NULL)",
		"CREATE TABLE words (word VARCHAR(20) NOT NULL PRIMARY KEY, n INT NOT NULL)")
	insert := func(table, format string) string {
		values := make([]string, rows)
		for i := range values {
			values[i] = fmt.Sprintf(format, i+1)
		}
		return "INSERT INTO " + table + " VALUES " + strings.Join(values, ",")
	}
	p.In(t, p.SourceDB, schema, insert("rotated", "(%[1]d,%[1]d,0)"), insert("plain", "(%[1]d,0)"), insert("words", "('w%[1]d',0)"))
}

// anyRow is one of all rows, or of a few hot ones.
func anyRow(tx *harness.Tx) int {
	if tx.Rand.IntN(3) == 0 {
		return 1 + tx.Rand.IntN(hotRows)*(rows/hotRows)
	}
	return 1 + tx.Rand.IntN(rows)
}

// rotate hands unique values round among some rows, by way of NULL.
func rotate(ctx context.Context, tx *harness.Tx) error {
	ids := []int{anyRow(tx), anyRow(tx), anyRow(tx)}
	values := make([]any, len(ids))
	for i, id := range ids {
		var u *int
		if err := tx.QueryRowContext(ctx, "SELECT u FROM "+schema+".rotated WHERE id=? FOR UPDATE", id).Scan(&u); err != nil {
			return nil // moved or deleted
		}
		values[i] = u
		if err := tx.Exec("UPDATE "+schema+".rotated SET u=NULL, n=n+1 WHERE id=?", id); err != nil {
			return err
		}
	}
	for i, id := range ids {
		if err := tx.Exec("UPDATE "+schema+".rotated SET u=? WHERE id=?", values[(i+1)%len(values)], id); err != nil {
			return err
		}
	}
	return nil
}

// moveKeys moves rows to other keys, across chunks, deletes some and puts others in
// with the unique value of the one that went.
func moveKeys(_ context.Context, tx *harness.Tx) error {
	id, other := anyRow(tx), anyRow(tx)
	switch tx.Rand.IntN(3) {
	case 0:
		return tx.Exec("UPDATE "+schema+".rotated SET id=? WHERE id=?", other, id) // mostly a duplicate
	case 1:
		return tx.Exec("UPDATE "+schema+".rotated SET id=? WHERE id=?", rows+other, id)
	}
	if err := tx.Exec("DELETE FROM "+schema+".rotated WHERE id=?", id); err != nil {
		return err
	}
	return tx.Exec("INSERT INTO "+schema+".rotated VALUES (?,?,0)", rows+other, id)
}

func plainRows(_ context.Context, tx *harness.Tx) error {
	id, other := anyRow(tx), anyRow(tx)
	switch tx.Rand.IntN(4) {
	case 0:
		return tx.Exec("DELETE FROM "+schema+".plain WHERE id=?", id)
	case 1:
		return tx.Exec("INSERT INTO "+schema+".plain VALUES (?,1)", -id)
	case 2:
		return tx.Exec("UPDATE "+schema+".plain SET id=? WHERE id=?", -other, id)
	}
	return tx.Exec("UPDATE "+schema+".plain SET n=n+1 WHERE id=?", id)
}

func words(_ context.Context, tx *harness.Tx) error {
	word := fmt.Sprintf("w%d", anyRow(tx))
	if tx.Rand.IntN(3) > 0 {
		return tx.Exec("UPDATE "+schema+".words SET n=n+1 WHERE word=?", word)
	}
	return tx.Exec("UPDATE "+schema+".words SET word=? WHERE word=?", "v"+word, word)
}

// large is a transaction that does not fit in a small batch.
func large(_ context.Context, tx *harness.Tx) error {
	id := anyRow(tx)
	if tx.Rand.IntN(5) > 0 {
		return tx.Exec("UPDATE "+schema+".plain SET n=n+1 WHERE id=?", id)
	}
	for i := range 25 {
		if err := tx.Exec("UPDATE "+schema+".plain SET n=n+1 WHERE id=?", id+i); err != nil {
			return err
		}
	}
	return nil
}
