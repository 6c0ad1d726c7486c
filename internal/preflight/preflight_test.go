package preflight_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/preflight"
	"github.com/ghostferry-go/ghostferry/internal/server"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// The documented privileges are enough, nothing is found, and nothing was written.
func TestNothingToFind(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		ends := func() [2]server.LogEnd {
			var ends [2]server.LogEnd
			var err error
			ends[0], err = w.in.SourceServer.LogEnd(t.Context(), w.source)
			require.NoError(t, err)
			ends[1], err = w.in.TargetServer.LogEnd(t.Context(), w.target)
			require.NoError(t, err)
			return ends
		}
		before := ends()
		w.clean(t)
		require.Equal(t, before, ends())

		w.withTarget(t)
		before = ends()
		w.clean(t)
		require.Equal(t, before, ends())

		w.in.CreateTables, w.in.AllowExistingTables = true, true
		w.clean(t)
	})
}

func TestPrivileges(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s, pair := w.in.SourceServer, pairOf(w)
		source := func(grants ...string) { w.in.Source = account(t, w.source, pair[0], grants...) }
		target := func(grants ...string) { w.in.Target = account(t, w.target, pair[1], grants...) }
		without := func(grants []string, i int) []string {
			return append(append([]string(nil), grants[:i]...), grants[i+1:]...)
		}

		source(without(sourceGrants(s), 0)...)
		w.fails(t, "privileges", "source, schema shop_1", "`mover`@`%` lacks SELECT on shop_1.customers, shop_1.odd`name.x",
			"on the source: GRANT SELECT ON `shop\\_1`.* TO `mover`@`%`")

		source(without(sourceGrants(s), 1)...)
		w.fails(t, "privileges", "source", "lacks "+strings.Join(s.BinlogPrivileges(), ", "),
			"GRANT "+strings.Join(s.BinlogPrivileges(), ", ")+" ON *.* TO `mover`@`%`")

		source("SELECT ON `shop_1`.customers", strings.Join(s.BinlogPrivileges(), ", ")+" ON *.*", "SELECT ON *.*")
		if s.IsMariaDB() {
			w.clean(t)
		} else {
			w.finds(t, preflight.Warning, "prepared-xa", "source", "may not list prepared XA", "GRANT XA_RECOVER_ADMIN ON *.* TO `mover`@`%`")
		}
		source(append(sourceGrants(s)[1:], "SELECT (id) ON `shop_1`.customers", "SELECT ON `shop_1`.`odd``name.x`")...)
		w.fails(t, "privileges", "source, schema shop_1", "lacks SELECT on shop_1.customers", "GRANT SELECT ON `shop\\_1`.*")
		source(sourceGrants(s)...)

		target(targetGrants(s)[0])
		w.fails(t, "privileges", "target, schema ghostferry", "lacks CREATE, SELECT, INSERT, UPDATE, DELETE",
			"GRANT CREATE, SELECT, INSERT, UPDATE, DELETE ON `ghostferry`.* TO `mover`@`%`, or switch the checkpoint off (Checkpoint: \"off\")")
		w.in.CheckpointOn = false
		w.clean(t)

		target("SELECT, UPDATE ON `shop\\_1`.*")
		lacks := "INSERT, DELETE, CREATE"
		if !s.IsMariaDB() {
			lacks = "INSERT, DELETE, TRIGGER, CREATE"
		}
		w.fails(t, "privileges", "target, schema shop_1", "lacks "+lacks+" on shop_1.customers, shop_1.odd`name.x",
			"on the target: GRANT "+lacks+" ON `shop\\_1`.* TO `mover`@`%`")

		// With the tables there, CREATE is not needed; TRIGGER is, on MySQL, to see triggers.
		w.withTarget(t)
		target("SELECT, INSERT, UPDATE (id), DELETE ON `shop_1`.customers", "SELECT, INSERT, UPDATE, DELETE, TRIGGER ON `shop_1`.`odd``name.x`")
		if s.IsMariaDB() {
			w.fails(t, "privileges", "target, schema shop_1", "lacks UPDATE on shop_1.customers", "GRANT UPDATE ON `shop\\_1`.*")
		} else {
			w.fails(t, "privileges", "target, schema shop_1", "lacks UPDATE, TRIGGER on shop_1.customers", "GRANT UPDATE, TRIGGER ON `shop\\_1`.*")
		}

		// A role counts when it is active, and only then.
		target("USAGE ON *.*")
		exec(t, w.target, "DROP ROLE IF EXISTS writer", "CREATE ROLE writer",
			"GRANT SELECT, INSERT, UPDATE, DELETE, TRIGGER ON `shop%`.* TO writer", "GRANT writer TO mover")
		w.fails(t, "privileges", "target, schema shop_1", "lacks SELECT, INSERT, UPDATE, DELETE", "GRANT SELECT, INSERT, UPDATE, DELETE")
		if s.IsMariaDB() {
			exec(t, w.target, "SET DEFAULT ROLE writer FOR mover")
		} else {
			exec(t, w.target, "SET DEFAULT ROLE writer TO mover")
		}
		w.in.Target.(*sql.DB).SetMaxIdleConns(0) // roles are activated at login
		w.clean(t)
	})
}

func TestSameServer(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		pair := pairOf(w)
		w.in.Source = account(t, w.source, pair[0], append(sourceGrants(w.in.SourceServer), targetGrants(w.in.SourceServer)...)...)
		config := mysql.NewConfig()
		config.User, config.Passwd = "mover", "secret"
		config.Net, config.Addr = "unix", pair[0].Socket // the same server by another address
		w.in.Target = open(t, config.FormatDSN())
		var err error
		w.in.TargetServer, err = server.Detect(t.Context(), w.in.Target)
		require.NoError(t, err)
		w.in.AllowExistingTables = true
		w.fails(t, "same-server", w.in.TargetServer.String(), "source and target are the same server", "name another server")

		w.in.AllowExistingTables = false
		w.in.Tables = w.in.Tables[:1]
		w.in.Tables[0].TargetName = "customers_moved"
		w.clean(t, "another name on the same server is allowed")
	})
}

func TestBinlogSettings(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		for _, c := range []struct{ name, value, problem, remedy string }{
			{"binlog_format", "MIXED", "not MIXED", "SET GLOBAL binlog_format = ROW"},
			{"binlog_format", "STATEMENT", "not STATEMENT", "SET GLOBAL binlog_format = ROW"},
			{"binlog_row_image", "MINIMAL", "not MINIMAL", "SET GLOBAL binlog_row_image = FULL"},
			{"binlog_row_image", "NOBLOB", "not NOBLOB", "SET GLOBAL binlog_row_image = FULL"},
			{"binlog_row_value_options", "PARTIAL_JSON", "also of tables without JSON columns", "SET GLOBAL binlog_row_value_options = ''"},
			{"gtid_mode", "ON_PERMISSIVE", "it is ON_PERMISSIVE", "SET GLOBAL gtid_mode = ON"},
		} {
			t.Run(c.name+"="+c.value, func(t *testing.T) {
				if w.in.SourceServer.IsMariaDB() && (c.name == "gtid_mode" || c.name == "binlog_row_value_options") {
					return // MariaDB does not have them
				}
				w.setGlobal(t, w.source, c.name, "'"+c.value+"'")
				w.fails(t, "binlog", c.name, c.problem, c.remedy)
			})
		}
	})
}

func TestReadOnly(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		maria := w.in.SourceServer.IsMariaDB()
		t.Run("source", func(t *testing.T) {
			w.setGlobal(t, w.source, "read_only", "1")
			w.fails(t, "read-only", "source, read_only", "source is a read replica", "WaitUntilReplicaIsCaughtUpToMaster")
			w.in.SourceFenced = true
			w.finds(t, preflight.Warning, "read-only.source-fenced", "source, read_only", "an earlier process of this run", "opens the fence")
			w.in.SourceFenced, w.in.SourceIsReplicaOK = false, true
			w.clean(t)
			replica := *w.in.SourceServer
			replica.LogsReplicated = false
			w.in.SourceServer = &replica
			w.fails(t, "binlog", "log_replica_updates", "does not write what it replicates", "--log-replica-updates")
		})
		w.detect(t)
		t.Run("target", func(t *testing.T) {
			w.withTarget(t)
			w.setGlobal(t, w.target, "read_only", "1")
			w.fails(t, "read-only", "target, read_only", "@@read_only must be OFF on target db", "SET GLOBAL read_only = OFF")
			w.in.AllowReadOnlyTarget = true
			w.clean(t)
			if !maria {
				w.setGlobal(t, w.target, "super_read_only", "1")
				w.fails(t, "read-only", "target, super_read_only", "no account can write", "SET GLOBAL read_only = OFF")
			}
		})
	})
}

func TestBinlogOff(t *testing.T) {
	off, err := servers.Start(t.Context(), servers.Options{Flavour: servers.MariaDB, Name: "off", Flags: []string{"--skip-log-bin"}})
	require.NoError(t, err)
	defer off.Stop()
	w := newWorld(t, off, pairs[servers.MariaDB][1])
	w.fails(t, "binlog", "log_bin", "writes no binary log", "--log-bin")

	w = newWorld(t, pairs[servers.MariaDB][0], off)
	w.clean(t, "nobody reads the target's log")
	w.in.Target, w.in.WatchTarget = w.target, true
	w.fails(t, "target-binlog.off", "log_bin", "the target writes no binary log, so what others write to it cannot be noticed", "start the target with --log-bin")
}

// F34: schemas that the server keeps out of its binary log are refused.
func TestF34BinlogFilters(t *testing.T) {
	for _, flavour := range []servers.Flavour{servers.MySQL, servers.MariaDB} {
		for _, c := range []struct{ option, first, second, says string }{
			{"ignore", "elsewhere", "shop_2", "binlog_do_db is [] and binlog_ignore_db is [elsewhere,shop_2]"},
			{"do", "elsewhere", "shop_1", "binlog_do_db is [elsewhere,shop_1] and binlog_ignore_db is []"},
		} {
			t.Run(string(flavour)+", "+c.option, func(t *testing.T) {
				source, err := servers.Start(t.Context(), servers.Options{Flavour: flavour, Name: "filtering", GTID: true,
					Flags: []string{"--binlog-" + c.option + "-db=" + c.first, "--binlog-" + c.option + "-db=" + c.second}})
				require.NoError(t, err)
				defer source.Stop()
				w := newWorld(t, source, pairs[flavour][1])
				w.fails(t, "binlog-filters.statements", "binlog_"+c.option+"_db", c.says, "replicate-do-db")

				exec(t, w.source, "CREATE DATABASE shop_2", strings.ReplaceAll(definitions[0], "shop_1", "shop_2"), "GRANT SELECT ON shop_2.* TO mover")
				exec(t, w.target, "GRANT ALL ON shop_2.* TO mover")
				w.in.Tables[0].Schema, w.in.Tables[0].TargetSchema = "shop_2", "shop_2"
				w.fails(t, "binlog-filters.unlogged", "binlog_"+c.option+"_db", "changes in shop_2 never reach", "start the source without")
			})
		}
	}
}

func TestTables(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		tables := w.in.Tables
		one := func(name string) []preflight.Table {
			return []preflight.Table{{Schema: "shop_1", Name: name, TargetSchema: "shop_1", TargetName: name, KeyColumns: []string{"id"}}}
		}
		w.in.Tables = nil
		w.fails(t, "tables", "", "the filter selects no table", "check the names")

		w.in.Tables = one("nosuch")
		w.fails(t, "tables", "shop_1.nosuch", "the source has no such table", "check the name")

		exec(t, w.source, "CREATE TABLE `shop_1`.mem (id INT PRIMARY KEY) ENGINE=MEMORY")
		w.in.Tables = one("mem")
		w.fails(t, "tables", "shop_1.mem", "its engine is MEMORY on the source", "ENGINE=InnoDB")
		exec(t, w.source, "CREATE VIEW `shop_1`.v AS SELECT 1 AS id")
		w.in.Tables = one("v")
		require.Contains(t, w.run(t).Table(), "shop_1.v: it is a VIEW on the source")
		exec(t, w.source, "DROP VIEW `shop_1`.v")
		if w.in.SourceServer.IsMariaDB() {
			exec(t, w.source, "CREATE TABLE `shop_1`.versioned (id INT PRIMARY KEY) ENGINE=InnoDB WITH SYSTEM VERSIONING")
			w.in.Tables = one("versioned")
			w.fails(t, "tables", "shop_1.versioned", "system-versioned on the source", "leave the table out")
		}

		w.in.Tables = append(tables, preflight.Table{Schema: "shop_1", Name: "customers", TargetSchema: "shop_1",
			TargetName: "odd`name.x", KeyColumns: []string{"id"}})
		w.fails(t, "tables", "shop_1.customers", "shop_1.odd`name.x and shop_1.customers would both become shop_1.odd`name.x", "TableRewrites")

		w.in.Tables, w.in.CreateTables = tables[:1], false
		w.fails(t, "tables", "shop_1.customers", "the target has no such table", "create it")

		w.withTarget(t)
		w.in.CreateTables = true
		w.fails(t, "tables", "shop_1.customers", "the target has this table already", "AllowExistingTargetTable")
		w.in.Resuming = true
		w.clean(t)

		exec(t, w.target, "ALTER TABLE `shop_1`.customers ENGINE=MyISAM")
		w.fails(t, "tables", "shop_1.customers", "its engine is MyISAM on the target", "ENGINE=InnoDB")
	})
}

// A misspelt name to be rewritten is told: the table would keep its name. Those of a parent that
// stays are no such names.
func TestRewritesOfNothing(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.in.DatabaseRewrites, w.in.TableRewrites = map[string]string{"shop_1": "store"}, map[string]string{"customers": "clients"}
		w.clean(t)
		w.in.TableRewrites["Customers"] = "people"
		w.finds(t, preflight.Warning, "tables.rewrite-unused", "TableRewrites", `no table that is moved has the name "Customers", which would become "people"`, "letter case included")
		delete(w.in.TableRewrites, "Customers")
		w.in.DatabaseRewrites["shop1"] = "store"
		w.finds(t, preflight.Warning, "tables.rewrite-unused", "DatabaseRewrites", `no schema that is moved has the name "shop1", which would become "store"`, "remove it")
		delete(w.in.DatabaseRewrites, "shop1")

		exec(t, w.source, "CREATE TABLE `shop_1`.orders (id INT PRIMARY KEY, customer INT, FOREIGN KEY (customer) REFERENCES `shop_1`.customers (id)) ENGINE=InnoDB")
		w.in.Tables = []preflight.Table{{Schema: "shop_1", Name: "orders", TargetSchema: "shop_1", TargetName: "orders", KeyColumns: []string{"id"}}}
		require.NotContains(t, w.run(t).Table(), "rewrite-unused")
	})
}

func TestKeys(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		exec(t, w.source, "CREATE TABLE `shop_1`.loose (u INT, f FLOAT NOT NULL, p VARCHAR(50) NOT NULL, UNIQUE (u), UNIQUE (f), UNIQUE (p(5))) ENGINE=InnoDB")
		for _, c := range []struct {
			key     []string
			problem string
		}{
			{nil, "no usable key"},
			{[]string{"u"}, "column u of its key may be NULL"},
			{[]string{"f"}, "column f of its key is of type float"},
			{[]string{"p"}, "no unique key on (p)"},
			{[]string{"u", "f"}, "no unique key on (u, f)"},
		} {
			w.in.Tables = []preflight.Table{{Schema: "shop_1", Name: "loose", TargetSchema: "shop_1", TargetName: "loose", KeyColumns: c.key}}
			report := w.run(t)
			require.ErrorContains(t, report.Err(), ": shop_1.loose: ")
			require.ErrorContains(t, report.Err(), c.problem)
			require.Contains(t, report.Findings[0].Remedy, "add a primary key")
		}
	})
}

// altered makes a copy of customers on both sides for each alteration of the target's, all in one
// move, and runs the checks.
func (w *world) altered(t *testing.T, alterations []string) *preflight.Report {
	t.Helper()
	exec(t, w.target, "CREATE DATABASE `shop_1`")
	w.in.CreateTables, w.in.Tables = false, nil
	for i, alteration := range alterations {
		table := fmt.Sprintf("t%d", i)
		definition := strings.Replace(definitions[0], "customers", table, 1)
		exec(t, w.source, definition)
		exec(t, w.target, definition, "ALTER TABLE `shop_1`."+table+" "+alteration)
		w.in.Tables = append(w.in.Tables, preflight.Table{Schema: "shop_1", Name: table, TargetSchema: "shop_1", TargetName: table, KeyColumns: []string{"id"}})
	}
	return w.run(t)
}

func TestTargetStructure(t *testing.T) {
	cases := []struct{ alter, code, what, remedy string }{
		{"DROP COLUMN note", "column-missing", "column note is missing", "alter the target's table"},
		{"MODIFY tag BIGINT DEFAULT 7", "column-type", "the type of column tag is int on the source and bigint on the target", "alter"},
		{"MODIFY note VARCHAR(20) CHARACTER SET latin1", "column-charset", "the character set of column note is utf8mb4 on the source and latin1", "alter"},
		{"MODIFY email VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", "column-collation", "the collation of column email", "alter"},
		{"MODIFY note VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci", "column-collation", "the values are kept, comparing and sorting differ", "alter"},
		{"MODIFY note VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL", "column-null", "column note may be NULL on the source", "alter"},
		{"DROP COLUMN tag, ADD tag INT GENERATED ALWAYS AS (id + 1) STORED", "column-generated", "column tag is generated on one side only", "alter"},
		{"ADD more INT NOT NULL", "column-extra", "column more is NOT NULL without a default", "give it a default"},
		{"ADD UNIQUE KEY strict_note (note)", "unique-extra", "its unique key strict_note (note) is not implied", "drop the key"},
		{"ADD UNIQUE KEY prefix_email (email(5))", "unique-extra", "its unique key prefix_email (email(5)) is not implied", "drop the key"},
		{"DROP PRIMARY KEY", "no-key", "it has no unique key on (id)", "add PRIMARY KEY (id)"},
	}
	onBoth(t, func(t *testing.T, w *world) {
		var alterations []string
		for _, c := range cases {
			alterations = append(alterations, c.alter)
		}
		report := w.altered(t, alterations)
		for i, c := range cases {
			var found []preflight.Finding
			for _, f := range report.Findings {
				if f.Subject == fmt.Sprintf("shop_1.t%d", i) {
					found = append(found, f)
				}
			}
			require.Len(t, found, 1, "%s: %v", c.alter, found)
			require.Equal(t, "target-structure."+c.code, found[0].Code)
			require.Contains(t, found[0].What, c.what)
			require.Contains(t, found[0].Remedy, c.remedy)
			require.Equal(t, strings.Contains(c.what, "values are kept"), found[0].Severity == preflight.Warning)
		}
	})
}

func TestHarmlessTargetStructure(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.altered(t, []string{
			"ADD more INT", "ADD more INT NOT NULL DEFAULT 1", "ADD more INT GENERATED ALWAYS AS (id) VIRTUAL", "ADD UNIQUE KEY wider (email, note)",
			"ADD KEY plain (note)", "ADD more TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP",
		})
		w.clean(t)
	})
}

func TestTargetRows(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.withTarget(t)
		exec(t, w.target, "INSERT INTO `shop_1`.`odd``name.x` (a, b) VALUES (1, 1)")
		w.fails(t, "target-rows", "shop_1.odd`name.x", "already holds rows", "empty it")
		exec(t, w.target, "CREATE DATABASE ghostferry", "CREATE TABLE ghostferry.traffic (run_id VARBINARY(64) PRIMARY KEY)",
			"CREATE TABLE ghostferry.tables (run_id VARBINARY(64), source_schema VARBINARY(64), source_table VARBINARY(64))",
			"INSERT INTO ghostferry.traffic VALUES ('other'), ('earlier')",
			"INSERT INTO ghostferry.tables SELECT 'earlier', table_schema, table_name FROM information_schema.tables", "INSERT INTO ghostferry.tables VALUES ('other', 'a', 'b')")
		w.fails(t, "target-rows", "shop_1.odd`name.x", "their traffic may be on the target: earlier", "find out first whether one of them has moved these rows")
		w.in.PartOfRows = true
		w.clean(t)
		w.in.PartOfRows, w.in.Resuming = false, true
		w.clean(t)
	})
}

// Many tables are looked at several to a statement, over several connections, and still told
// from each other.
func TestTargetRowsOfManyTables(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.withTarget(t)
		const tables = 130
		for i := range tables {
			name := fmt.Sprintf("m%03d", i)
			for _, db := range []*sql.DB{w.source, w.target} {
				exec(t, db, "CREATE TABLE `shop_1`."+name+" (id INT PRIMARY KEY)")
			}
			w.in.Tables = append(w.in.Tables, preflight.Table{Schema: "shop_1", Name: name, TargetSchema: "shop_1", TargetName: name, KeyColumns: []string{"id"}})
		}
		more, err := w.in.Target.(*sql.DB).Conn(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, more.Close()) }()
		w.in.MoreTarget = []server.Querier{more}
		w.clean(t)
		filled := []string{"m000", "m049", "m050", "m129"}
		for _, name := range filled {
			exec(t, w.target, "INSERT INTO `shop_1`."+name+" VALUES (1),(2)")
		}
		var found []string
		for _, finding := range w.run(t).Findings {
			if finding.Code == "target-rows.rows" {
				found = append(found, strings.TrimPrefix(finding.Subject, "shop_1."))
			}
		}
		require.Equal(t, filled, found)
		w.in.Tables[60].Scope = "nothing = 1"
		w.fails(t, "target-rows", "", "look for rows in "+w.in.Tables[60].Target(), "what is not checked is not trusted")
	})
}

func TestTargetTriggers(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.withTarget(t)
		exec(t, w.target, "CREATE TABLE `shop_1`.other (id INT PRIMARY KEY)",
			"CREATE TRIGGER `shop_1`.harmless BEFORE INSERT ON `shop_1`.other FOR EACH ROW SET NEW.id = 1")
		w.clean(t, "a trigger on another table")
		exec(t, w.target, "CREATE TRIGGER `shop_1`.meddler BEFORE INSERT ON `shop_1`.customers FOR EACH ROW SET NEW.tag = 1")
		w.fails(t, "target-triggers", "shop_1.customers", "trigger shop_1.meddler", "drop the trigger")
	})
}

func TestPreparedXA(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		const xid = "X'676f',X'',1"
		exec(t, w.target, "DROP SCHEMA IF EXISTS aside", "CREATE SCHEMA aside", "CREATE TABLE aside.t (id INT PRIMARY KEY)")
		for _, side := range []struct {
			name, insert, remedy string
			db                   *sql.DB
		}{
			{"source", "INSERT INTO `shop_1`.customers (id) VALUES (1)", "XA COMMIT " + xid + " or XA ROLLBACK " + xid, w.source},
			{"target", "INSERT INTO aside.t VALUES (1)", "on the target: XA ROLLBACK " + xid, w.target},
		} {
			c, err := side.db.Conn(t.Context())
			require.NoError(t, err)
			defer c.Close()
			for _, statement := range []string{"XA START " + xid, side.insert, "XA END " + xid, "XA PREPARE " + xid} {
				_, err := c.ExecContext(t.Context(), statement)
				require.NoError(t, err, statement)
			}
			if side.name == "target" {
				w.clean(t, "nobody reads the target's log")
				w.in.Target, w.in.WatchTarget = w.target, true
			}
			w.finds(t, preflight.Warning, "prepared-xa", side.name, xid, side.remedy)
			_, err = c.ExecContext(t.Context(), "XA ROLLBACK "+xid)
			require.NoError(t, err)
			w.clean(t)
		}
	})
}

// All faults come at once, and a server that goes away is no finding.
func TestAllAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.withTarget(t)
		exec(t, w.target, "INSERT INTO `shop_1`.customers (id) VALUES (1)", "ALTER TABLE `shop_1`.customers ADD more INT NOT NULL")
		w.setGlobal(t, w.source, "binlog_row_image", "'MINIMAL'")
		w.setGlobal(t, w.target, "sql_mode", "'PIPES_AS_CONCAT'")
		report := w.run(t)
		require.Equal(t, 3, report.Count(preflight.Error), report.Table())
		require.Equal(t, 1, report.Count(preflight.Warning), report.Table())
		t.Log("\n" + report.Table())

		gone := open(t, "root@tcp(127.0.0.1:1)/")
		w.in.Target = gone
		_, err := preflight.Run(t.Context(), w.in)
		require.ErrorContains(t, err, "read the table definitions of the target")
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = preflight.Run(ended, w.in)
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestTargetBinlog(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		name := "binlog_rows_query_log_events"
		if w.in.TargetServer.IsMariaDB() {
			name = "binlog_annotate_row_events"
		}
		w.in.WatchTarget = true
		w.fails(t, "privileges", "target", "which following the binary log needs", "SkipTargetVerification")
		w.in.Target = w.target
		require.Zero(t, w.run(t).Count(preflight.Error))
		w.setGlobal(t, w.target, name, "OFF")
		w.fails(t, "target-binlog.statements", name, name+" must be ON, not OFF (target)", "SET GLOBAL "+name+" = ON")
		w.setGlobal(t, w.target, name, "ON")
		for _, format := range []string{"MIXED", "STATEMENT"} {
			w.setGlobal(t, w.target, "binlog_format", "'"+format+"'")
			w.fails(t, "target-binlog.format", "binlog_format", "binlog_format must be ROW, not "+format+" (target)", "SET GLOBAL binlog_format = ROW")
		}
		w.setGlobal(t, w.target, "binlog_format", "'ROW'")
		w.in.PartOfRows = true
		require.Zero(t, w.run(t).Count(preflight.Error))
		parts := map[string][2]string{"binlog_row_image": {"MINIMAL", "not MINIMAL (target)"}, "binlog_row_value_options": {"PARTIAL_JSON", "also of those without JSON columns"}}
		if w.in.TargetServer.IsMariaDB() {
			delete(parts, "binlog_row_value_options")
		}
		for name, part := range parts {
			t.Run(name, func(t *testing.T) {
				w.setGlobal(t, w.target, name, "'"+part[0]+"'")
				w.fails(t, "target-binlog", name, part[1], "on the target: SET GLOBAL "+name)
				w.in.PartOfRows = false
				require.Zero(t, w.run(t).Count(preflight.Error), "every row that others change is a moved one")
				w.in.PartOfRows = true
			})
			w.detect(t)
		}
		w.setGlobal(t, w.target, "binlog_format", "'STATEMENT'")
		w.in.WatchTarget = false
		require.Zero(t, w.run(t).Count(preflight.Error))
	})
}
