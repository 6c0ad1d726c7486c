package preflight

import (
	"context"
	"fmt"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/server"
)

// check is an enforced CHECK constraint.
type check struct {
	name, clause string
}

// canonical removes from the clause what servers add to it or leave out.
func (c check) canonical() string {
	return strings.ToLower(strings.NewReplacer("`", "", "(", "", ")", "", " ", "").Replace(c.clause))
}

// readPartitions describes each partitioned table's partitions in one text: equal texts spread rows
// in the same way.
func (s structures) readPartitions(ctx context.Context, q server.Querier, _ *server.Server, schema string) error {
	rows, err := q.QueryContext(ctx, `SELECT TABLE_NAME, COALESCE(PARTITION_METHOD, ''), COALESCE(PARTITION_EXPRESSION, ''),
		COALESCE(SUBPARTITION_METHOD, ''), COALESCE(SUBPARTITION_EXPRESSION, ''), COALESCE(PARTITION_NAME, ''), COALESCE(PARTITION_DESCRIPTION, '')
		FROM information_schema.PARTITIONS WHERE TABLE_SCHEMA = ? AND PARTITION_NAME IS NOT NULL
		ORDER BY TABLE_NAME, PARTITION_ORDINAL_POSITION, SUBPARTITION_ORDINAL_POSITION`, schema)
	return each(rows, err, func(scan func(...any) error) error {
		var table, method, expression, subMethod, subExpression, name, description string
		if err := scan(&table, &method, &expression, &subMethod, &subExpression, &name, &description); err != nil {
			return err
		}
		t := s.table(schema, table)
		if t == nil {
			return nil
		}
		if t.partitions == "" {
			t.partitions = fmt.Sprintf("%s (%s)", method, expression)
			if subMethod != "" {
				t.partitions += fmt.Sprintf(" by %s (%s)", subMethod, subExpression)
			}
			t.partitions += ":"
		}
		t.partitions += " " + name
		if description != "" {
			t.partitions += " " + description
		}
		return nil
	})
}

func (s structures) readChecks(ctx context.Context, q server.Querier, on *server.Server, schema string) error {
	query := on.CheckConstraintsQuery()
	if query == "" {
		return nil
	}
	rows, err := q.QueryContext(ctx, query, schema)
	return each(rows, err, func(scan func(...any) error) error {
		var table string
		var c check
		if err := scan(&table, &c.name, &c.clause); err != nil {
			return err
		}
		if t := s.table(schema, table); t != nil {
			t.checks = append(t.checks, c)
		}
		return nil
	})
}
