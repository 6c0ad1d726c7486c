package ghostferry

import (
	"context"
	"database/sql/driver"
	"fmt"
)

// collisionsTable is the table of rows that wait until a row of another move is gone: see
// collisionLedger.
const collisionsTable = "collisions"

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

// recordReadEnd records how far the source's log reached after rows of a table were read
// outside of a chunk.
func (c *checkpoint) recordReadEnd(ctx context.Context, s *session, table *TableSchema) error {
	number := c.number(table)
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
