package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// following is a run that has copied its rows and follows the source.
type following struct {
	t    *testing.T
	p    *harness.Pair
	f    *ghostferry.Ferry
	ran  chan error
	stop context.CancelFunc
}

const eventSchema = "refused"

// follow moves the table moved (id, v, j, blob b) of the schema, with a table spare
// that stays, and returns when its one row is on the target.
func follow(t *testing.T, p *harness.Pair) *following {
	t.Helper()
	return followWith(t, p, func(*ghostferry.Config) {})
}

// followWith is follow with other settings.
func followWith(t *testing.T, p *harness.Pair, set func(*ghostferry.Config)) *following {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	rollbackPrepared(t, p)
	p.Create(t, eventSchema,
		"CREATE TABLE moved (id INT NOT NULL PRIMARY KEY, v INT NULL, w INT NULL, j JSON NULL, b BLOB NULL, name VARCHAR(20) NULL)",
		"CREATE TABLE spare LIKE moved",
		"CREATE TABLE parts (id INT NOT NULL PRIMARY KEY, v INT NULL) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (100), PARTITION p1 VALUES LESS THAN MAXVALUE)",
		"CREATE TABLE mine (id INT) ENGINE=MyISAM",
		"CREATE TABLE plain (id INT NOT NULL PRIMARY KEY, v INT NULL)",
		"CREATE VIEW look AS SELECT * FROM moved",
	)
	p.In(t, p.SourceDB, eventSchema,
		`INSERT INTO moved VALUES (1,1,1,'{"a": 1, "b": "text"}','blob','one'), (2,2,2,NULL,NULL,'two')`, "INSERT INTO spare (id) VALUES (7)", "INSERT INTO parts VALUES (1,1)",
		"DROP SCHEMA IF EXISTS elsewhere", "CREATE SCHEMA elsewhere", "CREATE TABLE elsewhere.moved (id INT PRIMARY KEY, v INT)")
	c := p.Config(eventSchema)
	c.TableFilter = tables{schema: eventSchema, names: []string{"moved", "parts"}}
	c.AutomaticCutover = false
	set(c)
	r := &following{t: t, p: p, f: &ghostferry.Ferry{Config: c}, ran: make(chan error, 1), stop: stop}
	t.Cleanup(stop)
	c.VerifierType = ""
	copied := make(chan struct{})
	mustStart(t, ctx, r.f)
	r.f.DataIterator.AddDoneListener(func() error { close(copied); return nil })
	go func() { r.ran <- r.f.RunContext(ctx) }()
	select {
	case <-copied:
	case err := <-r.ran:
		t.Fatal(err)
	}
	r.p.In(t, p.SourceDB, eventSchema, "INSERT INTO moved (id) VALUES (1000)")
	r.arrives(1000)
	return r
}

// tables is a TableFilter of some tables of one schema.
type tables struct {
	schema string
	names  []string
}

func (f tables) ApplicableDatabases([]string) ([]string, error) { return []string{f.schema}, nil }

func (f tables) ApplicableTables(all []*ghostferry.TableSchema) (picked []*ghostferry.TableSchema, err error) {
	for _, t := range all {
		if slices.Contains(f.names, t.Name) {
			picked = append(picked, t)
		}
	}
	return picked, nil
}

// arrives waits until a row of the table moved is on the target.
func (r *following) arrives(id int) {
	r.t.Helper()
	for {
		if harness.Count(r.t, r.p.TargetDB, fmt.Sprintf("%s.moved WHERE id=%d", eventSchema, id)) == 1 {
			return
		}
		select {
		case err := <-r.ran:
			r.t.Fatalf("the run ended: %v", err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// mustGoOn fails unless later changes still reach the target and the run ends well.
func (r *following) mustGoOn() {
	r.t.Helper()
	r.p.In(r.t, r.p.SourceDB, eventSchema, "INSERT INTO moved (id) VALUES (2000)")
	r.arrives(2000)
	r.f.AllowCutover()
	if err := r.f.WaitUntilRowCopyIsCompleteContext(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	if err := r.f.FlushBinlogAndStopStreamingContext(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	if err := <-r.ran; err != nil {
		r.t.Fatal(err)
	}
	if err := r.f.Close(); err != nil {
		r.t.Fatal(err)
	}
}

// Where a statement does not name the table that it may have changed, the error names both.
const bothMoved = "perhaps of " + eventSchema + ".moved, " + eventSchema + ".parts"

// mustRefuse fails unless the run ended with an UnsupportedEventError that names the
// table (none when empty), what it is in these words, where it stands and what to do.
func (r *following) mustRefuse(table string, what ...string) {
	r.t.Helper()
	r.mustRefuseAny([]string{table}, what...)
}

// mustRefuseAny is mustRefuse with any one of some tables.
func (r *following) mustRefuseAny(tables []string, what ...string) {
	r.t.Helper()
	defer r.stop()
	err := <-r.ran
	var refused *ghostferry.UnsupportedEventError
	if !errors.As(err, &refused) {
		r.t.Fatalf("the run ended with: %v", err)
	}
	if !slices.Contains(tables, refused.Table) {
		r.t.Errorf("the error names table %q, not one of %q: %v", refused.Table, tables, err)
	}
	for _, words := range what {
		if !strings.Contains(refused.What, words) || !strings.Contains(err.Error(), words) {
			r.t.Errorf("the error does not say %q: %v", words, err)
		}
	}
	if refused.Coordinate.Name == "" || refused.Coordinate.Pos == 0 || refused.Remedy == "" || !strings.Contains(err.Error(), refused.Remedy) {
		r.t.Errorf("the error lacks a place or a remedy: %v", err)
	}
	// Nothing at or after the event was executed.
	if n := harness.Count(r.t, r.p.TargetDB, eventSchema+".moved WHERE id >= 3000"); n != 0 {
		r.t.Errorf("%d changes after the event were executed", n)
	}
	if got := r.f.StateTracker.Serialize(nil, nil).LastWrittenBinlogPosition; got.Compare(refused.Coordinate) > 0 {
		r.t.Errorf("the position %s is past the event at %s", got, refused.Coordinate)
	}
}

// F21, F22, F23, F24: a change that does not reach the target as rows ends the run before anything after it
// is executed: definitions, statements, partial images.
func TestF21ToF24RefusedEvents(t *testing.T) {
	const moved = eventSchema + ".moved"
	cases := []struct {
		name       string
		statements []string
		what       string // how the refusal names it
		only       string // flavour
	}{
		{"add column", []string{"ALTER TABLE moved ADD COLUMN x INT"}, "ALTER TABLE", ""},
		{"rename column", []string{"ALTER TABLE moved RENAME COLUMN v TO x"}, "ALTER TABLE", ""},
		{"same count of columns", []string{"ALTER TABLE moved DROP COLUMN v, ADD COLUMN y INT"}, "ALTER TABLE", ""},
		{"type", []string{"ALTER TABLE moved MODIFY v VARCHAR(20)"}, "ALTER TABLE", ""},
		{"order", []string{"ALTER TABLE moved MODIFY v INT AFTER w"}, "ALTER TABLE", ""},
		{"from another schema", []string{"USE elsewhere", "ALTER TABLE " + eventSchema + ".moved MODIFY v INT AFTER w"}, "ALTER TABLE", ""},
		{"quoted and commented", []string{"/* a */ ALTER /* b */ TABLE -- c\n `" + eventSchema + "` . `moved` # d\n MODIFY v INT AFTER w"}, "ALTER TABLE", ""},
		{"versioned comment", []string{"ALTER TABLE /*!50000 moved */ MODIFY v INT AFTER w"}, "ALTER TABLE", ""},
		{"ANSI quotes", []string{"SET sql_mode='ANSI_QUOTES'", `ALTER TABLE "moved" RENAME COLUMN v TO x`}, "ALTER TABLE", ""},
		{"index", []string{"CREATE UNIQUE INDEX x ON moved (v)"}, "CREATE INDEX", ""},
		{"truncate", []string{"TRUNCATE TABLE moved"}, "TRUNCATE", ""},
		{"truncate in short", []string{"TRUNCATE moved"}, "TRUNCATE", ""},
		{"drop", []string{"DROP TABLE moved"}, "DROP TABLE", ""},
		{"drop of several", []string{"DROP TABLE spare, moved"}, "DROP TABLE", ""},
		{"drop of the schema", []string{"DROP DATABASE " + eventSchema, "CREATE DATABASE " + eventSchema, "USE " + eventSchema, "CREATE TABLE moved (id INT NOT NULL PRIMARY KEY, v INT NULL, w INT NULL, j JSON NULL, b BLOB NULL, name VARCHAR(20) NULL)"}, "DROP DATABASE", ""},
		{"swap", []string{"RENAME TABLE moved TO gone, spare TO moved"}, "RENAME TABLE", ""},
		{"rename by alter", []string{"ALTER TABLE moved RENAME TO gone", "ALTER TABLE spare RENAME TO moved"}, "ALTER TABLE", ""},
		{"created anew", []string{"CREATE OR REPLACE TABLE moved (id INT NOT NULL PRIMARY KEY, v INT NULL, w INT NULL, j JSON NULL, b BLOB NULL, name VARCHAR(20) NULL)"}, "CREATE OR REPLACE", "mariadb"},
		{"schema created anew", []string{"CREATE OR REPLACE DATABASE " + eventSchema, "USE " + eventSchema, "CREATE TABLE moved (id INT NOT NULL PRIMARY KEY, v INT NULL, w INT NULL, j JSON NULL, b BLOB NULL, name VARCHAR(20) NULL)"}, "CREATE OR REPLACE", "mariadb"},
		{"set for a definition", []string{"SET STATEMENT lock_wait_timeout=10 FOR ALTER TABLE moved MODIFY v INT AFTER w"}, "ALTER TABLE", "mariadb"},
		{"analyzed statement", []string{"SET binlog_format='STATEMENT'", "ANALYZE FORMAT=JSON DELETE FROM moved WHERE id=1"}, "(ANALYZE)", "mariadb"},
		{"statement", []string{"SET binlog_format='STATEMENT'", "UPDATE moved SET v=5"}, "(UPDATE)", ""},
		{"insert by statement", []string{"SET binlog_format='STATEMENT'", "INSERT INTO moved (id,v) SELECT id+3000, v FROM spare ORDER BY id"}, "(INSERT)", ""},
		{"statement, ANSI quotes", []string{"SET binlog_format='STATEMENT', sql_mode='ANSI_QUOTES'", `UPDATE "moved" SET v=5`}, "(UPDATE)", ""},
		{"statement on a view", []string{"SET binlog_format='STATEMENT'", "UPDATE look SET v=5"}, "(UPDATE)", ""},
		{"statement in a function", []string{"CREATE FUNCTION change_it() RETURNS INT DETERMINISTIC MODIFIES SQL DATA BEGIN UPDATE moved SET v=6; RETURN 1; END", "SET binlog_format='STATEMENT'", "SELECT change_it()"}, "(SELECT)", ""},
		{"statement with a trigger", []string{"CREATE TRIGGER on_spare AFTER INSERT ON spare FOR EACH ROW UPDATE moved SET v=7", "SET binlog_format='STATEMENT'", "INSERT INTO spare (id) VALUES (8)"}, "(INSERT)", ""},
		{"load data by statement", []string{"SET binlog_format='STATEMENT'", "LOAD DATA LOCAL INFILE 'Reader::" + eventSchema + "' INTO TABLE moved (id, v)"}, "(LOAD)", ""},
		{"rollback to a savepoint", []string{"START TRANSACTION", "UPDATE moved SET v=3", "SAVEPOINT s", "UPDATE moved SET v=4", "INSERT INTO mine VALUES (2)", "UPDATE moved SET v=5", "ROLLBACK TO s", "COMMIT"}, "a rollback to savepoint `s`", "mariadb"},
		{"minimal update", []string{"SET binlog_row_image='MINIMAL'", "UPDATE moved SET v=5 WHERE id=1"}, "a row image without column", ""},
		{"minimal insert", []string{"SET binlog_row_image='MINIMAL'", "INSERT INTO moved (id,v) VALUES (3,3)"}, "a row image without column", ""},
		{"minimal delete", []string{"SET binlog_row_image='MINIMAL'", "DELETE FROM moved WHERE id=1"}, "a row image without column", ""},
		{"image without blobs", []string{"SET binlog_row_image='NOBLOB'", "UPDATE moved SET v=5 WHERE id=1"}, "a row image without column", ""},
		{"partial JSON", []string{"SET binlog_row_value_options='PARTIAL_JSON'", "UPDATE moved SET j=JSON_SET(j,'$.a',9) WHERE id=1"}, "a partial JSON update", "mysql"},
		{"partial JSON, no document", []string{"SET binlog_row_value_options='PARTIAL_JSON'", "UPDATE parts SET v=5"}, "a partial JSON update", "mysql"},
	}
	mysql.RegisterReaderHandler(eventSchema, func() io.Reader { return strings.NewReader("3002\t5\n") })
	t.Cleanup(func() { mysql.DeregisterReaderHandler(eventSchema) })
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		global(t, p.SourceDB, "local_infile", "ON", "OFF")
		for _, c := range cases {
			if c.only != "" && c.only != string(p.Flavour) {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				r := follow(t, p)
				p.In(t, p.SourceDB, eventSchema, c.statements...)
				_, _ = p.SourceDB.Exec("INSERT INTO " + moved + " (id) VALUES (3001)") // refused by some definitions
				switch c.name {                                                        // statements that do not name the table
				case "statement on a view", "statement in a function", "statement with a trigger":
					r.mustRefuse("", c.what, bothMoved)
				case "rollback to a savepoint":
					r.mustRefuse("", c.what)
				case "partial JSON, no document":
					r.mustRefuse(eventSchema+".parts", c.what)
				case "drop of the schema", "schema created anew": // whichever table is looked at first
					r.mustRefuseAny([]string{moved, eventSchema + ".parts"}, c.what)
				default:
					r.mustRefuse(moved, c.what)
				}
			})
		}
		t.Run("exchanged partition", func(t *testing.T) {
			r := follow(t, p)
			p.In(t, p.SourceDB, eventSchema, "ALTER TABLE parts EXCHANGE PARTITION p0 WITH TABLE plain")
			r.mustRefuse(eventSchema+".parts", "ALTER TABLE")
		})
	})
}

// What does not change a moved table does not stop a run.
func TestF21IgnoredEvents(t *testing.T) {
	harmless := [][]string{
		{"ALTER TABLE spare ADD COLUMN x INT", "DROP TABLE spare", "CREATE TABLE spare LIKE moved"},
		{"CREATE TABLE copy LIKE moved", "DROP TABLE copy"},
		{"CREATE TABLE copy (PRIMARY KEY (id)) SELECT * FROM moved", "INSERT INTO copy (id) VALUES (55)", "DROP TABLE copy"},
		{"CREATE OR REPLACE VIEW glance AS SELECT id FROM moved", "ALTER VIEW glance AS SELECT v FROM moved", "DROP VIEW glance"},
		{"CREATE PROCEDURE p() UPDATE moved SET v=v+1 WHERE id=1", "CALL p()", "DROP PROCEDURE p"},
		{"CREATE TRIGGER tr BEFORE INSERT ON moved FOR EACH ROW SET NEW.v=77", "DROP TRIGGER tr"},
		{"CREATE EVENT e ON SCHEDULE EVERY 1 YEAR DO DELETE FROM moved", "DROP EVENT e"},
		{"ANALYZE TABLE moved"}, {"OPTIMIZE TABLE moved"}, {"FLUSH TABLES moved"},
		{"DROP USER IF EXISTS harmless", "CREATE USER harmless IDENTIFIED BY 'A long pass word, 7!'", "GRANT SELECT ON " + eventSchema + ".moved TO harmless", "DROP USER harmless"},
		{"TRUNCATE TABLE elsewhere.moved"}, {"USE elsewhere", "ALTER TABLE moved ADD COLUMN x INT"},
		{"USE elsewhere", "SET binlog_format='STATEMENT'", "INSERT INTO moved (id,v) VALUES (1,1)"},
		{"DROP DATABASE elsewhere"},
		{"CREATE TABLE Moved LIKE moved", "ALTER TABLE Moved ADD x INT", "TRUNCATE Moved", "DROP TABLE Moved"}, // names differ by case
		{"CREATE DATABASE REFUSED", "CREATE TABLE REFUSED.moved (id INT PRIMARY KEY, v INT)", "USE REFUSED", "SET binlog_format='STATEMENT'", "INSERT INTO moved VALUES (1,1)", "TRUNCATE moved", "DROP DATABASE REFUSED"},
		{"CREATE TEMPORARY TABLE temp LIKE moved", "INSERT INTO temp SELECT * FROM moved", "DROP TEMPORARY TABLE temp"},
		{"START TRANSACTION", "UPDATE moved SET v=v+1", "SAVEPOINT s", "DELETE FROM moved", "ROLLBACK TO s", "COMMIT"},
		{"START TRANSACTION", "DELETE FROM moved", "ROLLBACK"},
		{"XA START 'x'", "INSERT INTO spare (id) VALUES (99)", "XA END 'x'", "XA PREPARE 'x'", "XA COMMIT 'x'"},
		{"XA START 'x'", "INSERT INTO spare (id) VALUES (100)", "XA END 'x'", "XA PREPARE 'x'", "XA ROLLBACK 'x'"},
		{"FLUSH BINARY LOGS"},
		{"INSERT INTO mine VALUES (1)", "START TRANSACTION", "UPDATE moved SET v=3", "INSERT INTO mine VALUES (2)", "COMMIT"},
	}
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		r := follow(t, p)
		harmless := harmless
		if p.Flavour == "mariadb" {
			harmless = append(slices.Clone(harmless),
				[]string{"SET STATEMENT lock_wait_timeout=10 FOR CREATE TABLE copy LIKE moved", "DROP TABLE copy"},
				[]string{"SET STATEMENT max_statement_time=60 FOR FLUSH TABLES moved"}, []string{"ANALYZE LOCAL TABLE moved"},
				[]string{"CREATE OR REPLACE DATABASE elsewhere"})
		}
		for _, statements := range harmless {
			if strings.HasPrefix(statements[0], "INSERT INTO mine") && p.Setting.Name == "mysql-gtid" {
				continue // refused by enforce_gtid_consistency
			}
			p.In(t, p.SourceDB, eventSchema, statements...)
			if t.Failed() {
				return
			}
			r.still(statements)
		}
		r.mustGoOn()
		for _, table := range []string{"moved", "parts"} {
			mustHaveEqualRows(t, p, eventSchema+"."+table)
		}
	})
}

// still fails when the statements have ended the run.
func (r *following) still(statements []string) {
	r.t.Helper()
	r.p.In(r.t, r.p.SourceDB, eventSchema, "REPLACE INTO moved (id) VALUES (1500)")
	r.arrives(1500)
	r.p.In(r.t, r.p.SourceDB, eventSchema, "DELETE FROM moved WHERE id=1500")
	for harness.Count(r.t, r.p.TargetDB, eventSchema+".moved WHERE id=1500") > 0 {
		select {
		case err := <-r.ran:
			r.t.Fatalf("%v: the run ended: %v", statements, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// mustHaveEqualRows compares a small table of both sides as text.
func mustHaveEqualRows(t *testing.T, p *harness.Pair, table string) {
	t.Helper()
	source, target := harness.Rows(t, p.SourceDB, "SELECT * FROM "+table+" ORDER BY 1"), harness.Rows(t, p.TargetDB, "SELECT * FROM "+table+" ORDER BY 1")
	if !slices.Equal(source, target) {
		t.Errorf("%s differs:\n%s\n\n%s", table, strings.Join(source, "\n"), strings.Join(target, "\n"))
	}
}

// F25: transactions that the log holds compressed arrive like others.
func TestF25CompressedLog(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		on := []string{"SET SESSION binlog_transaction_compression=ON"}
		if p.IsMariaDB() {
			on = []string{"SET GLOBAL log_bin_compress_min_len=10", "SET GLOBAL log_bin_compress=ON"}
			defer p.In(t, p.SourceDB, "", "SET GLOBAL log_bin_compress=OFF")
		}
		r := follow(t, p)
		p.In(t, p.SourceDB, eventSchema, append(on,
			"INSERT INTO moved (id,v,b,name) VALUES (10,1,REPEAT('x',5000),'ten'),(11,2,REPEAT('y',5000),'eleven'),(12,2,NULL,NULL)",
			"START TRANSACTION", "UPDATE moved SET v=v+1, b=REPEAT('z',20000) WHERE id=10", "UPDATE moved SET id=13 WHERE id=11", "DELETE FROM moved WHERE id=12", "INSERT INTO spare (id) VALUES (12)", "COMMIT",
			"INSERT INTO moved (id,b) WITH RECURSIVE n (i) AS (SELECT 100 UNION ALL SELECT i+1 FROM n WHERE i < 400) SELECT i, REPEAT(CHAR(65+i%20),3000) FROM n",
		)...)
		r.mustGoOn()
		mustHaveEqualRows(t, p, eventSchema+".moved")
	})
}
