package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// F20: rows near the target's smaller max_allowed_packet arrive in statements of their
// own; one that cannot fit ends the run, naming table, key and sizes.
func TestF20LargeRows(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		const schema = "copydb_large"
		freshSchemas(t, p, schema)
		t.Cleanup(p.CloseIdle)
		global(t, p.TargetDB, "max_allowed_packet", "1048576", "16777216")
		p.In(t, p.SourceDB, "", "CREATE DATABASE "+schema, "USE "+schema, "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, v MEDIUMBLOB)",
			"INSERT INTO t VALUES (1,REPEAT('a',900000)),(2,REPEAT('b',1040000)),(3,REPEAT('''',500000)),(4,'small')")
		more := settings{"BulkLoad": "off"}
		status, run := runCopydb(t, "-json", copydbSettings(p, []string{schema}, more).file(t))
		require.Zero(t, status)
		require.True(t, run.result().Verified)
		require.Contains(t, run.stderr.String(), "packet-size.row: copydb_large.t")
		harness.Exec(t, p.TargetDB, "SET GLOBAL max_allowed_packet = 16777216") // MariaDB makes NULL of a longer text
		p.CloseIdle()                                                           // they have what it was when they were opened
		p.MustEqual(t, schema)
		harness.Exec(t, p.TargetDB, "SET GLOBAL max_allowed_packet = 1048576")

		freshTarget(t, p, schema)
		p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (5,REPEAT('c',1100000))")
		status, run = runCopydb(t, "-json", copydbSettings(p, []string{schema}, more).file(t))
		require.Equal(t, 2, status)
		for _, part := range []string{"`copydb_large`.`t`", "the row with key 5 has 1100001 bytes", "max_allowed_packet of the target is 1048576 bytes"} {
			require.Contains(t, run.result().Error, part)
		}
	})
}

// F20, too: when max_allowed_packet is lowered while a move runs, statements that do not fit
// any more are halved: of the copy, of changes in two phases, of deletes and of updates in
// place. A row that does not fit by itself ends the run.
func TestF20LimitLoweredDuringAMove(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		const schema = "lowered"
		p.Create(t, schema, "CREATE TABLE plain (id INT NOT NULL PRIMARY KEY, v MEDIUMBLOB)",
			"CREATE TABLE two_phases (id INT NOT NULL PRIMARY KEY, u INT NOT NULL, v MEDIUMBLOB, UNIQUE KEY u (u))",
			"CREATE TABLE long_keys (k VARBINARY(3000) NOT NULL PRIMARY KEY)")
		// Of quotes, which are doubled in a statement: what is counted without them has a megabyte at most.
		p.In(t, p.SourceDB, schema, "INSERT INTO plain SELECT d.n+1, REPEAT('''', 90000) FROM "+digits("d"),
			"INSERT INTO two_phases SELECT id, -id, v FROM plain",
			"INSERT INTO long_keys SELECT CONCAT(a.n, b.n, c.n, REPEAT('''', 2500)) FROM "+digits("a")+" JOIN "+digits("b")+" JOIN "+digits("c")+" WHERE a.n < 4")
		f := &ghostferry.Ferry{Config: p.Config(schema)}
		f.BulkLoad = "off"
		f.UpdatableConfig.DataIterationBatchSize = 500
		require.NoError(t, f.InitializeContext(ctx))
		require.NoError(t, f.StartContext(ctx))
		global(t, p.TargetDB, "max_allowed_packet", "1048576", "16777216")
		require.NoError(t, harness.RunStarted(ctx, f, func() error {
			return p.TryIn(ctx, p.SourceDB, schema, "BEGIN", "UPDATE plain SET v=CONCAT(v, 'x')", "UPDATE two_phases SET u=u-100, v=CONCAT(v, 'x')", "DELETE FROM long_keys WHERE k > '1'", "COMMIT")
		}))
		require.NoError(t, f.Close())
		p.MustEqual(t, schema)

		harness.Exec(t, p.TargetDB, "SET GLOBAL max_allowed_packet = 16777216")
		p.Create(t, schema, "CREATE TABLE plain (id INT NOT NULL PRIMARY KEY, v MEDIUMBLOB)")
		f = &ghostferry.Ferry{Config: p.Config(schema)}
		require.NoError(t, f.InitializeContext(ctx))
		require.NoError(t, f.StartContext(ctx))
		harness.Exec(t, p.TargetDB, "SET GLOBAL max_allowed_packet = 1048576")
		err := harness.RunStarted(ctx, f, func() error {
			return p.TryIn(ctx, p.SourceDB, schema, "INSERT INTO plain VALUES (1, 'small'), (7, REPEAT('c', 1100000)), (8, 'small')")
		})
		require.NoError(t, f.Close())
		var large *ghostferry.RowTooLargeError
		require.ErrorAs(t, err, &large)
		require.Equal(t, []any{"`lowered`.`plain`", "7", 1100001, uint64(1048576)}, []any{large.Table, large.Key, large.Bytes, large.Limit})
		require.ErrorContains(t, err, "`lowered`.`plain`")
		require.True(t, ghostferry.Resumable(err))
	})
}

// freshTarget removes schemas and checkpoints from the target.
func freshTarget(t *testing.T, p *harness.Pair, schema string) {
	t.Helper()
	p.In(t, p.TargetDB, "", "SET foreign_key_checks=0", "DROP DATABASE IF EXISTS "+schema, "DROP DATABASE IF EXISTS _ghostferry")
}

// F32: a trigger on a target table would do again what the log holds already.
func TestF32TargetTrigger(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		refusedWorld(t, p)
		p.In(t, p.TargetDB, "", "CREATE DATABASE copydb_refused", "CREATE TABLE copydb_refused.t (id INT PRIMARY KEY, v INT)",
			"CREATE TRIGGER copydb_refused.counts BEFORE INSERT ON copydb_refused.t FOR EACH ROW SET NEW.v = NEW.v + 1")
		mustBeRefused(t, p, copydbSettings(p, []string{refusedSchema}, settings{"AllowExistingTargetTable": true}),
			"target-triggers.trigger", "copydb_refused.counts", "drop the trigger")
	})
}

// F34: a change that a session keeps out of the binary log is found by the comparison,
// which names the row. (Schemas that the server keeps out are refused: TestF34BinlogFilters.)
func TestF34UnloggedWrites(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		const schema = "copydb_unlogged"
		freshSchemas(t, p, schema)
		p.In(t, p.SourceDB, "", "CREATE DATABASE "+schema, "USE "+schema, "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, v INT)", "INSERT INTO t VALUES (1,1),(2,2),(3,3)")
		config := copydbSettings(p, []string{schema}, settings{"VerifierType": "Online"}).config(t)
		ferry := copydb.NewFerry(config)
		defer func() { _ = ferry.Close() }()
		require.NoError(t, created(t.Context(), ferry))
		ferry.Ferry.DataIterator.AddDoneListener(func() error { // the rows are copied
			return p.TryIn(t.Context(), p.SourceDB, schema, "SET SESSION sql_log_bin=0", "UPDATE t SET v=22 WHERE id=2", "DELETE FROM t WHERE id=3")
		})
		err := ferry.RunContext(t.Context())
		require.Equal(t, 4, ferry.Result(err).Outcome.ExitStatus(), err)
		different, ok := errors.AsType[*copydb.DifferentError](err)
		require.True(t, ok, err)
		require.Equal(t, []string{schema + ".t"}, different.IncorrectTables)
		var keys []string
		verifier, ok := ferry.Ferry.Verifier.(*ghostferry.OnlineVerifier)
		require.True(t, ok)
		for _, m := range verifier.Mismatches() {
			keys = append(keys, m.Key+" "+string(m.Kind))
		}
		require.ElementsMatch(t, []string{"2 " + string(ghostferry.MismatchRowChecksumDifference), "3 " + string(ghostferry.MismatchRowMissingOnSource)}, keys)
	})
}

// Servers that cut what new sessions read, or commit nothing for them, do so neither to
// definitions nor to rows, checkpoint and comparison.
func TestServersThatLimitTheirSessions(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		const schema = "limited"
		var more strings.Builder // columns: a table that has lost its last ones is still one
		for i := range 60 {
			fmt.Fprintf(&more, ", c%d INT DEFAULT 1", i)
		}
		p.Create(t, schema, "CREATE TABLE a (id INT PRIMARY KEY, b INT, UNIQUE KEY (b))", "CREATE TABLE wide (id INT PRIMARY KEY"+more.String()+")")
		p.In(t, p.SourceDB, schema, "INSERT INTO a SELECT 10*d.n+e.n, 10*d.n+e.n FROM "+digits("d")+" JOIN "+digits("e"), "INSERT INTO wide (id, c59) SELECT id, b FROM a")
		t.Cleanup(p.CloseIdle) // other tests must not be given what is connected meanwhile
		for _, db := range []*sql.DB{p.SourceDB, p.TargetDB} {
			global(t, db, "sql_select_limit", "50", "DEFAULT")
			global(t, db, "autocommit", "0", "1")
		}
		f := &ghostferry.Ferry{Config: p.Config(schema)}
		require.NoError(t, harness.Move(t.Context(), f, func() error {
			return p.TryIn(t.Context(), p.SourceDB, schema, "UPDATE a SET b=b+1000", "COMMIT")
		}))
		require.NoError(t, f.Close())
		const sums = "SELECT COUNT(*), SUM(a.id), SUM(a.b), SUM(c58), SUM(c59) FROM limited.a JOIN limited.wide USING (id)"
		require.Equal(t, harness.Rows(t, p.SourceDB, sums), harness.Rows(t, p.TargetDB, sums))
	})
}

// A dry run tells plan and findings as JSON, all faults at once, also those of tables
// that cannot be loaded, and a library host gets the same by Preflight and Plan.
func TestDryRunAsJSON(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		refusedWorld(t, p)
		global(t, p.SourceDB, "binlog_row_image", "'MINIMAL'", "'FULL'")
		p.In(t, p.SourceDB, refusedSchema, "CREATE TABLE keyless (a INT)", "CREATE TABLE mem (id INT PRIMARY KEY) ENGINE=MEMORY")
		before := contents(t, p.TargetDB)
		s := copydbSettings(p, []string{refusedSchema}, nil)
		status, run := runCopydb(t, "-dryrun", "-json", s.file(t))
		require.Equal(t, 1, status)
		found := run.rehearsal()
		require.True(t, found.Refused)
		require.Equal(t, 3, found.Preflight.Tables)
		var codes []string
		for _, finding := range found.Preflight.Findings {
			if finding.Severity == ghostferry.PreflightError {
				codes = append(codes, finding.Code+" "+finding.Subject)
			}
		}
		require.Equal(t, []string{"binlog.row-image binlog_row_image", "tables.engine copydb_refused.mem", "key.none copydb_refused.keyless"}, codes)
		var planned []string
		for _, table := range found.Plan.Tables {
			planned = append(planned, table.Table)
		}
		require.Equal(t, []string{"mem", "t"}, planned)

		f := &ghostferry.Ferry{Config: s.config(t).Config}
		report, err := f.Preflight(t.Context())
		require.NoError(t, err)
		require.Equal(t, found.Preflight.Count(ghostferry.PreflightError), report.Count(ghostferry.PreflightError))
		require.ErrorAs(t, report.Err(), new(*ghostferry.NoUsableKeyError))
		plan, err := f.Plan(t.Context())
		require.NoError(t, err)
		require.Equal(t, found.Plan.Tables, plan.Tables)
		require.Nil(t, f.Tables, "the Ferry is as it was")
		require.Equal(t, before, contents(t, p.TargetDB))
	})
}

// What an interrupted run needs and is gone is told by Preflight, too.
func TestPreflightOfAnInterruptedRun(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		const schema = "copydb_purged"
		freshSchemas(t, p, schema)
		p.In(t, p.SourceDB, "", "CREATE DATABASE "+schema, "USE "+schema, "CREATE TABLE t (id INT NOT NULL PRIMARY KEY)", "INSERT INTO t VALUES (1),(2)")
		config := copydbSettings(p, []string{schema}, nil)
		status, _ := runCopydb(t, config.file(t))
		require.Zero(t, status)
		f := &ghostferry.Ferry{Config: config.config(t).Config}
		report, err := f.Preflight(t.Context())
		require.NoError(t, err)
		require.NoError(t, report.Err())

		p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (3)", "FLUSH BINARY LOGS", "INSERT INTO t VALUES (4)", "FLUSH BINARY LOGS")
		logs := harness.Rows(t, p.SourceDB, "SHOW BINARY LOGS")
		purge := "PURGE BINARY LOGS TO '" + strings.Split(logs[len(logs)-1], `"`)[1] + "'"
		require.Eventually(t, func() bool { // the server keeps files that it believes to be sent to somebody
			p.In(t, p.SourceDB, "", purge)
			report, err = f.Preflight(t.Context())
			return err != nil || report.Refused()
		}, time.Minute, 100*time.Millisecond)
		require.NoError(t, err)
		require.Equal(t, "resume.refused", report.Findings[0].Code, report)
		require.Contains(t, report.Findings[0].What, "start afresh")
	})
}
