package preflight

import (
	"context"
	"fmt"
	"strings"
)

// checkBinlog looks for settings under which the source's binary log does not hold every change as
// whole rows.
func (r *run) checkBinlog(ctx context.Context) error {
	s := r.SourceServer
	if !s.LogBin {
		r.fault("off", "log_bin", "the source writes no binary log, so changes made during the move cannot be followed",
			"start the source with --log-bin and --binlog-format=ROW")
		return nil
	}
	const sessions = "; sessions that are open keep the old setting until they connect again"
	if s.BinlogFormat != "ROW" {
		r.fault("format", "binlog_format", fmt.Sprintf("binlog_format must be ROW, not %s (source): statements in the binary log cannot be applied exactly", s.BinlogFormat),
			"on the source: SET GLOBAL binlog_format = ROW, and the same in its configuration"+sessions)
	}
	if s.BinlogRowImage != "FULL" {
		r.fault("row-image", "binlog_row_image", fmt.Sprintf("binlog_row_image must be FULL, not %s (source): the row images in the binary log lack columns", s.BinlogRowImage),
			"on the source: SET GLOBAL binlog_row_image = FULL, and the same in its configuration"+sessions)
	}
	if strings.Contains(s.BinlogRowValueOptions, "PARTIAL_JSON") {
		r.fault("partial-json", "binlog_row_value_options", "it contains PARTIAL_JSON on the source: updates, also of tables without JSON columns, are logged as partial ones, which cannot be applied exactly",
			"on the source: SET GLOBAL binlog_row_value_options = '', and the same in its configuration"+sessions)
	}
	switch s.GTIDModeSetting {
	case "", "ON", "OFF":
	default:
		r.fault("gtid-transition", "gtid_mode", fmt.Sprintf("it is %s on the source: transactions with and without GTID are mixed in the binary log, "+
			"so no position is safe", s.GTIDModeSetting),
			"finish the transition: on the source, step by step, SET GLOBAL gtid_mode = ON (or OFF)")
	}
	if r.SourceIsReplicaOK && s.ReadOnly && !s.LogsReplicated {
		r.fault("replica-log", "log_replica_updates", "the source is a replica that does not write what it replicates to its own binary log",
			"start the source with --log-replica-updates (--log-slave-updates), or move from its primary")
	}
	return r.noteRowMetadata(ctx)
}

// noteRowMetadata: columns are known from information_schema; with their names in the log a change
// of a definition that a session keeps out of it ends the run at the first row after it.
func (r *run) noteRowMetadata(ctx context.Context) error {
	const name = "binlog_row_metadata"
	vars, err := r.SourceServer.GlobalVariables(ctx, r.Source, name)
	if err != nil {
		return err
	}
	if value, known := vars[name]; known && value != "FULL" {
		r.note("row-metadata", name, fmt.Sprintf("it is %s on the source: rows in the binary log do not name their columns, so of a definition that is changed during the move without a word in the log (sql_log_bin=0) other types are noticed and other names are not", value),
			"optional: SET GLOBAL binlog_row_metadata = FULL on the source")
	}
	return nil
}
