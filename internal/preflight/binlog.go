package preflight

import (
	"context"
	"fmt"
	"strings"
)

// checkBinlog looks for settings under which the source's binary log does not hold every change as
// whole rows.
func (r *run) checkBinlog(context.Context) error {
	s := r.SourceServer
	if !s.LogBin {
		r.fault("log_bin", "the source writes no binary log, so changes made during the move cannot be followed",
			"start the source with --log-bin and --binlog-format=ROW")
		return nil
	}
	const sessions = "; sessions that are open keep the old setting until they connect again"
	if s.BinlogFormat != "ROW" {
		r.fault("binlog_format", fmt.Sprintf("binlog_format must be ROW, not %s (source): statements in the binary log cannot be applied exactly", s.BinlogFormat),
			"on the source: SET GLOBAL binlog_format = ROW, and the same in its configuration"+sessions)
	}
	if s.BinlogRowImage != "FULL" {
		r.fault("binlog_row_image", fmt.Sprintf("binlog_row_image must be FULL, not %s (source): the row images in the binary log lack columns", s.BinlogRowImage),
			"on the source: SET GLOBAL binlog_row_image = FULL, and the same in its configuration"+sessions)
	}
	if strings.Contains(s.BinlogRowValueOptions, "PARTIAL_JSON") {
		r.fault("binlog_row_value_options", "it contains PARTIAL_JSON on the source: updates of JSON columns are logged as differences",
			"on the source: SET GLOBAL binlog_row_value_options = '', and the same in its configuration"+sessions)
	}
	switch s.GTIDModeSetting {
	case "", "ON", "OFF":
	default:
		r.fault("gtid_mode", fmt.Sprintf("it is %s on the source: transactions with and without GTID are mixed in the binary log, "+
			"so no position is safe", s.GTIDModeSetting),
			"finish the transition: on the source, step by step, SET GLOBAL gtid_mode = ON (or OFF)")
	}
	if r.SourceIsReplicaOK && s.ReadOnly && !s.LogsReplicated {
		r.fault("log_replica_updates", "the source is a replica that does not write what it replicates to its own binary log",
			"start the source with --log-replica-updates (--log-slave-updates), or move from its primary")
	}
	return nil
}
