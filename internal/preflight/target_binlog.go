package preflight

import (
	"context"
	"fmt"
	"strings"
)

// skipWatch is the alternative to what the watch on the target needs.
const skipWatch = ", or do not watch what others write to the target (SkipTargetVerification)"

// checkTargetBinlog looks for settings of the target under which its binary log does not tell who
// wrote a row.
func (r *run) checkTargetBinlog(context.Context) error {
	if !r.WatchTarget {
		return nil
	}
	s := r.TargetServer
	if !s.LogBin {
		r.fault("off", "log_bin", "the target writes no binary log, so what others write to it cannot be noticed",
			"start the target with --log-bin and --binlog-format=ROW"+skipWatch)
		return nil
	}
	const sessions = "; sessions that are open keep the old setting until they connect again"
	if s.BinlogFormat != "ROW" {
		r.fault("format", "binlog_format", fmt.Sprintf("binlog_format must be ROW, not %s (target): rows that others write are not in its binary log", s.BinlogFormat),
			"on the target: SET GLOBAL binlog_format = ROW, and the same in its configuration"+sessions+skipWatch)
	}
	if !s.StatementsLogged {
		name := "binlog_rows_query_log_events"
		if s.IsMariaDB() {
			name = "binlog_annotate_row_events"
		}
		r.fault("statements", name, name+" must be ON, not OFF (target): its binary log does not tell who wrote a row",
			"on the target: SET GLOBAL "+name+" = ON, and the same in its configuration"+sessions+skipWatch)
	}
	if !r.PartOfRows {
		return nil // whatever others write to a moved table ends the run
	}
	if s.BinlogRowImage != "FULL" {
		r.fault("row-image", "binlog_row_image", fmt.Sprintf("binlog_row_image must be FULL, not %s (target): where others change rows of the moved tables, "+
			"its binary log does not tell whether they are moved ones", s.BinlogRowImage),
			"on the target: SET GLOBAL binlog_row_image = FULL, and the same in its configuration"+sessions+skipWatch)
	}
	if strings.Contains(s.BinlogRowValueOptions, "PARTIAL_JSON") {
		r.fault("partial-json", "binlog_row_value_options", "it contains PARTIAL_JSON on the target: where others update rows of the moved tables, "+
			"also of those without JSON columns, its binary log does not tell whether they are moved ones",
			"on the target: SET GLOBAL binlog_row_value_options = '', and the same in its configuration"+sessions+skipWatch)
	}
	return nil
}
