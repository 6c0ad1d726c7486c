package integration

import (
	"context"
	"testing"
	"time"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// Transactions with a few rows of some megabytes fill the queue of the apply before their end
// is read: their beginning is applied then, instead of waiting for the end.
func TestTransactionsOfLargeRows(t *testing.T) {
	onSomeSettings(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		p.Create(t, "large_rows", "CREATE TABLE blobs (id INT NOT NULL PRIMARY KEY, b LONGBLOB)")
		p.In(t, p.SourceDB, "large_rows", "INSERT INTO blobs VALUES (1,REPEAT('1',2500000)),(2,REPEAT('2',2500000))")
		f := &ghostferry.Ferry{Config: p.Config("large_rows")}
		err := harness.Move(ctx, f, func() error {
			p.In(t, p.SourceDB, "large_rows",
				"INSERT INTO blobs VALUES (3,REPEAT('3',5000000)),(4,REPEAT('4',5000000))",
				"INSERT INTO blobs VALUES (5,REPEAT('5',3000000)),(6,REPEAT('6',3000000)),(7,REPEAT('7',3000000)),(8,REPEAT('8',3000000))",
				"UPDATE blobs SET b=CONCAT('x',b) WHERE id <= 2",
				"UPDATE blobs SET b=CONCAT('y',b) WHERE id BETWEEN 3 AND 6",
				"DELETE FROM blobs WHERE id IN (4,7)")
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		p.MustEqual(t, "large_rows")
	})
}
