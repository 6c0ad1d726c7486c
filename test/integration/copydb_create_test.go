package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// created runs the steps up to the creation in this process.
func created(ctx context.Context, ferry *copydb.CopydbFerry) error {
	if err := ferry.InitializeContext(ctx); err != nil {
		return err
	}
	if err := ferry.StartContext(ctx); err != nil {
		return err
	}
	return ferry.CreateDatabasesAndTablesContext(ctx)
}

// definition is what the server says of a table, without its name.
func definition(t *testing.T, db *sql.DB, schema, table string) string {
	t.Helper()
	var name, text string
	require.NoError(t, db.QueryRow("SHOW CREATE TABLE "+quote(schema)+"."+quote(table)).Scan(&name, &text))
	_, text, found := strings.Cut(text, "` (\n")
	require.True(t, found, text)
	return text
}

// Names with dots and backquotes, renamed schemas and tables, and texts that only look
// like names arrive as they should; rows too.
func TestCopydbRenames(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		freshSchemas(t, p, "copydb a.b`c", "copydb renamed`x")
		harness.Exec(t, p.SourceDB, strings.ReplaceAll("CREATE DATABASE § CHARACTER SET latin1 COLLATE latin1_german1_ci;\n"+
			"CREATE TABLE §.`or``ders.x` (id INT AUTO_INCREMENT PRIMARY KEY, `a``.b` VARCHAR(60) DEFAULT 'it''s \\\\ \\' `or``ders.x`' COMMENT 'a \\\\ b; ''c''\\nREFERENCES `or``ders.x`') AUTO_INCREMENT=4711 COMMENT='tab\\tle';\n"+
			"INSERT INTO §.`or``ders.x` (id) VALUES (1), (2);\n"+
			"CREATE TABLE §.plain (id INT PRIMARY KEY, v VARCHAR(9))", "§", "`copydb a.b``c`"))

		config := copydbSettings(p, []string{"copydb a.b`c"}, nil)
		config["Databases"].(settings)["Rewrites"] = settings{"copydb a.b`c": "copydb renamed`x"}
		config["Tables"] = settings{"Rewrites": settings{"or`ders.x": "purch`ases.y"}}
		status, _ := runCopydb(t, config.file(t))
		require.Zero(t, status)

		onTarget := func(table string) string {
			// MySQL names a column's character set where the statement did.
			return strings.ReplaceAll(definition(t, p.TargetDB, "copydb renamed`x", table), " CHARACTER SET latin1", "")
		}
		want := definition(t, p.SourceDB, "copydb a.b`c", "or`ders.x")
		require.Contains(t, want, "AUTO_INCREMENT=4711")
		require.Equal(t, want, onTarget("purch`ases.y"))
		require.Equal(t, definition(t, p.SourceDB, "copydb a.b`c", "plain"), onTarget("plain"))
		var charset, collation string
		require.NoError(t, p.TargetDB.QueryRow("SELECT default_character_set_name, default_collation_name FROM information_schema.schemata WHERE schema_name='copydb renamed`x'").Scan(&charset, &collation))
		require.Equal(t, "latin1 latin1_german1_ci", charset+" "+collation)
		require.Equal(t, 2, contents(t, p.TargetDB)["copydb renamed`x.purch`ases.y"])
		require.NotContains(t, contents(t, p.TargetDB), "copydb a.b`c.")
	})
}

// Foreign keys follow the renaming, whatever the order of the tables.
func TestCopydbRenamesForeignKeys(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		freshSchemas(t, p, "copydb_fk", "copydb_fk_other", "copydb_fk_new")
		harness.Exec(t, p.SourceDB, `CREATE DATABASE copydb_fk;
			CREATE DATABASE copydb_fk_other;
			CREATE TABLE copydb_fk.z_parent (id INT PRIMARY KEY);
			CREATE TABLE copydb_fk_other.parent (id INT PRIMARY KEY);
			CREATE TABLE copydb_fk.child (id INT PRIMARY KEY, z INT, p INT, FOREIGN KEY (z) REFERENCES z_parent (id), FOREIGN KEY (p) REFERENCES copydb_fk_other.parent (id))`)
		config := copydbSettings(p, []string{"copydb_fk", "copydb_fk_other"}, settings{"SkipForeignKeyConstraintsCheck": true})
		config["Databases"].(settings)["Rewrites"] = settings{"copydb_fk": "copydb_fk_new"}
		config["Tables"] = settings{"Rewrites": settings{"z_parent": "z_renamed"}}
		require.NoError(t, created(t.Context(), copydb.NewFerry(config.config(t))))
		child := definition(t, p.TargetDB, "copydb_fk_new", "child")
		require.Contains(t, child, "REFERENCES `z_renamed` (`id`)")
		require.Contains(t, child, "REFERENCES `copydb_fk_other`.`parent` (`id`)")
	})
}

// fromMySQLToMariaDB is a pair of both flavours.
func fromMySQLToMariaDB(t *testing.T) *harness.Pair {
	t.Helper()
	source := harness.Shared(t, harness.Settings[0])
	target := harness.Shared(t, harness.Settings[2])
	require.Equal(t, [2]servers.Flavour{servers.MySQL, servers.MariaDB}, [2]servers.Flavour{source.Flavour, target.Flavour})
	return &harness.Pair{Setting: harness.Setting{Name: "across"}, Source: source.Source, SourceDB: source.SourceDB, Target: target.Target, TargetDB: target.TargetDB}
}

// A schema made with MySQL's default, and tables that have it as theirs while no column has it,
// move to a server that lacks the collation.
func TestCopydbLeavesLackingDefaultsOut(t *testing.T) {
	p := fromMySQLToMariaDB(t)
	freshSchemas(t, p, "copydb_defaults")
	harness.Exec(t, p.SourceDB, `CREATE DATABASE copydb_defaults CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci;
		CREATE TABLE copydb_defaults.numbers (id INT PRIMARY KEY, v INT) COMMENT 'COLLATE=utf8mb4_0900_ai_ci';
		CREATE TABLE copydb_defaults.texts (id INT PRIMARY KEY, v VARCHAR(9) COLLATE utf8mb4_unicode_ci, w VARCHAR(9) COLLATE utf8mb4_0900_bin);
		INSERT INTO copydb_defaults.numbers VALUES (1, 1), (2, 2);
		INSERT INTO copydb_defaults.texts VALUES (1, 'a', 'b ')`)

	status, run := runCopydb(t, copydbSettings(p, []string{"copydb_defaults"}, nil).file(t))
	require.Zero(t, status, run.stderr.String())
	for _, table := range []string{"numbers", "texts"} {
		rows := "SELECT * FROM copydb_defaults." + table + " ORDER BY id"
		require.Equal(t, harness.Rows(t, p.SourceDB, rows), harness.Rows(t, p.TargetDB, rows))
	}
	require.Contains(t, definition(t, p.TargetDB, "copydb_defaults", "numbers"), "DEFAULT CHARSET=utf8mb4 ")
	texts := definition(t, p.TargetDB, "copydb_defaults", "texts")
	require.Contains(t, texts, "COLLATE utf8mb4_unicode_ci")
	require.Contains(t, texts, "COLLATE utf8mb4_nopad_bin")
	var charset string
	require.NoError(t, p.TargetDB.QueryRow("SELECT default_character_set_name FROM information_schema.schemata WHERE schema_name='copydb_defaults'").Scan(&charset))
	require.Equal(t, "utf8mb4", charset)
}

// A default that a column has is not left out: under another collation other values of its
// unique key would be equal. The checks refuse it, and the target what is changed after them.
func TestCopydbKeepsDefaultsOfColumns(t *testing.T) {
	p := fromMySQLToMariaDB(t)
	freshSchemas(t, p, "copydb_defaults")
	harness.Exec(t, p.SourceDB, `CREATE DATABASE copydb_defaults CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_as_cs;
		CREATE TABLE copydb_defaults.texts (id INT PRIMARY KEY)`)
	config := copydbSettings(p, []string{"copydb_defaults"}, nil)
	ferry := copydb.NewFerry(config.config(t))
	require.NoError(t, ferry.InitializeContext(t.Context()))
	require.NoError(t, ferry.StartContext(t.Context()))
	harness.Exec(t, p.SourceDB, "ALTER TABLE copydb_defaults.texts ADD v VARCHAR(9), ADD UNIQUE KEY (v)")
	var refused *copydb.CreationError
	require.ErrorAs(t, ferry.CreateDatabasesAndTablesContext(t.Context()), &refused)
	require.ErrorContains(t, refused, "utf8mb4_0900_as_cs")

	status, run := runCopydb(t, config.file(t))
	require.Equal(t, 1, status)
	require.Contains(t, run.stderr.String(), "create.collation: copydb_defaults.texts")
	require.NotContains(t, contents(t, p.TargetDB), "copydb_defaults.texts")
}

// What the target refuses is named with the remedy, and what was created before it is
// gone again.
func TestCopydbCreatesAllOrNothing(t *testing.T) {
	across := fromMySQLToMariaDB(t)
	freshSchemas(t, across, "copydb_across")
	harness.Exec(t, across.SourceDB, `CREATE DATABASE copydb_across CHARACTER SET latin1;
		CREATE TABLE copydb_across.a (id INT PRIMARY KEY, v VARCHAR(9)) CHARACTER SET latin1;
		CREATE TABLE copydb_across.b (id INT PRIMARY KEY, v BINARY(16) DEFAULT (UUID_TO_BIN(UUID()))) CHARACTER SET latin1;
		CREATE TABLE copydb_across.c (id INT PRIMARY KEY) CHARACTER SET latin1`)
	before := contents(t, across.TargetDB)

	status, run := runCopydb(t, "-json", copydbSettings(across, []string{"copydb_across"}, nil).file(t))
	require.Equal(t, 1, status)
	r := run.result()
	require.Equal(t, copydb.Refused, r.Outcome)
	require.Contains(t, r.Error, "`copydb_across`.`b`")
	require.Contains(t, r.Error, "uuid_to_bin", "the server's own words")
	require.Contains(t, r.Error, "create it yourself")
	require.Contains(t, r.Error, "AllowExistingTargetTable")
	require.Equal(t, before, contents(t, across.TargetDB))
}

// An existing table is refused, an empty one that fits is taken where that is allowed.
func TestCopydbAndExistingTables(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		freshSchemas(t, p, "copydb_existing")
		harness.Exec(t, p.SourceDB, "CREATE DATABASE copydb_existing;\nCREATE TABLE copydb_existing.a (id INT PRIMARY KEY);\nCREATE TABLE copydb_existing.b (id INT PRIMARY KEY, v INT);\nINSERT INTO copydb_existing.b VALUES (1, 1)")
		harness.Exec(t, p.TargetDB, "CREATE DATABASE copydb_existing;\nCREATE TABLE copydb_existing.b (id INT PRIMARY KEY, v INT)")
		before := contents(t, p.TargetDB)
		status, run := runCopydb(t, copydbSettings(p, []string{"copydb_existing"}, nil).file(t))
		require.Equal(t, 1, status)
		require.Contains(t, run.stderr.String(), "`copydb_existing`.`b` already exist on the target (error 1050)")
		require.Contains(t, run.stderr.String(), "AllowExistingTargetTable")
		require.Equal(t, before, contents(t, p.TargetDB))

		allowed := copydbSettings(p, []string{"copydb_existing"}, settings{"AllowExistingTargetTable": true}).file(t)
		harness.Exec(t, p.TargetDB, "ALTER TABLE copydb_existing.b MODIFY v VARCHAR(3)")
		status, run = runCopydb(t, allowed)
		require.Equal(t, 1, status)
		require.Contains(t, run.stderr.String(), "copydb_existing.b", "a table that does not fit is named")
		require.Equal(t, before, contents(t, p.TargetDB))

		harness.Exec(t, p.TargetDB, "ALTER TABLE copydb_existing.b MODIFY v INT")
		status, _ = runCopydb(t, allowed)
		require.Zero(t, status)
		p.MustEqual(t, "copydb_existing")
	})
}

// The first tables are created first; a definition that cannot be read creates nothing.
func TestCopydbCreationOrder(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		freshSchemas(t, p, "copydb_order")
		harness.Exec(t, p.SourceDB, "CREATE DATABASE copydb_order")
		for _, name := range []string{"a", "b", "c", "d"} {
			harness.Exec(t, p.SourceDB, fmt.Sprintf("CREATE TABLE copydb_order.%s (id INT PRIMARY KEY)", name))
		}
		config := copydbSettings(p, []string{"copydb_order"}, settings{"TablesToBeCreatedFirst": []string{"copydb_order.d", "nowhere.x", "copydb_order.b"}}).config(t)
		logger := &recordingLogger{}
		config.Logger = logger.logger()
		require.NoError(t, created(t.Context(), copydb.NewFerry(config)))
		var order []string
		for _, message := range logger.messages() {
			if _, name, ok := strings.Cut(message, "created `copydb_order`.`"); ok {
				order = append(order, strings.TrimSuffix(name, "`"))
			}
		}
		require.Equal(t, []string{"d", "b", "a", "c"}, order)
		require.Contains(t, strings.Join(logger.messages(), "\n"), `TablesToBeCreatedFirst names "nowhere.x", which is not a table that is moved`)
	})
}

// A server may give TIMESTAMP columns a default and ON UPDATE of its own
// (explicit_defaults_for_timestamp=OFF): they are on the target as on the source, whichever does.
func TestCopydbCreatesTimestampsAsOnTheSource(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		explicit := func(source, target string) {
			harness.Exec(t, p.SourceDB, "SET GLOBAL explicit_defaults_for_timestamp = "+source)
			harness.Exec(t, p.TargetDB, "SET GLOBAL explicit_defaults_for_timestamp = "+target)
		}
		defer explicit("ON", "ON")
		for _, sides := range [][2]string{{"ON", "OFF"}, {"OFF", "ON"}} {
			freshSchemas(t, p, "copydb_stamps")
			explicit(sides[0], sides[1])
			harness.Exec(t, p.SourceDB, "CREATE DATABASE copydb_stamps")
			p.In(t, p.SourceDB, "copydb_stamps", "SET SESSION explicit_defaults_for_timestamp = "+sides[0], "SET SESSION sql_mode = ''",
				"CREATE TABLE stamps (id INT PRIMARY KEY, bare TIMESTAMP NOT NULL, second TIMESTAMP NOT NULL, maybe TIMESTAMP NULL,"+
					" own TIMESTAMP NOT NULL DEFAULT '2020-01-01 00:00:00' ON UPDATE CURRENT_TIMESTAMP, unsaid TIMESTAMP)")
			want := definition(t, p.SourceDB, "copydb_stamps", "stamps")
			require.Equal(t, sides[0] == "OFF", strings.Contains(strings.ToLower(strings.Split(want, "\n")[1]), "on update"))
			require.NoError(t, created(t.Context(), copydb.NewFerry(copydbSettings(p, []string{"copydb_stamps"}, nil).config(t))))
			require.Equal(t, want, definition(t, p.TargetDB, "copydb_stamps", "stamps"))
		}
	})
}

// A primary key that MySQL has generated, and hides, is one on the target, too.
func TestCopydbCreatesHiddenKeys(t *testing.T) {
	p := harness.Shared(t, flavours()[0])
	freshSchemas(t, p, "copydb_hidden")
	p.In(t, p.SourceDB, "", "CREATE DATABASE copydb_hidden", "SET sql_generate_invisible_primary_key=ON", "CREATE TABLE copydb_hidden.t (v INT)")
	global(t, p.SourceDB, "show_gipk_in_create_table_and_information_schema", "OFF", "ON")
	require.NoError(t, created(t.Context(), copydb.NewFerry(copydbSettings(p, []string{"copydb_hidden"}, nil).config(t))))
	require.Zero(t, harness.Count(t, p.TargetDB, "copydb_hidden.t WHERE my_row_id > 0"))
}

// alteringLogger alters what was just created.
type alteringLogger struct{ alter func() }

func (l *alteringLogger) Levels() []logrus.Level { return logrus.AllLevels }

func (l *alteringLogger) Fire(entry *logrus.Entry) error {
	if strings.HasPrefix(entry.Message, "created `copydb_default`.`t`") {
		l.alter()
	}
	return nil
}

// What copydb itself has created with another default than the source's is an error, and goes again, as
// far as the account may drop it.
func TestCopydbRefusesAnotherDefault(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		freshSchemas(t, p, "copydb_default")
		harness.Exec(t, p.SourceDB, "CREATE DATABASE copydb_default;\nCREATE TABLE copydb_default.t (id INT PRIMARY KEY, n INT NOT NULL)")
		s := copydbSettings(p, []string{"copydb_default"}, nil)
		documentedAccounts(t, p, s, "copydb_default")
		creating := func() error {
			config := s.config(t)
			logger := logrus.New()
			logger.SetOutput(io.Discard)
			logger.SetLevel(logrus.DebugLevel)
			logger.AddHook(&alteringLogger{alter: func() { harness.Exec(t, p.TargetDB, "ALTER TABLE copydb_default.t ALTER n SET DEFAULT 7") }})
			config.Logger = logger
			err := created(t.Context(), copydb.NewFerry(config))
			require.ErrorAs(t, err, new(*copydb.CreationError))
			require.ErrorContains(t, err, "the default of column n is none on the source and 7 on the target")
			return err
		}
		require.ErrorAs(t, creating(), new(*copydb.RefusedError))
		require.Zero(t, harness.Count(t, p.TargetDB, "information_schema.SCHEMATA WHERE SCHEMA_NAME IN ('copydb_default', '_ghostferry')"))

		harness.Exec(t, p.TargetDB, "REVOKE DROP ON `copydb\\_default`.* FROM "+s["Target"].(settings)["User"].(string))
		err := creating()
		require.ErrorContains(t, err, "dropping `copydb_default`.`t`, which was created before")
		require.ErrorContains(t, err, "grant the account DROP")
		require.False(t, errors.As(err, new(*copydb.RefusedError)))
	})
}
