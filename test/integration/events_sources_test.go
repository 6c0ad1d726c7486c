package integration

import (
	"strings"
	"testing"

	"github.com/ghostferry-go/ghostferry/test/harness"
)

// Transactions whose GTIDs have a tag are streamed, kept in the checkpoint and in the
// state, and gone on from.
func TestTaggedTransactions(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	for _, from := range []string{"checkpoint", "state"} {
		t.Run(from, func(t *testing.T) {
			r := follow(t, p)
			in := func(statements ...string) {
				t.Helper()
				p.In(t, p.SourceDB, eventSchema, statements...)
			}
			longest := "a" + strings.Repeat("z", 31)
			in("SET gtid_next='AUTOMATIC:green'", "INSERT INTO moved (id,v) VALUES (10,1),(11,1)", "UPDATE moved SET v=2 WHERE id=10",
				"SET gtid_next='AUTOMATIC:"+longest+"'", "INSERT INTO moved (id,v) VALUES (12,1)", "SET gtid_next='AUTOMATIC'", "UPDATE moved SET v=3 WHERE id=12")
			in(append([]string{"SET gtid_next='AUTOMATIC:xa'"}, xaGroup("'tagged'", "INSERT INTO moved (id) VALUES (13)")...)...)
			r.marker(1001)
			state := r.interrupt()
			if !strings.Contains(state, ":green:") || !strings.Contains(state, longest) {
				t.Errorf("the state lacks a tag: %s", state)
			}
			if from == "checkpoint" {
				state = ""
			}
			in("SET gtid_next='AUTOMATIC:green'", "DELETE FROM moved WHERE id=11", "UPDATE moved SET id=20 WHERE id=10", "SET gtid_next='AUTOMATIC:xa'", "XA COMMIT 'tagged'")
			r = r.again(state)
			in("SET gtid_next='AUTOMATIC:new', SESSION binlog_transaction_compression=ON", "INSERT INTO moved (id) VALUES (21)")
			r.mustGoOn()
			mustHaveEqualRows(t, p, eventSchema+".moved")
		})
	}
}

// Rows that triggers of the source make or change arrive as the log has them; the target
// has no triggers.
func TestRowsMadeByTriggers(t *testing.T) {
	onSomeSettings(t, func(t *testing.T, p *harness.Pair) {
		r := follow(t, p)
		in := func(statements ...string) {
			t.Helper()
			p.In(t, p.SourceDB, eventSchema, statements...)
		}
		in("CREATE TRIGGER made AFTER INSERT ON parts FOR EACH ROW INSERT INTO moved (id,v) VALUES (NEW.id+500, NEW.v)",
			"CREATE TRIGGER changed BEFORE INSERT ON moved FOR EACH ROW SET NEW.w=IFNULL(NEW.v,0)+7",
			"CREATE TRIGGER removed AFTER DELETE ON spare FOR EACH ROW DELETE FROM moved WHERE id=OLD.id",
			"INSERT INTO parts VALUES (20,2),(120,3)", "REPLACE INTO parts VALUES (21,4)", "INSERT INTO moved (id,v) VALUES (30,1),(31,NULL)", "INSERT INTO spare (id) VALUES (30)", "DELETE FROM spare WHERE id=30")
		r.mustGoOn()
		for _, table := range []string{"moved", "parts"} {
			mustHaveEqualRows(t, p, eventSchema+"."+table)
		}
		if n := harness.Count(t, p.TargetDB, eventSchema+".moved WHERE id IN (520,620,521) AND w=v+7"); n != 3 {
			t.Errorf("%d of 3 rows that a trigger made are on the target", n)
		}
	})
}

// Transactions that were prepared before the source died are decided by other sessions of
// the source that came back: under the eyes of the run, and while there is none.
func TestXAAcrossARestartOfTheSource(t *testing.T) {
	onOneSetting(t, func(t *testing.T, p *harness.Pair) {
		r := follow(t, p)
		in := func(statements ...string) {
			t.Helper()
			p.In(t, p.SourceDB, eventSchema, statements...)
		}
		restart := func() {
			t.Helper()
			if err := p.Source.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := p.Source.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		in(xaGroup("'kept'", "INSERT INTO moved (id,v) VALUES (20,1)", "UPDATE moved SET v=9 WHERE id=1")...)
		in(xaGroup("'dropped'", "INSERT INTO moved (id) VALUES (21)", "DELETE FROM moved WHERE id=2")...)
		in(xaGroup("'later'", "INSERT INTO moved (id) VALUES (22)")...)
		in(xaGroup("'never'", "INSERT INTO moved (id) VALUES (23)")...)
		r.marker(1001)
		restart()
		in("XA COMMIT 'kept'", "XA ROLLBACK 'dropped'", "UPDATE moved SET v=v+1 WHERE id=1", "UPDATE moved SET v=v+1 WHERE id=2", "UPDATE moved SET v=v+1 WHERE id=20")
		r.marker(1002)
		if got := r.target("SELECT id, v FROM refused.moved WHERE id IN (1,2,20,21,22,23) ORDER BY id"); got != `"1"|"10"|"2"|"3"|"20"|"2"|` {
			t.Errorf("the target has %s", got)
		}
		r.interrupt()
		restart()
		in("XA COMMIT 'later'", "XA ROLLBACK 'never'")
		r = r.again("")
		r.mustGoOn()
		mustHaveEqualRows(t, p, eventSchema+".moved")
	})
}
