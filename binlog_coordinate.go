package ghostferry

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// BinlogCoordinate is a place in a server's binary log: always the end of an event,
// and where it is kept or resumed from, the end of a transaction. File and Pos locate
// it on the server that wrote the file; GTIDSet, when the server has GTIDs, says which
// transactions came before it and holds on any server of the same replication group.
type BinlogCoordinate struct {
	File    string
	Pos     uint64
	GTIDSet string
}

// IsZero reports whether the coordinate says nothing.
func (c BinlogCoordinate) IsZero() bool { return c.File == "" && c.GTIDSet == "" }

// Position returns the file and offset in the replication library's form, which ends at
// 4 GiB: an offset beyond is given as the greatest.
func (c BinlogCoordinate) Position() mysql.Position {
	return mysql.Position{Name: c.File, Pos: uint32(min(c.Pos, math.MaxUint32))}
}

// CompareFilePos orders two coordinates of one server by file number and offset: -1, 0 or 1.
func (c BinlogCoordinate) CompareFilePos(other BinlogCoordinate) int {
	if n := compareFileNames(c.File, other.File); n != 0 {
		return n
	}
	switch {
	case c.Pos < other.Pos:
		return -1
	case c.Pos > other.Pos:
		return 1
	}
	return 0
}

// compareFileNames orders binary log file names by their number: the suffix grows
// past six digits, so text order is not enough.
func compareFileNames(a, b string) int {
	na, oka := fileNumber(a)
	nb, okb := fileNumber(b)
	if oka && okb {
		switch {
		case na < nb:
			return -1
		case na > nb:
			return 1
		}
		return 0
	}
	return strings.Compare(a, b)
}

func fileNumber(name string) (uint64, bool) {
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 {
		return 0, false
	}
	n, err := strconv.ParseUint(name[dot+1:], 10, 64)
	return n, err == nil
}

// String renders the coordinate for people: file:pos, with the GTID set when known.
func (c BinlogCoordinate) String() string {
	switch {
	case c.IsZero():
		return "(no coordinate)"
	case c.File == "":
		return c.GTIDSet
	case c.GTIDSet == "":
		return fmt.Sprintf("%s:%d", c.File, c.Pos)
	default:
		return fmt.Sprintf("%s:%d (%s)", c.File, c.Pos, c.GTIDSet)
	}
}

// coordinateJSON keeps the field names of upstream's {"Name","Pos"}.
type coordinateJSON struct {
	Name    string
	Pos     uint64
	GTIDSet string `json:",omitempty"`
}

// MarshalJSON writes {"Name","Pos"} and, when known, "GTIDSet".
func (c BinlogCoordinate) MarshalJSON() ([]byte, error) {
	return json.Marshal(coordinateJSON{Name: c.File, Pos: c.Pos, GTIDSet: c.GTIDSet})
}

// UnmarshalJSON reads what MarshalJSON writes, and upstream's {"Name","Pos"}.
func (c *BinlogCoordinate) UnmarshalJSON(data []byte) error {
	var j coordinateJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return fmt.Errorf("binary log coordinate: %w", err)
	}
	*c = BinlogCoordinate{File: j.Name, Pos: j.Pos, GTIDSet: j.GTIDSet}
	return nil
}

func coordinateFromPosition(p mysql.Position) BinlogCoordinate {
	return BinlogCoordinate{File: p.Name, Pos: uint64(p.Pos)}
}
