package ghostferry

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
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

// bare is what of the coordinate holds on any server: its set of GTIDs.
func (c BinlogCoordinate) bare() BinlogCoordinate { return BinlogCoordinate{GTIDSet: c.GTIDSet} }

// sets returns the sets of MySQL's GTIDs of two coordinates, if both have one.
func sets(a, b BinlogCoordinate) (setA, setB *binlog.GTIDSet, ok bool) {
	if a.GTIDSet == "" || b.GTIDSet == "" {
		return nil, nil, false
	}
	setA, err := binlog.ParseGTIDSet(a.GTIDSet, false)
	if err != nil { // MariaDB's
		return nil, nil, false
	}
	setB, err = binlog.ParseGTIDSet(b.GTIDSet, false)
	return setA, setB, err == nil
}

// before reports whether transactions up to other are missing up to c. MySQL's sets of GTIDs
// tell, whoever's log the files are of; other places are of one server, in the order of its log.
func (c BinlogCoordinate) before(other BinlogCoordinate) bool {
	if mine, theirs, ok := sets(c, other); ok {
		return !mine.Contains(theirs)
	}
	return c.CompareFilePos(other) < 0
}

// earlierOf is where to begin for whoever has to miss nothing after either place. Neither may
// do: a replica can have executed transactions in another order than its source.
func earlierOf(a, b BinlogCoordinate) BinlogCoordinate {
	if !b.before(a) {
		return a
	}
	if !a.before(b) {
		return b
	}
	setA, setB, _ := sets(a, b) // there are: files cannot lie before each other
	return BinlogCoordinate{GTIDSet: setA.Intersect(setB).String()}
}

// compareFileNames orders binary log file names by their number: the suffix grows
// past six digits, so text order is not enough.
func compareFileNames(a, b string) int {
	if a == b {
		return 0
	}
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
