package ghostferry

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
)

// Rows of the checkpoint that decide which rows are copied and where the stream goes on
// carry a checksum: what somebody or something has changed in them is refused, and does not
// become rows that nobody copies.

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// rowSum is the checksum of some columns, each with its length.
func rowSum(columns ...string) (sum uint32) {
	for _, column := range columns {
		sum = crc32.Update(sum, castagnoli, binary.LittleEndian.AppendUint64(nil, uint64(len(column))))
		sum = crc32.Update(sum, castagnoli, []byte(column))
	}
	return sum
}

// placeSum is that of a lane's position or intent, and of a held place, which has no mark.
func placeSum(at executedUpTo) uint32 {
	return rowSum(at.File, strconv.FormatUint(at.Pos, 10), at.GTIDSet, at.mark.String())
}

// tableSum is that of a table's row.
func tableSum(number int, schema, table string, completed bool) uint32 {
	return rowSum(strconv.Itoa(number), schema, table, strconv.FormatBool(completed))
}

// chunkSum is that of a chunk's row. A nil low is an open end.
func chunkSum(table int, number uint64, low, high, debts []byte) uint32 {
	return rowSum(strconv.Itoa(table), strconv.FormatUint(number, 10), strconv.FormatBool(low == nil), string(low), string(high), string(debts))
}

// recheckSum is that of a row to be compared again, by its encoded key.
func recheckSum(table int, key string) uint32 { return rowSum(strconv.Itoa(table), key) }

// sumWidth is that of the checksum before a text that has no column for it.
const sumWidth = 8

// withSum puts a text's checksum in front of it.
func withSum(text []byte) []byte {
	return append(fmt.Appendf(nil, "%0*x", sumWidth, rowSum(string(text))), text...)
}

// withoutSum is the inverse of withSum.
func withoutSum(data []byte) (text []byte, ok bool) {
	if len(data) < sumWidth {
		return nil, false
	}
	text = data[sumWidth:]
	return text, bytes.Equal(withSum(text), data)
}
