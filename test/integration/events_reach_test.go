package integration

import (
	"testing"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// F23: a change by statement from another schema that reaches a moved table without naming it,
// by a trigger, a view or a function there, ends the run; MariaDB's log does not tell what it
// changed, and the definition may be gone when the stream comes to it.
func TestF23StatementsFromOtherSchemas(t *testing.T) {
	const moved = eventSchema + ".moved"
	statement := "SET binlog_format='STATEMENT'"
	kinds := map[string]string{ // how the refusals name the statements
		"trigger": "(INSERT)", "trigger, gone": "DROP TRIGGER", "table, gone": "DROP TABLE", "ANSI quotes": "(INSERT)", "view": "(UPDATE)", "function": "(SELECT)", "view of views": "(DELETE)",
		"created of a function": "(CREATE", "created of a view": "(CREATE", "trigger, function": "(INSERT)",
	}
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		for name, statements := range map[string][]string{
			"trigger":               {"CREATE TRIGGER tr AFTER INSERT ON other FOR EACH ROW UPDATE " + moved + " SET v=7", statement, "INSERT INTO other VALUES (1)"},
			"trigger, gone":         {"CREATE TRIGGER tr AFTER INSERT ON other FOR EACH ROW UPDATE " + moved + " SET v=7", statement, "INSERT INTO other VALUES (1)", "DROP TRIGGER tr"},
			"table, gone":           {"CREATE TRIGGER tr AFTER INSERT ON other FOR EACH ROW UPDATE " + moved + " SET v=7", statement, "INSERT INTO other VALUES (1)", "DROP TABLE other"},
			"ANSI quotes":           {"SET sql_mode='ANSI_QUOTES'", `CREATE TRIGGER tr AFTER INSERT ON other FOR EACH ROW UPDATE "` + eventSchema + `"."moved" SET v=7`, statement, "INSERT INTO other VALUES (1)"},
			"view":                  {"CREATE VIEW look AS SELECT * FROM " + moved, statement, "UPDATE look SET v=5"},
			"function":              {"CREATE FUNCTION f() RETURNS INT DETERMINISTIC MODIFIES SQL DATA BEGIN UPDATE " + moved + " SET v=6; RETURN 1; END", statement, "SELECT f()"},
			"view of views":         {"CREATE VIEW look AS SELECT * FROM " + moved, "CREATE VIEW glance AS SELECT * FROM look", statement, "DELETE FROM glance WHERE id=1"},
			"created of a function": {"CREATE FUNCTION f() RETURNS INT DETERMINISTIC MODIFIES SQL DATA BEGIN UPDATE " + moved + " SET v=6; RETURN 1; END", statement, "CREATE TABLE x SELECT f() AS a"},
			"created of a view":     {"USE " + eventSchema, "CREATE FUNCTION f() RETURNS INT DETERMINISTIC MODIFIES SQL DATA BEGIN UPDATE moved SET v=6; RETURN 1; END", "CREATE VIEW glance AS SELECT f() AS a", statement, "CREATE TEMPORARY TABLE x SELECT * FROM glance"},
			"trigger, function":     {"CREATE FUNCTION f() RETURNS INT DETERMINISTIC MODIFIES SQL DATA BEGIN UPDATE " + moved + " SET v=6; RETURN 1; END", "CREATE TRIGGER tr BEFORE INSERT ON other FOR EACH ROW SET NEW.id=f()", statement, "INSERT INTO other VALUES (1)"},
		} {
			if !p.IsMariaDB() && name != "trigger" && name != "view" {
				continue // MySQL's log tells
			}
			t.Run(name, func(t *testing.T) {
				r := follow(t, p)
				statements := append([]string{"USE elsewhere", "CREATE TABLE other (id INT PRIMARY KEY)"}, statements...)
				p.In(t, p.SourceDB, eventSchema, append(statements, "INSERT INTO "+moved+" (id) VALUES (3001)")...)
				r.mustRefuse("", kinds[name], bothMoved)
			})
		}
		harmless := [][]string{
			{"CREATE FUNCTION f() RETURNS INT DETERMINISTIC BEGIN RETURN 1; END", statement, "CREATE TABLE x SELECT f() AS a", "CREATE TABLE copy SELECT * FROM " + moved, "CREATE TEMPORARY TABLE y SELECT * FROM copy"},
			{"USE " + eventSchema, statement, "CREATE TABLE copy SELECT * FROM moved", "DROP TABLE copy"},
			{"CREATE TABLE a (id INT PRIMARY KEY)", "CREATE TABLE b (id INT PRIMARY KEY)", "CREATE TRIGGER tr AFTER INSERT ON a FOR EACH ROW INSERT INTO b VALUES (NEW.id)",
				"CREATE VIEW look AS SELECT * FROM " + moved, "CREATE VIEW a_too AS SELECT * FROM a", statement, "INSERT INTO a_too VALUES (1)", "UPDATE b SET id=id+1"},
			{statement, "CREATE TABLE short (id INT PRIMARY KEY)", "INSERT INTO short VALUES (1)", "DROP TABLE short"},
			{"CREATE DATABASE brief", "CREATE TABLE brief.t (id INT PRIMARY KEY)", "USE brief", statement, "INSERT INTO t VALUES (1)", "DROP DATABASE brief"},
		}
		t.Run("harmless", func(t *testing.T) {
			r := follow(t, p)
			for _, statements := range harmless {
				p.In(t, p.SourceDB, "elsewhere", statements...)
				r.still(statements)
			}
			r.mustGoOn()
			mustHaveEqualRows(t, p, moved)
		})
	})
}

// What the account may not see cannot be shown to be harmless.
func TestF23StatementsOfWhatTheAccountCannotSee(t *testing.T) {
	p := harness.Shared(t, flavours()[1])
	const user = "seer"
	p.In(t, p.SourceDB, "", "DROP USER IF EXISTS "+user, "CREATE USER "+user+" IDENTIFIED BY 'secret'",
		"GRANT SELECT, TRIGGER, REPLICATION SLAVE, BINLOG MONITOR ON *.* TO "+user)
	statements := []string{"USE elsewhere", "SET binlog_format='STATEMENT'", "REPLACE INTO moved (id,v) VALUES (1,1)"}
	for _, sees := range []bool{false, true} {
		r := followWith(t, p, func(c *ghostferry.Config) { c.Source.User, c.Source.Pass = user, "secret" })
		p.In(t, p.SourceDB, "", statements...)
		if sees {
			r.mustGoOn()
			continue
		}
		p.In(t, p.SourceDB, eventSchema, "INSERT INTO moved (id) VALUES (3001)")
		r.mustRefuse("", "a change by statement (REPLACE) in schema `elsewhere`, which may reach a moved table by a view, trigger or routine that the account cannot see", bothMoved)
		p.In(t, p.SourceDB, "", "GRANT SHOW VIEW ON *.* TO "+user)
	}
	p.In(t, p.SourceDB, "", "DROP USER "+user)
}
