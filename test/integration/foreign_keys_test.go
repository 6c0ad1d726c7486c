package integration

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/internal/faultproxy"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

const familySchema = "copydb_family"

// family makes tables that refer to each other: a chain whose names sort children first,
// one that refers to itself, and a circle. onDelete and onUpdate are the chain's rules.
func family(t *testing.T, p *harness.Pair, rules string) {
	t.Helper()
	freshSchemas(t, p, familySchema)
	p.In(t, p.SourceDB, "", "CREATE DATABASE "+familySchema, "USE "+familySchema, "SET foreign_key_checks=0",
		"CREATE TABLE a_line (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, ord INT NULL, n INT NOT NULL, CONSTRAINT line_of FOREIGN KEY (ord) REFERENCES b_order (id) "+rules+")",
		"CREATE TABLE b_order (id INT NOT NULL PRIMARY KEY, client INT NULL, CONSTRAINT order_of FOREIGN KEY (client) REFERENCES c_client (id) "+rules+")",
		"CREATE TABLE c_client (id INT NOT NULL PRIMARY KEY, name VARCHAR(20) NOT NULL)",
		"CREATE TABLE staff (id INT NOT NULL PRIMARY KEY, boss INT NULL, CONSTRAINT boss_of FOREIGN KEY (boss) REFERENCES staff (id))",
		"CREATE TABLE egg (id INT NOT NULL PRIMARY KEY, hen INT NULL, CONSTRAINT laid_by FOREIGN KEY (hen) REFERENCES hen (id))",
		"CREATE TABLE hen (id INT NOT NULL PRIMARY KEY, egg INT NULL, CONSTRAINT from_egg FOREIGN KEY (egg) REFERENCES egg (id))",
		"SET foreign_key_checks=1",
		"INSERT INTO c_client WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 60) SELECT i, CONCAT('client ',i) FROM n",
		"INSERT INTO b_order SELECT id, id FROM c_client", "INSERT INTO a_line (ord,n) SELECT id, id FROM b_order",
		"INSERT INTO staff VALUES (1,NULL)", "INSERT INTO staff SELECT id+1, id MOD 7 + 1 FROM c_client WHERE id < 7", "INSERT INTO staff SELECT id+10, id MOD 7 + 1 FROM c_client",
		"INSERT INTO egg SELECT id, NULL FROM c_client", "INSERT INTO hen SELECT id, id FROM egg", "UPDATE egg SET hen=id MOD 60 + 1",
	)
}

// familyLife are changes of the family; cascading says that deletes and changed keys of
// parents reach their children.
func familyLife(cascading bool) []harness.Change {
	in := func(query string) string { return strings.ReplaceAll(query, "§", familySchema+".") }
	changes := []harness.Change{
		func(_ context.Context, tx *harness.Tx) error { // a whole new chain, and lines that go
			id := 1000 + tx.Rand.IntN(100000)
			for _, query := range []string{
				fmt.Sprintf("INSERT INTO §c_client VALUES (%d,'new')", id), fmt.Sprintf("INSERT INTO §b_order VALUES (%d,%d)", id, id),
				fmt.Sprintf("INSERT INTO §a_line (ord,n) VALUES (%d,1),(%d,2)", id, id), fmt.Sprintf("DELETE FROM §a_line WHERE n=%d", tx.Rand.IntN(60)),
			} {
				if err := tx.Exec(in(query)); err != nil {
					return err
				}
			}
			return nil
		},
		func(_ context.Context, tx *harness.Tx) error {
			return tx.Exec(in("UPDATE §staff SET boss=? WHERE id=?"), 1+tx.Rand.IntN(7), 8+tx.Rand.IntN(70))
		},
		func(_ context.Context, tx *harness.Tx) error { // around the circle
			a := 1 + tx.Rand.IntN(60)
			if err := tx.Exec(in("UPDATE §egg SET hen=NULL WHERE hen=?"), a); err != nil {
				return err
			}
			if err := tx.Exec(in("DELETE FROM §hen WHERE id=?"), a); err != nil {
				return err
			}
			return tx.Exec(in("INSERT INTO §hen VALUES (?,?)"), a, 1+tx.Rand.IntN(60))
		},
	}
	if cascading {
		changes = append(changes, func(_ context.Context, tx *harness.Tx) error {
			if tx.Rand.IntN(2) == 0 {
				return tx.Exec(in("DELETE FROM §c_client WHERE id=?"), 1+tx.Rand.IntN(60))
			}
			return tx.Exec(in("UPDATE §c_client SET id=id+200 WHERE id=?"), 1+tx.Rand.IntN(400))
		})
	}
	return changes
}

// F31: tables with foreign keys move while they are written, cascades included where the
// binary log records them, and arrive with their foreign keys.
func TestF31ForeignKeysAreCarried(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		rules := []string{"ON DELETE RESTRICT ON UPDATE NO ACTION"}
		if !p.IsMariaDB() { // MySQL 9.6 and newer
			rules = []string{"ON DELETE CASCADE ON UPDATE CASCADE", "ON DELETE SET NULL ON UPDATE CASCADE"}
		}
		for _, rule := range rules {
			t.Run(rule, func(t *testing.T) {
				family(t, p, rule)
				churn := p.Churn(t, harness.ChurnOptions{Every: 10 * time.Millisecond}, familyLife(!p.IsMariaDB())...)
				hooks := serveHooks(t, churn.Stop)
				config := hooks.settings()
				config["UpdatableConfig"] = settings{"DataIterationBatchSize": 7}
				require.NoError(t, churn.Await(t.Context(), 20))
				status, run := runCopydb(t, "-json", copydbSettings(p, []string{familySchema}, config).file(t))
				require.Zero(t, status)
				require.Equal(t, copydb.Equal, run.result().Outcome)
				require.Contains(t, run.stderr.String(), "5 foreign keys of the target were checked")
				p.MustEqual(t, familySchema)
				for _, table := range []string{"a_line", "b_order", "staff", "egg", "hen"} {
					require.Equal(t, definition(t, p.SourceDB, familySchema, table), definition(t, p.TargetDB, familySchema, table))
				}
				_, err := p.TargetDB.ExecContext(t.Context(), "INSERT INTO copydb_family.b_order VALUES (2000000, 999999999)")
				require.ErrorContains(t, err, "foreign key constraint fails", "they are in force")
			})
		}
	})
}

// F31: where the server executes cascades without recording them, they are refused.
func TestF31UnloggedCascadesAreRefused(t *testing.T) {
	t.Run("mariadb", func(t *testing.T) {
		p := harness.Shared(t, harness.Settings[2])
		family(t, p, "ON DELETE CASCADE")
		mustBeRefused(t, p, copydbSettings(p, []string{familySchema}, nil), "foreign-keys.unlogged-cascade", "copydb_family.a_line", "copydb_family.b_order", "on delete CASCADE", "NO ACTION")
	})
	t.Run("mysql with native foreign keys", func(t *testing.T) {
		shared := harness.Shared(t, harness.Settings[0])
		native, err := servers.Start(t.Context(), servers.Options{Flavour: servers.MySQL, Name: "native", GTID: true, Flags: []string{"--innodb-native-foreign-keys=ON"}})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, native.Stop()) })
		db, err := native.DB(t.Context())
		require.NoError(t, err)
		p := &harness.Pair{Setting: shared.Setting, Source: native, SourceDB: db, Target: shared.Target, TargetDB: shared.TargetDB}
		family(t, p, "ON DELETE SET NULL")
		mustBeRefused(t, p, copydbSettings(p, []string{familySchema}, nil), "foreign-keys.unlogged-cascade", "copydb_family.b_order", "on delete SET NULL")
	})
}

// Rows whose parent is missing on the target end the run, unless they are as the source
// has them.
func TestOrphansAreNoticed(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, "orphans", "CREATE TABLE parent (id INT PRIMARY KEY)",
			"CREATE TABLE child (id INT PRIMARY KEY, p INT NULL, CONSTRAINT parent_of FOREIGN KEY (p) REFERENCES parent (id))")
		p.In(t, p.SourceDB, "orphans", "INSERT INTO parent VALUES (1),(2)", "INSERT INTO child VALUES (1,1),(2,2),(3,NULL)", "SET foreign_key_checks=0", "INSERT INTO child VALUES (4,44)")
		move := func(skip bool, names ...string) error {
			p.In(t, p.TargetDB, "", "SET foreign_key_checks=0", "DROP DATABASE IF EXISTS _ghostferry", "TRUNCATE TABLE orphans.child", "TRUNCATE TABLE orphans.parent", "INSERT INTO orphans.parent SELECT 1")
			if len(names) == 2 {
				p.In(t, p.TargetDB, "", "DELETE FROM orphans.parent")
			}
			c := p.Config("orphans")
			c.TableFilter = tables{schema: "orphans", names: names}
			c.SkipForeignKeyConstraintsCheck = skip
			f := &ghostferry.Ferry{Config: c}
			defer func() { _ = f.Close() }()
			return harness.Move(t.Context(), f, func() error { return nil })
		}
		require.NoError(t, move(false, "parent", "child"), "an orphan of the source's own")
		p.MustEqual(t, "orphans")

		err := move(false, "child")
		var orphans *ghostferry.OrphanRowsError
		require.ErrorAs(t, err, &orphans)
		require.Equal(t, []ghostferry.OrphanedForeignKey{{Table: "orphans.child", Name: "parent_of", Parent: "orphans.parent", Keys: []string{"2", "4"}}}, orphans.ForeignKeys)
		require.ErrorContains(t, err, "foreign key parent_of of orphans.child to orphans.parent (rows 2, 4): move the parent tables too")
		require.NoError(t, move(true, "child"))
	})
}

// More orphans than are looked at together: those of the source's own are not taken for the target's,
// one of the target behind them is found. When some cannot be looked at the run ends before the writers
// are stopped, and says which. Parents that come meanwhile are seen, and connections that break end nothing.
func TestManyOrphans(t *testing.T) {
	const schema = "many_orphans"
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		p.Create(t, schema, "CREATE TABLE parent (id INT PRIMARY KEY)",
			"CREATE TABLE child (id INT NOT NULL, UNIQUE KEY child_id (id), p INT NULL, CONSTRAINT parent_of FOREIGN KEY (p) REFERENCES parent (id))")
		p.In(t, p.SourceDB, schema, "INSERT INTO parent VALUES (900000)", "INSERT INTO child VALUES (5000,900000)", "SET foreign_key_checks=0",
			"INSERT INTO child WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 800) SELECT i, i+10000 FROM n",
			"INSERT INTO child SELECT id+800, p+800 FROM child WHERE id<=800")
		var stopped bool      // the writers are
		var invisible bool    // the key's index is, to hints
		var sessions sync.Map // by which the last move has looked for orphans on the target
		// move executes statements on the target: when all is copied, when a second page of orphans is asked for, and
		// when the writers are stopped.
		move := func(names, copied, meanwhile, fenced []string) error {
			stopped = false
			sessions.Clear()
			p.In(t, p.TargetDB, "", "SET foreign_key_checks=0", "DROP DATABASE IF EXISTS _ghostferry", "TRUNCATE TABLE many_orphans.child", "TRUNCATE TABLE many_orphans.parent")
			f, proxy := proxiedTarget(t, p, schema)
			f.TableFilter, f.VerifierType, f.SkipTargetVerification = tables{schema: schema, names: names}, ghostferry.VerifierTypeNoVerification, true
			f.DeferSecondaryIndexes = ""
			defer func() { _ = f.Close() }()
			require.NoError(t, f.InitializeContext(t.Context()))
			put := sync.OnceFunc(func() { require.NoError(t, p.TryIn(t.Context(), p.TargetDB, schema, meanwhile...)) })
			proxy.On(faultproxy.Rule{Do: faultproxy.Delay, Match: func(m faultproxy.Message) bool {
				if faultproxy.Query(`NOT EXISTS \(`)(m) {
					sessions.Store(m.Connection, true)
				}
				if faultproxy.Query(`FORCE INDEX .*NOT EXISTS \(`)(m) {
					put()
				}
				return false
			}})
			if invisible {
				proxy.On(faultproxy.Rule{Match: faultproxy.Query(`FORCE INDEX .*NOT EXISTS \(`), Do: faultproxy.Refuse, Error: 1176, Times: 1000})
			}
			for _, query := range []string{`NOT EXISTS \(`, `NOT EXISTS \(.* IN `} {
				proxy.On(faultproxy.Rule{Match: faultproxy.Query(query), Do: faultproxy.LoseAnswer})
			}
			f.DataIterator.AddDoneListener(func() error { return p.TryIn(t.Context(), p.TargetDB, schema, copied...) })
			require.NoError(t, f.StartContext(t.Context()))
			return harness.RunStarted(t.Context(), f, func() error {
				stopped = true
				return p.TryIn(t.Context(), p.TargetDB, schema, fenced...)
			})
		}
		found := func(err error) ghostferry.OrphanedForeignKey {
			var orphans *ghostferry.OrphanRowsError
			require.ErrorAs(t, err, &orphans)
			require.Len(t, orphans.ForeignKeys, 1)
			return orphans.ForeignKeys[0]
		}
		both := []string{"parent", "child"}
		require.NoError(t, move(both, nil, nil, nil), "the source has the same")
		p.MustEqual(t, schema)
		logins := 0
		sessions.Range(func(any, any) bool { logins++; return true })
		require.Equal(t, 2, logins, "another one when the first was lost")

		ours := found(move(both, []string{"SET foreign_key_checks=0", "DELETE FROM parent"}, nil, nil))
		require.Equal(t, []string{"5000"}, ours.Keys)
		require.Empty(t, ours.LookedAtUpTo)
		invisible = true
		require.Equal(t, ours, found(move(both, []string{"SET foreign_key_checks=0", "DELETE FROM parent"}, nil, nil)))
		invisible = false

		child, all := []string{"child"}, []string{"INSERT IGNORE INTO parent SELECT p FROM child"}
		err := move(child, nil, nil, all)
		ours = found(err)
		require.False(t, stopped)
		require.Len(t, ours.Keys, 21)
		require.Equal(t, []string{"20", "and 980 more"}, ours.Keys[19:])
		require.Equal(t, "1000", ours.LookedAtUpTo)
		require.ErrorContains(t, err, "and 980 more; those behind 1000 were not looked at)")

		require.NoError(t, move(child, nil, []string{"INSERT INTO parent SELECT p FROM child WHERE id<=1000"}, all), "the first thousand have parents by then, and the key's index is used")
		require.NoError(t, move(child, []string{"DELETE FROM child WHERE id>1000"}, nil, all), "none behind a thousand")
	})
}
