package ghostferry

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Masterminds/squirrel"
	"github.com/klauspost/compress/snappy"
	"github.com/stretchr/testify/require"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// plainSnappy is a snappy block that compresses nothing: another form of the same value.
func plainSnappy(text string) []byte {
	block := binary.AppendUvarint(nil, uint64(len(text)))
	return append(append(block, byte(len(text)-1)<<2), text...)
}

func TestCompressedColumnsAreComparedDecompressed(t *testing.T) {
	const repeated = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	require.NotEqual(t, plainSnappy(repeated), snappy.Encode(nil, []byte(repeated)))
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		verifySides(t, db, "t (id INT PRIMARY KEY, data BLOB, v INT)")
		insert := func(schema string, rows ...[]any) {
			mustExec(t, db, "DELETE FROM "+schema+".t")
			for _, row := range rows {
				_, err := db.Exec("INSERT INTO "+schema+".t VALUES (?,?,?)", row...)
				require.NoError(t, err)
			}
		}
		insert(verifySource, []any{1, snappy.Encode(nil, []byte(repeated)), 1}, []any{2, nil, 1}, []any{3, snappy.Encode(nil, []byte("x")), 1})
		insert(verifyTarget, []any{1, plainSnappy(repeated), 1}, []any{2, nil, 1}, []any{3, snappy.Encode(nil, []byte("x")), 1})
		compressed := func() *OnlineVerifier {
			v := newTestVerifier(t, db)
			v.Tables[0].CompressedColumnsForVerification = map[string]string{"data": "snappy"}
			return v
		}
		requireEqual(t, compressed(), "equal decompressed")
		requireMismatches(t, newTestVerifier(t, db), "compared as they are", "t 1: "+string(MismatchRowChecksumDifference))

		insert(verifyTarget, []any{1, plainSnappy(repeated[1:]), 1}, []any{2, snappy.Encode(nil, nil), 1}, []any{3, snappy.Encode(nil, []byte("x")), 2})
		v := compressed()
		requireMismatches(t, v, "different decompressed",
			"t 1: "+string(MismatchColumnValueDifference), "t 2: "+string(MismatchColumnValueDifference), "t 3: "+string(MismatchRowChecksumDifference))
		for _, m := range v.Mismatches() {
			require.Equal(t, map[string]string{"1": "data", "2": "data", "3": "v"}[m.Key], m.ColumnNames())
		}

		insert(verifyTarget, []any{1, []byte("not compressed"), 1})
		_, err := compressed().VerifyDuringCutover()
		require.ErrorContains(t, err, "decompressing a value of column `data` of table `t`")
		v = newTestVerifier(t, db)
		v.Tables[0].CompressedColumnsForVerification = map[string]string{"data": "LZW"}
		_, err = v.VerifyDuringCutover()
		var unsupported UnsupportedCompressionError
		require.True(t, errors.As(err, &unsupported), "%v", err)
	})
}

// oneTenant is a CopyFilter.
type oneTenant struct{}

func (oneTenant) BuildSelect(columns []string, table *TableSchema, last PaginationKey, size uint64) (squirrel.SelectBuilder, error) {
	return DefaultBuildSelect(columns, table, last, size).Where(squirrel.Eq{"tenant": 1}), nil
}

func (oneTenant) ApplicableEvent(ev DMLEvent) (bool, error) {
	for _, row := range []RowData{ev.OldValues(), ev.NewValues()} {
		if row != nil {
			tenant, err := row.GetUint64(1)
			return tenant == 1, err
		}
	}
	return false, nil
}

// fewAtOnce is oneTenant with a limit of its own.
type fewAtOnce struct{ oneTenant }

func (f fewAtOnce) BuildSelect(columns []string, table *TableSchema, last PaginationKey, size uint64) (squirrel.SelectBuilder, error) {
	return f.oneTenant.BuildSelect(columns, table, last, min(size, 500))
}

// amongAll is oneTenant with a limit that counts the rows of others, too.
type amongAll struct{ oneTenant }

func (amongAll) BuildSelect(columns []string, table *TableSchema, last PaginationKey, size uint64) (squirrel.SelectBuilder, error) {
	ids, args, err := squirrel.Select("id").From(QuotedTableName(table)).Where(squirrel.Gt{"id": last.SQLValue()}).OrderBy("id").Limit(size).ToSql()
	return squirrel.Select(columns...).From(QuotedTableName(table)).Join("("+ids+") AS batch USING (id)", args...).Where(squirrel.Eq{"tenant": 1}).OrderBy("id"), err
}

// sameAgain is oneTenant that does not heed the key.
type sameAgain struct{ oneTenant }

func (f sameAgain) BuildSelect(columns []string, table *TableSchema, _ PaginationKey, size uint64) (squirrel.SelectBuilder, error) {
	return f.oneTenant.BuildSelect(columns, table, Int64Key{Column: "id", Value: -1}, size)
}

// With a filter the rows of others do no harm, and ours are compared on both sides, also when its
// query returns fewer rows than its limit although there are more.
func TestOnlineVerifierObeysACopyFilter(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		verifySides(t, db, "t (id INT PRIMARY KEY, tenant INT, v INT)")
		var source, target []string
		for id := range 5000 {
			source = append(source, fmt.Sprintf("(%d,%d,1)", id, id%2))
			if id%2 == 1 {
				target = append(target, fmt.Sprintf("(%d,1,1)", id))
			}
		}
		mustExec(t, db, "INSERT INTO "+verifySource+".t VALUES "+strings.Join(source, ","), "INSERT INTO "+verifyTarget+".t VALUES "+strings.Join(target, ","),
			"INSERT INTO "+verifyTarget+".t VALUES (10,7,7),(100000,7,7)")
		filtered := func(filter CopyFilter) *OnlineVerifier {
			v := newTestVerifier(t, db)
			c, err := v.core()
			require.NoError(t, err)
			c.filter = filter
			return v
		}
		filters := []CopyFilter{oneTenant{}, fewAtOnce{}, amongAll{}}
		for _, filter := range filters {
			v := filtered(filter)
			requireEqual(t, v, fmt.Sprintf("rows of others, %T", filter))
			require.Equal(t, uint64(2500), v.Stats().RowsCompared, "%T", filter)
		}
		_, err := filtered(sameAgain{}).VerifyDuringCutover()
		require.ErrorContains(t, err, "the copy filter's query: pagination key 3999 of "+verifySource+".t does not advance")
		mustExec(t, db, "UPDATE "+verifyTarget+".t SET v = 2 WHERE id = 4999", "DELETE FROM "+verifyTarget+".t WHERE id IN (1, 4501)",
			"INSERT INTO "+verifyTarget+".t VALUES (2,1,1),(4502,1,1),(200000,1,1)", "UPDATE "+verifyTarget+".t SET tenant = 3 WHERE id = 7")
		for _, filter := range filters {
			requireMismatches(t, filtered(filter), fmt.Sprintf("ours, %T", filter), "t 4999: "+string(MismatchRowChecksumDifference), "t 1: "+string(MismatchRowMissingOnTarget),
				"t 4501: "+string(MismatchRowMissingOnTarget), "t 2: "+string(MismatchRowMissingOnSource), "t 4502: "+string(MismatchRowMissingOnSource),
				"t 200000: "+string(MismatchRowMissingOnSource), "t 7: "+string(MismatchRowMissingOnTarget))
		}
	})
}

// A batch that finds another row in its place fails when that is enforced, and else is
// compared again.
func TestBatchesAreComparedInsideTheirTransaction(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		verifySides(t, db, "t (id INT PRIMARY KEY, v VARCHAR(10))")
		mustExec(t, db, "INSERT INTO "+verifySource+".t VALUES (1,'a'),(2,'b'),(3,NULL)", "INSERT INTO "+verifyTarget+".t VALUES (2,'x')")
		cache, err := load(db, &namedTables{schemas: []string{verifySource}}, nil)
		require.NoError(t, err)
		rewrites := map[string]string{verifySource: verifyTarget}
		copyRows := func(enforce bool) (*InlineVerifier, error) {
			v := &InlineVerifier{SourceDB: db, TargetDB: db, DatabaseRewrites: rewrites, TableSchemaCache: cache, logger: quietLogger()}
			w := &BatchWriter{DB: db, InlineVerifier: v, EnforceInlineVerification: enforce, DatabaseRewrites: rewrites, WriteRetries: 2, logger: quietLogger()}
			d := &DataIterator{DB: db, SelectFingerprint: true, Concurrency: 1, logger: quietLogger()}
			d.AddBatchListener(func(b *RowBatch) error {
				require.Len(t, b.Fingerprints(), 3)
				require.Len(t, b.Fingerprints()["2"], 2*digestSize)
				return w.WriteRowBatch(b)
			})
			t.Cleanup(func() { _ = w.Close(); require.NoError(t, v.Close()) })
			return v, d.RunContext(t.Context(), cache.AsSlice())
		}
		_, err = copyRows(true)
		var failed BatchWriterVerificationFailed
		require.True(t, errors.As(err, &failed), "%v", err)
		require.ErrorContains(t, err, "row fingerprints for paginationKeys 2 on "+verifySource+".t do not match")
		var rows int
		require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM "+verifyTarget+".t").Scan(&rows))
		require.Equal(t, 1, rows, "rolled back")

		v, err := copyRows(false)
		require.NoError(t, err)
		require.Equal(t, "currentRowCount = 1, currentEntryCount = 1", v.Message())
		require.NoError(t, v.VerifyBeforeCutover())
		result, err := v.VerifyDuringCutover()
		require.NoError(t, err)
		require.False(t, result.DataCorrect)
		require.Contains(t, result.Message, "cutover verification failed for: "+verifySource+".t [PKs: 2 (type: rows checksum difference, source: ")
		require.Contains(t, result.Message, ", column: v) ] ")
		result, err = v.VerifyDuringCutover()
		require.NoError(t, err)
		require.False(t, result.DataCorrect, "a failed result stays failed")
		require.ErrorContains(t, v.binlogEventListener(make([]DMLEvent, 1)), "cutover has started but received binlog event!")
		require.ErrorContains(t, v.StartInBackground(), "was not made by Ferry.NewInlineVerifier")

		_, err = (&InlineVerifier{SourceDB: db, TargetDB: db, TableSchemaCache: cache}).VerifyDuringCutover()
		require.True(t, errors.As(err, new(IncompleteVerificationError)), "nothing compared: %v", err)
		_, err = (&InlineVerifier{SourceDB: db, TargetDB: db}).VerifyDuringCutover()
		require.True(t, errors.As(err, new(IncompleteVerificationError)), "no tables: %v", err)
	})
}

func TestCheckFingerprintInline(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		verifySides(t, db, "t (id INT PRIMARY KEY, v INT)")
		mustExec(t, db, "INSERT INTO "+verifySource+".t VALUES (1,1),(2,2)", "INSERT INTO "+verifyTarget+".t VALUES (1,1)")
		cache, err := load(db, &namedTables{schemas: []string{verifySource}}, nil)
		require.NoError(t, err)
		v := &InlineVerifier{SourceDB: db, TargetDB: db, TableSchemaCache: cache, logger: quietLogger()}
		d := &DataIterator{DB: db, SelectFingerprint: true, logger: quietLogger()}
		d.AddBatchListener(func(b *RowBatch) error {
			tx, err := db.Begin()
			require.NoError(t, err)
			defer func() { _ = tx.Rollback() }()
			mismatches, err := v.CheckFingerprintInline(tx, verifyTarget, "t", b, true)
			require.NoError(t, err)
			require.Len(t, mismatches, 1)
			require.Equal(t, "2", mismatches[0].Pk)
			require.Equal(t, MismatchRowMissingOnTarget, mismatches[0].MismatchType)
			require.Equal(t, "currentRowCount = 0, currentEntryCount = 0", v.Message())
			return nil
		})
		require.NoError(t, d.RunContext(t.Context(), cache.AsSlice()))
	})
}

func TestIterativeVerifierWords(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		verifySides(t, db, "t (id INT PRIMARY KEY, v INT, w INT)", "ignored (id INT PRIMARY KEY)")
		mustExec(t, db, "INSERT INTO "+verifySource+".t VALUES (1,1,1),(2,2,2),(3,3,3)", "INSERT INTO "+verifyTarget+".t VALUES (1,1,9),(2,3,2),(3,4,3)", "INSERT INTO "+verifySource+".ignored VALUES (1)")
		cache, err := load(db, &namedTables{schemas: []string{verifySource}}, nil)
		require.NoError(t, err)
		v := &IterativeVerifier{}
		for _, missing := range []string{"CursorConfig", "BinlogStreamer", "SourceDB", "TargetDB", "concurrency"} {
			require.ErrorContains(t, v.Initialize(), missing)
			switch missing {
			case "CursorConfig":
				v.CursorConfig = &CursorConfig{DB: db}
			case "BinlogStreamer":
				v.BinlogStreamer = &BinlogStreamer{}
			case "SourceDB":
				v.SourceDB = db
			case "TargetDB":
				v.TargetDB = db
			}
		}
		v.Concurrency, v.Tables, v.TableSchemaCache, v.logger = 2, cache.AsSlice(), cache, quietLogger()
		v.IgnoredTables, v.IgnoredColumns = []string{"ignored"}, map[string]map[string]struct{}{"t": {"w": {}}}
		v.DatabaseRewrites = map[string]string{verifySource: verifyTarget}
		require.ErrorContains(t, v.StartInBackground(), "call Initialize first")
		require.NoError(t, v.Initialize())
		defer func() { require.NoError(t, v.Close()) }()
		require.ErrorContains(t, v.StartInBackground(), "VerifyBeforeCutover has to be called before")
		once, err := v.VerifyOnce()
		require.NoError(t, err)
		require.Equal(t, "verification failed on table: "+verifySource+".t for paginationKey: 2", once.Message)
		require.NoError(t, v.VerifyBeforeCutover(), "differences before the cutover are no failure")
		report := v.Report()
		require.Equal(t, []string{verifySource + ".ignored"}, report.IgnoredTables)
		require.Equal(t, []string{"w"}, report.Tables[0].IgnoredColumns)
		require.NoError(t, v.StartInBackground())
		v.Wait()
		status, err := v.Result()
		require.NoError(t, err)
		require.Equal(t, "verification failed on table: "+verifySource+".t for paginationKeys: 2,3", status.Message)
		require.ErrorContains(t, v.StartInBackground(), "started before")

		table := cache.Get(verifySource, "t")
		source, err := v.GetHashes(db, verifySource, "t", "id", table.Columns[:1], []interface{}{"1", uint64(2), 77})
		require.NoError(t, err)
		target, err := v.GetHashes(db, verifyTarget, "t", "id", table.Columns[:1], []interface{}{"1", "2"})
		require.NoError(t, err)
		require.Len(t, source, 2)
		require.Equal(t, source, target, "only the key is in it")

		compression, err := NewCompressionVerifier(TableColumnCompressionConfig{"t": {"w": CompressionSnappy}}, cache)
		require.NoError(t, err)
		require.True(t, compression.IsCompressedTable("t"))
		require.False(t, compression.IsCompressedTable("ignored"))
		_, err = compression.GetCompressedHashes(db, "nowhere", "t", "id", table.Columns, nil)
		require.ErrorContains(t, err, "not in the schema cache")
		hashes, err := compression.GetCompressedHashes(db, verifySource, "t", "id", table.Columns[:2], []interface{}{"3"})
		require.NoError(t, err)
		require.Len(t, hashes, 1)
		_, err = compression.HashRow(nil)
		require.Error(t, err)
		one, err := compression.HashRow([][]byte{[]byte("ab"), []byte("c")})
		require.NoError(t, err)
		other, err := compression.HashRow([][]byte{[]byte("a"), []byte("bc")})
		require.NoError(t, err)
		require.NotEqual(t, one, other)
		_, err = NewCompressionVerifier(TableColumnCompressionConfig{"t": {"w": "zip"}}, cache)
		require.EqualError(t, err, "Compression algorithm: zip not supported on table: t for column: w")
		query, args, err := GetMd5HashesSql("s", "t", "id", table.Columns[:2], []interface{}{1, 2})
		require.NoError(t, err)
		require.Equal(t, "SELECT `id`, MD5(CONCAT(MD5(COALESCE(`id`, 'NULL')),MD5(COALESCE(`v`, 'NULL')))) AS row_fingerprint FROM `s`.`t` WHERE `id` IN (?,?) ORDER BY `id`", query)
		require.Len(t, args, 2)
	})
}

func TestChecksumVerifierWords(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		verifySides(t, db, "t (id INT PRIMARY KEY, v INT)")
		cache, err := load(db, &namedTables{schemas: []string{verifySource}}, nil)
		require.NoError(t, err)
		for _, statement := range []bool{false, true} {
			v := &ChecksumTableVerifier{
				Tables: cache.AsSlice(), DatabaseRewrites: map[string]string{verifySource: verifyTarget}, SourceDB: db, TargetDB: db,
				UseChecksumStatement: statement, logger: quietLogger(),
			}
			require.NoError(t, v.VerifyBeforeCutover())
			_, err = v.VerifyDuringCutover()
			require.True(t, errors.As(err, new(IncompleteVerificationError)), "empty tables: %v", err)
			mustExec(t, db, "INSERT INTO "+verifySource+".t VALUES (1,1)", "INSERT INTO "+verifyTarget+".t VALUES (1,1)")
			for range 2 {
				require.NoError(t, v.StartInBackground())
				v.Wait()
				status, err := v.Result()
				require.NoError(t, err)
				require.True(t, status.DataCorrect)
			}
			mustExec(t, db, "UPDATE "+verifyTarget+".t SET v = 2")
			result, err := v.VerifyDuringCutover()
			require.NoError(t, err)
			require.Equal(t, "data on table `"+verifySource+"`.`t` (`"+verifyTarget+"`.`t`) mismatched", result.Message)
			mustExec(t, db, "DROP TABLE "+verifyTarget+".t")
			_, err = v.VerifyDuringCutover()
			require.ErrorContains(t, err, "cannot find table")
			mustExec(t, db, "CREATE TABLE "+verifyTarget+".t (id INT PRIMARY KEY, v INT)", "DELETE FROM "+verifySource+".t")
			v.Tables = nil
			_, err = v.VerifyDuringCutover()
			require.True(t, errors.As(err, new(IncompleteVerificationError)))
		}
	})
}

// A report has the same digest for equal data, however they were cut, and says in every
// form which rows differ.
func TestVerificationReport(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		verifySides(t, db, "t (id INT PRIMARY KEY, v INT)", "`<b>|` (id INT PRIMARY KEY)")
		var rows []string
		for id := range 20000 {
			rows = append(rows, fmt.Sprintf("(%d,%d)", id, id%7))
		}
		for _, schema := range []string{verifySource, verifyTarget} {
			mustExec(t, db, "INSERT INTO "+schema+".t VALUES "+strings.Join(rows, ","))
		}
		v := newTestVerifier(t, db)
		require.Equal(t, reportIncomplete, v.Report().Result)
		requireEqual(t, v, "equal")
		equal := v.Report()
		require.Equal(t, reportEqual, equal.Result)
		require.Equal(t, uint64(20000), equal.Rows)
		again := newTestVerifier(t, db)
		again.Concurrency = 1
		again.Tables[0], again.Tables[1] = again.Tables[1], again.Tables[0]
		requireEqual(t, again, "equal again")
		byTable := func(r *VerificationReport) map[string]string {
			digests := map[string]string{}
			for _, table := range r.Tables {
				digests[table.Table] = table.Digest
			}
			return digests
		}
		require.Equal(t, byTable(equal), byTable(again.Report()))
		require.Equal(t, equal.Digest, again.Report().Digest, "whatever the order of the tables")

		mustExec(t, db, "UPDATE "+verifySource+".t SET v = 100 WHERE id = 777", "INSERT INTO "+verifyTarget+".`<b>|` VALUES (1)")
		v = newTestVerifier(t, db)
		_, err := v.VerifyDuringCutoverContext(context.Background())
		require.NoError(t, err)
		different := v.Report()
		require.Equal(t, reportDifferent, different.Result)
		require.NotEqual(t, equal.Digest, different.Digest)
		require.Len(t, different.Mismatches, 2)
		dir := t.TempDir()
		for _, name := range []string{"r.json", "r.md", "r.html"} {
			require.NoError(t, different.WriteFile(filepath.Join(dir, name)))
			text, err := os.ReadFile(filepath.Join(dir, name))
			require.NoError(t, err)
			require.Contains(t, string(text), "777")
			require.Contains(t, string(text), different.Digest)
		}
		text, err := os.ReadFile(filepath.Join(dir, "r.html"))
		require.NoError(t, err)
		require.NotContains(t, string(text), "<b>")
		text, err = os.ReadFile(filepath.Join(dir, "r.json"))
		require.NoError(t, err)
		var read VerificationReport
		require.NoError(t, json.Unmarshal(text, &read))
		require.ElementsMatch(t, different.Mismatches, read.Mismatches)
		require.ErrorContains(t, different.WriteFile(filepath.Join(dir, "r.pdf")), ".json, .md or .html")
	})
}

// Rows that differ are made equal, and compared again.
func TestRepairOfAStillTarget(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		verifySides(t, db, "t (id INT PRIMARY KEY, u INT UNIQUE, v VARCHAR(10))", "c (k VARCHAR(10) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY)")
		mustExec(t, db, "INSERT INTO "+verifySource+".t VALUES (1,1,'a'),(2,2,'b'),(3,3,NULL),(4,4,'d')", "INSERT INTO "+verifySource+".c VALUES ('abc')",
			// Unique values have changed hands, a row is missing, one is too many, one has another spelling.
			"INSERT INTO "+verifyTarget+".t VALUES (1,2,'a'),(2,1,'b'),(4,4,'D'),(5,3,'e')", "INSERT INTO "+verifyTarget+".c VALUES ('ABC')")
		v := newTestVerifier(t, db)
		v.Repair = true
		requireEqual(t, v, "after the repair")
		actions := map[string]string{}
		for _, r := range v.Report().Repaired {
			actions[strings.TrimPrefix(r.Table, verifySource+".")+" "+r.Key] = r.Action
		}
		require.Equal(t, map[string]string{"t 1": "rewritten", "t 2": "rewritten", "t 3": "inserted", "t 4": "rewritten", "t 5": "deleted", "c abc": "rewritten"}, actions)
		require.GreaterOrEqual(t, v.Stats().Repaired, 6, "a row that another one kept out is repaired twice")
		requireEqual(t, newTestVerifier(t, db), "by another verifier")

		// Large rows are repaired by few.
		mustExec(t, db, "CREATE TABLE "+verifySource+".large (id INT PRIMARY KEY, v LONGBLOB)", "CREATE TABLE "+verifyTarget+".large (id INT PRIMARY KEY, v LONGBLOB)",
			"INSERT INTO "+verifySource+".large VALUES (1,REPEAT('a',5<<20)),(2,REPEAT('b',5<<20)),(3,REPEAT('c',5<<20)),(4,REPEAT('d',5<<20)),(5,REPEAT('e',5<<20))")
		v = newTestVerifier(t, db)
		v.Repair = true
		c, err := v.core()
		require.NoError(t, err)
		require.NoError(t, c.run(t.Context(), &c.counters.before, func(ctx context.Context) error {
			f := c.byName[TableIdentifier{verifySource, "large"}]
			written, err := c.repairer.rewrite(ctx, f, []string{encodedKey(1), encodedKey(2), encodedKey(3), encodedKey(4), encodedKey(5)})
			require.Equal(t, 2, written)
			return err
		}))
		requireEqual(t, v, "after the repair of the others")
		require.Equal(t, 3, v.Stats().Repaired)

		// Rows of more chunks than there are passes without a repair, and each ends a walk.
		const chunks, chunkRows = 32, 4
		mustExec(t, db, "CREATE TABLE "+verifySource+".many (id INT PRIMARY KEY)", "CREATE TABLE "+verifyTarget+".many (id INT PRIMARY KEY)",
			fmt.Sprintf("INSERT INTO %s.many WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) SELECT i FROM n", verifySource, chunks*chunkRows))
		repairMany := func() (*OnlineVerifier, *comparer) {
			v := newTestVerifier(t, db)
			v.Repair, v.Concurrency = true, 1
			c, err := v.core()
			require.NoError(t, err)
			many := c.byName[TableIdentifier{verifySource, "many"}].table
			many.approxRows, many.dataLength = 1, verifyChunkBytes/chunkRows
			c.locatedKeys = 1
			return v, c
		}
		requireWalked := func(v *OnlineVerifier, err error) {
			require.NoError(t, err)
			require.Zero(t, v.Stats().RangesQueued, "no range is left to the cutover")
			require.Equal(t, v.Stats().Tables, v.Stats().TablesDone)
			require.Zero(t, v.Stats().Repaired, "while the source may be written nothing says that a row differs for good")
		}
		v, c = repairMany()
		_, _, err = c.rehearse(t.Context())
		requireWalked(v, err)
		v, _ = repairMany()
		requireWalked(v, v.VerifyBeforeCutover())
		requireEqual(t, v, "after the repair of many")
		require.Equal(t, chunks*chunkRows, v.Stats().Repaired)
		requireEqual(t, newTestVerifier(t, db), "by another verifier")
	})
}

// A comparison that takes longer than it may at the cutover stops the cutover.
func TestVerificationObeysMaxExpectedDowntime(t *testing.T) {
	onBothFlavours(t, func(t *testing.T, db *sql.DB, _ *servers.Server) {
		verifySides(t, db, "t (id INT PRIMARY KEY)")
		mustExec(t, db, "INSERT INTO "+verifySource+".t VALUES (1)")
		v := newTestVerifier(t, db)
		v.MaxExpectedDowntime = 1
		require.ErrorContains(t, v.VerifyBeforeCutover(), "cutover stage verification will not complete within max downtime duration (took ")
		mustExec(t, db, "INSERT INTO "+verifyTarget+".t VALUES (1)")
		requireEqual(t, v, "it is equal all the same")
	})
}

// The sentence on top of a report claims nothing that was not compared.
func TestVerdicts(t *testing.T) {
	tables := []TableReport{{Table: "s.t"}}
	at := "log.000001:4"
	for want, r := range map[string]*VerificationReport{
		"All 1,234,567 rows of 1 table were compared on both servers, and are equal, at the source's coordinate log.000001:4.": {Result: reportEqual, Rows: 1234567, Tables: tables, Coordinate: at},
		"The rows of 1 table that were copied or changed by the run are equal on both servers.":                                {Result: reportEqual, Verifier: VerifierTypeInline, RowsRechecked: 1, Tables: tables},
		"No row was compared: this says nothing about whether source and target are equal.":                                    {Result: reportIncomplete, Tables: tables},
		"Not everything was compared: 1 row so far, and none of them differs.":                                                 {Result: reportIncomplete, Rows: 1, Tables: tables},
		"Rows that differ: 1, of 1 table that were compared, at the source's coordinate log.000001:4.":                         {Result: reportDifferent, Rows: 5, Tables: tables, Coordinate: at, Mismatches: make([]OnlineVerifierMismatch, 1)},
	} {
		require.Equal(t, want, r.Verdict())
	}
	left := &VerificationReport{
		Result: reportEqual, Rows: 3, Tables: []TableReport{{Table: "s.t", IgnoredColumns: []string{"a", "b"}}}, IgnoredTables: []string{"s.left"},
	}
	require.Equal(t, "1 table and 2 columns", left.NotCompared())
	require.Equal(t, "All 3 rows of 1 table were compared on both servers, and are equal. As configured, 1 table and 2 columns were not compared.", left.Verdict())
	for _, write := range []func(io.Writer) error{left.WriteJSON, left.WriteMarkdown, left.WriteHTML} {
		var text strings.Builder
		require.NoError(t, write(&text))
		require.Contains(t, text.String(), "s.left")
		require.Regexp(t, `(?s)ignored_columns": \[\s*"a",\s*"b"|not compared: `+"`?a, b", text.String())
	}
	require.Equal(t, []string{"0 ms", "999 ms", "1.0 s", "59.9 s", "2 min 5 s"}, []string{readableSeconds(0), readableSeconds(0.9999), readableSeconds(1), readableSeconds(59.9), readableSeconds(125.4)})
}
