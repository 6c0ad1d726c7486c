package preflight

import (
	"context"
	"fmt"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
)

// checkPeriods refuses MariaDB's keys over periods of time: a server that has one does not take
// the statements by which rows are written only where they are absent.
func (r *run) checkPeriods(ctx context.Context) error {
	if !r.SourceServer.IsMariaDB() {
		return nil
	}
	for _, t := range r.Tables {
		s := r.source.table(t.Schema, t.Name)
		if s == nil || !s.mayHavePeriodKey() {
			continue
		}
		var name, definition string
		err := r.Source.QueryRowContext(ctx, "SHOW CREATE TABLE "+sqlesc.Table(t.Schema, t.Name)).Scan(&name, &definition)
		if denied(err) {
			continue // the privilege check has said so
		}
		if err != nil {
			return fmt.Errorf("read the definition of %s: %w", t, err)
		}
		if key := periodKey(definition); key != "" {
			r.fault("overlaps", t.String(), fmt.Sprintf("its key %s is WITHOUT OVERLAPS, and the server does not support INSERT … ON DUPLICATE KEY UPDATE for such tables", key),
				"drop the key for the time of the move and create it on the target after it, or "+leaveOut)
		}
	}
	return nil
}

// mayHavePeriodKey: such a key ends with the two columns of its period, which are NOT NULL;
// information_schema does not tell it from others.
func (s *structure) mayHavePeriodKey() bool {
	for _, u := range s.uniques {
		n := len(u.parts)
		if n < 3 {
			continue
		}
		temporal := 0
		for _, p := range u.parts[n-2:] {
			if c, ok := s.column(p.column); ok && !c.nullable && (c.dataType == "date" || c.dataType == "datetime" || c.dataType == "timestamp") {
				temporal++
			}
		}
		if temporal == 2 {
			return true
		}
	}
	return false
}

// periodKey finds a key WITHOUT OVERLAPS in a table's definition, where each key has a line of
// its own; empty without one.
func periodKey(definition string) string {
	for line := range strings.SplitSeq(definition, "\n") {
		line = strings.TrimSpace(line)
		if (strings.HasPrefix(line, "UNIQUE KEY ") || strings.HasPrefix(line, "PRIMARY KEY ")) && strings.Contains(line, "` WITHOUT OVERLAPS)") {
			key, _, _ := strings.Cut(strings.TrimPrefix(line, "UNIQUE KEY "), " (")
			return key
		}
	}
	return ""
}
