package integration

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// Changes of rows that stay, of every kind of column, key and batch.
func changesInPlace() []string {
	copyColumns := func(columns ...string) string {
		sets := make([]string, len(columns))
		for i, c := range columns {
			sets[i] = "x." + c + "=y." + c
		}
		return "UPDATE bends x JOIN bends y ON y.id=-9223372036854775808 SET " + strings.Join(sets, ",") + " WHERE x.id="
	}
	return []string{
		"SET SESSION sql_mode='NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone='+00:00'",
		copyColumns("unsigned_", "d", "f", "g", "dt", "t", "dtt", "ts") + "1",
		copyColumns("utf", "latin", "wide", "han", "fixed", "bytes", "padded", "big") + "0",
		copyColumns("utf", "latin", "wide", "han", "fixed", "bytes", "padded", "big", "d") + "3", // too many columns
		"UPDATE bends SET d=NULL, f=NULL, g=NULL, dt=NULL, utf=NULL, big=NULL WHERE id=2",
		`UPDATE bends SET utf='it''s \\ "this"', bytes=X'00270D0A5C22', g=-0.0, f=-0.0, d=-0.5, unsigned_=18446744073709551615, t='-00:00:00.000001' WHERE id=1`,
		"UPDATE marked SET mark='zero', flags='', bits=b'101', y=0 WHERE id=2",
		// Numbers on both sides of zero, one statement.
		"UPDATE numbered SET n=id*7, s=CONCAT('row ', id) WHERE id BETWEEN -20 AND 20",
		"UPDATE numbered SET n=NULL WHERE id IN (-30, 30)",
		// On both sides of 2^63; the time of the change is not changed.
		"UPDATE stamped SET n=n+1, at=at",
		"UPDATE stamped SET n=n+1 WHERE id=3",
		// What a batch leaves as it was, and what it replaces by another row.
		"BEGIN", "UPDATE numbered SET n=1000 WHERE id=25", "UPDATE numbered SET n=25 WHERE id=25", "COMMIT",
		"BEGIN", "DELETE FROM numbered WHERE id=26", "INSERT INTO numbered VALUES (26, 26000, 'again', 1,2,3,4)", "COMMIT",
		"UPDATE numbered SET id=100 WHERE id=27",
		"DELETE FROM numbered WHERE id=28",
		"INSERT INTO numbered VALUES (101, 1, 'new', 1,2,3,4)",
		// More sets of columns than have statements of their own.
		"UPDATE numbered SET a=10 WHERE id=11", "UPDATE numbered SET b=10 WHERE id=12", "UPDATE numbered SET c=10 WHERE id=13", "UPDATE numbered SET d=10 WHERE id=14",
		"UPDATE numbered SET a=10, b=10 WHERE id=15", "UPDATE numbered SET a=10, c=10 WHERE id=16", "UPDATE numbered SET a=10, d=10 WHERE id=17",
		"UPDATE numbered SET b=10, c=10 WHERE id=18", "UPDATE numbered SET b=10, d=10 WHERE id=19", "UPDATE numbered SET c=10, d=10 WHERE id=20",
	}
}

func seedInPlace(t *testing.T, p *harness.Pair) {
	t.Helper()
	p.Create(t, "in_place", append(slices.Clone(bulkValues),
		"CREATE TABLE numbered (id BIGINT NOT NULL PRIMARY KEY, n INT NULL, s VARCHAR(20) NOT NULL, a INT NOT NULL, b INT NOT NULL, c INT NOT NULL, d INT NOT NULL, KEY (n))",
		"CREATE TABLE stamped (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, n INT NOT NULL, at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6))")...)
	seedBendsIn(t, p, "in_place")
	var numbered, stamped []string
	for id := -30; id <= 30; id++ {
		numbered = append(numbered, fmt.Sprintf("(%d,%d,'',1,2,3,4)", id, id))
	}
	for id := range 10 {
		stamped = append(stamped, fmt.Sprintf("(%d,0)", id), fmt.Sprintf("(%d,0)", uint64(1<<63-5+id)))
	}
	p.In(t, p.SourceDB, "in_place",
		"INSERT INTO numbered VALUES "+strings.Join(numbered, ","),
		"INSERT INTO stamped (id, n) VALUES (18446744073709551615,0),"+strings.Join(stamped, ","))
}

// moveAgain runs a move that goes on from where the one before has ended, and returns
// how many updates in place the target was given.
func moveAgain(t *testing.T, p *harness.Pair) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p.In(t, p.TargetDB, "mysql", "SET GLOBAL log_output='TABLE'", "TRUNCATE TABLE general_log", "SET GLOBAL general_log=ON")
	defer p.In(t, p.TargetDB, "mysql", "SET GLOBAL general_log=OFF", "SET GLOBAL log_output='FILE'")
	f := &ghostferry.Ferry{Config: p.Config("in_place")}
	f.SkipTargetVerification = true
	if err := harness.Move(ctx, f, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return len(harness.Rows(t, p.TargetDB, "SELECT 1 FROM mysql.general_log WHERE CONVERT(argument USING utf8mb4) LIKE '%=ELT(INTERVAL(%' AND CONVERT(argument USING utf8mb4) NOT LIKE '%general_log%'"))
}

// Rows that are known to be on the target are changed where they are, and end as on the
// source; when one is not there after all, whole rows are written.
func TestUpdatesInPlace(t *testing.T) {
	onTwoFlavours(t, func(t *testing.T, p *harness.Pair) {
		seedInPlace(t, p)
		if n := moveAgain(t, p); n != 0 {
			t.Errorf("the first run, without changes, made %d updates in place", n)
		}
		p.MustEqual(t, "in_place")

		p.In(t, p.SourceDB, "in_place", changesInPlace()...)
		// bends, numbered and stamped at least
		if n := moveAgain(t, p); n < 3 {
			t.Errorf("%d updates in place were made", n)
		}
		p.MustEqual(t, "in_place")

		p.In(t, p.TargetDB, "in_place", "DELETE FROM numbered WHERE id=5", "UPDATE numbered SET a=77 WHERE id=6")
		p.In(t, p.SourceDB, "in_place", "UPDATE numbered SET n=n+1 WHERE id BETWEEN 1 AND 20")
		if n := moveAgain(t, p); n == 0 {
			t.Error("no update in place was tried")
		}
		p.MustEqual(t, "in_place")
	})
}
