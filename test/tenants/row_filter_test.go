package tenants

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

const schema = "tenants"

// form is a way in which tables tell tenants apart. Values are SQL literals.
type form struct {
	name     string
	column   string // type of the column `owner`
	keys     string // indexes and primary key
	ours     any    // as a host gives it
	same     string // another literal for us, or the same
	literals [4]string
}

var forms = []form{
	{"integer", "INT", "PRIMARY KEY (id), KEY by_owner (owner)", 2, "2", [4]string{"1", "2", "3", "NULL"}},
	{"unsigned", "BIGINT UNSIGNED NOT NULL", "PRIMARY KEY (id), KEY by_owner (owner,id)", uint64(18446744073709551615), "18446744073709551615",
		[4]string{"1", "18446744073709551615", "18446744073709551614", "3"}},
	{"composite", "INT NOT NULL", "PRIMARY KEY (owner,id)", 2, "2", [4]string{"1", "2", "3", "4"}},
	{"collated", "VARCHAR(20) CHARACTER SET utf8mb4", "PRIMARY KEY (id), KEY by_owner (owner)", "acme", "'ACMÉ'", [4]string{"'b'", "'acme'", "'acm'", "NULL"}},
	{"latin1", "VARCHAR(20) CHARACTER SET latin1", "PRIMARY KEY (id), KEY by_owner (owner,id)", "straße", "'STRAßE'", [4]string{"'b'", "'straße'", "'strasze'", "''"}},
	{"uuid", "BINARY(16)", "PRIMARY KEY (id)", "00112233-4455-6677-8899-AABBCCDDEEFF", "X'00112233445566778899AABBCCDDEEFF'",
		[4]string{"X'01'", "X'00112233445566778899AABBCCDDEEFF'", "X'00112233445566778899AABBCCDDEEFE'", "NULL"}},
	{"collated key", "CHAR(8)", "PRIMARY KEY (code), KEY by_owner (owner)", "c", "'C'", [4]string{"'a'", "'c'", "'b'", "''"}},
}

// formRows is how many rows a form's table has.
const formRows = 1200

// One tenant's rows move while all rows change, and tenants with them; rows of others are
// on the target already, and stay. No statement to the target could have touched them.
func TestRowsOfOneTenant(t *testing.T) {
	onEachSetting(t, func(t *testing.T, p *harness.Pair) {
		for _, f := range harness.Share(forms, slices.Index(harness.Settings, p.Setting), len(harness.Settings)) {
			t.Run(f.name, func(t *testing.T) { moveOneTenant(t, p, f) })
		}
	})
}

func moveOneTenant(t *testing.T, p *harness.Pair, f form) {
	ctx := minutes(t)
	p.Create(t, schema, fmt.Sprintf(`CREATE TABLE t (id INT NOT NULL, code VARCHAR(20) NOT NULL, owner %s, v INT, label VARCHAR(30), doc TEXT, %s,
		UNIQUE KEY by_label (label))`, f.column, f.keys))
	var rows []string
	for id := range formRows {
		rows = append(rows, fmt.Sprintf("(%d,'k%d',%s,0,'l%d',REPEAT('x',%d))", id, id, f.literals[id%4], id, id%90))
	}
	p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES "+strings.Join(rows, ","))
	for i, other := range []string{f.literals[0], f.literals[2], f.literals[3]} {
		p.In(t, p.TargetDB, schema, fmt.Sprintf("INSERT INTO t VALUES (%d,'f%d',%s,7,NULL,'foreign'),(%d,'g%d',%s,7,'of others %d','foreign')",
			100000+i, i, other, -1-i, i, other, i))
	}
	predicate := fmt.Sprintf("owner = %s", f.literals[1])
	others := fmt.Sprintf("SELECT * FROM tenants.t WHERE NOT COALESCE(%s,FALSE) ORDER BY id,code", predicate)
	before := harness.Rows(t, p.TargetDB, others)
	require.Len(t, before, 6)

	owner := func(tx *harness.Tx) string { return append(f.literals[:], f.same, f.same)[tx.Rand.IntN(6)] }
	churn := p.Churn(t, harness.ChurnOptions{Every: 4 * time.Millisecond},
		func(_ context.Context, tx *harness.Tx) error {
			return tx.Exec(fmt.Sprintf("UPDATE tenants.t SET owner=%s, v=v+1 WHERE id=?", owner(tx)), tx.Rand.IntN(formRows))
		},
		func(_ context.Context, tx *harness.Tx) error {
			return tx.Exec("UPDATE tenants.t SET v=v+1, label=CONCAT('n',?) WHERE id=?", tx.Rand.IntN(4000), tx.Rand.IntN(formRows))
		},
		func(_ context.Context, tx *harness.Tx) error {
			if err := tx.Exec("DELETE FROM tenants.t WHERE id=?", tx.Rand.IntN(formRows)); err != nil {
				return err
			}
			id := tx.Rand.IntN(formRows)
			return tx.Exec(fmt.Sprintf("INSERT INTO tenants.t VALUES (?,CONCAT('k',?),%s,1,NULL,'new')", owner(tx)), id, id)
		},
		func(_ context.Context, tx *harness.Tx) error {
			id := tx.Rand.IntN(formRows)
			return tx.Exec("UPDATE tenants.t SET id=?, code=CONCAT('k',?) WHERE id=?", id, id, tx.Rand.IntN(formRows))
		})
	config := p.Config(schema)
	config.CopyFilter = &ghostferry.RowFilter{Where: ghostferry.RowCondition{"Owner": {f.ours}}}
	config.VerifierType = map[bool]string{true: ghostferry.VerifierTypeOnline, false: ghostferry.VerifierTypeInline}[len(f.name)%2 == 0]
	config.UpdatableConfig.DataIterationBatchSize = 50
	ferry := &ghostferry.Ferry{Config: config}
	told := record(t, p.TargetDB, func() {
		require.NoError(t, ferry.InitializeContext(ctx))
		require.NoError(t, ferry.StartContext(ctx))
		require.NoError(t, churn.Await(ctx, 100))
		require.NoError(t, harness.RunStarted(ctx, ferry, churn.Stop))
	})
	exact, err := config.CopyFilter.(*ghostferry.RowFilter).Predicate(ferry.Tables.Get(schema, "t"))
	require.NoError(t, err)
	mustKeepToScope(t, told, exact)
	require.NoError(t, ferry.Close())
	ours := "SELECT * FROM tenants.t WHERE " + predicate + " ORDER BY id,code"
	moved := harness.Rows(t, p.TargetDB, ours)
	require.Equal(t, harness.Rows(t, p.SourceDB, ours), moved)
	require.NotEmpty(t, moved)
	require.Equal(t, before, harness.Rows(t, p.TargetDB, others), "rows of others")
}

// A row of others that has the key, or a unique value, of a row of ours ends the run with
// a typed error, whether it meets a copied row or a changed one, and stays as it is. When
// it is out of the way, the same run goes on.
func TestRowsOfOthersInTheWay(t *testing.T) {
	onSomeSettings(t, func(t *testing.T, p *harness.Pair) {
		for i, c := range []struct{ name, foreign, change, index string }{
			{"key of a copied row", "(10,1,'x')", "", "PRIMARY"},
			{"unique value of a copied row", "(9000,1,'L10')", "", "by_label"},
			{"key of a changed row", "(5000,NULL,'x')", "INSERT INTO t VALUES (5000,2,'y')", "PRIMARY"},
			{"unique value of a changed row", "(9000,1,'taken')", "UPDATE t SET label='TAKEN' WHERE id=10", "by_label"},
			{"key of a row that came to us", "(11,1,'x')", "UPDATE t SET owner=2 WHERE id=11", "PRIMARY"},
		} {
			if !harness.Full() && harness.Settings[i%3].Name == p.Name {
				continue // each case on two of the three settings
			}
			t.Run(c.name, func(t *testing.T) {
				ctx := minutes(t)
				p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, owner INT, label VARCHAR(20), UNIQUE KEY by_label (label(8)), KEY by_owner (owner))")
				p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (10,2,'l10'),(11,3,'l11'),(12,2,'l12')")
				p.In(t, p.TargetDB, schema, "INSERT INTO t VALUES "+c.foreign)
				before := harness.Rows(t, p.TargetDB, "SELECT * FROM tenants.t")
				move := func(then func() error) error {
					config := p.Config(schema)
					config.CopyFilter = &ghostferry.RowFilter{Where: ghostferry.RowCondition{"owner": {2}}}
					ferry := &ghostferry.Ferry{Config: config}
					require.NoError(t, ferry.InitializeContext(ctx))
					require.NoError(t, ferry.StartContext(ctx))
					return errors.Join(harness.RunStarted(ctx, ferry, then), ferry.Close())
				}
				err := move(func() error {
					if c.change == "" {
						return nil
					}
					return p.TryIn(ctx, p.SourceDB, schema, c.change)
				})
				var conflict *ghostferry.TargetConflictError
				require.ErrorAs(t, err, &conflict)
				require.Equal(t, c.index, conflict.Index)
				require.True(t, ghostferry.Resumable(err))
				require.Subset(t, harness.Rows(t, p.TargetDB, "SELECT * FROM tenants.t"), before)
				p.In(t, p.TargetDB, schema, "UPDATE t SET id=id+7000, label=NULL WHERE COALESCE(owner,1)=1")
				require.NoError(t, move(func() error { return nil }))
				ours := "SELECT * FROM tenants.t WHERE owner=2 ORDER BY id"
				require.Equal(t, harness.Rows(t, p.SourceDB, ours), harness.Rows(t, p.TargetDB, ours))
				require.Equal(t, 1, harness.Count(t, p.TargetDB, "tenants.t WHERE COALESCE(owner,1)=1"))
			})
		}
	})
}

// ENUM values that are none of the members are moved with a tenant's rows, too, beside rows of
// others and around one that has a unique value of ours.
func TestEnumZerosOfATenant(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := minutes(t)
		p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, owner INT NOT NULL, kind ENUM('a','b') NOT NULL, label VARCHAR(20), KEY by_owner (owner), UNIQUE KEY by_label (label))")
		p.In(t, p.SourceDB, schema, "INSERT IGNORE INTO t VALUES (1,2,'zzz','l1'),(2,2,'a','l2'),(3,3,'zzz','l3'),(4,2,'zzz','l4'),(5,2,'b','l5')")
		p.In(t, p.TargetDB, schema, "INSERT INTO t VALUES (100,9,'a','l4')")
		move := func() error {
			ferry := tenantFerry(p, 2, nil)
			return errors.Join(harness.Move(ctx, ferry, func() error {
				return p.TryIn(ctx, p.SourceDB, schema, "UPDATE t SET label='new' WHERE id=1", "INSERT IGNORE INTO t VALUES (6,2,'yyy','l6'),(7,2,'b','l7')", "UPDATE IGNORE t SET kind='xxx' WHERE id=5")
			}), ferry.Close())
		}
		var conflict *ghostferry.TargetConflictError
		require.ErrorAs(t, move(), &conflict)
		require.Equal(t, "4", conflict.Key)
		p.In(t, p.TargetDB, schema, "DELETE FROM t WHERE id=100")
		p.In(t, p.SourceDB, schema, "DELETE FROM t WHERE id > 5")
		require.NoError(t, move())
		ours := "SELECT id, owner, kind+0, label FROM tenants.t WHERE owner=2 ORDER BY id"
		require.Equal(t, harness.Rows(t, p.SourceDB, ours), harness.Rows(t, p.TargetDB, ours))
		require.Equal(t, 4, harness.Count(t, p.TargetDB, "tenants.t WHERE kind=0"))
	})
}

// A primary key that is a FLOAT is one more unique index beside the key: only the server
// compares its values, and finds the row of others that has one, to the last bit.
func TestFloatOfOthersInTheWay(t *testing.T) {
	onEachSetting(t, func(t *testing.T, p *harness.Pair) {
		ctx := minutes(t)
		p.Create(t, schema, "CREATE TABLE t (f FLOAT NOT NULL PRIMARY KEY, id INT NOT NULL, owner INT, UNIQUE KEY by_id (id), KEY by_owner (owner))")
		p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (10/3,10,2),(11/3,11,3),(-0.1,12,2),(16777217,13,2)")
		p.In(t, p.TargetDB, schema, "INSERT INTO t VALUES (10/3,9010,1),(-0.1,9012,1),(16777217,9013,1),(10/3+0.000001,9000,1)")
		move := func() error {
			config := p.Config(schema)
			config.CopyFilter = &ghostferry.RowFilter{Where: ghostferry.RowCondition{"owner": {2}}}
			ferry := &ghostferry.Ferry{Config: config}
			require.NoError(t, ferry.InitializeContext(ctx))
			require.Equal(t, "id", ferry.Tables.Get(schema, "t").GetPaginationColumn().Name)
			require.NoError(t, ferry.StartContext(ctx))
			return errors.Join(harness.RunStarted(ctx, ferry, func() error { return nil }), ferry.Close())
		}
		for range 3 {
			var conflict *ghostferry.TargetConflictError
			require.ErrorAs(t, move(), &conflict)
			require.Equal(t, "PRIMARY", conflict.Index)
			p.In(t, p.TargetDB, schema, "DELETE FROM t WHERE id=9000+"+conflict.Key)
		}
		// A value beside one of ours is another one.
		require.NoError(t, move())
		ours := "SELECT f*1e0, id FROM tenants.t WHERE owner=2 ORDER BY id"
		require.Equal(t, harness.Rows(t, p.SourceDB, ours), harness.Rows(t, p.TargetDB, ours))
		require.Equal(t, 1, harness.Count(t, p.TargetDB, "tenants.t WHERE owner=1"))
	})
}

// Before anything is written, rows of ours on the target are refused, those of others not;
// and conditions that could not be kept are.
func TestRowFilterRefused(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) { // positions make no difference
		p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, owner INT, name VARCHAR(20) CHARACTER SET latin1, d DECIMAL(5,2), g INT AS (owner+1) STORED)")
		p.In(t, p.SourceDB, schema, "INSERT INTO t (id,owner) VALUES (1,2)")
		p.In(t, p.TargetDB, schema, "INSERT INTO t (id,owner) VALUES (7,2)")
		for _, c := range []struct {
			name  string
			where ghostferry.RowCondition
			says  string
		}{
			{"rows of ours", ghostferry.RowCondition{"owner": {2}}, "already holds rows that the row filter chooses"},
			{"no such column", ghostferry.RowCondition{"tenant": {2}}, "no such column"},
			{"no value", ghostferry.RowCondition{"owner": {}}, "no value"},
			{"a decimal", ghostferry.RowCondition{"d": {"1.5"}}, "only columns of integers"},
			{"a generated column", ghostferry.RowCondition{"g": {2}}, "generated"},
			{"text for an integer", ghostferry.RowCondition{"owner": {"two"}}, "integers"},
			{"a character that the column lacks", ghostferry.RowCondition{"name": {"日本"}}, "lacks a character"},
			{"half a number", ghostferry.RowCondition{"owner": {2.5}}, "not an integer"},
		} {
			t.Run(c.name, func(t *testing.T) {
				config := p.Config(schema)
				config.CopyFilter = &ghostferry.RowFilter{Where: c.where}
				ferry := &ghostferry.Ferry{Config: config}
				require.ErrorContains(t, ferry.InitializeContext(t.Context()), c.says)
			})
		}
		require.Equal(t, 1, harness.Count(t, p.TargetDB, "tenants.t"))

		// Under another collation the target would take other rows for ours than the source.
		p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, owner VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci)")
		p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,'acme'),(2,'Acme')")
		p.In(t, p.TargetDB, schema, "ALTER TABLE t MODIFY owner VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
		config := p.Config(schema)
		config.CopyFilter = &ghostferry.RowFilter{Where: ghostferry.RowCondition{"Owner": {"acme"}}}
		ferry := &ghostferry.Ferry{Config: config}
		require.ErrorContains(t, ferry.InitializeContext(t.Context()), "target-structure.column-collation")
	})
}

// The verifier compares every row of the tenant, and none of others.
func TestVerifierUnderARowFilter(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		for id, differs := range map[int]bool{100: false, 101: false, 3: true} {
			ctx := minutes(t)
			p.Create(t, schema, "CREATE TABLE t (id INT PRIMARY KEY, owner INT, v INT, KEY by_owner (owner))")
			p.In(t, p.SourceDB, schema, "INSERT INTO t VALUES (1,1,1),(2,2,2),(3,2,3),(4,NULL,4)")
			p.In(t, p.TargetDB, schema, "INSERT INTO t VALUES (100,1,7),(101,NULL,7)")
			config := p.Config(schema)
			config.CopyFilter = &ghostferry.RowFilter{Where: ghostferry.RowCondition{"owner": {2}}}
			config.VerifierType, config.SkipTargetVerification = ghostferry.VerifierTypeOnline, true
			ferry := &ghostferry.Ferry{Config: config}
			require.NoError(t, ferry.InitializeContext(ctx))
			ferry.DataIterator.AddDoneListener(func() error {
				return p.TryIn(ctx, p.TargetDB, schema, fmt.Sprintf("UPDATE t SET v=v+1 WHERE id=%d", id))
			})
			require.NoError(t, ferry.StartContext(ctx))
			err := harness.RunStarted(ctx, ferry, func() error { return nil })
			require.NoError(t, ferry.Close())
			if !differs {
				require.NoError(t, err)
				continue
			}
			var result ghostferry.VerificationResult
			require.ErrorAs(t, err, &result)
			require.Equal(t, []string{"tenants.t"}, result.IncorrectTables)
		}
	})
}
