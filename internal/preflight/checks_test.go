package preflight_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/preflight"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

func TestVersions(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		old := *w.in.TargetServer
		old.Major, old.Minor = 5, 7
		if old.IsMariaDB() {
			old.Major, old.Minor = 10, 3
		}
		w.in.TargetServer = &old
		w.finds(t, preflight.Warning, "versions.untested", "target", "is older than the releases", "upgrade")
	})
}

// A stored column that the session's time zone decides about is told, and an index; a virtual one is not.
func TestColumnsComputedBySession(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		exec(t, w.source, "CREATE TABLE `shop_1`.days (id INT PRIMARY KEY, at TIMESTAMP NULL, dt DATETIME, d DATE AS (DATE(at)) VIRTUAL, e DATE AS (DATE(dt)) STORED, f DATE AS (DATE(`At`)) STORED) ENGINE=InnoDB")
		w.in.Tables = append(w.in.Tables, preflight.Table{Schema: "shop_1", Name: "days", TargetSchema: "shop_1", TargetName: "days", KeyColumns: []string{"id"}})
		w.finds(t, preflight.Warning, "types.by-session", "shop_1.days", "column f is stored and computed from the TIMESTAMP column at", "make the column virtual")

		// Neither whether a TIMESTAMP is NULL, as where rows are deleted by one, nor its UNIX time is the session's.
		columns := "id INT PRIMARY KEY, at TIMESTAMP NULL, dt DATETIME, d DATE AS (DATE(at)) VIRTUAL, dd INT AS (DAY(d)) VIRTUAL, e DATE AS (DATE(dt)) VIRTUAL, " +
			"n INT AS (IF(`At` IS NULL, 1, NULL)) VIRTUAL, nn INT AS (n + (at IS NOT NULL)) STORED, UNIQUE KEY (id, n), KEY (nn), KEY (e), "
		keys := map[string]string{
			"KEY i (id, d)":                                    "queries by it may find other rows on the target",
			"KEY i (dd)":                                       "queries by it may find other rows on the target",
			"UNIQUE KEY i (d)":                                 "rows may be in each other's way on the target",
			"x INT AS (n + dd) VIRTUAL, KEY i (x)":             "queries by it may find other rows on the target",
			"x BIGINT AS (at + n) VIRTUAL, KEY i (x)":          "queries by it may find other rows on the target",
			"x BIGINT AS (COALESCE(at, 0)) VIRTUAL, KEY i (x)": "queries by it may find other rows on the target",
		}
		if w.in.SourceServer.IsMariaDB() { // which has no indexes over expressions
			columns += "u BIGINT AS (UNIX_TIMESTAMP(at)) VIRTUAL, KEY (u), "
		} else {
			columns += "UNIQUE KEY ((IF(at IS NULL, id, NULL))), KEY ((DATE(dt))), "
			keys["KEY i ((DATE(at)))"] = "queries by it may find other rows on the target"
			keys["UNIQUE KEY i ((HOUR(at)))"] = "rows may be in each other's way on the target"
		}
		for key, consequence := range keys {
			exec(t, w.source, "DROP TABLE `shop_1`.days", "CREATE TABLE `shop_1`.days ("+columns+key+") ENGINE=InnoDB")
			w.finds(t, preflight.Warning, "types.by-session", "shop_1.days", "index i holds what is computed from the TIMESTAMP column at: it depends on the time zone", "compute it from a DATETIME")
			require.Contains(t, w.run(t).Table(), consequence)
		}
		exec(t, w.source, "DROP TABLE `shop_1`.days", "CREATE TABLE `shop_1`.days (id INT PRIMARY KEY, at TIMESTAMP NULL, d DATE AS (DATE(at)) VIRTUAL, f INT AS (DAY(d)) STORED) ENGINE=InnoDB")
		w.finds(t, preflight.Warning, "types.by-session", "shop_1.days", "column f is stored and computed from the TIMESTAMP column at", "make the column virtual")
	})
}

// Two flavours: what the target does not have is named, table by table.
func TestFlavours(t *testing.T) {
	w := newWorld(t, pairs[servers.MySQL][0], pairs[servers.MariaDB][1])
	exec(t, w.source, "CREATE TABLE `shop_1`.docs (id INT PRIMARY KEY, doc JSON, ratio DOUBLE, part FLOAT UNSIGNED, v VARCHAR(9) COLLATE utf8mb4_ja_0900_as_cs) ENGINE=InnoDB")
	w.in.Tables = append(w.in.Tables, preflight.Table{Schema: "shop_1", Name: "docs", TargetSchema: "shop_1", TargetName: "docs", KeyColumns: []string{"id"}})
	report := w.run(t)
	w.has(t, report, "versions.flavours", "target", "the source is a MySQL, the target a MariaDB")
	w.has(t, report, "types.target-lacks", "shop_1.docs", "column doc has type json, which MariaDB does not have")
	w.has(t, report, "create.collation", "shop_1.docs", "collation utf8mb4_ja_0900_as_cs of v")
	w.has(t, report, "types.negative-zero", "shop_1.docs", "MariaDB has no negative zero: a -0 in a FLOAT or DOUBLE column (ratio, part)")
	require.Equal(t, 2, report.Count(preflight.Error), report.Table())
	onlyLeftOut := func() {
		t.Helper()
		for _, finding := range report.Findings {
			if strings.Contains(finding.What, "which MariaDB does not have") {
				require.Equal(t, "leave the table out by the table filter", finding.Remedy)
			}
		}
	}
	onlyLeftOut()

	// A prepared table with another type is refused, too, and told the same.
	exec(t, w.target, "CREATE DATABASE `shop_1`", "CREATE TABLE `shop_1`.docs (id INT PRIMARY KEY, doc JSON, ratio DOUBLE, part FLOAT UNSIGNED, v VARCHAR(9) COLLATE utf8mb4_general_ci) ENGINE=InnoDB")
	w.in.AllowExistingTables = true
	report = w.run(t)
	w.has(t, report, "target-structure.column-type", "shop_1.docs", "the type of column doc is json on the source, which MariaDB does not have")
	require.Equal(t, 1, report.Count(preflight.Error), report.Table())
	onlyLeftOut()
}

// What a target lacks is told with the remedies that would be accepted: another collation in a
// table that is prepared, but not for a unique key or a row filter, nor in another character set.
func TestRemediesBetweenFlavours(t *testing.T) {
	for definition, c := range map[string]struct{ code, remedy string }{
		"id INT PRIMARY KEY, v VARCHAR(9) COLLATE utf8mb4_ja_0900_as_cs":              {"create.collation", "create the target's table yourself, with a collation of the same character set"},
		"id INT PRIMARY KEY, v VARCHAR(9) COLLATE utf8mb4_0900_ai_ci, UNIQUE KEY (v)": {"create.collation", "leave the table out"},
		"id INT PRIMARY KEY, owner VARCHAR(9) COLLATE utf8mb4_0900_ai_ci":             {"create.collation", "leave the table out"},
		"id INT PRIMARY KEY, v VARCHAR(9) CHARACTER SET gb18030":                      {"create.collation", "leave the table out"},
		"id INT PRIMARY KEY, v INT GENERATED ALWAYS AS (id+1) VIRTUAL NOT NULL":       {"types.target-lacks", "create the target's table yourself, without NOT NULL"},
		"id INT, v INT GENERATED ALWAYS AS (id+1) STORED PRIMARY KEY":                 {"types.target-lacks", "give the table another key"},
	} {
		w := newWorld(t, pairs[servers.MySQL][0], pairs[servers.MariaDB][1])
		key := "id"
		if strings.HasPrefix(definition, "id INT,") {
			key = "v"
		}
		w.one(t, "docs", definition, key)
		w.in.Tables[0].ScopeColumns = []string{"Owner"} // of a row filter
		report := w.run(t)
		require.Equal(t, 1, report.Count(preflight.Error), report.Table())
		for _, f := range report.Findings {
			if f.Severity == preflight.Error {
				require.Equal(t, c.code, f.Code, definition)
				require.Contains(t, f.Remedy, c.remedy, definition)
			}
		}
	}
}

// A default collation that the target lacks, of a table or of a schema that will be created, is
// no value's: it is told, and refused only where the character set itself is not there.
func TestDefaultCollations(t *testing.T) {
	w := newWorld(t, pairs[servers.MySQL][0], pairs[servers.MariaDB][1])
	const lacking = "the target does not have its default collation utf8mb4_0900_ai_ci, and takes its own for character set utf8mb4"
	w.one(t, "numbers", "id INT PRIMARY KEY", "id")
	alter := func(table, schema string) {
		exec(t, w.source, "ALTER TABLE `shop_1`.numbers DEFAULT CHARACTER SET "+table, "ALTER DATABASE `shop_1` DEFAULT CHARACTER SET "+schema)
	}
	told := func(errors, warnings int) *preflight.Report {
		t.Helper()
		report, found := w.run(t), [2]int{}
		for _, f := range report.Findings {
			switch {
			case f.Code != "create.default-collation":
			case f.Severity == preflight.Error:
				found[0]++
			case f.Severity == preflight.Warning:
				found[1]++
			}
		}
		require.Equal(t, [2]int{errors, warnings}, found, report.Table())
		require.Equal(t, errors, report.Count(preflight.Error), report.Table())
		return report
	}

	alter("utf8mb4 COLLATE utf8mb4_0900_ai_ci", "utf8mb4 COLLATE utf8mb4_0900_ai_ci")
	report := told(0, 2)
	w.has(t, report, "create.default-collation", "shop_1.numbers", lacking)
	w.has(t, report, "create.default-collation", "shop_1", lacking)

	alter("gb18030", "gb18030")
	report = told(2, 0)
	w.has(t, report, "create.default-collation", "shop_1.numbers", "does not have the character set gb18030")
	w.has(t, report, "create.default-collation", "shop_1", "does not have the character set gb18030")
	for _, f := range report.Findings {
		if f.Code == "create.default-collation" {
			require.Contains(t, f.Remedy, "` DEFAULT CHARACTER SET … on the source")
		}
	}

	alter("utf8mb3 COLLATE utf8mb3_unicode_ci", "utf8mb4 COLLATE utf8mb4_0900_bin") // both have these
	told(0, 0)
	alter("utf8mb4 COLLATE utf8mb4_general_ci", "utf8mb4 COLLATE utf8mb4_0900_ai_ci")
	told(0, 1)
	exec(t, w.target, "CREATE DATABASE `shop_1`")
	told(0, 0)
}

// A collation that the other flavour has under another name is no difference.
func TestCollationOfAnotherName(t *testing.T) {
	w := newWorld(t, pairs[servers.MySQL][0], pairs[servers.MariaDB][1])
	w.one(t, "exact", "v VARCHAR(9) COLLATE utf8mb4_0900_bin PRIMARY KEY", "v")
	require.Zero(t, w.run(t).Count(preflight.Error))
	exec(t, w.target, "CREATE DATABASE `shop_1`", "CREATE TABLE `shop_1`.exact (v VARCHAR(9) COLLATE utf8mb4_nopad_bin PRIMARY KEY) ENGINE=InnoDB")
	w.in.AllowExistingTables = true
	require.Zero(t, w.run(t).Count(preflight.Error))
}

// A large table that is copied by a key of two directions is warned of, on either side: its index
// gives no order of the key. One direction, whichever, is read from one end.
func TestKeysOfTwoDirections(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		large := func(name, definition string, key ...string) {
			t.Helper()
			w.one(t, name, definition, key...)
			w.in.Tables[0].Bytes = 10 << 30
		}
		large("down", "a INT, b INT, PRIMARY KEY (a DESC, b DESC)", "a", "b")
		w.clean(t)
		large("both_ways", "a INT NOT NULL, b INT, PRIMARY KEY (a, b DESC)", "a", "b")
		w.finds(t, preflight.Warning, "key.mixed-order", "shop_1.both_ways", "on the source its key (a, b) has ascending and descending parts: for each chunk all that is left of its 10240.0 MiB",
			"ALTER TABLE `shop_1`.`both_ways` DROP PRIMARY KEY, ADD PRIMARY KEY (`a`,`b`)")
		w.in.Tables[0].Bytes = 1 << 20
		w.clean(t, "small")
		large("unique_only", "a INT NOT NULL, b INT NOT NULL, UNIQUE KEY k (a DESC, b)", "a", "b")
		w.finds(t, preflight.Warning, "key.mixed-order", "shop_1.unique_only", "on the source", "DROP KEY `k`, ADD UNIQUE KEY `k` (`a`,`b`)")
		large("beside", "a INT, b INT, PRIMARY KEY (a, b), UNIQUE KEY k (a DESC, b)", "a", "b")
		w.clean(t, "it is read by the primary key")
		exec(t, w.target, "CREATE DATABASE `shop_1`", "CREATE TABLE `shop_1`.beside (a INT, b INT, PRIMARY KEY (a, b DESC), UNIQUE KEY k (a DESC, b)) ENGINE=InnoDB")
		w.in.AllowExistingTables = true
		w.finds(t, preflight.Warning, "key.mixed-order", "shop_1.beside", "on the target", "ALTER TABLE `shop_1`.`beside` DROP PRIMARY KEY")
	})
}

// MariaDB's keys over periods are refused by name, others over the same columns are not; its
// unique keys by hash are refused where the target has no such keys.
func TestKeysOfMariaDB(t *testing.T) {
	w := newWorld(t, pairs[servers.MariaDB][0], pairs[servers.MariaDB][1])
	w.one(t, "booked", "id INT, a DATE, b DATE, PERIOD FOR p (a, b), PRIMARY KEY (id, a, b)", "id", "a", "b")
	w.clean(t)
	exec(t, w.source, "ALTER TABLE `shop_1`.booked ADD UNIQUE KEY `once ``only` (id, p WITHOUT OVERLAPS)")
	w.fails(t, "key.overlaps", "shop_1.booked", "its key `once ``only` is WITHOUT OVERLAPS", "drop the key for the time of the move")
	w.one(t, "hashed", "id INT PRIMARY KEY, v BLOB, UNIQUE (v)", "id")
	w.clean(t)

	w = newWorld(t, pairs[servers.MariaDB][0], pairs[servers.MySQL][1])
	w.one(t, "hashed", "id INT PRIMARY KEY, v BLOB, UNIQUE (v)", "id")
	w.has(t, w.run(t), "types.target-lacks", "shop_1.hashed", "unique key v is an index by hash, which MySQL does not have")
}

func TestRetention(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.setGlobal(t, w.source, "binlog_expire_logs_seconds", "1800")
		w.finds(t, preflight.Warning, "retention.short", "binlog_expire_logs_seconds", "keeps its binary log for 30m0s", "SET GLOBAL binlog_expire_logs_seconds = 3600")
		w.setGlobal(t, w.source, "binlog_expire_logs_seconds", "86400")
		w.clean(t)
		w.in.Tables[0].Bytes = 1 << 40 // 4 days there and back
		w.finds(t, preflight.Warning, "retention.short", "binlog_expire_logs_seconds", "estimated to take up to 116h30m30s", "SET GLOBAL binlog_expire_logs_seconds = 838860")
		if w.in.SourceServer.IsMariaDB() {
			w.setGlobal(t, w.source, "binlog_expire_logs_seconds", "0")
			w.clean(t, "kept for ever")
			w.setGlobal(t, w.source, "expire_logs_days", "0.5")
			w.finds(t, preflight.Warning, "retention.short", "binlog_expire_logs_seconds", "for 12h0m0s", "838860")
		}
	})
}

// A log that is limited by its size is warned of, by whichever name a server has for that
// (max_binlog_total_size since MariaDB 11.4, binlog_space_limit elsewhere).
func TestRetentionBySize(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		source := w.in.Source
		for _, name := range []string{"max_binlog_total_size", "binlog_space_limit"} {
			w.in.Source = set{source, name, "1073741824"}
			w.finds(t, preflight.Warning, "retention.by-size", name, "keeps 1073741824 bytes of binary log at most", "SET GLOBAL "+name+" = 0")
			w.in.Source = set{source, name, "0"}
			w.clean(t, "no limit")
		}
	})
}

func TestReplicationFilters(t *testing.T) {
	w := newWorld(t, pairs[servers.MariaDB][0], pairs[servers.MariaDB][1])
	w.in.SourceIsReplicaOK = true
	w.clean(t)
	w.setGlobal(t, w.source, "replicate_ignore_db", "'mysql,shop_1'")
	w.fails(t, "replication.filtered", "source", "changes of the primary in shop_1 do not reach it", "without filters")
	w.setGlobal(t, w.source, "replicate_ignore_db", "'mysql'")
	w.finds(t, preflight.Warning, "replication.filters", "source", "replicate_ignore_db=mysql", "without filters")
	w.in.SourceIsReplicaOK = false
	w.clean(t, "settings of a server that replicates nothing")
}

// A replica of the source as the target would execute every change twice.
func TestReplicaAsTarget(t *testing.T) {
	source := pairs[servers.MySQL][0]
	replica, err := servers.Start(t.Context(), servers.Options{Flavour: servers.MySQL, Name: "replica", GTID: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, replica.Stop()) }()
	w := newWorld(t, source, replica)
	exec(t, w.source, "DROP USER IF EXISTS replica", "CREATE USER replica IDENTIFIED BY 'throwaway'", "GRANT REPLICATION SLAVE ON *.* TO replica")
	exec(t, w.target, "CHANGE REPLICATION SOURCE TO SOURCE_HOST='127.0.0.1', SOURCE_PORT="+strconv.Itoa(source.Port)+
		", SOURCE_USER='replica', SOURCE_PASSWORD='throwaway', GET_SOURCE_PUBLIC_KEY=1, SOURCE_LOG_FILE='"+w.logFile(t)+"', SOURCE_LOG_POS=4", "START REPLICA IO_THREAD")
	require.Eventually(t, func() bool { return w.run(t).Count(preflight.Error) > 0 }, 30*time.Second, 50*time.Millisecond)
	w.fails(t, "replication.target-follows", "target", "the target is a replica of the source", "RESET REPLICA ALL")
}

func TestCreate(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		name := "sql_require_primary_key"
		if w.in.TargetServer.IsMariaDB() {
			name = "innodb_force_primary_key"
		}
		w.setGlobal(t, w.target, name, "1")
		w.clean(t, "all tables have one")
		w.one(t, "unique_only", "id INT NOT NULL, UNIQUE KEY (id)", "id")
		w.fails(t, "create.primary-key", name, "refuses to create shop_1.unique_only", "SET GLOBAL "+name+" = OFF")
	})
}

// Pages of another size are chosen when a server is set up, once for all.
func TestCreateOnSmallerPages(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		source, target := w.in.Source, w.in.Target
		w.in.Source = set{source, "innodb_page_size", "32768"}
		w.finds(t, preflight.Warning, "create.page-size", "target, innodb_page_size", "32768 on the source and 16384 on the target", "pages of the source's size")
		w.in.Source, w.in.Target = source, set{target, "innodb_page_size", "65536"}
		w.clean(t, "larger pages hold all that smaller ones do")
	})
}

// Each difference of an existing table is named, all of them at once.
func TestTargetStructureDifferences(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.one(t, "items", `id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, a INT, b VARCHAR(20), c INT DEFAULT 1, g INT GENERATED ALWAYS AS (a + 1) VIRTUAL,
			UNIQUE KEY by_b (b), KEY by_a_c (a, c), FULLTEXT KEY words (b), CONSTRAINT positive CHECK (a > 0)`, "id")
		exec(t, w.target, "CREATE DATABASE `shop_1`", `CREATE TABLE shop_1.items (id INT NOT NULL PRIMARY KEY, a INT, b VARCHAR(20), c INT DEFAULT 2, g INT GENERATED ALWAYS AS (a + 2) VIRTUAL,
			KEY by_b (b), KEY by_a (a), CONSTRAINT positive CHECK (a > 0), CONSTRAINT small CHECK (a < 100)) ENGINE=InnoDB
			PARTITION BY RANGE (id) (PARTITION low VALUES LESS THAN (100))`)
		w.in.CreateTables = false
		exec(t, w.target, "GRANT ALTER ON `shop\\_1`.* TO mover")
		report := w.run(t)
		for _, c := range []struct{ code, what string }{
			{"auto-increment", "column id is AUTO_INCREMENT on the source and not on the target"},
			{"column-default", "the default of column c is 1 on the source and 2 on the target"},
			{"column-generated", "the expression of column g is"},
			{"index-missing", "the unique key by_b (b) of the source is missing"},
			{"index-missing", "the index by_a_c (a, c) of the source is missing"},
			{"index-missing", "the index words (b) of the source is missing"},
			{"check-extra", "its constraint small CHECK"},
			{"partitions", "its partitions are none on the source and RANGE"},
		} {
			w.has(t, report, "target-structure."+c.code, "shop_1.items", c.what)
		}
		require.Equal(t, 8, report.Count(preflight.Error)+report.Count(preflight.Warning), report.Table())

		exec(t, w.target, "DROP TABLE shop_1.items", strings.ReplaceAll(w.definition(t, "items"), "CREATE TABLE ", "CREATE TABLE shop_1."))
		w.clean(t, "the definition of the source itself")
	})
}

// A unique index on an expression is the same on both sides when its text is.
func TestFunctionalIndexes(t *testing.T) {
	w := newWorld(t, pairs[servers.MySQL][0], pairs[servers.MySQL][1])
	const definition = "id INT PRIMARY KEY, a VARCHAR(20), UNIQUE KEY folded ((LOWER(a)))"
	w.one(t, "folded", definition, "id")
	exec(t, w.target, "CREATE DATABASE `shop_1`", "CREATE TABLE shop_1.folded ("+definition+")")
	w.in.CreateTables = false
	w.clean(t)
	exec(t, w.target, "ALTER TABLE shop_1.folded ADD UNIQUE KEY other ((UPPER(a)))")
	w.fails(t, "target-structure.unique-extra", "shop_1.folded", "its unique key other", "drop the key, or create it on the source first")
	w.in.Resuming = true // the source's definition is kept in the run's state
	require.Equal(t, "drop the key", w.only(t, w.run(t)).Remedy)
}

// The next AUTO_INCREMENT value is carried over, which needs a privilege.
func TestAutoIncrementPrivilege(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.one(t, "numbered", "id INT NOT NULL AUTO_INCREMENT PRIMARY KEY", "id")
		w.fails(t, "privileges.target", "target, schema shop_1", "lacks ALTER on shop_1.numbered", "GRANT ALTER ON `shop\\_1`.*")
		w.in.PartOfRows = true
		w.clean(t, "other tenants' counter stays as it is")
		w.in.PartOfRows = false
		exec(t, w.target, "GRANT ALTER ON `shop\\_1`.* TO mover")
		w.clean(t)
	})
}

func TestCheckpointSchema(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		exec(t, w.target, "CREATE DATABASE ghostferry", "CREATE TABLE ghostferry.runs (run_id VARBINARY(64) PRIMARY KEY, finished INT)",
			"CREATE TABLE ghostferry.lanes (a INT)", "CREATE TABLE ghostferry.tables (a INT)", "CREATE TABLE ghostferry.chunks (a INT)",
			"CREATE TABLE ghostferry.copydb_tables (a INT)", "INSERT INTO ghostferry.runs VALUES ('ours', 0), ('done', 1)")
		w.in.RunID = "ours"
		w.clean(t)
		exec(t, w.target, "INSERT INTO ghostferry.runs VALUES ('theirs', 0)")
		w.finds(t, preflight.Warning, "checkpoint.other-run", "ghostferry", "have not finished: theirs", "see to it that they move other tables or rows")
		w.in.PartOfRows = true
		w.clean(t, "tenants move side by side")
		w.has(t, w.run(t), "checkpoint.other-run", "ghostferry", "have not finished: theirs")
		w.in.PartOfRows = false
		exec(t, w.target, "DELETE FROM ghostferry.runs WHERE run_id = 'theirs'", "CREATE TABLE ghostferry.customers (a INT)")
		w.fails(t, "checkpoint.foreign", "ghostferry", "holds 1 tables on the target that are not its own", "CheckpointSchema")
		w.in.CheckpointOn = false
		w.clean(t)
	})
}

// F20: a target that takes smaller packets than the source is warned of where rows may not fit.
func TestF20PacketSize(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.setGlobal(t, w.target, "max_allowed_packet", "1048576")
		w.clean(t, "no row of these tables is so long")
		w.one(t, "large", "id INT PRIMARY KEY, a MEDIUMBLOB", "id")
		w.finds(t, preflight.Warning, "packet-size.row", "shop_1.large", "may be up to 16777281 bytes long, and max_allowed_packet is", "SET GLOBAL max_allowed_packet = ")
	})
}

func TestSize(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.in.Tables[0].Bytes, w.in.Tables[1].Bytes = 1<<20, 5<<20
		report := w.run(t)
		w.has(t, report, "size.bytes", "target", "about 6.0 MiB of rows are to be moved in 2 tables, 5.0 MiB of them in shop_1.odd`name.x")
		require.Contains(t, report.Table(), "free disk cannot be asked by SQL")
	})
}

func TestSettings(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		for _, c := range []struct{ name, value, code string }{
			{"time_zone", "'+02:00'", "settings.time-zone"},
			{"sql_mode", "'PIPES_AS_CONCAT'", "settings.sql-mode"},
			{"character_set_server", "'latin1'", "settings.character-set"},
		} {
			t.Run(c.name, func(t *testing.T) {
				w.setGlobal(t, w.target, c.name, c.value)
				w.finds(t, preflight.Warning, c.code, c.name, strings.Trim(c.value, "'"), "target")
			})
		}
	})
}

// Names that differ in letter case alone become one on a server that does not tell them apart.
func TestLetterCase(t *testing.T) {
	folding, err := servers.Start(t.Context(), servers.Options{Flavour: servers.MariaDB, Name: "folding", GTID: true, Flags: []string{"--lower-case-table-names=1"}})
	require.NoError(t, err)
	defer func() { require.NoError(t, folding.Stop()) }()
	w := newWorld(t, pairs[servers.MariaDB][0], folding)
	w.finds(t, preflight.Warning, "settings.letter-case", "lower_case_table_names", `"0" on the source and "1" on the target`, "same setting")
	w.one(t, "Customers", "id INT PRIMARY KEY", "id")
	w.in.Tables = append(w.in.Tables, preflight.Table{Schema: "shop_1", Name: "customers", TargetSchema: "shop_1", TargetName: "customers", KeyColumns: []string{"id"}})
	report := w.run(t)
	w.has(t, report, "tables.same-name", "shop_1.customers", "shop_1.Customers and shop_1.customers would both become shop_1.customers")
	require.Equal(t, 1, report.Count(preflight.Error), report.Table())
}

func TestNotMoved(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		exec(t, w.source, "CREATE VIEW `shop_1`.v AS SELECT 1 AS id", "CREATE TRIGGER `shop_1`.tr BEFORE INSERT ON `shop_1`.customers FOR EACH ROW SET NEW.tag = 1",
			"CREATE PROCEDURE `shop_1`.p() SELECT 1", "CREATE EVENT `shop_1`.e ON SCHEDULE EVERY 1 YEAR DO SELECT 1", "GRANT ALL ON `shop\\_1`.* TO mover")
		wants := map[string]string{"views": "v", "triggers": "tr", "routines": "p", "events": "e"}
		if w.in.SourceServer.IsMariaDB() {
			exec(t, w.source, "CREATE SEQUENCE `shop_1`.s")
			wants["sequences"] = "s"
		}
		report := w.run(t)
		for code, name := range wants {
			w.has(t, report, "not-moved."+code, "shop_1", "its "+code+" do not move: "+name)
		}
		require.NoError(t, report.Err())
		require.Equal(t, len(wants), report.Count(preflight.Warning), report.Table())
	})
}

func TestRowMetadata(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.has(t, w.run(t), "binlog.row-metadata", "binlog_row_metadata", "do not name their columns")
		w.setGlobal(t, w.source, "binlog_row_metadata", "'FULL'")
		require.NotContains(t, w.run(t).Table(), "binlog.row-metadata")
	})
}

// Every check has a name, a description and codes of its own.
func TestChecks(t *testing.T) {
	names := map[string]bool{}
	for _, c := range preflight.Checks() {
		require.False(t, names[c.Name], c.Name)
		names[c.Name] = true
		require.NotEmpty(t, c.Looks)
		require.NotEmpty(t, c.Codes)
		codes := map[string]bool{}
		for _, code := range c.Codes {
			require.False(t, codes[code], c.Name+"."+code)
			codes[code] = true
		}
	}
}
