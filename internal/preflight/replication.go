package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/server"
)

// checkReplication looks at where source and target stand in replication: a source that leaves out
// changes of its primary, and a target that gets the source's changes by another way, too.
func (r *run) checkReplication(ctx context.Context) error {
	follows, err := r.SourceServer.HasReplica(ctx, r.Source, r.TargetServer)
	if err != nil && !denied(err) && !errors.Is(err, server.ErrUnsupported) {
		return err
	}
	if follows {
		r.fault("target-follows", "target", "the target is a replica of the source: every change would be executed twice",
			"on the target: STOP REPLICA and RESET REPLICA ALL, or move to another server")
	}
	if !r.SourceIsReplicaOK {
		return nil
	}
	filters, err := r.SourceServer.ReplicaFilters(ctx, r.Source)
	if err != nil {
		if denied(err) {
			return nil
		}
		return err
	}
	if len(filters) > 0 {
		r.reportFilters(filters)
	}
	return nil
}

// reportFilters judges filters by schema and warns of the others, whose patterns it does not.
func (r *run) reportFilters(filters map[string]string) {
	do, ignore := splitNames(filters["replicate_do_db"]), splitNames(filters["replicate_ignore_db"])
	var left []string
	for _, schema := range r.sourceSchemas() {
		if len(do) > 0 && !r.source.lists(do, schema) || r.source.lists(ignore, schema) {
			left = append(left, schema)
		}
	}
	var all []string
	for name, value := range filters {
		all = append(all, name+"="+value)
	}
	slices.Sort(all)
	what := fmt.Sprintf("the source is a replica with filters (%s)", strings.Join(all, ", "))
	const remedy = "move from a replica without filters, or from the primary"
	if len(left) > 0 {
		r.fault("filtered", "source", what+": changes of the primary in "+someOf(left)+" do not reach it", remedy)
	} else {
		r.warn("filters", "source", what+": see to it that no moved table is left out", remedy)
	}
}

func splitNames(list string) []string {
	return strings.FieldsFunc(list, func(c rune) bool { return c == ',' })
}
