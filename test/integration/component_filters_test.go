package integration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	sq "github.com/Masterminds/squirrel"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// settled are moves of small tables whose rows, names or keys a host chooses. No
// verifier: the tests look at the target themselves.
func settled(t *testing.T, p *harness.Pair, schemas []string, change func(*ghostferry.Ferry)) *ghostferry.Ferry {
	t.Helper()
	f := &ghostferry.Ferry{Config: p.Config(schemas...)}
	f.VerifierType = ghostferry.VerifierTypeNoVerification
	f.UpdatableConfig.DataIterationBatchSize = 20
	change(f)
	return f
}

// tenant is a CopyFilter of one tenant's rows whose query has no upper bound: the keys
// come from a derived table, by an index that it names.
type tenant struct {
	id   int64
	hint string

	mu    sync.Mutex
	asked map[string][]ghostferry.PaginationKey // by table
}

func (f *tenant) BuildSelect(columns []string, table *ghostferry.TableSchema, last ghostferry.PaginationKey, size uint64) (sq.SelectBuilder, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[table.Name] = append(f.asked[table.Name], last)
	from := ghostferry.QuotedTableName(table)
	keys, args, err := sq.Select("id").From(from + f.hint).Where(sq.Eq{"tenant": f.id}).Where(sq.Gt{"id": last.SQLValue()}).
		OrderBy("id").Limit(size).ToSql()
	if err != nil {
		return sq.SelectBuilder{}, err
	}
	return sq.Select(columns...).From(from).Join("("+keys+") AS batch USING (id)", args...).OrderBy("id"), nil
}

func (f *tenant) ApplicableEvent(ev ghostferry.DMLEvent) (bool, error) {
	row := ev.NewValues()
	if row == nil {
		row = ev.OldValues()
	}
	id, ok := ghostferry.Int64Value(row[ev.TableSchema().FindColumn("tenant")])
	if !ok {
		return false, fmt.Errorf("tenant of %v", row)
	}
	return id == f.id, nil
}

// One tenant's rows move while all tenants write, next to another's rows that are on the
// target already. Batches of a table are read one after the other, in order.
func TestCopyFilterWithoutUpperBound(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		hint := map[string]string{"mysql-gtid": " FORCE INDEX (by_tenant)", "mariadb": " USE INDEX (by_tenant)"}[p.Name]
		ctx := minute(t)
		p.Create(t, aloneSchema, "CREATE TABLE a (id BIGINT PRIMARY KEY, tenant INT NOT NULL, v INT, KEY by_tenant (tenant, id))",
			"CREATE TABLE b (tenant INT NOT NULL, id INT UNSIGNED PRIMARY KEY, v INT, KEY by_tenant (tenant))")
		numbers := "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 300) SELECT "
		p.In(t, p.SourceDB, aloneSchema, "INSERT INTO a (id,tenant,v) "+numbers+"i-100, MOD(i,3), i FROM n", "INSERT INTO b (id,tenant,v) "+numbers+"i, MOD(i,3), i FROM n")
		p.In(t, p.TargetDB, aloneSchema, "INSERT INTO a VALUES (100000,0,1)")
		churn := p.Churn(t, harness.ChurnOptions{}, on2("UPDATE alone.a SET v=v+1 WHERE id=?", 200), on2("DELETE FROM alone.a WHERE id=?", 200),
			on2("REPLACE INTO alone.b (id,tenant,v) SELECT i, MOD(i,3), 0 FROM (SELECT 1+? AS i) n", 500))
		filter := &tenant{id: 1, hint: hint, asked: map[string][]ghostferry.PaginationKey{}}
		f := settled(t, p, []string{aloneSchema}, func(f *ghostferry.Ferry) {
			f.CopyFilter = filter
			f.UpdatableConfig.DataIterationBatchSize = 10
		})
		if err := f.InitializeContext(ctx); err != nil {
			t.Fatal(err)
		}
		order := &oneAtATime{batches: map[string]int{}, busy: map[string]bool{}}
		f.DataIterator.AddBatchListener(order.begin(t))
		if err := f.StartContext(ctx); err != nil {
			t.Fatal(err)
		}
		f.DataIterator.AddBatchListener(order.end)
		if err := harness.RunStarted(ctx, f, churn.Stop); err != nil {
			t.Fatalf("with hint %q: %v", hint, err)
		}
		_ = f.Close()
		for table, n := range order.batches {
			if n < 3 { // some rows are deleted meanwhile
				t.Errorf("%d batches of %s", n, table)
			}
		}
		for table, asked := range filter.asked {
			if !slices.IsSortedFunc(asked, ghostferry.PaginationKey.Compare) {
				t.Errorf("%s was read in the order %v", table, asked)
			}
		}
		for _, table := range []string{"a", "b"} {
			query := "SELECT id,tenant,v FROM alone." + table + " WHERE tenant=1 ORDER BY id"
			mustBe(t, "rows of "+table, harness.Rows(t, p.TargetDB, query), harness.Rows(t, p.SourceDB, query))
		}
		mustBe(t, "rows of others", harness.Rows(t, p.TargetDB, "SELECT id FROM alone.a WHERE tenant<>1"), []string{`"100000"|`})
	})
}

// oneAtATime counts the batches of the tables, and fails when two of a table are under
// way at once.
type oneAtATime struct {
	mu      sync.Mutex
	batches map[string]int
	busy    map[string]bool
}

// begin is a listener before the Ferry's own, end one behind it.
func (o *oneAtATime) begin(t *testing.T) func(*ghostferry.RowBatch) error {
	return func(b *ghostferry.RowBatch) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		name := b.TableSchema().Name
		if o.busy[name] {
			t.Errorf("two batches of %s at once", name)
		}
		o.busy[name] = true
		o.batches[name]++
		return nil
	}
}

func (o *oneAtATime) end(b *ghostferry.RowBatch) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busy[b.TableSchema().Name] = false
	return nil
}

// What a filter fails with ends the run, with its name.
func TestCopyFilterFails(t *testing.T) {
	harness.OnSettings(t, flavours(), false, func(t *testing.T, p *harness.Pair) {
		broken := errors.New("broken")
		p.Create(t, aloneSchema, "CREATE TABLE a (id BIGINT PRIMARY KEY, v INT)")
		p.In(t, p.SourceDB, aloneSchema, "INSERT INTO a VALUES (1,1)")
		p.NoLeak(t, func() {
			f := settled(t, p, []string{aloneSchema}, func(f *ghostferry.Ferry) {
				f.CopyFilter = byOdd{err: broken}
				f.DBReadRetries = 1
			})
			err := harness.Move(minute(t), f, func() error { return nil })
			var table *ghostferry.TableError
			if !errors.Is(err, broken) || !errors.As(err, &table) || table.Table != "a" {
				t.Errorf("a filter that fails ended the run with %v", err)
			}
		})
	})
}

// picky is a TableFilter that answers with schemas and tables of its own making.
type picky struct {
	schemas []string
	tables  func([]*ghostferry.TableSchema) ([]*ghostferry.TableSchema, error)
}

func (f picky) ApplicableDatabases([]string) ([]string, error) { return f.schemas, nil }

func (f picky) ApplicableTables(tables []*ghostferry.TableSchema) ([]*ghostferry.TableSchema, error) {
	return f.tables(tables)
}

// A table filter chooses; what it fails with, chooses amiss or leaves empty is refused.
func TestTableFilterChooses(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, aloneSchema, "CREATE TABLE a (id BIGINT PRIMARY KEY)", "CREATE TABLE b (id BIGINT PRIMARY KEY)", "CREATE VIEW c AS SELECT * FROM a")
		named := func(names ...string) func([]*ghostferry.TableSchema) ([]*ghostferry.TableSchema, error) {
			return func(tables []*ghostferry.TableSchema) (out []*ghostferry.TableSchema, err error) {
				for _, table := range tables {
					if slices.Contains(names, table.Name) {
						out = append(out, &ghostferry.TableSchema{Table: table.Table}) // a copy will do
					}
				}
				return out, nil
			}
		}
		source := openPool(t, p.Config().Source)
		defer func() { _ = source.Close() }()
		load := func(f picky) ([]string, error) {
			cache, err := ghostferry.LoadTables(source, f, nil, nil, nil, nil)
			names := cache.AllTableNames()
			slices.Sort(names)
			return names, err
		}
		broken := errors.New("broken")
		got, err := load(picky{[]string{aloneSchema}, named("b", "c")})
		if err != nil || !slices.Equal(got, []string{"alone.b"}) {
			t.Errorf("%v, error %v", got, err)
		}
		if _, err = load(picky{[]string{aloneSchema}, named("c")}); !errors.As(err, new(*ghostferry.EmptySelectionError)) {
			t.Errorf("nothing chosen: %v", err)
		}
		if _, err = load(picky{[]string{"no_such_schema"}, named("a")}); err == nil || !strings.Contains(err.Error(), "no_such_schema") {
			t.Errorf("a schema that does not exist: %v", err)
		}
		if got, err = load(picky{[]string{aloneSchema}, func([]*ghostferry.TableSchema) ([]*ghostferry.TableSchema, error) { return nil, broken }}); !errors.Is(err, broken) || got != nil {
			t.Errorf("a filter that fails: %v, %v", got, err)
		}
	})
}

// Two schemas and two tables change names with each other, others become something else;
// changes that come while the copy runs find them, too.
func TestRewritesOfNames(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minute(t)
		tables := []string{"CREATE TABLE left_one (id BIGINT PRIMARY KEY, v INT)", "CREATE TABLE right_one (id VARCHAR(9) PRIMARY KEY, w INT)", "CREATE TABLE `odd``.name` (id BIGINT PRIMARY KEY)"}
		for _, schema := range []string{"names_a", "names_b", "names_c"} {
			p.Create(t, schema, tables...)
			p.In(t, p.SourceDB, schema, "INSERT INTO left_one WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 200) SELECT i, ASCII(RIGHT(DATABASE(),1)) FROM n",
				"INSERT INTO right_one SELECT CONCAT('k',id), v FROM left_one", "INSERT INTO `odd``.name` VALUES (1)")
			p.In(t, p.TargetDB, schema, "RENAME TABLE left_one TO x, right_one TO left_one, x TO right_one, `odd``.name` TO plain")
		}
		p.In(t, p.TargetDB, "", "DROP DATABASE IF EXISTS names_d", "CREATE DATABASE names_d", "RENAME TABLE names_c.left_one TO names_d.left_one, names_c.right_one TO names_d.right_one, names_c.plain TO names_d.plain")
		churn := p.Churn(t, harness.ChurnOptions{}, on2("UPDATE names_a.left_one SET v=v+1 WHERE id=?", 200), on2("DELETE FROM names_b.right_one WHERE id=CONCAT('k',?)", 200),
			on2("REPLACE INTO names_c.`odd``.name` VALUES (?)", 100))
		f := settled(t, p, []string{"names_a", "names_b", "names_c"}, func(f *ghostferry.Ferry) {
			f.DatabaseRewrites = map[string]string{"names_a": "names_b", "names_b": "names_a", "names_c": "names_d"}
			f.TableRewrites = map[string]string{"left_one": "right_one", "right_one": "left_one", "odd`.name": "plain"}
			f.VerifierType = ghostferry.VerifierTypeOnline
		})
		if err := f.InitializeContext(ctx); err != nil {
			t.Fatal(err)
		}
		target, err := f.NewTargetBinlogStreamer()
		if err != nil {
			t.Fatal(err)
		}
		if err := f.StartContext(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := target.ConnectBinlogStreamerToMysql(); err != nil {
			t.Fatal(err)
		}
		written := map[string]bool{}
		target.AddEventListener(func(evs []ghostferry.DMLEvent) error {
			for _, ev := range evs {
				written[ev.TableSchema().String()] = true
			}
			return nil
		})
		watched := make(chan error, 1)
		go func() { watched <- target.RunContext(ctx) }()
		if err := harness.RunStarted(ctx, f, churn.Stop); err != nil {
			t.Fatal(err)
		}
		target.FlushAndStop()
		if err := <-watched; err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		for source, there := range map[string]string{"names_a": "names_b", "names_b": "names_a", "names_c": "names_d"} {
			for from, to := range map[string]string{"left_one": "right_one", "right_one": "left_one", "`odd``.name`": "plain"} {
				mustBe(t, source+"."+from, harness.Rows(t, p.TargetDB, "SELECT * FROM "+there+"."+to+" ORDER BY id"), harness.Rows(t, p.SourceDB, "SELECT * FROM "+source+"."+from+" ORDER BY id"))
			}
		}
		if len(written) != 9 {
			t.Errorf("the stream of the target knows %d tables by their names on the source: %v", len(written), written)
		}
	})
}

// The key of a table is the configured column, else its primary key, else the fallback
// column, of whatever unique keys there are.
func TestConfiguredPaginationColumns(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		const change = "UPDATE alone.%s SET v=v+1 WHERE n=?"
		p.Create(t, aloneSchema,
			"CREATE TABLE chosen (id BIGINT PRIMARY KEY, n INT NOT NULL, v INT, UNIQUE KEY by_n (n))",
			"CREATE TABLE own (id BIGINT PRIMARY KEY, n INT NOT NULL, v INT, UNIQUE KEY by_n (n))",
			"CREATE TABLE fallen_back (x INT NOT NULL, n INT NOT NULL, v INT, UNIQUE KEY by_x (x), UNIQUE KEY by_n (n))")
		for table, columns := range map[string]string{"chosen": "-i, i, 0", "own": "-i, i, 0", "fallen_back": "i, 1000-i, 0"} {
			p.In(t, p.SourceDB, aloneSchema, "INSERT INTO "+table+" WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 300) SELECT "+columns+" FROM n")
		}
		churn := p.Churn(t, harness.ChurnOptions{}, on2(fmt.Sprintf(change, "chosen"), 300), on2(fmt.Sprintf(change, "fallen_back"), 1000), on2("DELETE FROM alone.chosen WHERE n=?", 300))
		f := settled(t, p, []string{aloneSchema}, func(f *ghostferry.Ferry) {
			f.CascadingPaginationColumnConfig = &ghostferry.CascadingPaginationColumnConfig{
				PerTable: map[string]map[string]string{aloneSchema: {"chosen": "n"}}, FallbackColumn: "n",
			}
			f.VerifierType = ghostferry.VerifierTypeOnline
			f.ForceIndexForVerification = ghostferry.ForceIndexConfig{aloneSchema: {"chosen": "by_n"}}
		})
		ctx := minute(t)
		if err := f.InitializeContext(ctx); err != nil {
			t.Fatal(err)
		}
		for table, column := range map[string]string{"chosen": "n", "own": "id", "fallen_back": "n"} {
			if got := f.Tables.Get(aloneSchema, table).GetPaginationColumn().Name; got != column {
				t.Errorf("%s is walked by %s", table, got)
			}
		}
		if query := f.Tables.Get(aloneSchema, "chosen").FingerprintQuery("s", "t", 1); !strings.Contains(query, "FORCE INDEX (by_n)") {
			t.Errorf("the query for hosts is %s", query)
		}
		if err := f.StartContext(ctx); err != nil {
			t.Fatal(err)
		}
		if err := harness.RunStarted(ctx, f, churn.Stop); err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		p.MustEqual(t, aloneSchema)

		f = settled(t, p, []string{aloneSchema}, func(f *ghostferry.Ferry) {
			f.CascadingPaginationColumnConfig = &ghostferry.CascadingPaginationColumnConfig{FallbackColumn: "v"}
		})
		if err := f.Initialize(); !errors.As(err, new(*ghostferry.NoUsableKeyError)) {
			t.Errorf("a column that is not unique: %v", err)
		}
	})
}

// A throttled run does not copy; it goes on when it may.
func TestThrottledRun(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, aloneSchema, "CREATE TABLE a (id BIGINT PRIMARY KEY)")
		p.In(t, p.SourceDB, aloneSchema, "INSERT INTO a VALUES (1),(2),(3)")
		throttler := &watchedThrottler{asked: make(chan struct{}, 1)}
		throttler.SetPaused(true)
		f := settled(t, p, []string{aloneSchema}, func(f *ghostferry.Ferry) { f.Throttler = throttler })
		ran := make(chan error, 1)
		go func() { ran <- harness.Move(minute(t), f, func() error { return nil }) }()
		select {
		case <-throttler.asked:
		case err := <-ran:
			t.Fatalf("the run ended: %v", err)
		}
		if n := harness.Count(t, p.TargetDB, "alone.a"); n != 0 || !f.Progress().Throttled {
			t.Errorf("%d rows were copied, throttled: %v", n, f.Progress().Throttled)
		}
		throttler.SetPaused(false)
		if err := <-ran; err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		p.MustEqual(t, aloneSchema)
	})
}

// watchedThrottler tells when somebody had to wait for it.
type watchedThrottler struct {
	ghostferry.PauserThrottler
	asked chan struct{}
}

func (t *watchedThrottler) Throttled() bool {
	throttled := t.PauserThrottler.Throttled()
	if throttled {
		select {
		case t.asked <- struct{}{}:
		default:
		}
	}
	return throttled
}

// pointedAt is a CopyFilter of the rows of t that pointers name: the limit counts pointers, some of
// which point to nothing, and not rows. between is called between the two reads of the first batch.
type pointedAt struct {
	asked   atomic.Int64
	between func()
}

func (f *pointedAt) BuildSelect(columns []string, table *ghostferry.TableSchema, last ghostferry.PaginationKey, size uint64) (sq.SelectBuilder, error) {
	if table.Name != "t" {
		return ghostferry.DefaultBuildSelect(columns, table, last, size), nil
	}
	if f.asked.Add(1) == 2 {
		f.between()
	}
	keys, args, err := sq.Select("id").From("pointed.pointers").Where(sq.Gt{"id": last.SQLValue()}).OrderBy("id").Limit(size).ToSql()
	return sq.Select(columns...).From(ghostferry.QuotedTableName(table)).Join("("+keys+") AS batch USING (id)", args...).OrderBy("id"), err
}

func (f *pointedAt) ApplicableEvent(ghostferry.DMLEvent) (bool, error) { return true, nil }

// A host's query may return fewer rows than its limit although there are more: nothing is taken
// for copied beyond what it has returned.
func TestHostQueryReturnsFewerRows(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, "pointed", "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE pointers (id INT PRIMARY KEY)")
		p.In(t, p.SourceDB, "pointed", "INSERT INTO t VALUES (10,1),(20,2)", "INSERT INTO pointers VALUES (5),(10),(20)")
		f := settled(t, p, []string{"pointed"}, func(f *ghostferry.Ferry) {
			f.UpdatableConfig.DataIterationBatchSize = 2
			f.CopyFilter = &pointedAt{between: func() {
				p.In(t, p.SourceDB, "pointed", "INSERT INTO t VALUES (7, 7)", "INSERT INTO pointers VALUES (7)")
			}}
		})
		require.NoError(t, harness.Move(t.Context(), f, func() error { return nil }))
		require.NoError(t, f.Close())
		p.MustEqual(t, "pointed")
	})
}
