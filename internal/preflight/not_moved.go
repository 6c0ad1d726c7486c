package preflight

import (
	"context"
	"fmt"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
)

// checkNotMoved warns of what the moved schemas hold beside tables, as far as the account can see.
func (r *run) checkNotMoved(ctx context.Context) error {
	kinds := []struct{ code, query, remedy string }{
		{"views", "SELECT TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA = ? ORDER BY 1", "create them on the target after the move"},
		{"triggers", "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = ? ORDER BY 1",
			"create them on the target after the move, and not before: what they do arrives by itself"},
		{"routines", "SELECT ROUTINE_NAME FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = ? ORDER BY 1", "create them on the target"},
		{"events", "SELECT EVENT_NAME FROM information_schema.EVENTS WHERE EVENT_SCHEMA = ? ORDER BY 1",
			"create them on the target after the move, and not before: they would write to it"},
		{"sequences", "SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = ? AND TABLE_TYPE = 'SEQUENCE' ORDER BY 1",
			"create them on the target at the cutover, with the source's next values"},
	}
	for _, schema := range r.sourceSchemas() {
		for _, kind := range kinds {
			var names []string
			rows, err := r.Source.QueryContext(ctx, kind.query, schema)
			err = each(rows, err, func(scan func(...any) error) error {
				var name string
				err := scan(&name)
				names = append(names, name)
				return err
			})
			if mysqlerr.Classify(err) == mysqlerr.AccessDenied {
				continue // it does not stop the move
			}
			if err != nil {
				return fmt.Errorf("list the %s of %s: %w", kind.code, schema, err)
			}
			if len(names) > 0 {
				r.warn(kind.code, schema, fmt.Sprintf("its %s do not move: %s", kind.code, someOf(names)), kind.remedy)
			}
		}
	}
	return nil
}
