package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/internal/faultproxy"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

const indexed = "indexed"

// indexedTable is a table and which of its indexes are deferred by "all"; those behind
// the bar are unique, and stay by "non-unique".
type indexedTable struct {
	name, ddl string
	deferred  string // "a b|u"
	only      servers.Flavour
}

var indexedTables = []indexedTable{
	{"ordinary", `CREATE TABLE ordinary (id BIGINT NOT NULL PRIMARY KEY, a INT NOT NULL, b VARCHAR(200) NULL, c INT NULL, u INT NULL, v INT NOT NULL,
		UNIQUE KEY u (u), UNIQUE KEY uv (v, u), KEY a (a), KEY ` + "`odd ``name`" + ` (b(10), a) USING BTREE COMMENT 'with ''quotes'', (a) back\\slash and, comma', KEY down (c DESC, a))`,
		"a,odd `name,down|u,uv", ""},
	// By kind and in their order: c stays for the foreign key, and so does what is before it.
	{"children", `CREATE TABLE children (id INT NOT NULL PRIMARY KEY AUTO_INCREMENT, a INT, parent BIGINT, c INT, d INT,
		KEY a (a), KEY by_parent (parent, a), KEY c (c), UNIQUE KEY d (d), CONSTRAINT fk FOREIGN KEY (parent) REFERENCES ordinary (id))`,
		"c|d", ""},
	{"referenced", `CREATE TABLE referenced (id INT NOT NULL PRIMARY KEY, code INT NOT NULL, x INT, UNIQUE KEY code (code), KEY x (x))`, "x|", ""},
	{"refers", `CREATE TABLE refers (id INT NOT NULL PRIMARY KEY, code INT, KEY code (code), CONSTRAINT to_code FOREIGN KEY (code) REFERENCES referenced (code))`, "|", ""},
	{"counted", `CREATE TABLE counted (id INT NOT NULL PRIMARY KEY, n INT NOT NULL AUTO_INCREMENT, x INT, KEY n (n, x), KEY x (x)) AUTO_INCREMENT=77`, "x|", ""},
	{"optional", `CREATE TABLE optional (id INT NOT NULL PRIMARY KEY AUTO_INCREMENT, x INT, t VARCHAR(200) COLLATE utf8mb4_bin, KEY x (x), UNIQUE KEY t (t))
		ENGINE=InnoDB AUTO_INCREMENT=4711 DEFAULT CHARSET=latin1 MIN_ROWS=10 AVG_ROW_LENGTH=100 STATS_PERSISTENT=1 STATS_AUTO_RECALC=0 ROW_FORMAT=COMPRESSED KEY_BLOCK_SIZE=8 COMMENT='with options'`, "x|t", ""},
	{"keyless", `CREATE TABLE keyless (a INT NOT NULL, b INT NOT NULL, x INT, UNIQUE KEY a (a), UNIQUE KEY b (b), KEY x (x))`, "x|", ""},
	{"words", `CREATE TABLE words (id INT NOT NULL PRIMARY KEY, t TEXT, g GEOMETRY NOT NULL, x INT, FULLTEXT KEY t (t), KEY y (x, id), SPATIAL KEY g (g), KEY x (x))`, "x|", ""},
	{"made", `CREATE TABLE made (id INT NOT NULL PRIMARY KEY, x INT, s INT AS (x+1) STORED, w INT AS (x*2) VIRTUAL, KEY s (s), KEY w (w))`, "s,w|", ""},
	{"parted", `CREATE TABLE parted (id INT NOT NULL PRIMARY KEY, x INT, KEY x (x)) PARTITION BY HASH (id) PARTITIONS 3`, "x|", ""},
	{"functional", `CREATE TABLE functional (id INT NOT NULL PRIMARY KEY, x INT, j JSON, KEY x (x), KEY hidden (x, id) INVISIBLE, KEY f ((x+1)), UNIQUE KEY m (x, id), KEY behind (x, id, (x*2)), KEY last_ (id, x))`,
		"x,hidden,last_|m", servers.MySQL},
	// Indexes on VIRTUAL columns and functional ones have one order, behind the others: w stays for f.
	{"behind", `CREATE TABLE behind (id INT NOT NULL PRIMARY KEY, x INT, w INT AS (x*2) VIRTUAL COMMENT 'w', s INT AS (x*2) STORED COMMENT 'not VIRTUAL at all', KEY x (x), KEY w (w), KEY s (s), KEY f ((x+1)), KEY xw (x, w))`,
		"x,s,xw|", servers.MySQL},
	{"invisible", `CREATE TABLE invisible (id INT NOT NULL PRIMARY KEY, x INT, KEY a (x) INVISIBLE, KEY b (x, id) COMMENT 'b', UNIQUE KEY c (x, id))`, "a,b|c", servers.MySQL},
	{"ignored", `CREATE TABLE ignored (id INT NOT NULL PRIMARY KEY, x INT, KEY a (x) IGNORED, KEY b (x, id) COMMENT 'b', UNIQUE KEY c (x, id))`, "a,b|c", servers.MariaDB},
	{"paged", `CREATE TABLE paged (tenant INT NOT NULL, id INT NOT NULL, x INT, y INT, PRIMARY KEY (tenant, id), UNIQUE KEY x (x), UNIQUE KEY id (id), KEY forced (x, y), KEY y (y))`, "y|x", ""},
	{"hashed", `CREATE TABLE hashed (id INT NOT NULL PRIMARY KEY, x INT, t TEXT, KEY a (x), UNIQUE KEY long_ (t))`, "|", servers.MariaDB},
	{"hashed_options", `CREATE TABLE hashed_options (id INT NOT NULL PRIMARY KEY, x INT, t TEXT, KEY a (x), UNIQUE KEY x (x), UNIQUE KEY long_ (t) COMMENT 'a long one')`, "|", servers.MariaDB},
	{"not_hashed", `CREATE TABLE not_hashed (id INT NOT NULL PRIMARY KEY, x INT, KEY a (x), UNIQUE KEY x (x) COMMENT 'is not USING HASH')`, "a|x", servers.MariaDB},
}

// createIndexed makes the tables of a flavour on both sides, and rows on the source.
func createIndexed(t *testing.T, p *harness.Pair) []indexedTable {
	t.Helper()
	var tables []indexedTable
	var ddl []string
	for _, table := range indexedTables {
		if table.only == "" || table.only == p.Flavour {
			tables, ddl = append(tables, table), append(ddl, table.ddl)
		}
	}
	p.Create(t, indexed, ddl...)
	p.In(t, p.SourceDB, indexed,
		"INSERT INTO ordinary SELECT seq, seq%7, CONCAT('b', seq), -seq, seq, seq FROM (SELECT a.n+10*b.n+100*c.n AS seq FROM "+digits("a")+" JOIN "+digits("b")+" JOIN "+digits("c")+") s",
		"INSERT INTO children (a, parent, c, d) SELECT a, id, c, id FROM ordinary", "INSERT INTO referenced SELECT id, id, a FROM ordinary WHERE id < 100",
		"INSERT INTO refers SELECT id, code FROM referenced", "INSERT INTO counted SELECT id, id+1, a FROM ordinary WHERE id < 50",
		"INSERT INTO keyless SELECT id, id, a FROM ordinary", "INSERT INTO words SELECT id, CONCAT('word', id), POINT(id, id), a FROM ordinary WHERE id < 100",
		"INSERT INTO optional (x, t) SELECT a, b FROM ordinary",
		"INSERT INTO made (id, x) SELECT id, a FROM ordinary", "INSERT INTO parted SELECT id, a FROM ordinary",
		"INSERT INTO paged SELECT a, id, id, c FROM ordinary")
	return tables
}

func digits(alias string) string {
	return "(SELECT 0 n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9) " + alias
}

// handOver are changes that hand unique values from row to row of the table ordinary.
func handOver(_ context.Context, tx *harness.Tx) error {
	a, b := tx.Rand.IntN(1000), tx.Rand.IntN(1000)
	if a == b {
		return nil
	}
	for _, statement := range []string{
		fmt.Sprintf("SELECT u, v INTO @au, @av FROM %s.ordinary WHERE id=%d FOR UPDATE", indexed, a),
		fmt.Sprintf("SELECT u, v INTO @bu, @bv FROM %s.ordinary WHERE id=%d FOR UPDATE", indexed, b),
		fmt.Sprintf("UPDATE %s.ordinary SET u=NULL, v=-1-id WHERE id=%d", indexed, a),
		fmt.Sprintf("UPDATE %s.ordinary SET u=@au, v=@av, a=a+1 WHERE id=%d", indexed, b),
		fmt.Sprintf("UPDATE %s.ordinary SET u=@bu, v=@bv WHERE id=%d", indexed, a),
	} {
		if err := tx.Exec(statement); err != nil {
			return err
		}
	}
	return nil
}

// definitions are what SHOW CREATE TABLE says of the tables, without the next AUTO_INCREMENT
// value.
func definitions(t *testing.T, db *sql.DB, tables []indexedTable) map[string]string {
	t.Helper()
	all := wholeDefinitions(t, db, tables)
	for name, text := range all {
		all[name] = nextValue.ReplaceAllString(text, "")
	}
	return all
}

var nextValue = regexp.MustCompile(` AUTO_INCREMENT=\d+`)

// wholeDefinitions are what SHOW CREATE TABLE says of the tables.
func wholeDefinitions(t *testing.T, db *sql.DB, tables []indexedTable) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, table := range tables {
		var name, text string
		require.NoError(t, db.QueryRowContext(t.Context(), "SHOW CREATE TABLE "+indexed+"."+table.name).Scan(&name, &text))
		all[table.name] = text
	}
	return all
}

// indexNames are the indexes that a table of the target has at the moment.
func indexNames(t *testing.T, db *sql.DB, table string) []string {
	return harness.Rows(t, db, "SELECT DISTINCT INDEX_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA='"+indexed+"' AND TABLE_NAME='"+table+"' ORDER BY 1")
}

// Indexes that are created later are exactly those that can be, are away while rows are
// copied, and leave the definition as it was, byte by byte, under a writer that hands
// unique values on.
func TestDeferredIndexesComeBackAsTheyWere(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		for _, mode := range []string{ghostferry.DeferIndexesNonUnique, ghostferry.DeferIndexesAll} {
			t.Run(mode, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				tables := createIndexed(t, p)
				before := definitions(t, p.TargetDB, tables)
				f := &ghostferry.Ferry{Config: p.Config(indexed)}
				f.DeferSecondaryIndexes = mode
				// What rows are found by, and what verification is told to use, stays.
				f.CascadingPaginationColumnConfig = &ghostferry.CascadingPaginationColumnConfig{PerTable: map[string]map[string]string{indexed: {"paged": "id"}}}
				f.ForceIndexForVerification = ghostferry.ForceIndexConfig{indexed: {"paged": "forced"}}
				f.UpdatableConfig.DataIterationBatchSize = 100
				plan, err := f.Plan(ctx)
				require.NoError(t, err)
				for _, table := range tables {
					others, unique, _ := strings.Cut(table.deferred, "|")
					want := []string{}
					if mode == ghostferry.DeferIndexesAll {
						want = strings.FieldsFunc(unique, func(r rune) bool { return r == ',' })
					}
					want = append(want, strings.FieldsFunc(others, func(r rune) bool { return r == ',' })...)
					at := slices.IndexFunc(plan.Tables, func(p ghostferry.TablePlan) bool { return p.Table == table.name })
					require.Equal(t, want, append([]string{}, plan.Tables[at].DeferredIndexes...), table.name)
				}
				require.NoError(t, f.InitializeContext(ctx))
				require.NoError(t, f.StartContext(ctx))
				var once sync.Once
				var during []string
				f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error {
					once.Do(func() { during = indexNames(t, p.TargetDB, "ordinary") })
					return nil
				})
				churn := p.Churn(t, harness.ChurnOptions{Every: 3 * time.Millisecond}, handOver, handOver)
				require.NoError(t, harness.RunStarted(ctx, f, churn.Stop))
				require.NoError(t, f.Close())
				want := []string{`"PRIMARY"|`}
				if mode == ghostferry.DeferIndexesNonUnique {
					want = append(want, `"u"|`, `"uv"|`)
				}
				require.Equal(t, want, during)
				require.Equal(t, before, definitions(t, p.TargetDB, tables))
				require.Equal(t, wholeDefinitions(t, p.SourceDB, tables), wholeDefinitions(t, p.TargetDB, tables))
				p.MustEqual(t, indexed)
				require.Equal(t, []string{`"0"|`}, harness.Rows(t, p.TargetDB, "SELECT COUNT(*) FROM _ghostferry.deferred_indexes"))
			})
		}
	})
}

// proxiedTarget is a configuration whose target is behind a proxy.
func proxiedTarget(t *testing.T, p *harness.Pair, schema string) (*ghostferry.Ferry, *faultproxy.Proxy) {
	t.Helper()
	proxy, err := faultproxy.Start(fmt.Sprintf("%s:%d", p.Target.Host, p.Target.Port))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, proxy.Close()) })
	f := &ghostferry.Ferry{Config: p.Config(schema)}
	f.Target.Host, f.Target.Port = "127.0.0.1", uint16(proxy.Port())
	f.DeferSecondaryIndexes = ghostferry.DeferIndexesAll
	return f, proxy
}

const creates = "^ALTER TABLE .*ADD (UNIQUE )?KEY.*LOCK=NONE"

// Rows are compared while indexes are being created: here no index is created before all rows
// were compared. A table that the server may have written anew is compared again.
func TestIndexesAreCreatedBesideTheComparison(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		tables := createIndexed(t, p)
		before := definitions(t, p.TargetDB, tables)
		f, proxy := proxiedTarget(t, p, indexed)
		f.VerifierType = ghostferry.VerifierTypeOnline
		require.NoError(t, f.InitializeContext(ctx))
		v, ok := f.Verifier.(*ghostferry.OnlineVerifier)
		require.True(t, ok)
		proxy.On(faultproxy.Rule{Match: faultproxy.Query("^ALTER TABLE .*parted.*ADD.*LOCK=NONE"), Do: faultproxy.Refuse, Error: 1845})
		// One whose ALTER gets no answer is found as it should be, and nobody knows how it was made.
		proxy.On(faultproxy.Rule{Match: faultproxy.Query("^ALTER TABLE .*made.*ADD.*LOCK=NONE"), Do: faultproxy.Refuse, Error: 1845})
		lost := proxy.On(faultproxy.Rule{Match: faultproxy.Query("^ALTER TABLE .*made.*ADD [^=]*$"), Do: faultproxy.LoseAnswer})
		var quiet atomic.Bool // MariaDB may find a duplicate where changes go on: then this one is made without them, too
		proxy.On(faultproxy.Rule{Do: faultproxy.Delay, Match: func(m faultproxy.Message) bool {
			if faultproxy.Query("^ALTER TABLE .*ordinary.*ADD [^=]*$")(m) {
				quiet.Store(true)
			}
			return false
		}})
		proxy.On(faultproxy.Rule{Do: faultproxy.Delay, Times: len(tables), Match: func(m faultproxy.Message) bool {
			if !faultproxy.Query(creates)(m) {
				return false
			}
			for s := v.Stats(); s.TablesDone < s.Tables && ctx.Err() == nil; s = v.Stats() {
				time.Sleep(time.Millisecond)
			}
			return true
		}})
		require.NoError(t, f.StartContext(ctx))
		churn := p.Churn(t, harness.ChurnOptions{Every: 3 * time.Millisecond}, handOver)
		require.NoError(t, harness.RunStarted(ctx, f, churn.Stop))
		require.NoError(t, f.Close())
		rows := uint64(0)
		for _, table := range v.Report().Tables {
			rows += table.Rows
			if strings.HasSuffix(table.Table, ".parted") || strings.HasSuffix(table.Table, ".made") || strings.HasSuffix(table.Table, ".ordinary") && quiet.Load() {
				rows += table.Rows
			}
		}
		require.Equal(t, 1, lost.Taken())
		require.Equal(t, rows, v.Stats().RowsCompared)
		require.Equal(t, before, definitions(t, p.TargetDB, tables))
		p.MustEqual(t, indexed)
	})
}

// What a server refuses to do while rows change is done with the table's changes held
// back; and what it refuses then, too, is an error after which the run can go on.
func TestIndexesThatNeedAQuietTable(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		tables := createIndexed(t, p)
		before := definitions(t, p.TargetDB, tables)
		churn := p.Churn(t, harness.ChurnOptions{Every: 3 * time.Millisecond}, handOver)

		f, proxy := proxiedTarget(t, p, indexed)
		proxy.On(faultproxy.Rule{Match: faultproxy.Query(creates), Do: faultproxy.Refuse, Error: 1799, Times: 1})
		proxy.On(faultproxy.Rule{Match: faultproxy.Query("^ALTER TABLE .*ordinary.*ADD UNIQUE"), Do: faultproxy.Refuse, Error: 1062, Times: 2})
		err := harness.Move(ctx, f, churn.Stop)
		require.NoError(t, f.Close())
		var missing *ghostferry.DeferredIndexError
		require.ErrorAs(t, err, &missing)
		require.Contains(t, missing.Table, "ordinary")
		require.True(t, ghostferry.Resumable(err))

		f, proxy = proxiedTarget(t, p, indexed)
		f.DeferSecondaryIndexes = "" // what is owed is created all the same
		quiet := proxy.On(faultproxy.Rule{Match: faultproxy.Query(creates), Do: faultproxy.Refuse, Error: 1799, Times: 100})
		require.NoError(t, harness.Move(ctx, f, churn.Stop))
		require.NoError(t, f.Close())
		require.Positive(t, quiet.Taken())
		require.Equal(t, before, definitions(t, p.TargetDB, tables))
		p.MustEqual(t, indexed)
	})
}

// An ALTER that waits in vain for a transaction of others that has used the table is made
// again for as long as an outage may last. Log and error name the table and what to do.
func TestIndexesOfATableThatOthersUse(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		tables := createIndexed(t, p)
		before := definitions(t, p.TargetDB, tables)
		fence := func() error { return nil }
		lockedOut := faultproxy.Rule{Match: faultproxy.Query("^ALTER TABLE .*`ordinary`.*ADD UNIQUE"), Do: faultproxy.Refuse, Error: 1205}

		f, proxy := proxiedTarget(t, p, indexed)
		f.MaxOutageSeconds = 1
		lockedOut.Times = 1000
		proxy.On(lockedOut)
		err := harness.Move(ctx, f, fence)
		require.NoError(t, f.Close())
		var locked *ghostferry.TableLockedError
		require.ErrorAs(t, err, &locked)
		require.Equal(t, "`"+indexed+"`.`ordinary`", locked.Table)
		require.GreaterOrEqual(t, locked.Lasted, time.Second)
		require.ErrorContains(t, err, "commit it or roll it back")
		require.True(t, ghostferry.Resumable(err))

		f, proxy = proxiedTarget(t, p, indexed)
		log := &recordingLogger{}
		f.Logger = log.logger()
		// It is to verify by an index that the process before has dropped.
		f.VerifierType, f.ForceIndexForVerification = ghostferry.VerifierTypeOnline, ghostferry.ForceIndexConfig{indexed: {"ordinary": "a"}}
		lockedOut.Times = 3
		refused := proxy.On(lockedOut)
		require.NoError(t, harness.Move(ctx, f, fence))
		require.NoError(t, f.Close())
		require.Equal(t, 3, refused.Taken())
		require.Equal(t, 1, log.count("the indexes of `"+indexed+"`.`ordinary` cannot be changed: a transaction that has used it is still open there"))
		require.Equal(t, before, definitions(t, p.TargetDB, tables))
		p.MustEqual(t, indexed)
	})
}

// An ALTER that arrives after its client has given up is never executed: the session that
// would is ended before another one takes its place.
func TestAlterFromBeyondTheGrave(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		tables := createIndexed(t, p)
		before := definitions(t, p.TargetDB, tables)
		f, proxy := proxiedTarget(t, p, indexed)
		late := proxy.On(faultproxy.Rule{Match: faultproxy.Query("^ALTER TABLE .*ordinary.*ADD UNIQUE"), Do: faultproxy.Hold})
		require.NoError(t, harness.Move(ctx, f, func() error { return nil }))
		require.NoError(t, f.Close())
		require.Equal(t, 1, late.Taken())
		require.Error(t, late.Deliver())
		require.Equal(t, before, definitions(t, p.TargetDB, tables))
		p.MustEqual(t, indexed)
	})
}

// A run that goes on waits for an ALTER of the process before that still runs, before
// anything is applied. Only where its preflight gets past a table with such an ALTER:
// MariaDB's information_schema waits for it itself. And only where rows are copied by LOAD
// DATA: MySQL cannot list a session whose statement has binary values.
func TestResumeWaitsForAnAlterThatStillRuns(t *testing.T) {
	for _, setting := range harness.Settings[:1] {
		t.Run(setting.Name, func(t *testing.T) {
			p := harness.Shared(t, setting)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			tables := createIndexed(t, p)
			before := definitions(t, p.TargetDB, tables)

			f, proxy := proxiedTarget(t, p, indexed)
			f.SkipTargetVerification = true
			require.NoError(t, f.InitializeContext(ctx))
			require.NoError(t, f.StartContext(ctx))
			// A transaction that has read the table keeps its ALTER from ending.
			var reader *sql.Tx
			var once sync.Once
			f.DataIterator.AddDoneListener(func() (err error) {
				once.Do(func() {
					if reader, err = p.TargetDB.BeginTx(ctx, nil); err == nil {
						_, err = reader.ExecContext(ctx, "SELECT * FROM "+indexed+".ordinary LIMIT 1")
					}
				})
				return err
			})
			run, stop := context.WithCancel(ctx)
			ran := make(chan error, 1)
			go func() { ran <- f.RunContext(run) }()
			waitForMetadataLock(t, p, ran, "ALTER TABLE", "`ordinary`", " ADD ")
			proxy.Silence() // the server does not learn that nobody waits for its answer
			stop()
			require.ErrorIs(t, <-ran, ghostferry.ErrInterrupted)
			require.NoError(t, f.Close())
			// Nor do those of its other sessions, which may have been in a transaction.
			var readerID int
			require.NoError(t, reader.QueryRowContext(ctx, "SELECT CONNECTION_ID()").Scan(&readerID))
			idle, err := harness.Processes(ctx, p.TargetDB)
			require.NoError(t, err)
			for _, one := range idle {
				if one.User == p.Target.User() && one.Info == "" && one.ID != readerID {
					_, _ = p.TargetDB.ExecContext(ctx, fmt.Sprintf("KILL %d", one.ID)) // it may be gone already
				}
			}
			p.In(t, p.SourceDB, indexed, "UPDATE ordinary SET a=4711 WHERE id=1")

			f, _ = proxiedTarget(t, p, indexed)
			log := &recordingLogger{}
			f.Logger = log.logger()
			moved := make(chan error, 1)
			go func() { moved <- harness.Move(ctx, f, func() error { return nil }) }()
			// It asks whether its rows are there, which waits behind the ALTER.
			waitForMetadataLock(t, p, moved, "SELECT EXISTS", "`ordinary`")
			harness.Await(t, "the run says what it waits for", func() bool {
				return log.count("does not let `"+indexed+"`.`ordinary` be read") == 1
			})
			require.Zero(t, f.Progress().BinlogRowsApplied)
			require.NoError(t, reader.Rollback())
			require.NoError(t, <-moved)
			require.NoError(t, f.Close())
			require.Equal(t, before, definitions(t, p.TargetDB, tables))
			p.MustEqual(t, indexed)
		})
	}
}

// waitForMetadataLock waits until a statement of a run on the target that has all the parts
// waits for a table's metadata lock.
func waitForMetadataLock(t *testing.T, p *harness.Pair, ended <-chan error, statement ...string) {
	t.Helper()
	var list []harness.Process
	defer func() {
		if t.Failed() {
			t.Logf("the target's sessions: %+v", list)
		}
	}()
	harness.Await(t, strings.Join(statement, " ")+" waits for a metadata lock", func() bool {
		select {
		case err := <-ended:
			t.Fatalf("the run did not wait: %v", err)
		default:
		}
		var err error
		list, err = harness.Processes(t.Context(), p.TargetDB)
		require.NoError(t, err)
		return slices.ContainsFunc(list, func(one harness.Process) bool {
			return strings.HasPrefix(one.State, "Waiting for table metadata lock") &&
				!slices.ContainsFunc(statement, func(part string) bool { return !strings.Contains(one.Info, part) })
		})
	})
}

// A run that is forgotten gives back the indexes that it owes.
func TestForgottenRunGivesIndexesBack(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tables := createIndexed(t, p)
	before := definitions(t, p.TargetDB, tables)
	f, _ := proxiedTarget(t, p, indexed)
	require.NoError(t, f.InitializeContext(ctx))
	require.NoError(t, f.StartContext(ctx))
	enough := errors.New("enough")
	f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { return enough })
	require.ErrorIs(t, f.RunContext(ctx), enough)
	require.NoError(t, f.Close())
	require.NotEqual(t, before, definitions(t, p.TargetDB, tables))
	for _, table := range tables {
		p.In(t, p.TargetDB, indexed, "SET foreign_key_checks=0", "DELETE FROM "+table.name)
	}

	f, _ = proxiedTarget(t, p, indexed)
	f.DeferSecondaryIndexes = ghostferry.DeferIndexesOff
	require.NoError(t, f.InitializeContext(ctx))
	require.NoError(t, f.ForgetCheckpoint(ctx))
	require.Equal(t, before, definitions(t, p.TargetDB, tables))
	require.NoError(t, f.StartContext(ctx))
	require.NoError(t, harness.RunStarted(ctx, f, func() error { return nil }))
	require.NoError(t, f.Close())
	p.MustEqual(t, indexed)
}

// byHand changes definitions of the target as DeferredIndexError says.
func byHand(t *testing.T, p *harness.Pair, statements ...string) {
	t.Helper()
	p.In(t, p.TargetDB, indexed, slices.Concat([]string{"SET SESSION sql_log_bin = 0"}, statements, []string{"SET SESSION sql_log_bin = 1"})...)
}

// owedByHand is a table whose indexes a run has dropped and could not create again, and somebody
// has then created by hand, in another order.
func owedByHand(ctx context.Context, t *testing.T, p *harness.Pair, comment string) {
	t.Helper()
	p.Create(t, indexed, "CREATE TABLE t (id INT NOT NULL PRIMARY KEY, u INT, v INT, a INT, b INT, UNIQUE KEY u (u), UNIQUE KEY v (v), KEY a (a), KEY b (b))")
	p.In(t, p.SourceDB, indexed, "INSERT INTO t VALUES (1,1,1,1,1),(2,2,2,2,2)")
	f, proxy := proxiedTarget(t, p, indexed)
	proxy.On(faultproxy.Rule{Match: faultproxy.Query("^ALTER TABLE .*ADD UNIQUE"), Do: faultproxy.Refuse, Error: 1062, Times: 2})
	err := harness.Move(ctx, f, func() error { return nil })
	require.NoError(t, f.Close())
	require.ErrorContains(t, err, "or create them by hand (after SET SESSION sql_log_bin = 0")
	byHand(t, p, "ALTER TABLE t ADD KEY b (b)"+comment+", ADD KEY a (a), ADD UNIQUE KEY v (v), ADD UNIQUE KEY u (u)")
}

// Indexes that were created by hand, as the error says, count in any order.
func TestIndexesCreatedByHand(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		ctx := minute(t)
		owedByHand(ctx, t, p, " COMMENT 'by hand'")
		before := definitions(t, p.SourceDB, []indexedTable{{name: "t"}})["t"]
		again := func() (*recordingLogger, error) {
			f, _ := proxiedTarget(t, p, indexed)
			log := &recordingLogger{}
			f.Logger = log.logger()
			err := harness.Move(ctx, f, func() error { return nil })
			require.NoError(t, f.Close())
			return log, err
		}
		_, err := again()
		var changed *ghostferry.DeferredIndexError
		require.ErrorAs(t, err, &changed, "one of them is another one")
		require.NoError(t, changed.Err)
		require.ErrorContains(t, err, "-restart")
		require.Contains(t, changed.Definition, "UNIQUE KEY `u`")

		byHand(t, p, "ALTER TABLE t DROP KEY a, DROP KEY b", "ALTER TABLE t ADD KEY b (b), ADD KEY a (a)")
		log, err := again()
		require.NoError(t, err)
		require.Equal(t, 1, log.count("in another order than before the run"))
		after := definitions(t, p.TargetDB, []indexedTable{{name: "t"}})["t"]
		require.NotEqual(t, before, after)
		sorted := func(text string) []string { return slices.Sorted(strings.FieldsSeq(strings.ReplaceAll(text, ",", ""))) }
		require.Equal(t, sorted(before), sorted(after))
		require.Equal(t, []string{`"0"|`}, harness.Rows(t, p.TargetDB, "SELECT COUNT(*) FROM _ghostferry.deferred_indexes"))
		p.MustEqual(t, indexed)
	})
}

// A run is forgotten also when somebody has created its indexes by hand, in whatever form.
func TestForgottenRunTakesIndexesCreatedByHand(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		ctx := minute(t)
		owedByHand(ctx, t, p, " COMMENT 'by hand'")
		p.In(t, p.TargetDB, indexed, "DELETE FROM t")
		f := &ghostferry.Ferry{Config: p.Config(indexed)}
		require.NoError(t, f.InitializeContext(ctx))
		require.NoError(t, f.ForgetCheckpoint(ctx))
		require.NoError(t, f.StartContext(ctx))
		require.NoError(t, harness.RunStarted(ctx, f, func() error { return nil }))
		require.NoError(t, f.Close())
		require.Contains(t, definitions(t, p.TargetDB, []indexedTable{{name: "t"}})["t"], "'by hand'")
		p.MustEqual(t, indexed)
	})
}

// What somebody has changed of a table since its indexes were dropped is not overruled by those of
// the run that is forgotten, nor does a server's refusal keep the run from being forgotten.
func TestForgottenRunLeavesChangedTables(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		ctx := minute(t)
		tables := []indexedTable{{name: "renamed"}, {name: "recreated"}, {name: "refused"}, {name: "half"}, {name: "kept"}}
		const columns = " (id INT NOT NULL PRIMARY KEY, a INT, b INT, c INT, "
		var ddl, rows []string
		for _, table := range tables {
			ddl = append(ddl, "CREATE TABLE "+table.name+columns+"KEY a (a, c), KEY b (b))")
			rows = append(rows, "INSERT INTO "+table.name+" VALUES (1,1,1,1)")
		}
		p.Create(t, indexed, ddl...)
		p.In(t, p.SourceDB, indexed, rows...)
		half := definitions(t, p.TargetDB, tables)["half"]
		f, proxy := proxiedTarget(t, p, indexed)
		proxy.On(faultproxy.Rule{Match: faultproxy.Query("^ALTER TABLE .*ADD KEY"), Do: faultproxy.Refuse, Error: 1478, Times: 100})
		require.Error(t, harness.Move(ctx, f, func() error { return nil }))
		require.NoError(t, f.Close())
		for _, table := range tables {
			p.In(t, p.TargetDB, indexed, "DELETE FROM "+table.name)
		}
		p.In(t, p.SourceDB, indexed, "ALTER TABLE renamed CHANGE c d INT")
		p.In(t, p.TargetDB, indexed, "ALTER TABLE renamed CHANGE c d INT", "DROP TABLE recreated",
			"CREATE TABLE recreated"+columns+"KEY a (a))", "ALTER TABLE half ADD KEY b (b)", "ALTER TABLE kept ADD KEY b (b)")
		changed := definitions(t, p.TargetDB, tables)

		refusing := func() (*ghostferry.Ferry, *faultproxy.Proxy) {
			f, proxy := proxiedTarget(t, p, indexed)
			proxy.On(faultproxy.Rule{Match: faultproxy.Query("^ALTER TABLE .*`(refused|kept)` .*ADD KEY"), Do: faultproxy.Refuse, Error: 1478, Times: 100})
			return f, proxy
		}
		f, proxy = refusing()
		require.NoError(t, f.InitializeContext(ctx))
		proxy.On(faultproxy.Rule{Match: faultproxy.Query("^SHOW CREATE TABLE .*`refused`"), Do: faultproxy.Refuse, Error: 1478})
		require.ErrorContains(t, f.ForgetCheckpoint(ctx), "reading the definition", "it says nothing about indexes")
		require.NoError(t, f.Close())

		f, _ = refusing()
		log := &recordingLogger{}
		f.Logger = log.logger()
		require.NoError(t, f.InitializeContext(ctx))
		require.NoError(t, f.ForgetCheckpoint(ctx))
		changed["half"] = half // what is there of it is as it was
		require.Equal(t, changed, definitions(t, p.TargetDB, tables))
		require.Equal(t, 2, log.count("it was changed since the earlier run dropped indexes of it"))
		require.Equal(t, 2, log.count("indexes that the earlier run dropped are not created again"))
		require.Equal(t, 4, log.count("create by hand what is missing of KEY `a` (`a`,`c`), KEY `b` (`b`)"))
		require.NoError(t, f.StartContext(ctx))
		err := harness.RunStarted(ctx, f, func() error { return nil })
		require.NoError(t, f.Close())
		for _, missing := range []string{"recreated: the index a (a, c)", "refused: the index a (a, c)", "kept: the index a (a, c)", "renamed: the index a (a, d)"} {
			require.ErrorContains(t, err, indexed+"."+missing+" of the source is missing", "the new run judges what is there")
		}
		require.NotContains(t, err.Error(), indexed+".half")
	})
}
