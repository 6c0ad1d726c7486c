package preflight

import (
	"context"
	"fmt"
)

// checkSettings warns of settings that do not touch the move, whose sessions have their own, but
// what applications see of the same data afterwards.
func (r *run) checkSettings(ctx context.Context) error {
	compared := []struct{ code, name, consequence, remedy string }{
		{"sql-mode", "sql_mode", "statements may be refused there that are taken here, or the reverse", "set the same sql_mode on the target, or let applications set it"},
		{"time-zone", "time_zone", "NOW() and TIMESTAMP columns read differently", "set the same time_zone on the target, or let applications set it"},
		{"time-zone", "system_time_zone", "NOW() and TIMESTAMP columns read differently where time_zone is SYSTEM", "start the target in the source's time zone, or set time_zone"},
		{"letter-case", "lower_case_table_names", "names of schemas and tables in another letter case mean something else or nothing", "use a target with the same setting, or check the applications' statements"},
		{"character-set", "character_set_server", "schemas and tables created later differ in their character set", "set the same character_set_server and collation_server on the target"},
	}
	var names []string
	for _, c := range compared {
		names = append(names, c.name)
	}
	there, err := r.SourceServer.GlobalVariables(ctx, r.Source, names...)
	if err != nil {
		return err
	}
	here, err := r.TargetServer.GlobalVariables(ctx, r.Target, names...)
	if err != nil {
		return err
	}
	for _, c := range compared {
		if canonicalCharset(there[c.name]) == canonicalCharset(here[c.name]) {
			continue
		}
		if c.name == "system_time_zone" && (there["time_zone"] != "SYSTEM" || here["time_zone"] != "SYSTEM") {
			continue // not in force on both sides
		}
		r.warn(c.code, c.name, fmt.Sprintf("it is %q on the source and %q on the target: %s", there[c.name], here[c.name], c.consequence), c.remedy)
	}
	return nil
}
