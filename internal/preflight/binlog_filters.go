package preflight

import (
	"context"
	"fmt"
	"strings"
)

// checkBinlogFilters looks for schemas that the source keeps out of its binary log.
func (r *run) checkBinlogFilters(ctx context.Context) error {
	if !r.SourceServer.LogBin {
		return nil
	}
	do, ignore, err := r.SourceServer.BinlogFilters(ctx, r.Source)
	if err != nil {
		if denied(err) {
			return nil
		}
		return err
	}
	var unlogged []string
	for _, schema := range r.sourceSchemas() {
		// The server looks at the first list and then, only without one, at the second.
		if len(do) > 0 && !r.source.lists(do, schema) || len(do) == 0 && r.source.lists(ignore, schema) {
			unlogged = append(unlogged, schema)
		}
	}
	settings := fmt.Sprintf("binlog_do_db is [%s] and binlog_ignore_db is [%s]", strings.Join(do, ","), strings.Join(ignore, ","))
	remedy := "start the source without these options; filter on the replicas instead (replicate-do-db, …)"
	switch {
	case len(unlogged) > 0:
		r.fault("unlogged", "binlog_do_db, binlog_ignore_db", fmt.Sprintf("%s on the source: changes in %s never reach its binary log",
			settings, someOf(unlogged)), remedy)
	case len(do)+len(ignore) > 0:
		// A statement is judged by the schema that its session is in, whatever it names.
		r.fault("statements", "binlog_do_db, binlog_ignore_db", settings+" on the source: no moved schema is left out, but a statement that alters, "+
			"truncates or drops a moved table never reaches its binary log when it is run from a schema that is left out", remedy)
	}
	return nil
}

// lists tells whether a list of schemas holds one, as this server tells names apart.
func (s structures) lists(list []string, schema string) bool {
	for _, item := range list {
		if s.id(item, "") == s.id(schema, "") {
			return true
		}
	}
	return false
}
