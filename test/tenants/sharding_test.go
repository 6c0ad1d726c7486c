package tenants

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/sharding"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

const shard = "shard"

// shardTables are tables of tenants, of what their rows point to, and of tenants
// themselves.
var shardTables = []string{
	"CREATE TABLE orders (id BIGINT PRIMARY KEY, tenant VARCHAR(20), photo BIGINT UNSIGNED, v INT, KEY by_tenant (tenant), KEY by_photo (photo))",
	"CREATE TABLE labels (tenant VARCHAR(20) NOT NULL, id INT NOT NULL, photo BIGINT UNSIGNED NOT NULL, PRIMARY KEY (tenant,id), KEY by_photo (photo))",
	"CREATE TABLE photos (id BIGINT UNSIGNED PRIMARY KEY, title VARCHAR(40) CHARACTER SET latin1, body BLOB, size FLOAT, taken TIMESTAMP(3) NULL, UNIQUE KEY by_title (title))",
	"CREATE TABLE tenants (name VARCHAR(20) PRIMARY KEY, v INT)",
	"CREATE TABLE settings (id INT PRIMARY KEY, v INT)",
}

func fillShard(t *testing.T, p *harness.Pair) {
	t.Helper()
	p.Create(t, shard, shardTables...)
	numbers := func(n int) string {
		return fmt.Sprintf("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < %d) SELECT ", n)
	}
	p.In(t, p.SourceDB, shard,
		"INSERT INTO photos "+numbers(900)+"i, CONCAT('photo ',i,'é'), REPEAT(CHAR(i MOD 256),i MOD 50), i/7, FROM_UNIXTIME(1e9+i/8) FROM n",
		"INSERT INTO orders "+numbers(900)+"i, ELT(1+i MOD 3,'acme','b',NULL), NULLIF(i*7 MOD 300,0), 0 FROM n",
		"INSERT INTO labels "+numbers(300)+"IF(i MOD 2,'acme','b'), i, i+300 FROM n",
		"INSERT INTO tenants VALUES ('Acme',1),('b',2)", "INSERT INTO settings VALUES (1,1)")
	p.In(t, p.TargetDB, shard, "INSERT INTO orders VALUES (100001,'b',100001,7),(100002,NULL,NULL,7),(100003,'b',7,7)", "INSERT INTO labels VALUES ('b',1,100001)",
		"INSERT INTO photos VALUES (100001,'theirs','x',0.1,NULL)", "INSERT INTO tenants VALUES ('b',9)")
	photo := harness.Rows(t, p.SourceDB, "SELECT QUOTE(CONVERT(title USING utf8mb4)) FROM shard.photos WHERE id=7")
	require.Len(t, photo, 1)
	// One that rows of others on the target point to, too, and that is as it is on the source.
	p.In(t, p.TargetDB, shard, "INSERT INTO photos VALUES (7,'photo 7é',REPEAT(CHAR(7),7),1,FROM_UNIXTIME(1e9+7/8))")
}

func shardConfig(p *harness.Pair) *sharding.Config {
	config := &sharding.Config{
		Config: p.Config(shard), ShardingKey: "tenant", ShardingKeyValue: "acme", SourceDB: shard, TargetDB: shard, PrimaryKeyTables: []string{"tenants"},
		JoinedTables: map[string][]sharding.JoinTable{"photos": {{TableName: "orders", JoinColumn: "photo"}, {TableName: "labels", JoinColumn: "photo"}}},
	}
	config.InlineVerifierConfig.MaxExpectedDowntime = "30s"
	return config
}

// changeShard writes to every table but the tenants' own rows.
func changeShard(t *testing.T, p *harness.Pair) *harness.Churn {
	owner := func(tx *harness.Tx) any { return []any{"acme", "ACME", "b", nil}[tx.Rand.IntN(4)] }
	photo := func(tx *harness.Tx) any { return 8 + tx.Rand.IntN(900) }
	return p.Churn(t, harness.ChurnOptions{Every: 5 * time.Millisecond},
		func(_ context.Context, tx *harness.Tx) error {
			return tx.Exec("UPDATE shard.orders SET tenant=?, photo=?, v=v+1 WHERE id=?", owner(tx), photo(tx), tx.Rand.IntN(900))
		},
		func(_ context.Context, tx *harness.Tx) error {
			return tx.Exec("UPDATE shard.photos SET body=CONCAT(body,'+'), size=size*1.1, title=CONCAT('t',?) WHERE id=?", tx.Rand.IntN(100000), photo(tx))
		},
		func(_ context.Context, tx *harness.Tx) error {
			id := photo(tx)
			if err := tx.Exec("DELETE FROM shard.photos WHERE id=?", id); err != nil || tx.Rand.IntN(2) == 0 {
				return err
			}
			return tx.Exec("INSERT INTO shard.photos VALUES (?,NULL,'again',2.5,NULL)", id)
		},
		func(_ context.Context, tx *harness.Tx) error {
			return tx.Exec("REPLACE INTO shard.labels VALUES (?,?,?)", []any{"acme", "b"}[tx.Rand.IntN(2)], tx.Rand.IntN(300), photo(tx))
		},
		func(_ context.Context, tx *harness.Tx) error {
			return tx.Exec("DELETE FROM shard.labels WHERE id=?", tx.Rand.IntN(300))
		})
}

// theirs are the rows of others on a server; ours those of the tenant.
var (
	oursIs = map[string]string{
		"orders": "tenant='acme'", "labels": "tenant='acme'", "tenants": "name='acme'", "settings": "FALSE",
		"photos": "id IN (SELECT photo FROM shard.orders WHERE tenant='acme' UNION SELECT photo FROM shard.labels WHERE tenant='acme')",
	}
	shardColumns = map[string]string{"photos": "id, HEX(title), HEX(body), size*1e0, taken"}
)

func shardRows(t *testing.T, p *harness.Pair, target, ours bool) map[string][]string {
	rows := map[string][]string{}
	db := p.SourceDB
	if target {
		db = p.TargetDB
	}
	for table, condition := range oursIs {
		columns := shardColumns[table]
		if columns == "" {
			columns = "*"
		}
		if !ours {
			condition = "NOT COALESCE((" + condition + "),FALSE)"
		}
		rows[table] = harness.Rows(t, db, "SELECT "+columns+" FROM shard."+table+" WHERE "+condition+" ORDER BY 1,2")
	}
	return rows
}

// A tenant moves while all tenants write, with the rows that its own point to, which
// change, too, and its own row. The callbacks stop the writers. Then it is taken back, and
// nothing but what was there before is left.
func TestShardingMovesATenant(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minutes(t)
		fillShard(t, p)
		before := shardRows(t, p, true, false)
		whole := map[string]any{"ours": shardRows(t, p, true, true), "theirs": before}
		churn := changeShard(t, p)
		var unlocked sync.WaitGroup
		unlocked.Add(1)
		hooks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/lock":
				if err := churn.Stop(); err != nil {
					http.Error(w, err.Error(), http.StatusInternalServerError)
				}
			case "/unlock":
				unlocked.Done()
			}
		}))
		defer hooks.Close()
		config := shardConfig(p)
		config.CutoverLock, config.CutoverUnlock = ghostferry.HTTPCallback{URI: hooks.URL + "/lock"}, ghostferry.HTTPCallback{URI: hooks.URL + "/unlock"}
		ferry, err := sharding.NewFerry(config)
		require.NoError(t, err)
		told := record(t, p.TargetDB, func() {
			require.NoError(t, ferry.InitializeContext(ctx))
			require.NoError(t, ferry.StartContext(ctx))
			require.NoError(t, churn.Await(ctx, 200))
			require.NoError(t, ferry.RunContext(ctx))
		})
		unlocked.Wait()
		require.NoError(t, ferry.Close())
		mustKeepToTenant(t, p.TargetDB, ferry, told, "INSERT orders", "DELETE orders", "INSERT photos", "INSERT tenants")
		require.Equal(t, shardRows(t, p, false, true), shardRows(t, p, true, true))
		require.NotEmpty(t, shardRows(t, p, true, true)["photos"])
		require.Len(t, shardRows(t, p, true, true)["tenants"], 1)
		after := shardRows(t, p, true, false)
		require.Equal(t, before["orders"], after["orders"])
		require.Equal(t, before["labels"], after["labels"])
		require.Equal(t, before["settings"], after["settings"])
		require.Subset(t, after["photos"], before["photos"][1:])

		// The application writes to the target now, and somebody clears the source.
		p.In(t, p.TargetDB, shard, "UPDATE tenants SET v=77 WHERE name='acme'", "UPDATE orders SET v=77 WHERE tenant='acme'")
		p.In(t, p.SourceDB, shard, "UPDATE tenants SET v=v+1 WHERE name='acme'", "DELETE FROM orders WHERE tenant='acme'")
		moved := shardRows(t, p, true, true)
		again, err := sharding.NewFerry(shardConfig(p))
		require.NoError(t, err)
		require.NoError(t, again.InitializeContext(ctx))
		var already *sharding.AlreadyMovedError
		require.ErrorAs(t, again.StartContext(ctx), &already)
		require.ErrorAs(t, again.ApplicationOnSourceContext(ctx), &already)
		require.Equal(t, moved, shardRows(t, p, true, true))

		_, err = again.CancelContext(ctx, false)
		require.ErrorContains(t, err, "has finished")
		var removed int64
		told = record(t, p.TargetDB, func() { removed, err = again.CancelContext(ctx, true) })
		require.NoError(t, err)
		mustKeepToTenant(t, p.TargetDB, again, told, "DELETE orders", "DELETE labels", "DELETE photos", "DELETE tenants")
		require.NoError(t, again.Close())
		require.Greater(t, removed, int64(300))
		require.Equal(t, whole, map[string]any{"ours": shardRows(t, p, true, true), "theirs": shardRows(t, p, true, false)})
	})
}

// mustKeepToTenant fails on statements of a ferry that could touch rows of others, and on a removal
// of a joined row that reads a whole table. Some kinds of statements have to be among them.
func mustKeepToTenant(t *testing.T, target *sql.DB, ferry *sharding.ShardingFerry, told []string, among ...string) {
	t.Helper()
	conditions := map[string]string{"tenants": "\\(`name` = _utf8mb4 X'(?i:61636d65)'[^)]*\\)"}
	for _, table := range ferry.Ferry.Tables {
		predicate, err := (&ghostferry.RowFilter{}).Predicate(table)
		require.NoError(t, err)
		conditions[table.Name] = regexp.QuoteMeta(predicate)
	}
	joined := regexp.MustCompile("WHERE `shard`.`photos`.`id`='?[0-9]+'? AND EXISTS \\(SELECT 1 FROM `_ghostferry`.`joined_rows` WHERE run_id='.*' AND name='photos' AND row_key=.*\\)" +
		" AND NOT \\(EXISTS \\(.*`orders`.*EXISTS \\(.*`labels`")
	kinds := map[string]int{}
	for _, text := range told {
		shown := text[:min(len(text), 500)]
		words := strings.Fields(strings.NewReplacer("INSERT INTO", "INSERT", "DELETE FROM", "DELETE").Replace(text))
		verb, table := words[0], strings.Trim(strings.TrimPrefix(words[1], "`shard`."), "`")
		kinds[verb+" "+table]++
		switch {
		case verb == "INSERT":
			require.NotContains(t, text, "ON DUPLICATE KEY", shown)
			require.NotContains(t, text, "IGNORE", shown)
		case verb != "DELETE" && verb != "UPDATE":
			t.Errorf("the target was told: %s", shown)
		case table == "photos":
			require.Regexp(t, joined, text)
			if verb == "DELETE" && kinds[verb+" "+table] == 1 {
				mustReadByIndex(t, target, text)
			}
		default:
			require.NotEmpty(t, conditions[table], shown)
			require.Regexp(t, "( AND |^DELETE FROM `shard`.`"+table+"` WHERE )"+conditions[table]+"( LIMIT 5000)?$", text)
		}
	}
	for _, kind := range among {
		require.NotZero(t, kinds[kind], "%s: %v", kind, kinds)
	}
}

// mustReadByIndex fails when a statement's plan reads a whole table.
func mustReadByIndex(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "EXPLAIN FORMAT=TRADITIONAL "+statement)
	require.NoError(t, err, statement)
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	require.NoError(t, err)
	for rows.Next() {
		values, err := ghostferry.ScanByteRow(rows, len(names))
		require.NoError(t, err)
		for i, name := range names {
			if name == "type" {
				require.NotContains(t, []string{"ALL", "index"}, string(values[i]), "%s: %q", statement, values)
			}
		}
	}
	require.NoError(t, rows.Err())
}

// A process that ends in the middle is gone on from, and a move that is given up in the
// middle leaves nothing behind.
func TestShardingGoesOnAndIsTakenBack(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minutes(t)
		fillShard(t, p)
		whole := map[string]any{"ours": shardRows(t, p, true, true), "theirs": shardRows(t, p, true, false)}
		churn := changeShard(t, p)
		begin := func(then func(ctx context.Context, f *sharding.ShardingFerry)) error {
			ferry, err := sharding.NewFerry(shardConfig(p))
			require.NoError(t, err)
			run, cancel := context.WithCancel(ctx)
			defer cancel()
			require.NoError(t, ferry.InitializeContext(run))
			require.NoError(t, ferry.StartContext(run))
			batches := 0
			ferry.Ferry.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error {
				if batches++; batches == 2 && then != nil {
					cancel()
				}
				return nil
			})
			err = ferry.RunContext(run)
			require.NoError(t, ferry.Close())
			return err
		}
		stop := func(context.Context, *sharding.ShardingFerry) {}
		require.ErrorIs(t, begin(stop), context.Canceled)
		ferry, err := sharding.NewFerry(shardConfig(p))
		require.NoError(t, err)
		require.NoError(t, ferry.InitializeContext(ctx))
		_, err = ferry.CancelContext(ctx, false)
		require.NoError(t, err)
		require.NoError(t, ferry.Close())
		require.Equal(t, whole, map[string]any{"ours": shardRows(t, p, true, true), "theirs": shardRows(t, p, true, false)})
		require.ErrorIs(t, begin(stop), context.Canceled)
		require.NoError(t, churn.Stop())
		require.NoError(t, begin(nil))
		require.Equal(t, shardRows(t, p, false, true), shardRows(t, p, true, true))
	})
}

// The configuration says what is missing; a value that is 0 is one.
func TestShardingConfig(t *testing.T) {
	config, err := sharding.ReadConfig(strings.NewReader(`{"Source":{"Host":"a","Port":1,"User":"u"},"Target":{"Host":"b","Port":1,"User":"u"}, "IgnoredTables":["("], "IncludedTables":["x"]}`))
	require.NoError(t, err)
	require.EqualValues(t, -1, config.ShardingValue)
	_, err = sharding.NewFerry(config)
	require.Error(t, err)
	config.IgnoredTables = []string{"y"}
	_, err = sharding.NewFerry(config)
	for _, says := range []string{"ShardingKey is not set", "SourceDB is not set", "TargetDB is not set", "neither ShardingValue", "exclude each other"} {
		require.ErrorContains(t, err, says)
	}
	config.IgnoredTables, config.ShardingKey, config.SourceDB, config.TargetDB, config.ShardingValue = nil, "k", "a", "b", 0
	ferry, err := sharding.NewFerry(config)
	require.NoError(t, err)
	require.Equal(t, ghostferry.VerifierTypeInline, ferry.Ferry.VerifierType)
	require.Equal(t, map[string]string{"a": "b"}, config.DatabaseRewrites)
	config.VerifierType, config.DatabaseRewrites = ghostferry.VerifierTypeOnline, map[string]string{"a": "c"}
	_, err = sharding.NewFerry(config)
	require.NoError(t, err)
	require.Equal(t, ghostferry.VerifierTypeInline, config.VerifierType, "which a warning tells")
	text, err := json.Marshal(config.ShardingKeyValue)
	require.NoError(t, err)
	require.Equal(t, "null", string(text))
}
