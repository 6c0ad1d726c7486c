package preflight

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// AssumedBytesPerSecond is how fast a move is assumed to be when nothing is known about it: a
// fraction of what two servers on one small machine do, so that the estimate is rather too long.
const AssumedBytesPerSecond = 5 << 20

// Duration is the estimated duration of a move of some bytes: copied once, compared once.
func Duration(bytes uint64) time.Duration {
	return time.Duration(2*bytes/AssumedBytesPerSecond) * time.Second
}

// leastRetention is how long the log should be kept even for a small move: somebody may have to
// look after an interruption first.
const leastRetention = time.Hour

// checkRetention compares how long the source keeps its binary log with how long the move may take.
// A log that is being read is not purged, but an interrupted move needs it, too.
func (r *run) checkRetention(ctx context.Context) error {
	s := r.SourceServer
	if !s.LogBin {
		return nil
	}
	const remedy = "on the source, for the time of the move: SET GLOBAL binlog_expire_logs_seconds = %d"
	took := Duration(r.bytes())
	needs := max(leastRetention, 2*took)
	if kept := s.BinlogRetention; kept > 0 && kept < needs {
		r.warn("short", "binlog_expire_logs_seconds", fmt.Sprintf("the source keeps its binary log for %s; the move is estimated to take up to %s, and when it is interrupted for longer than that, it cannot go on",
			kept, max(took, time.Minute)), fmt.Sprintf(remedy, int(needs.Seconds())))
	}
	names := s.RetentionVariables()
	limits, err := s.GlobalVariables(ctx, r.Source, names...)
	if err != nil {
		return err
	}
	for _, name := range names {
		if limit, err := strconv.ParseUint(limits[name], 10, 64); err == nil && limit > 0 {
			r.warn("by-size", name, fmt.Sprintf("the source keeps %d bytes of binary log at most: an interruption that more is written in cannot be resumed", limit),
				"on the source, for the time of the move: SET GLOBAL "+name+" = 0")
		}
	}
	return nil
}

// bytes is about how much is to be moved.
func (r *run) bytes() (sum uint64) {
	for _, t := range r.Tables {
		sum += t.Bytes
	}
	return sum
}
