package ghostferry

import (
	"context"
	"encoding/json"
	"fmt"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// indexRecord is what the checkpoint keeps of a table whose indexes are created later. It
// is there from before the first of them is dropped until all are there again.
type indexRecord struct {
	definition string            // SHOW CREATE TABLE of the target's table as it was
	deferred   []indexDefinition // in the order in which they are created
}

// createIndexRecords is the statement for the records' table.
func (c *checkpoint) createIndexRecords() string {
	return "CREATE TABLE IF NOT EXISTS " + c.table("deferred_indexes") + ` (
  run_id VARBINARY(64) NOT NULL, table_number INT NOT NULL, definition LONGBLOB NOT NULL, deferred LONGBLOB NOT NULL,
  PRIMARY KEY (run_id, table_number)) ENGINE=InnoDB`
}

// indexRecords returns the run's records by table number.
func (c *checkpoint) indexRecords(ctx context.Context) (map[int]*indexRecord, error) {
	records := map[int]*indexRecord{}
	existing, err := c.existingTables(ctx, c.db)
	if err != nil || !existing["deferred_indexes"] {
		return records, err
	}
	rows, err := c.db.QueryContext(ctx, "SELECT table_number, definition, deferred FROM "+c.table("deferred_indexes")+" WHERE run_id=?", c.runID)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var number int
		var deferred []byte
		r := &indexRecord{}
		if err := rows.Scan(&number, &r.definition, &deferred); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(deferred, &r.deferred); err != nil {
			return nil, c.damaged(fmt.Sprintf("its record of the indexes of table number %d cannot be read: %v", number, err))
		}
		records[number] = r
	}
	return records, rows.Err()
}

// recordIndexes keeps records, all or none of them.
func (c *checkpoint) recordIndexes(ctx context.Context, tables []*deferredTable) error {
	return c.owned(ctx, func(ctx context.Context, tx *sql.Tx) error {
		for _, t := range tables {
			deferred, err := json.Marshal(t.record.deferred)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "INSERT INTO "+c.table("deferred_indexes")+" (run_id, table_number, definition, deferred) VALUES (?,?,?,?) ON DUPLICATE KEY UPDATE run_id=run_id",
				c.runID, t.number, t.record.definition, deferred); err != nil {
				return err
			}
		}
		return nil
	})
}

// indexesCreated removes a table's record.
func (c *checkpoint) indexesCreated(ctx context.Context, number int) error {
	return c.owned(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "DELETE FROM "+c.table("deferred_indexes")+" WHERE run_id=? AND table_number=?", c.runID, number)
		return err
	})
}
