package binlog

import (
	"math/rand/v2"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/google/uuid"
)

const sourceA, sourceB = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"

// Transactions in any order give the same set as the replication library's.
func TestGTIDSetAgreesWithTheLibrary(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		ours, err := ParseGTIDSet(sourceA+":5-9:20", false)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := mysql.ParseMysqlGTIDSet(sourceA + ":5-9:20")
		if err != nil {
			t.Fatal(err)
		}
		for range random.IntN(60) {
			sid := uuid.MustParse([]string{sourceA, sourceB}[random.IntN(2)])
			n := random.Int64N(30) + 1
			ours.Add(GTID{SID: sid, Number: n})
			theirs.(*mysql.MysqlGTIDSet).AddGTID(sid, n)
		}
		again, err := mysql.ParseMysqlGTIDSet(ours.String())
		if err != nil {
			t.Fatal(err)
		}
		if !again.Equal(theirs) {
			t.Fatalf("%s is not %s", ours, theirs)
		}
		parsed, err := ParseGTIDSet(ours.String(), false)
		if err != nil || parsed.String() != ours.String() {
			t.Fatalf("%s read back as %s (%v)", ours, parsed, err)
		}
	}
}

func TestGTIDSetForms(t *testing.T) {
	tagged := sourceA + ":1-3," + sourceA + ":green:7"
	for text, mariaDB := range map[string]bool{"": false, sourceA + ":1": false, tagged: false, "0-1-5,2-3-9": true} {
		s, err := ParseGTIDSet(text, mariaDB)
		if err != nil || s.String() != text {
			t.Errorf("%q read as %q (%v)", text, s, err)
		}
	}
	joined, err := ParseGTIDSet(sourceA+":1-3:green:7-8:10, \n"+sourceB+":1", false)
	if want := sourceA + ":1-3," + sourceA + ":green:7-8:10," + sourceB + ":1"; err != nil || joined.String() != want {
		t.Errorf("got %q (%v), want %q", joined, err, want)
	}
	for _, bad := range []string{"x:1", sourceA + ":0", sourceA + ":5-1", sourceA + "::", "0-1"} {
		if s, err := ParseGTIDSet(bad, bad == "0-1"); err == nil {
			t.Errorf("%q was read as %q", bad, s)
		}
	}
	maria, _ := ParseGTIDSet("0-1-5", true)
	maria.Add(GTID{MariaDB: true, Domain: 0, Server: 2, Number: 6})
	if got := maria.With(GTID{MariaDB: true, Domain: 1, Server: 2, Number: 1}); maria.String() != "0-2-6" || got != "0-2-6,1-2-1" {
		t.Errorf("got %q and %q", maria, got)
	}
}

func TestGTIDSetIntersect(t *testing.T) {
	for _, c := range []struct{ a, b, want string }{
		{sourceA + ":1-94:96-130", sourceA + ":1-100", sourceA + ":1-94:96-100"},
		{sourceA + ":1-3:7-9," + sourceB + ":1-5", sourceB + ":4-9," + sourceA + ":2-8", sourceA + ":2-3:7-8," + sourceB + ":4-5"},
		{sourceA + ":1-3:green:1-4", sourceA + ":green:3-9", sourceA + ":green:3-4"},
		{sourceA + ":1-3", sourceB + ":1-3", ""},
		{sourceA + ":1-3", "", ""},
	} {
		a, err := ParseGTIDSet(c.a, false)
		b, err2 := ParseGTIDSet(c.b, false)
		if err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		for _, got := range []*GTIDSet{a.Intersect(b), b.Intersect(a)} {
			want, _ := ParseGTIDSet(c.want, false)
			if !got.Contains(want) || !want.Contains(got) {
				t.Errorf("%s and %s have %s in common, want %s", a, b, got, c.want)
			}
		}
	}
}

func BenchmarkGTIDSetAddNext(b *testing.B) {
	s, _ := ParseGTIDSet(sourceB+":1-9:11-20:30-40", false)
	sid := uuid.MustParse(sourceA)
	for n := int64(1); b.Loop(); n++ {
		s.Add(GTID{SID: sid, Number: n})
	}
}
