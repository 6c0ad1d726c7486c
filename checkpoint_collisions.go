package ghostferry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"fmt"
	"strconv"
)

// createCollisions is the table of rows that wait until a row of another move is gone:
// see collisionLedger. A key may be longer than an index takes.
func (c *checkpoint) createCollisions() string {
	return "CREATE TABLE IF NOT EXISTS " + c.table("collisions") + ` (
  run_id VARBINARY(64) NOT NULL, table_number INT NOT NULL, digest BINARY(32) NOT NULL, row_key LONGBLOB NOT NULL,
  PRIMARY KEY (run_id, table_number, digest)) ENGINE=InnoDB`
}

// sharesTable reports whether another run that has not finished moves rows of the table.
func (c *checkpoint) sharesTable(ctx context.Context, s *session, table *TableSchema) (shared bool, err error) {
	stmt := append(s.statement(), "SELECT 1 FROM "+c.table("runs")+" AS r JOIN "+c.table("tables")+" AS t ON t.run_id=r.run_id WHERE r.finished=0 AND r.run_id<>"...)
	stmt = append(appendHex(stmt, []byte(c.runID)), " AND t.source_schema="...)
	stmt = append(appendHex(stmt, []byte(table.Schema)), " AND t.source_table="...)
	stmt = append(appendHex(stmt, []byte(table.Name)), " LIMIT 1"...)
	err = s.query(ctx, stmt, func([]driver.Value) error { shared = true; return nil })
	return shared, err
}

// records reports whether the table is one of the run's, which have a number.
func (c *checkpoint) records(table *TableSchema) bool {
	_, ok := c.tableNumbers[NewTableIdentifierFromSchemaTable(table)]
	return ok
}

func (c *checkpoint) appendTable(dst []byte, table *TableSchema) []byte {
	dst = append(appendHex(append(dst, "run_id="...), []byte(c.runID)), " AND table_number="...)
	return strconv.AppendInt(dst, int64(c.tableNumbers[NewTableIdentifierFromSchemaTable(table)]), 10)
}

// appendCollisions appends the statement that records rows that wait; those that are
// recorded already it locks.
func (c *checkpoint) appendCollisions(dst []byte, table *TableSchema, keys []string) []byte {
	dst = append(dst, "INSERT INTO "+c.table("collisions")+" (run_id, table_number, digest, row_key) VALUES "...)
	number := int64(c.tableNumbers[NewTableIdentifierFromSchemaTable(table)])
	for i, key := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendHex(append(dst, '('), []byte(c.runID)), ',')
		dst = append(strconv.AppendInt(dst, number, 10), ',')
		dst = append(appendDigest(dst, key), ',')
		dst = append(appendHex(dst, []byte(key)), ')')
	}
	return append(dst, " ON DUPLICATE KEY UPDATE run_id="+c.table("collisions")+".run_id"...)
}

// appendSettled appends the statement that takes rows off the record.
func (c *checkpoint) appendSettled(dst []byte, table *TableSchema, keys []string) []byte {
	dst = c.appendTable(append(dst, "DELETE FROM "+c.table("collisions")+" WHERE "...), table)
	dst = append(dst, " AND digest IN ("...)
	for i, key := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendDigest(dst, key)
	}
	return append(dst, ')')
}

func appendDigest(dst []byte, key string) []byte {
	digest := sha256.Sum256([]byte(key))
	return appendHex(dst, digest[:])
}

// recordReadEnd records how far the source's log reached after rows of a table were read
// outside of a chunk.
func (c *checkpoint) recordReadEnd(ctx context.Context, s *session, table *TableSchema) error {
	number := c.tableNumbers[NewTableIdentifierFromSchemaTable(table)]
	row := fmt.Sprintf(" WHERE run_id=0x%x AND number=%d", c.runID, number)
	lock := append(s.statement(), "SELECT number FROM "+c.table("tables")+row+" FOR UPDATE"...)
	if err := s.query(ctx, lock, func([]driver.Value) error { return nil }); err != nil {
		return err
	}
	end := c.readEnd(number)
	update := appendHex(append(s.statement(), "UPDATE "+c.table("tables")+" SET read_file="...), []byte(end.File))
	_, err := s.exec(ctx, fmt.Appendf(update, ", read_pos=%d%s", end.Pos, row))
	return err
}

func (c *checkpoint) loadCollisions(ctx context.Context, db queryer, p *resumePoint) error {
	names := map[int]TableIdentifier{}
	for id, t := range p.tables {
		names[t.number] = id
	}
	rows, err := db.QueryContext(ctx, "SELECT table_number, digest, row_key FROM "+c.table("collisions")+" WHERE run_id=?", c.runID)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	p.collisions = map[TableIdentifier][]string{}
	for rows.Next() {
		var number int
		var digest, key []byte
		if err := rows.Scan(&number, &digest, &key); err != nil {
			return err
		}
		id, known := names[number]
		if sum := sha256.Sum256(key); !known || !bytes.Equal(digest, sum[:]) {
			return c.damaged("the key of a row that waits for another move does not fit its digest")
		}
		p.collisions[id] = append(p.collisions[id], string(key))
	}
	return rows.Err()
}
