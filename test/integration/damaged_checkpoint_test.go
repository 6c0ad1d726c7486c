package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// damages are what a checkpoint may suffer: statements in its schema, and what the refusal
// says is wrong.
var damages = []struct{ name, statement, says string }{
	{"one bit of a chunk's end", "UPDATE chunks SET high=CONCAT(LEFT(high,LENGTH(high)-1), CHAR(ORD(RIGHT(high,1))^1)) ORDER BY number LIMIT 1", "chunk 1 of table number"},
	{"one bit of a chunk's beginning", "UPDATE chunks SET low=CONCAT(LEFT(low,LENGTH(low)-1), CHAR(ORD(RIGHT(low,1))^128)) WHERE low IS NOT NULL ORDER BY number LIMIT 1", "chunk 2 of table number"},
	{"a chunk without a beginning", "UPDATE chunks SET low=NULL", "chunk 2 of table number"},
	{"a chunk that is cut off", "UPDATE chunks SET high=LEFT(high,LENGTH(high)-2)", "does not fit its checksum"},
	{"a chunk of another table", "UPDATE chunks SET table_number=99", "table number 99"},
	{"skipped keys", "UPDATE chunks SET debts='x'", "does not fit its checksum"},
	{"a table that is said to be copied", "UPDATE tables SET completed=1", `"damaged"."t"`},
	{"a table's name", "UPDATE tables SET source_table='u' WHERE source_table='t'", `"damaged"."u"`},
	{"a lost table", "DELETE FROM tables", "which it does not know"},
	{"an offset", "UPDATE lanes SET pos=pos+1", "the position of lane 0, binlog."},
	{"a file", "UPDATE lanes SET file='binlog.000999'", "the position of lane 0, binlog.000999"},
	{"a set of GTIDs", "UPDATE lanes SET gtid_set=CONCAT('0-1-1,',gtid_set)", "the position of lane 0"},
	{"a mark", "UPDATE lanes SET mark=CONCAT('1',mark)", "the position of lane 0"},
	{"an intent", "UPDATE lanes SET intent_pos=4", "the intent of lane 0"},
	{"lost lanes", "DELETE FROM lanes", "it has no position in the source's binary log"},
	{"a place that is held", "INSERT INTO held SELECT run_id, file, 4, gtid_set, 0 FROM lanes WHERE lane=0", "the place that it holds"},
	{"the verifier's progress", "INSERT INTO verifications SELECT run_id, '00000000{}' FROM runs ON DUPLICATE KEY UPDATE state='00000000{}'", "progress of the verification"},
	{"a row to compare again of another table", "INSERT INTO rechecks (run_id, table_number, row_key, sum) SELECT run_id, 77, 'x', 0 FROM runs", "table number 77"},
	{"the key of a row to compare again", "INSERT INTO rechecks (run_id, table_number, row_key, sum) SELECT run_id, number, 'x', 0 FROM tables", "is to be compared again does not fit its checksum"},
	{"the key of a row that waits", "INSERT INTO collisions SELECT run_id, number, REPEAT('x', 32), 0x0000000178 FROM tables", "waits for another move"},
	{"the key of a row that is owed", "INSERT INTO debts SELECT run_id, number, REPEAT('x', 32), 0x0000000178 FROM tables", "a row that is owed does not fit its digest"},
	{"a row that is owed of another table", "INSERT INTO debts SELECT run_id, 77, UNHEX(SHA2(0x0000000178,256)), 0x0000000178 FROM runs", "table number 77"},
	{"a key that is cut off", "INSERT INTO debts SELECT run_id, number, UNHEX(SHA2(0x0000000278,256)), 0x0000000278 FROM tables", "cannot be read"},
	{"a newer version", "UPDATE runs SET format=format+1", "finish the run with the version that began it"},
}

// F40: whatever is damaged of a checkpoint on the target, a run is refused that would go on
// from it, naming what it is and the remedy, and nothing is written. The remedy works.
func TestF40DamagedCheckpoints(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		freshSchemas(t, p, "damaged", "undamaged")
		p.Create(t, "damaged", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, "damaged", "INSERT INTO t WITH RECURSIVE n AS (SELECT 1 AS id UNION ALL SELECT id+1 FROM n WHERE id<200) SELECT id, 0 FROM n")
		begin := func() *ghostferry.Ferry {
			f := shopFerry(p, "damaged", 20)
			f.Config.DataIterationConcurrency = 1
			return f
		}
		f := begin()
		run, stop := context.WithCancel(ctx)
		mustStart(t, ctx, f)
		batches := 0
		f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { // behind the Ferry's own
			if batches++; batches == 3 {
				stop()
			}
			return nil
		})
		mustBeInterrupted(t, f.RunContext(run))
		p.In(t, p.TargetDB, "", "CREATE DATABASE undamaged")
		var tables []string
		for _, row := range harness.Rows(t, p.TargetDB, "SELECT table_name FROM information_schema.tables WHERE table_schema='_ghostferry'") {
			tables = append(tables, strings.Trim(row, `"|`))
		}
		named := []string{"damaged.t"}
		for _, table := range tables {
			named = append(named, "_ghostferry."+table)
			p.In(t, p.TargetDB, "", fmt.Sprintf("CREATE TABLE undamaged.%s SELECT * FROM _ghostferry.%[1]s", table))
		}
		state := func() (rows []string) {
			for _, table := range named {
				rows = append(rows, table)
				rows = append(rows, slices.Sorted(slices.Values(harness.Rows(t, p.TargetDB, "SELECT * FROM "+table)))...)
			}
			return rows
		}
		whole := state()
		for _, damage := range damages {
			p.In(t, p.TargetDB, "_ghostferry", damage.statement)
			before := state()
			require.NotEqual(t, whole, before, damage.name)
			f := begin()
			err := f.InitializeContext(ctx)
			if err == nil {
				err = f.StartContext(ctx)
			}
			require.ErrorContains(t, err, damage.says, damage.name)
			require.ErrorContains(t, err, "_ghostferry", damage.name)
			require.ErrorContains(t, err, "start afresh", damage.name)
			if _, ok := errors.AsType[*ghostferry.DamagedCheckpointError](err); damage.name != "a newer version" {
				require.True(t, ok, "%s: %v", damage.name, err)
				require.False(t, ghostferry.Resumable(err))
			}
			require.NoError(t, f.Close())
			require.Equal(t, before, state(), damage.name)
			for _, table := range tables {
				p.In(t, p.TargetDB, "", "DELETE FROM _ghostferry."+table, fmt.Sprintf("INSERT INTO _ghostferry.%s SELECT * FROM undamaged.%[1]s", table))
			}
		}

		p.In(t, p.TargetDB, "_ghostferry", damages[0].statement)
		config := copydbSettings(p, []string{"damaged"}, nil).file(t)
		status, refused := runCopydb(t, config)
		require.Equal(t, 1, status)
		require.Contains(t, refused.stderr.String(), "this process wrote nothing to the target, where the rows of an earlier run still are")
		status, restarted := runCopydb(t, "-restart", config)
		require.Zero(t, status)
		require.Contains(t, restarted.stderr.String(), "emptied `damaged`.`t`")
		p.MustEqual(t, "damaged")
	})
}
