package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// MariaDB has TIMESTAMP values in the first second of 1970, MySQL has none: a move that comes to
// one, by LOAD DATA, by INSERT or in the log, ends with an error that names the table, and the
// target has no other value in its place.
func TestFirstSecondOf1970OnMySQL(t *testing.T) {
	const schema = "first_second"
	here, there := harness.Shared(t, flavours()[1]), harness.Shared(t, flavours()[0])
	p := &harness.Pair{Setting: harness.Setting{Name: "across"}, Source: here.Source, SourceDB: here.SourceDB, Target: there.Target, TargetDB: there.TargetDB}
	const write = "INSERT INTO t VALUES (2,'1970-01-01 00:00:00.5'),(3,'1970-01-01 00:00:00.000001')"
	for _, c := range []struct {
		name, key, bulkLoad string
		copied              bool
	}{{"LOAD DATA", "INT", "", true}, {"INSERT", "INT", "off", true}, {"events, the last of each key", "INT", "", false}, {"events, one by one", "VARCHAR(9) COLLATE utf8mb4_general_ci", "", false}} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			freshSchemas(t, p, schema)
			table := "CREATE TABLE " + schema + ".t (id " + c.key + " PRIMARY KEY, v TIMESTAMP(6) NULL)"
			p.In(t, p.TargetDB, "", "CREATE DATABASE "+schema, table)
			p.In(t, p.SourceDB, "", "CREATE DATABASE "+schema, table)
			utc := []string{"SET time_zone='+00:00'", "INSERT INTO t VALUES (1,'1970-01-01 00:00:01'),(4,NULL)"}
			if c.copied {
				utc = append(utc, write)
			}
			p.In(t, p.SourceDB, schema, utc...)
			f := &ghostferry.Ferry{Config: p.Config(schema)}
			f.BulkLoad = c.bulkLoad
			require.NoError(t, f.InitializeContext(ctx))
			plan, err := f.Plan(ctx)
			require.NoError(t, err)
			require.Len(t, plan.Tables, 1)
			if c.bulkLoad == "" {
				require.Equal(t, "LOAD DATA", plan.Tables[0].CopiedBy)
			}
			require.NoError(t, f.StartContext(ctx))
			err = harness.RunStarted(ctx, f, func() error {
				if c.copied {
					return nil
				}
				return p.TryIn(ctx, p.SourceDB, schema, "SET time_zone='+00:00'", write)
			})
			var named *ghostferry.TableError
			require.ErrorAs(t, err, &named)
			require.Equal(t, schema+".t", named.Schema+"."+named.Table)
			require.NoError(t, f.Close())
			require.Empty(t, harness.Rows(t, p.TargetDB, "SELECT id, v FROM "+schema+".t WHERE id IN (2,3)"))
			require.Empty(t, harness.Rows(t, p.TargetDB, "SELECT id, v FROM "+schema+".t WHERE id=1 AND UNIX_TIMESTAMP(v)<>1 OR id=4 AND v IS NOT NULL"))
		})
	}
}
