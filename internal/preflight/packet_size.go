package preflight

import (
	"context"
	"fmt"
)

// literalFactor is by how much a row can grow on its way: every byte of it may be a quote, which is
// doubled in a literal.
const literalFactor = 2

// checkPacketSize warns of tables whose longest possible row does not fit into a statement. How long
// their rows really are only reading all of them would tell.
func (r *run) checkPacketSize(context.Context) error {
	source, target := r.SourceServer.MaxAllowedPacket, r.TargetServer.MaxAllowedPacket
	if target >= source {
		return nil
	}
	for _, t := range r.Tables {
		s := r.source.table(t.Schema, t.Name)
		if s == nil {
			continue
		}
		if longest := s.longestRow(); literalFactor*longest > target {
			r.warn("row", t.String(), fmt.Sprintf("its rows may be up to %s long, and max_allowed_packet is %d bytes on the source and %d on the target: the move stops at a row that does not fit",
				atMost(longest), source, target),
				fmt.Sprintf("on the target: SET GLOBAL max_allowed_packet = %d", source))
		}
	}
	return nil
}

// longestRow is the sum of what the columns can hold, in bytes.
func (s *structure) longestRow() (sum uint64) {
	const number = 66 // digits of the longest DECIMAL
	for c := range s.allColumns() {
		if sum += max(c.longest, number); c.dataType == "json" || isSpatial(c.dataType) {
			sum += 1 << 32 // as a LONGBLOB
		}
	}
	return sum
}

func isSpatial(dataType string) bool {
	switch dataType {
	case "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geomcollection", "geometrycollection":
		return true
	}
	return false
}

func atMost(bytes uint64) string {
	if bytes >= 1<<32 {
		return "4 GiB"
	}
	return fmt.Sprintf("%d bytes", bytes)
}
