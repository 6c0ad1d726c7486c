package ghostferry

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// The two sides of these tests are two schemas of one server.
const (
	verifySource = "verify_source"
	verifyTarget = "verify_target"
)

// verifySides makes both schemas and the tables in them.
func verifySides(t *testing.T, db *sql.DB, tables ...string) {
	t.Helper()
	for _, schemaName := range []string{verifySource, verifyTarget} {
		freshSchema(t, db, schemaName)
		for _, table := range tables {
			mustExec(t, db, "CREATE TABLE "+schemaName+"."+table)
		}
	}
}

// newTestVerifier verifies all tables of the source schema, without a stream.
func newTestVerifier(t *testing.T, db *sql.DB) *OnlineVerifier {
	t.Helper()
	cache, err := load(db, &namedTables{schemas: []string{verifySource}}, nil)
	require.NoError(t, err)
	v := &OnlineVerifier{
		SourceDB: db, TargetDB: db, Tables: cache.AsSlice(), DatabaseRewrites: map[string]string{verifySource: verifyTarget},
		Concurrency: 2, Logger: quietLogger(),
	}
	t.Cleanup(func() { require.NoError(t, v.Close()) })
	return v
}

func quietLogger() Logger {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	return logger
}

func requireEqual(t *testing.T, v *OnlineVerifier, what string) {
	t.Helper()
	result, err := v.VerifyDuringCutoverContext(t.Context())
	require.NoError(t, err, what)
	require.True(t, result.DataCorrect, "%s: %s", what, result.Message)
	require.Empty(t, result.Message)
}

// requireMismatches compares what is found with wanted, as "table key: kind" of short
// table names.
func requireMismatches(t *testing.T, v *OnlineVerifier, what string, wanted ...string) {
	t.Helper()
	result, err := v.VerifyDuringCutoverContext(t.Context())
	require.NoError(t, err, what)
	require.False(t, result.DataCorrect, what)
	var found []string
	for _, m := range v.Mismatches() {
		require.Contains(t, result.IncorrectTables, m.Table)
		require.Contains(t, result.Message, m.Table+" [PKs: ")
		found = append(found, fmt.Sprintf("%s %s: %s", strings.TrimPrefix(m.Table, verifySource+"."), m.Key, m.Kind))
	}
	require.ElementsMatch(t, wanted, found, what)
}

func TestOnlineVerifierFindsRows(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		verifySides(t, db,
			"numbered (id INT PRIMARY KEY, a VARCHAR(20), b VARCHAR(20))",
			"paired (x INT, y VARCHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin, v INT, PRIMARY KEY (x, y))",
			"hollow (id BIGINT PRIMARY KEY, v INT)")
		for _, schemaName := range []string{verifySource, verifyTarget} {
			mustExec(t, db,
				"INSERT INTO "+schemaName+".numbered VALUES (1,'ab','c'),(2,'x','y'),(3,NULL,''),(10,'ten','z'),(-5,'minus','m')",
				"INSERT INTO "+schemaName+".paired VALUES (1,'a',1),(1,'b',2),(2,'a',3)")
		}
		requireEqual(t, newTestVerifier(t, db), "equal data")

		const differ, onTarget, onSource = string(MismatchRowChecksumDifference), string(MismatchRowMissingOnTarget), string(MismatchRowMissingOnSource)
		for _, c := range []struct {
			what, change, undo string
			wanted             []string
		}{
			{"row missing on target", "DELETE FROM T.numbered WHERE id = 2", "INSERT INTO T.numbered VALUES (2,'x','y')", []string{"numbered 2: " + onTarget}},
			{"row missing on source", "DELETE FROM S.numbered WHERE id = 10", "INSERT INTO S.numbered VALUES (10,'ten','z')", []string{"numbered 10: " + onSource}},
			{"extra row beyond the highest key", "INSERT INTO T.numbered VALUES (1000,'','')", "DELETE FROM T.numbered WHERE id = 1000", []string{"numbered 1000: " + onSource}},
			{"extra row before the lowest key", "INSERT INTO T.numbered VALUES (-1000,'','')", "DELETE FROM T.numbered WHERE id = -1000", []string{"numbered -1000: " + onSource}},
			{"extra row between", "INSERT INTO T.numbered VALUES (7,'','')", "DELETE FROM T.numbered WHERE id = 7", []string{"numbered 7: " + onSource}},
			{"row of a table that is empty on the source", "INSERT INTO T.hollow VALUES (7,7)", "DELETE FROM T.hollow", []string{"hollow 7: " + onSource}},
			{"row of a table that is empty on the target", "INSERT INTO S.hollow VALUES (7,7)", "DELETE FROM S.hollow", []string{"hollow 7: " + onTarget}},
			{"values shifted between columns", "UPDATE T.numbered SET a = 'a', b = 'bc' WHERE id = 1", "UPDATE T.numbered SET a = 'ab', b = 'c' WHERE id = 1", []string{"numbered 1: " + differ}},
			{"columns swapped", "UPDATE T.numbered SET a = 'y', b = 'x' WHERE id = 2", "UPDATE T.numbered SET a = 'x', b = 'y' WHERE id = 2", []string{"numbered 2: " + differ}},
			{"NULL moved to another column", "UPDATE T.numbered SET a = '', b = NULL WHERE id = 3", "UPDATE T.numbered SET a = NULL, b = '' WHERE id = 3", []string{"numbered 3: " + differ}},
			{"the letter that stands for NULL", "UPDATE T.numbered SET a = 'N' WHERE id = 3", "UPDATE T.numbered SET a = NULL WHERE id = 3", []string{"numbered 3: " + differ}},
			{"values swapped between rows", "UPDATE T.numbered SET a = IF(id = 1, 'x', 'ab') WHERE id IN (1, 2)", "UPDATE T.numbered SET a = IF(id = 1, 'ab', 'x') WHERE id IN (1, 2)", []string{"numbered 1: " + differ, "numbered 2: " + differ}},
			{"composite key changed", "UPDATE T.paired SET y = 'A' WHERE x = 2", "UPDATE T.paired SET y = 'a' WHERE x = 2", []string{"paired 2,61: " + onTarget, "paired 2,41: " + onSource}},
		} {
			names := strings.NewReplacer("T.", verifyTarget+".", "S.", verifySource+".")
			mustExec(t, db, names.Replace(c.change))
			requireMismatches(t, newTestVerifier(t, db), c.what, c.wanted...)
			mustExec(t, db, names.Replace(c.undo))
		}
		requireEqual(t, newTestVerifier(t, db), "everything undone")
	})
}

// keyedTable is a table by a kind of key; both sides have rows 1 to 3 by its order.
type keyedTable struct {
	name, key   string
	keys        []string // SQL literals
	texts       []string // of the public keys
	differently string   // SQL literal: the first key in other bytes, when collated
}

var keyedTables = []keyedTable{
	{name: "k_int", key: "k INT PRIMARY KEY", keys: []string{"-7", "0", "9"}, texts: []string{"-7", "0", "9"}},
	{name: "k_zerofill", key: "k INT(8) UNSIGNED ZEROFILL PRIMARY KEY", keys: []string{"7", "42", "99999999"}},
	{name: "k_unsigned", key: "k BIGINT UNSIGNED PRIMARY KEY", keys: []string{"0", "9223372036854775808", "18446744073709551615"}},
	{name: "k_binary", key: "k BINARY(4) PRIMARY KEY", keys: []string{"X'00'", "X'0100'", "X'ff00ff00'"}, texts: []string{"00000000", "01000000", "ff00ff00"}},
	{name: "k_varbinary", key: "k VARBINARY(20) PRIMARY KEY", keys: []string{"X''", "X'00'", "'it''s \\\\'"}},
	{name: "k_collated", key: "k VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY",
		keys: []string{"'alpha'", "'bêta'", "'it''s'"}, texts: []string{"alpha", "bêta", "it's"}, differently: "'ALPHA'"},
	{name: "k_latin1", key: "k VARCHAR(20) CHARACTER SET latin1 PRIMARY KEY", keys: []string{"'a'", "'é'", "'z'"}, differently: "'A'"},
	{name: "k_gbk", key: "k VARCHAR(20) CHARACTER SET gbk PRIMARY KEY", keys: []string{"_gbk X'bf5c'", "_gbk X'bf7c'", "'z'"}},
	{name: "k_bin", key: "k VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin PRIMARY KEY", keys: []string{"'A'", "'a'", "'b'"}},
	{name: "k_decimal", key: "k DECIMAL(10,3) PRIMARY KEY", keys: []string{"-1.5", "0", "1000.125"}, texts: []string{"-1.500", "0.000", "1000.125"}},
	{name: "k_datetime", key: "k DATETIME(6) PRIMARY KEY", keys: []string{"'1000-01-01'", "'2024-02-29 12:00:00.000001'", "'9999-12-31 23:59:59.999999'"}},
	{name: "k_timestamp", key: "k TIMESTAMP(3) PRIMARY KEY", keys: []string{"'1970-01-02 00:00:00'", "'2024-02-29 12:00:00.001'", "'2037-01-01 00:00:00'"}},
	{name: "k_time", key: "k TIME(2) PRIMARY KEY", keys: []string{"'-838:59:59'", "'-00:00:00.5'", "'10:00:00'"}},
	{name: "k_date", key: "k DATE PRIMARY KEY", keys: []string{"'1000-01-01'", "'2024-02-29'", "'9999-12-31'"}},
	{name: "k_year", key: "k YEAR PRIMARY KEY", keys: []string{"1901", "2000", "2155"}},
	{name: "k_enum", key: "k ENUM('z','y','x') PRIMARY KEY", keys: []string{"'z'", "'y'", "'x'"}},
	{name: "k_bit", key: "k BIT(64) PRIMARY KEY", keys: []string{"0", "1", "18446744073709551615"}},
	{name: "k_set", key: "k SET('a','b','c') PRIMARY KEY", keys: []string{"''", "'a,c'", "'a,b,c'"}},
	{name: "k_char", key: "k CHAR(10) PRIMARY KEY", keys: []string{"'a'", "'b c'", "'z '"}, differently: "'A'"},
	{name: "k_composite", key: "a INT DEFAULT 1, k VARCHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci, PRIMARY KEY (a, k)",
		keys: []string{"'a,b'", "'a'", "'z'"}, texts: []string{`1,a\,b`, "1,a", "1,z"}, differently: "'A,B'"},
	{name: "k_unique", key: "k BIGINT NOT NULL, UNIQUE KEY only (k)", keys: []string{"1", "2", "3"}},
}

func (k keyedTable) insert(schemaName string) []string {
	var statements []string
	for i, key := range k.keys {
		statements = append(statements, fmt.Sprintf("INSERT INTO %s.%s (k, v) VALUES (%s, %d)", schemaName, k.name, key, i))
	}
	return statements
}

// Touched rows of every kind of key are looked up by it: a change that nothing but the
// event tells of is found, by its key.
func TestOnlineVerifierLooksUpKeys(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		var tables []string
		for _, k := range keyedTables {
			tables = append(tables, k.name+" (v INT, "+k.key+")")
		}
		verifySides(t, db, tables...)
		for _, k := range keyedTables {
			mustExec(t, db, k.insert(verifySource)...)
			mustExec(t, db, k.insert(verifyTarget)...)
		}
		requireOnePerTable := func(v *OnlineVerifier, tables []keyedTable, row int) {
			result, err := v.VerifyDuringCutoverContext(t.Context())
			require.NoError(t, err)
			require.Len(t, result.IncorrectTables, len(tables))
			found := map[string]OnlineVerifierMismatch{}
			for _, m := range v.Mismatches() {
				found[m.Table] = m
			}
			require.Len(t, v.Mismatches(), len(found), "one row a table")
			for _, k := range tables {
				m := found[verifySource+"."+k.name]
				require.Equal(t, MismatchRowChecksumDifference, m.Kind, k.name)
				if k.texts != nil {
					require.Equal(t, k.texts[row], m.Key)
				}
			}
		}
		var collated []keyedTable
		for row := range 3 {
			v := newTestVerifier(t, db)
			require.NoError(t, v.VerifyBeforeCutoverContext(t.Context()))
			for _, k := range keyedTables {
				mustExec(t, db, fmt.Sprintf("UPDATE %s.%s SET v = v + 100 WHERE v = %d", verifyTarget, k.name, row))
				require.NoError(t, v.BinlogEventListener(readAsEvents(t, v, k.name)))
			}
			requireOnePerTable(v, keyedTables, row)
			for _, k := range keyedTables {
				mustExec(t, db, fmt.Sprintf("UPDATE %s.%s SET v = v - 100 WHERE v >= 100", verifyTarget, k.name))
			}
		}
		for _, k := range keyedTables {
			if k.differently != "" {
				collated = append(collated, k)
				mustExec(t, db, "UPDATE "+verifyTarget+"."+k.name+" SET k = "+k.differently+" WHERE v = 0")
			}
		}
		requireOnePerTable(newTestVerifier(t, db), collated, 0)
	})
}

// readAsEvents returns the rows of a source table as insert events, read the way the
// copy reads them.
func readAsEvents(t *testing.T, v *OnlineVerifier, tableName string) []DMLEvent {
	t.Helper()
	for _, table := range v.Tables {
		if table.Name != tableName {
			continue
		}
		l, err := table.layout()
		require.NoError(t, err)
		rows := codec.NewRows(len(l.columns), 3, 100)
		err = v.made.servers.source.read(t.Context(), func(s querySession, _ string) error {
			stmt := append(s.statement(), "SELECT "+l.selectList+" FROM "+QuotedTableName(table)...)
			return s.query(t.Context(), stmt, func(values []driver.Value) error {
				for i := range values {
					require.NoError(t, rows.AddDriver(&l.columns[i], values[i]))
				}
				return nil
			})
		})
		require.NoError(t, err)
		return eventsOfRows(&rowEvent{table: table, layout: l}, rows, insertRows)
	}
	require.Fail(t, "no such table", tableName)
	return nil
}

// Nothing limits what a chunk that is compared reads: neither a gap in the keys nor a wrong
// estimate of a table's size may make one wide.
func TestComparedChunksAreBounded(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		const rows = 60000
		verifySides(t, db, "gap (id BIGINT PRIMARY KEY)", "grown (id BIGINT PRIMARY KEY)")
		for _, schemaName := range []string{verifySource, verifyTarget} {
			mustExec(t, db,
				"INSERT INTO "+schemaName+".grown WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 1000) SELECT a.i*1000+b.i FROM n a, n b WHERE a.i <= 60",
				"INSERT INTO "+schemaName+".gap SELECT id+IF(id > 12000, 3000000, 0) FROM "+schemaName+".grown")
		}
		for _, table := range []string{"gap", "grown"} {
			v := newTestVerifier(t, db)
			for _, schema := range v.Tables {
				schema.approxRows, schema.dataLength = 1, 16384
				if schema.Name == table {
					v.Tables = []*TableSchema{schema}
				}
			}
			requireEqual(t, v, table)
			require.EqualValues(t, rows, v.Stats().RowsCompared)
			require.GreaterOrEqual(t, v.Stats().Chunks, uint64(rows/(maxGuess*verifyChunkRows)+4), "chunks of %s", table)
		}
	})
}

func TestOnlineVerifierIsNeverVacuous(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		verifySides(t, db, "nothing (id INT PRIMARY KEY)")
		v := newTestVerifier(t, db)
		_, err := v.VerifyDuringCutoverContext(t.Context())
		require.True(t, errors.As(err, new(IncompleteVerificationError)), "empty tables: %v", err)

		v = &OnlineVerifier{SourceDB: db, TargetDB: db}
		_, err = v.VerifyDuringCutoverContext(t.Context())
		require.True(t, errors.As(err, new(IncompleteVerificationError)), "no tables: %v", err)
		require.True(t, errors.As(v.VerifyBeforeCutover(), new(IncompleteVerificationError)))

		mustExec(t, db, "DROP TABLE "+verifyTarget+".nothing", "INSERT INTO "+verifySource+".nothing VALUES (1)")
		_, err = newTestVerifier(t, db).VerifyDuringCutoverContext(t.Context())
		require.ErrorContains(t, err, "table `"+verifySource+"`.`nothing`: reading digests on the target")
	})
}

func TestOnlineVerifierRemembersFailure(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		verifySides(t, db, "t (id INT PRIMARY KEY, v INT)")
		mustExec(t, db, "INSERT INTO "+verifySource+".t VALUES (1,1),(2,2)", "INSERT INTO "+verifyTarget+".t VALUES (1,1),(2,3)")
		v := newTestVerifier(t, db)
		v.Wait() // nothing was started
		status, err := v.Result()
		require.NoError(t, err)
		require.False(t, status.IsStarted())

		require.NoError(t, v.StartInBackground())
		v.Wait()
		status, err = v.Result()
		require.NoError(t, err)
		require.True(t, status.IsDone())
		require.False(t, status.DataCorrect)
		require.Equal(t, []string{verifySource + ".t"}, status.IncorrectTables)
		require.Contains(t, status.Message, "cutover verification failed for: "+verifySource+".t [PKs: 2 (type: rows checksum difference, source: ")
		require.Contains(t, v.Message(), "2 rows compared, 1 of 1 tables walked, 0 keys and 0 key ranges to compare again, 1 rows differ")

		mustExec(t, db, "UPDATE "+verifyTarget+".t SET v = 2 WHERE id = 2")
		require.NoError(t, v.StartInBackground())
		v.Wait()
		status, err = v.Result()
		require.NoError(t, err)
		require.False(t, status.DataCorrect, "a failed result stays failed")
		require.True(t, errors.As(v.VerifyBeforeCutover(), new(VerificationResult)))
	})
}

// A target with far more rows than the source is searched piece by piece.
func TestOnlineVerifierSplitsFullRanges(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		verifySides(t, db, "t (id INT PRIMARY KEY, v INT)", "u (id INT PRIMARY KEY, v INT)")
		digits := "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)"
		numbers := "SELECT a.d + 10*b.d + 100*c.d + 1000*e.d + 10000*f.d AS n FROM " + strings.Join([]string{digits + " a", digits + " b", digits + " c", digits + " e", digits + " f"}, ",")
		mustExec(t, db,
			"INSERT INTO "+verifySource+".t VALUES (1,1),(90000,1)",
			"INSERT INTO "+verifyTarget+".t SELECT n, 1 FROM ("+numbers+") numbers WHERE n < 40000",
			"INSERT INTO "+verifySource+".u SELECT n, 1 FROM ("+numbers+") numbers WHERE n < 30000",
			"INSERT INTO "+verifyTarget+".u SELECT n, IF(n = 29999, 2, 1) FROM ("+numbers+") numbers WHERE n < 30000")
		v := newTestVerifier(t, db)
		result, err := v.VerifyDuringCutoverContext(t.Context())
		require.NoError(t, err)
		require.Equal(t, []string{verifySource + ".t", verifySource + ".u"}, result.IncorrectTables)
		inU := 0
		for _, m := range v.Mismatches() {
			if m.Table == verifySource+".u" {
				inU++
				require.Equal(t, "29999", m.Key)
			}
		}
		require.Equal(t, 1, inU)
		require.Len(t, v.Mismatches(), maxMismatches+1)
	})
}

// slowApply replays the statements of a writer on the target, some time later, and
// tells the verifier what the stream would tell it.
type slowApply struct {
	db       *sql.DB
	v        *OnlineVerifier
	table    *TableSchema
	skip     func(id int) bool // changes that get lost
	queue    chan appliedChange
	executed struct {
		sync.Mutex
		log uint64 // changes on the source
	}
	done struct {
		sync.Mutex
		*sync.Cond
		upTo uint64
	}
}

type appliedChange struct {
	number uint64
	id     int
	stmts  [2]string // of the source and the target
	event  DMLEvent
}

func newSlowApply(t *testing.T, db *sql.DB, skip func(id int) bool) *slowApply {
	t.Helper()
	a := &slowApply{db: db, skip: skip, queue: make(chan appliedChange, 1000)}
	a.done.Cond = sync.NewCond(&a.done.Mutex)
	literal := newTestVerifier(t, db)
	a.table = literal.Tables[0]
	a.v = literal
	c, err := a.v.core()
	require.NoError(t, err)
	c.gate, c.applied, c.logEnd = newGate(), a, a.logEnd
	t.Cleanup(func() { require.NoError(t, a.v.Close()) })
	return a
}

func (a *slowApply) logEnd(context.Context) (BinlogCoordinate, error) {
	a.executed.Lock()
	defer a.executed.Unlock()
	return BinlogCoordinate{File: "log.000001", Pos: a.executed.log}, nil
}

func (a *slowApply) WaitUntilApplied(ctx context.Context, c BinlogCoordinate) error {
	a.done.Lock()
	defer a.done.Unlock()
	for a.done.upTo < c.Pos {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		a.done.Wait()
	}
	return nil
}

// write changes a row of the source.
func (a *slowApply) write(id, v int) error {
	var base rowEvent
	l, err := a.table.layout()
	if err != nil {
		return err
	}
	base.table, base.layout = a.table, l
	rows := codec.NewRows(2, 1, 16)
	rows.Add(fmt.Append(nil, id))
	rows.Add(fmt.Append(nil, v))
	stmt, kind := fmt.Sprintf("REPLACE INTO %%s.t VALUES (%d, %d)", id, v), insertRows
	if v%5 == 0 {
		stmt, kind = fmt.Sprintf("DELETE FROM %%s.t WHERE id = %d", id), deleteRows
	}
	c := appliedChange{id: id, stmts: [2]string{fmt.Sprintf(stmt, verifySource), fmt.Sprintf(stmt, verifyTarget)}, event: eventsOfRows(&base, rows, kind)[0]}
	a.executed.Lock()
	defer a.executed.Unlock()
	a.executed.log++
	c.number = a.executed.log
	if _, err := a.db.Exec(c.stmts[0]); err != nil {
		return err
	}
	a.queue <- c
	return nil
}

// apply executes the queued changes until the queue is closed.
func (a *slowApply) apply(pause func(n uint64)) error {
	for c := range a.queue {
		pause(c.number)
		if !a.skip(c.id) {
			if _, err := a.db.Exec(c.stmts[1]); err != nil {
				return err
			}
		}
		if err := a.v.BinlogEventListener([]DMLEvent{c.event}); err != nil {
			return err
		}
		a.done.Lock()
		a.done.upTo = c.number
		a.done.Broadcast()
		a.done.Unlock()
	}
	return nil
}

func TestOnlineVerifierWhileSourceIsWritten(t *testing.T) {
	const ids, lost = 300, 1000
	for _, faulty := range []bool{false, true} {
		t.Run(fmt.Sprintf("faulty=%v", faulty), func(t *testing.T) {
			onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
				verifySides(t, db, "t (id INT PRIMARY KEY, v INT)")
				for id := range ids {
					mustExec(t, db, fmt.Sprintf("INSERT INTO %s.t VALUES (%d, 1)", verifySource, id), fmt.Sprintf("INSERT INTO %s.t VALUES (%d, 1)", verifyTarget, id))
				}
				a := newSlowApply(t, db, func(id int) bool { return faulty && id == lost })
				var work sync.WaitGroup
				var writeErr, applyErr error
				written := make(chan struct{})
				stop := make(chan struct{})
				work.Go(func() {
					defer close(a.queue)
					random := rand.New(rand.NewPCG(1, 2))
					for i := 0; ; i++ {
						select {
						case <-stop:
							return
						default:
						}
						id, v := random.IntN(ids), random.IntN(100)
						if i == 20 {
							id, v = lost, 1
						}
						if writeErr = a.write(id, v); writeErr != nil {
							return
						}
						if i == 50 {
							close(written)
						}
					}
				})
				work.Go(func() {
					delay := time.NewTicker(100 * time.Microsecond)
					defer delay.Stop()
					applyErr = a.apply(func(uint64) { <-delay.C })
				})
				<-written
				err := a.v.VerifyBeforeCutoverContext(t.Context())
				if faulty {
					require.ErrorContains(t, err, fmt.Sprintf("[PKs: %d (type: row missing on target", lost))
				} else {
					require.NoError(t, err)
					require.NoError(t, a.v.VerifyBeforeCutoverContext(t.Context()), "again, with what changed since")
				}
				close(stop)
				work.Wait()
				require.NoError(t, errors.Join(writeErr, applyErr))
				if faulty {
					requireMismatches(t, a.v, "a lost change", fmt.Sprintf("t %d: %s", lost, MismatchRowMissingOnTarget))
				} else {
					requireEqual(t, a.v, "after the last write")
				}
				require.NotZero(t, a.v.Stats().KeysRechecked)
			})
		})
	}
}

// Where the server offers no other way, a chunk waits for the rows that are being
// committed.
func TestOnlineVerifierReadsWithLocks(t *testing.T) {
	server, err := servers.Start(t.Context(), servers.Options{Flavour: servers.MySQL, Name: "nogtid", Log: t.Output()})
	require.NoError(t, err)
	defer func() { require.NoError(t, server.Stop()) }()
	db, err := testDatabaseConfig(server).SqlDB(nil)
	require.NoError(t, err)
	defer db.Close()
	verifySides(t, db, "t (id INT PRIMARY KEY, v INT, KEY (v))")
	mustExec(t, db, "INSERT INTO "+verifySource+".t VALUES (1,1),(2,2)", "INSERT INTO "+verifyTarget+".t VALUES (1,1),(2,9)")

	tx, err := db.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.Exec("UPDATE " + verifySource + ".t SET v = 9 WHERE id = 2")
	require.NoError(t, err)
	v := newTestVerifier(t, db)
	require.NoError(t, v.StartInBackground())
	// The server refreshes this view only when nobody has asked for a tenth of a second.
	asking := time.NewTicker(200 * time.Millisecond)
	defer asking.Stop()
	for waiting := 0; waiting == 0; {
		select {
		case <-v.background.mu.done:
			require.Fail(t, "the verification did not wait for the row being changed")
		case <-asking.C:
		}
		require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM information_schema.INNODB_TRX WHERE trx_state = 'LOCK WAIT'").Scan(&waiting))
	}
	require.NoError(t, tx.Commit())
	v.Wait()
	status, err := v.Result()
	require.NoError(t, err)
	require.True(t, status.DataCorrect, status.Message)
}
