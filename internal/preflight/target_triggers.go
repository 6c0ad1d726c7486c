package preflight

import (
	"context"
	"fmt"
)

// checkTargetTriggers refuses target tables with triggers: what they do to our rows, and to other
// tables, has already been done on the source and arrives by itself.
func (r *run) checkTargetTriggers(ctx context.Context) error {
	moved := map[string]Table{}
	for _, t := range r.Tables {
		moved[r.target.id(t.TargetSchema, t.TargetName)] = t
	}
	for _, schema := range r.targetSchemas() {
		rows, err := r.Target.QueryContext(ctx, `SELECT TRIGGER_SCHEMA, TRIGGER_NAME, EVENT_OBJECT_TABLE
			FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = ? ORDER BY EVENT_OBJECT_TABLE, TRIGGER_NAME`, schema)
		err = each(rows, err, func(scan func(...any) error) error {
			var triggerSchema, trigger, table string
			if err := scan(&triggerSchema, &trigger, &table); err != nil {
				return err
			}
			if t, ok := moved[r.target.id(schema, table)]; ok {
				r.fault("trigger", t.Target(), fmt.Sprintf("trigger %s.%s on the target table would fire for every row moved", triggerSchema, trigger),
					"drop the trigger and create it again after the move")
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("read the triggers of %s: %w", schema, err)
		}
	}
	return nil
}
