package tenants

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/sharding"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// Joined tables may have keys of text, compared without regard to case, and of bytes; only
// tables that are included move.
func TestShardingJoinsByTextAndBytes(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		const schema = "joined_keys"
		ctx := minutes(t)
		p.Create(t, schema,
			"CREATE TABLE orders (id BIGINT PRIMARY KEY, tenant VARCHAR(20), doc VARCHAR(30) COLLATE utf8mb4_general_ci, hash VARBINARY(8), KEY by_tenant (tenant), KEY by_doc (doc), KEY by_hash (hash))",
			"CREATE TABLE docs (code VARCHAR(30) COLLATE utf8mb4_general_ci PRIMARY KEY, body VARCHAR(200))",
			"CREATE TABLE hashes (h VARBINARY(8) PRIMARY KEY, n INT, tag VARCHAR(20) CHARACTER SET latin1 COLLATE latin1_german1_ci, UNIQUE KEY by_n (n), UNIQUE KEY by_tag (tag, n))",
			"CREATE TABLE exact (code VARCHAR(30) COLLATE utf8mb4_bin PRIMARY KEY)",
			"CREATE TABLE left_out (id BIGINT PRIMARY KEY, tenant VARCHAR(20), KEY by_tenant (tenant))")
		numbers := "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 300) SELECT "
		p.In(t, p.SourceDB, schema,
			"INSERT INTO docs "+numbers+"CONCAT('Doc ',i,'é'), CONCAT('body ',i) FROM n",
			"INSERT INTO hashes "+numbers+"UNHEX(LPAD(HEX(i*7),IF(i MOD 2,8,16),'00')), i, CONCAT('ä ',i) FROM n",
			"INSERT INTO orders "+numbers+"i, IF(i MOD 3,'acme','b'), CONCAT('DOC ',i MOD 250,'É'), UNHEX(LPAD(HEX((i MOD 200)*7),IF(i MOD 2,8,16),'00')) FROM n",
			"INSERT INTO orders VALUES (301,'acme','x',NULL),(302,'acme','X',NULL)", // one to their column, two to the table that they join
			"INSERT INTO exact VALUES ('x'),('X'),('y')",
			"INSERT INTO left_out VALUES (1,'acme')")
		p.In(t, p.TargetDB, schema, "INSERT INTO docs VALUES ('theirs','x')", "INSERT INTO hashes VALUES (X'FF',100000,'theirs')",
			"INSERT INTO orders VALUES (9001,'b','theirs',X'FF')",
			// A row that makes way takes none with it that refers to it.
			"ALTER TABLE orders ADD FOREIGN KEY (hash) REFERENCES hashes (h) ON DELETE CASCADE")

		code := func(tx *harness.Tx) string { return fmt.Sprintf("dOc %dé", 1+tx.Rand.IntN(250)) }
		churn := p.Churn(t, harness.ChurnOptions{Every: 5 * time.Millisecond},
			func(_ context.Context, tx *harness.Tx) error {
				return tx.Exec("UPDATE joined_keys.orders SET doc=?, tenant=? WHERE id=?", code(tx), []any{"acme", "b"}[tx.Rand.IntN(2)], 1+tx.Rand.IntN(300))
			},
			func(_ context.Context, tx *harness.Tx) error { // the case of a key alone, too
				return tx.Exec("UPDATE joined_keys.docs SET code=?, body=CONCAT(LEFT(body,50),'+') WHERE code=?", code(tx), code(tx))
			},
			func(_ context.Context, tx *harness.Tx) error { // unique values change hands
				a := 1 + tx.Rand.IntN(299)
				for _, change := range [][2]int{{a, 1000 + a}, {a + 1, a}, {1000 + a, a + 1}} {
					if err := tx.Exec("UPDATE joined_keys.hashes SET n=?, tag=CONCAT('ä ',n) WHERE n=?", change[1], change[0]); err != nil {
						return err
					}
				}
				return nil
			},
			func(_ context.Context, tx *harness.Tx) error {
				one := code(tx)
				if err := tx.Exec("DELETE FROM joined_keys.docs WHERE code=?", one); err != nil {
					return err
				}
				return tx.Exec("INSERT INTO joined_keys.docs VALUES (UPPER(?),'again')", one)
			})
		lock := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if err := churn.Stop(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		}))
		defer lock.Close()
		config := &sharding.Config{
			Config: p.Config(schema), ShardingKey: "tenant", ShardingKeyValue: "acme", SourceDB: schema, TargetDB: schema, IncludedTables: []string{"^orders$", "^docs$", "^hashes$", "^exact$"},
			JoinedTables: map[string][]sharding.JoinTable{"docs": {{TableName: "orders", JoinColumn: "doc"}}, "hashes": {{TableName: "orders", JoinColumn: "hash"}}, "exact": {{TableName: "orders", JoinColumn: "doc"}}},
		}
		config.InlineVerifierConfig.MaxExpectedDowntime = "30s"
		config.CutoverLock = ghostferry.HTTPCallback{URI: lock.URL}
		ferry, err := sharding.NewFerry(config)
		require.NoError(t, err)
		require.NoError(t, ferry.InitializeContext(ctx))
		require.NoError(t, ferry.StartContext(ctx))
		require.NoError(t, churn.Await(ctx, 200))
		require.NoError(t, ferry.RunContext(ctx))
		require.NoError(t, ferry.Close())

		for table, rows := range map[string]string{
			"orders": "SELECT id, HEX(doc), HEX(hash) FROM joined_keys.orders WHERE tenant='acme' ORDER BY id",
			"docs":   "SELECT HEX(code), HEX(body) FROM joined_keys.docs WHERE code IN (SELECT doc FROM joined_keys.orders WHERE tenant='acme') ORDER BY code",
			"hashes": "SELECT HEX(h), n, HEX(tag) FROM joined_keys.hashes WHERE h IN (SELECT hash FROM joined_keys.orders WHERE tenant='acme') ORDER BY h",
			"exact":  "SELECT HEX(code) FROM joined_keys.exact WHERE code IN (SELECT doc FROM joined_keys.orders WHERE tenant='acme') ORDER BY code",
		} {
			ours := harness.Rows(t, p.SourceDB, rows)
			require.NotEmpty(t, ours, table)
			require.Equal(t, ours, harness.Rows(t, p.TargetDB, rows), table)
		}
		require.Equal(t, 1, harness.Count(t, p.TargetDB, "joined_keys.orders WHERE tenant='b'"))
		require.Equal(t, 1, harness.Count(t, p.TargetDB, "joined_keys.docs WHERE code='theirs' AND body='x'"))
		require.Zero(t, harness.Count(t, p.TargetDB, "joined_keys.left_out"))
	})
}

// A joined table whose rows its first key column does not tell apart is refused.
func TestShardingRefusesJoinedKeysOfSeveralColumns(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		const schema = "joined_composite"
		p.Create(t, schema,
			"CREATE TABLE products (id INT PRIMARY KEY, tenant VARCHAR(20), text_id INT, KEY by_tenant (tenant))",
			"CREATE TABLE texts (text_id INT, lang VARCHAR(10), body VARCHAR(20), PRIMARY KEY (text_id, lang), KEY by_text (text_id))")
		ferry, err := sharding.NewFerry(&sharding.Config{
			Config: p.Config(schema), ShardingKey: "tenant", ShardingKeyValue: "acme", SourceDB: schema, TargetDB: schema,
			JoinedTables: map[string][]sharding.JoinTable{"texts": {{TableName: "products", JoinColumn: "text_id"}}},
		})
		require.NoError(t, err)
		require.ErrorContains(t, ferry.InitializeContext(t.Context()), "joined table joined_composite.texts: its key has further columns than `text_id`")
		require.NoError(t, ferry.Close())
	})
}

// JSON of MySQL has types that its text does not tell, and joined rows are carried as text.
func TestShardingRefusesJoinedJSON(t *testing.T) {
	harness.OnSettings(t, harness.Settings[:1], true, func(t *testing.T, p *harness.Pair) {
		const schema = "joined_json"
		p.Create(t, schema, "CREATE TABLE orders (id INT PRIMARY KEY, tenant INT, item INT, KEY by_tenant (tenant))",
			"CREATE TABLE items (id INT PRIMARY KEY, name VARCHAR(20), meta JSON)")
		ferry, err := sharding.NewFerry(&sharding.Config{
			Config: p.Config(schema), ShardingKey: "tenant", ShardingValue: 1, SourceDB: schema, TargetDB: schema,
			JoinedTables: map[string][]sharding.JoinTable{"items": {{TableName: "orders", JoinColumn: "item"}}},
		})
		require.NoError(t, err)
		require.ErrorContains(t, ferry.InitializeContext(t.Context()), "joined table joined_json.items: its column meta is JSON")
		require.NoError(t, ferry.Close())
	})
}

// A joining column is refused whose values in the log are not text that a connection understands:
// joined rows would be looked up by other text.
func TestJoinColumnOfAnotherCharacterSet(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		const schema = "joined_utf16"
		p.Create(t, schema, "CREATE TABLE codes (code VARCHAR(10) CHARACTER SET utf8mb4 PRIMARY KEY)",
			"CREATE TABLE children (id INT PRIMARY KEY, tenant INT, code VARCHAR(10) CHARACTER SET utf16)")
		ferry, err := sharding.NewFerry(&sharding.Config{
			Config: p.Config(schema), ShardingKey: "tenant", ShardingValue: 1, SourceDB: schema, TargetDB: schema,
			JoinedTables: map[string][]sharding.JoinTable{"codes": {{TableName: "children", JoinColumn: "code"}}},
		})
		require.NoError(t, err)
		require.ErrorContains(t, ferry.InitializeContext(t.Context()), "column code of table joined_utf16.children, which joins codes, is text with collation utf16")
		require.NoError(t, ferry.Close())
	})
}
