package ghostferry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"strconv"
)

// Two tables of the checkpoint hold keys of rows: collisions and debts. A key may be longer
// than an index takes, so its digest stands for it there, and tells whether it is damaged.

func (c *checkpoint) createKeys(name string) string {
	return "CREATE TABLE IF NOT EXISTS " + c.table(name) + ` (
  run_id VARBINARY(64) NOT NULL, table_number INT NOT NULL, digest BINARY(32) NOT NULL, row_key LONGBLOB NOT NULL,
  PRIMARY KEY (run_id, table_number, digest)) ENGINE=InnoDB`
}

func (c *checkpoint) number(table *TableSchema) int {
	return c.tableNumbers[NewTableIdentifierFromSchemaTable(table)]
}

// appendKeys appends the statement that records keys of a table of the run; those that are
// recorded already it locks.
func (c *checkpoint) appendKeys(dst []byte, name string, number int, keys []string) []byte {
	dst = append(dst, "INSERT INTO "+c.table(name)+" (run_id, table_number, digest, row_key) VALUES "...)
	for i, key := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendHex(append(dst, '('), []byte(c.runID)), ',')
		dst = append(strconv.AppendInt(dst, int64(number), 10), ',')
		dst = append(appendDigest(dst, key), ',')
		dst = append(appendHex(dst, []byte(key)), ')')
	}
	return append(dst, " ON DUPLICATE KEY UPDATE run_id="+c.table(name)+".run_id"...)
}

// appendStruck appends the statement that takes keys off the record.
func (c *checkpoint) appendStruck(dst []byte, name string, number int, keys []string) []byte {
	dst = appendHex(append(dst, "DELETE FROM "+c.table(name)+" WHERE run_id="...), []byte(c.runID))
	dst = strconv.AppendInt(append(dst, " AND table_number="...), int64(number), 10)
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

// eachKey calls f for every key that is recorded. what says of which rows, should one be damaged.
func (c *checkpoint) eachKey(ctx context.Context, db queryer, name, what string, f func(number int, key string) error) error {
	rows, err := db.QueryContext(ctx, "SELECT table_number, digest, row_key FROM "+c.table(name)+" WHERE run_id=?", c.runID)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var number int
		var digest, key []byte
		if err := rows.Scan(&number, &digest, &key); err != nil {
			return err
		}
		if sum := sha256.Sum256(key); !bytes.Equal(digest, sum[:]) {
			return c.damaged("the key of " + what + " does not fit its digest")
		}
		if err := f(number, string(key)); err != nil {
			return err
		}
	}
	return rows.Err()
}

// loadKeys is eachKey by the run's tables, which have numbers from 1.
func (c *checkpoint) loadKeys(ctx context.Context, db queryer, name, what string, p *resumePoint) (map[TableIdentifier][]string, error) {
	names := map[int]TableIdentifier{}
	for id, t := range p.tables {
		names[t.number] = id
	}
	keys := map[TableIdentifier][]string{}
	err := c.eachKey(ctx, db, name, what, func(number int, key string) error {
		id, known := names[number]
		switch {
		case number == 0:
			return nil
		case !known:
			return c.damaged(what + " is of table number " + strconv.Itoa(number) + ", which it does not know")
		case decodeTuple([]byte(key)).encode() != key:
			return c.damaged("the key of " + what + " cannot be read")
		}
		keys[id] = append(keys[id], key)
		return nil
	})
	return keys, err
}
