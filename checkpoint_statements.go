package ghostferry

import (
	"context"
	"database/sql/driver"
	"encoding/hex"
	"strconv"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// appendChunk appends the statement that records a chunk as copied, if this process
// still owns the run: its result is one row, or none when fenced or recorded before.
func (c *checkpoint) appendChunk(dst []byte, ch *chunk, rows int) []byte {
	dst = append(dst, "INSERT INTO "+c.table("chunks")+" (run_id, table_number, number, low, high, rows_copied, sum, read_file, read_pos) SELECT run_id,"...)
	dst = strconv.AppendInt(dst, int64(c.number(ch.table)), 10)
	dst = append(dst, ',')
	dst = strconv.AppendUint(dst, ch.number, 10)
	dst = append(dst, ',')
	if ch.low == nil {
		dst = append(dst, "NULL"...)
	} else {
		dst = appendHex(dst, []byte(ch.low.encode()))
	}
	dst = appendHex(append(dst, ','), []byte(ch.high.encode()))
	dst = append(dst, ',')
	dst = append(strconv.AppendInt(dst, int64(rows), 10), ',')
	dst = append(strconv.AppendUint(dst, uint64(c.sumOf(ch, nil)), 10), ',')
	dst = append(appendHex(dst, []byte(ch.readEnd.File)), ',')
	dst = strconv.AppendUint(dst, ch.readEnd.Pos, 10)
	dst = append(dst, " FROM "+c.table("runs")+" WHERE run_id="...)
	dst = appendHex(dst, []byte(c.runID))
	dst = append(dst, " AND epoch="...)
	dst = strconv.AppendUint(dst, c.epoch, 10)
	return append(dst, c.server.LockingReadSuffix()...)
}

// sumOf is the checksum of a chunk's row with skipped keys.
func (c *checkpoint) sumOf(ch *chunk, debts []byte) uint32 {
	var low []byte
	if ch.low != nil {
		low = []byte(ch.low.encode())
	}
	return chunkSum(c.number(ch.table), ch.number, low, []byte(ch.high.encode()), debts)
}

// appendDebts appends the statement that keeps a chunk's skipped keys with its record.
func (c *checkpoint) appendDebts(dst []byte, ch *chunk, keys []string) []byte {
	var list []byte
	for _, key := range keys {
		list = codec.AppendKeyPart(list, []byte(key))
	}
	dst = append(dst, "UPDATE "+c.table("chunks")+" SET debts="...)
	dst = append(appendHex(dst, list), ", sum="...)
	return c.appendWhereChunk(strconv.AppendUint(dst, uint64(c.sumOf(ch, list)), 10), ch)
}

func (c *checkpoint) appendWhereChunk(dst []byte, ch *chunk) []byte {
	dst = append(appendHex(append(dst, " WHERE run_id="...), []byte(c.runID)), " AND table_number="...)
	dst = strconv.AppendInt(dst, int64(c.number(ch.table)), 10)
	return strconv.AppendUint(append(dst, " AND number="...), ch.number, 10)
}

// debtsOf returns the skipped keys of a chunk that is recorded.
func (c *checkpoint) debtsOf(ctx context.Context, s *session, ch *chunk) (keys []string, err error) {
	stmt := c.appendWhereChunk(append(s.statement(), "SELECT debts FROM "+c.table("chunks")...), ch)
	err = s.query(ctx, stmt, func(values []driver.Value) error {
		debts, _ := values[0].([]byte)
		keys = decodeDebts(debts)
		return nil
	})
	return keys, err
}

// appendRechecks appends the statement that remembers rows to be compared again.
func (c *checkpoint) appendRechecks(dst []byte, table *TableSchema, keys []string) []byte {
	dst = append(dst, "INSERT INTO "+c.table("rechecks")+" (run_id, table_number, row_key, sum) VALUES "...)
	number := c.number(table)
	for i, key := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendHex(append(dst, '('), []byte(c.runID)), ',')
		dst = append(strconv.AppendInt(dst, int64(number), 10), ',')
		dst = append(appendHex(dst, []byte(key)), ',')
		dst = append(strconv.AppendUint(dst, uint64(recheckSum(number, key)), 10), ')')
	}
	return dst
}

// appendIntent appends the statement that records how far a lane is about to execute;
// it affects no row when this process was fenced, or when the same intent stands there.
func (c *checkpoint) appendIntent(dst []byte, lane int, to executedUpTo) []byte {
	dst = append(dst, "UPDATE "+c.table("lanes")+" SET intent_file="...)
	return c.appendLane(c.appendPlace(dst, to, "intent_"), lane)
}

// appendPosition appends the statement that makes lane 0's position the end of the last
// whole transaction of a batch, and its intent the end of the batch; it affects one row
// unless this process was fenced or the batch was committed before.
func (c *checkpoint) appendPosition(dst []byte, position, intent executedUpTo, batch uint64) []byte {
	dst = append(dst, "UPDATE "+c.table("lanes")+" SET file="...)
	dst = append(c.appendPlace(dst, position, ""), ", intent_file="...)
	dst = append(c.appendPlace(dst, intent, "intent_"), ", batch="...)
	dst = strconv.AppendUint(dst, batch, 10)
	dst = append(c.appendLane(dst, 0), " AND batch="...)
	return strconv.AppendUint(dst, batch-1, 10)
}

// appendHold appends the statement that keeps where a later process has to begin, or
// that it is the position again. It is for a transaction that has recorded the position.
func (c *checkpoint) appendHold(dst []byte, hold *BinlogCoordinate) []byte {
	if hold == nil {
		dst = append(dst, "DELETE FROM "+c.table("held")+" WHERE run_id="...)
		return appendHex(dst, []byte(c.runID))
	}
	dst = append(dst, "REPLACE INTO "+c.table("held")+" SET run_id="...)
	dst = append(appendHex(dst, []byte(c.runID)), ", file="...)
	dst = append(c.appendCoordinate(dst, *hold, ""), ", sum="...)
	return strconv.AppendUint(dst, uint64(placeSum(executedUpTo{BinlogCoordinate: *hold})), 10)
}

func sameHold(a, b *BinlogCoordinate) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func (c *checkpoint) appendPlace(dst []byte, at executedUpTo, prefix string) []byte {
	dst = append(c.appendCoordinate(dst, at.BinlogCoordinate, prefix), ", "+prefix+"mark="...)
	dst = append(appendHex(dst, []byte(at.mark.String())), ", "+prefix+"sum="...)
	return strconv.AppendUint(dst, uint64(placeSum(at)), 10)
}

func (c *checkpoint) appendCoordinate(dst []byte, at BinlogCoordinate, prefix string) []byte {
	dst = appendHex(dst, []byte(at.File))
	dst = append(dst, ", "+prefix+"pos="...)
	dst = strconv.AppendUint(dst, at.Pos, 10)
	dst = append(dst, ", "+prefix+"gtid_set="...)
	return sqlesc.AppendString(dst, []byte(at.GTIDSet))
}

func (c *checkpoint) appendLane(dst []byte, lane int) []byte {
	dst = append(dst, " WHERE run_id="...)
	dst = append(appendHex(dst, []byte(c.runID)), " AND lane="...)
	dst = append(strconv.AppendInt(dst, int64(lane), 10), " AND epoch="...)
	return strconv.AppendUint(dst, c.epoch, 10)
}

func appendHex(dst, v []byte) []byte {
	if len(v) == 0 {
		return append(dst, "''"...)
	}
	return hex.AppendEncode(append(dst, "0x"...), v)
}
