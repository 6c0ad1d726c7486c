package binlog

import (
	"slices"
	"testing"
)

// Which definitions change where names lead, and which names they are about.
func TestRedefines(t *testing.T) {
	for _, c := range []struct {
		text      string
		redefines bool
		adds      bool
		names     []string
	}{
		{"CREATE VIEW V AS SELECT * FROM t", true, true, []string{"v"}},
		{"CREATE OR REPLACE VIEW e.v AS SELECT 1", true, false, []string{"v"}},
		{"ALTER VIEW v AS SELECT 1", true, false, []string{"v"}},
		{"DROP VIEW IF EXISTS a, e.b", true, false, []string{"a", "b"}},
		{"CREATE DEFINER=`u`@`h` TRIGGER tr AFTER INSERT ON t FOR EACH ROW SET @a=1", true, true, nil},
		{"DROP TRIGGER tr", true, false, nil},
		{"DROP FUNCTION IF EXISTS F", true, false, []string{"f"}},
		{"CREATE OR REPLACE PROCEDURE p() SELECT 1", true, false, []string{"p"}},
		{"DROP PACKAGE BODY e.pk", true, false, []string{"pk"}},
		{"DROP TABLE a, e.B", true, false, []string{"a", "b"}},
		{"RENAME TABLE a TO b", true, false, []string{"a", "b"}},
		{"ALTER TABLE a RENAME TO b", true, false, []string{"a", "b"}},
		{"CREATE OR REPLACE TABLE a (x INT)", true, false, []string{"a"}},
		{"DROP DATABASE E", true, false, []string{"e"}},
		{"UNHEARD OF x", true, false, []string{"unheard", "of", "x"}},
		{"CREATE TABLE a (x INT)", false, true, nil},
		{"ALTER TABLE a ADD x INT", false, false, nil},
		{"DROP TEMPORARY TABLE a", false, false, nil},
		{"TRUNCATE a", false, false, nil},
		{"DROP EVENT a", false, false, nil},
		{"INSERT INTO a VALUES (1)", false, false, nil},
	} {
		s := ScanStatement(Query{Text: c.text}, false)
		if s.Redefines() != c.redefines || c.redefines && s.OnlyAdds() != c.adds {
			t.Errorf("%q: redefines %v, only adds %v", c.text, s.Redefines(), s.OnlyAdds())
		}
		if !c.redefines {
			continue
		}
		got := slices.DeleteFunc(s.Redefined(), func(n string) bool { return n == "" })
		if !slices.Equal(got, c.names) {
			t.Errorf("%q is about %q", c.text, got)
		}
	}
}

func TestMadeAndDropped(t *testing.T) {
	for text, want := range map[string]TableName{
		"CREATE TABLE a (x INT)":                                             {"s", "a"},
		"CREATE TABLE E.A LIKE b":                                            {"e", "a"},
		"CREATE DATABASE D":                                                  {"d", ""},
		"CREATE TABLE IF NOT EXISTS a (x INT)":                               {},
		"CREATE DATABASE IF NOT EXISTS d":                                    {},
		"CREATE TEMPORARY TABLE a (x INT)":                                   {},
		"CREATE OR REPLACE TABLE a (x INT)":                                  {},
		"CREATE OR REPLACE DATABASE d":                                       {},
		"SET STATEMENT lock_wait_timeout=1 FOR CREATE TABLE a SELECT 1 AS x": {"s", "a"},
	} {
		s := ScanStatement(Query{Text: text}, true)
		if made, ok := s.Made("S"); made != want || ok != (want != TableName{}) {
			t.Errorf("%q: made %v", text, made)
		}
	}
	s := ScanStatement(Query{Text: "DROP TABLE IF EXISTS a, e.B"}, false)
	if got := s.Dropped("S"); !slices.Equal(got, []TableName{{"S", "a"}, {"e", "B"}}) {
		t.Errorf("dropped %v", got)
	}
	s = ScanStatement(Query{Text: "DROP DATABASE d"}, false)
	if got := s.Dropped("S"); !slices.Equal(got, []TableName{{"d", ""}}) {
		t.Errorf("dropped %v", got)
	}
}

// A table that is made of a query, in whatever form.
func TestSelects(t *testing.T) {
	for text, want := range map[string]bool{
		"CREATE TABLE a SELECT f()":                                                         true,
		"CREATE OR REPLACE TEMPORARY TABLE a (x INT) IGNORE AS SELECT 1":                    true,
		"CREATE OR REPLACE TABLE a AS (SELECT 1)":                                           true,
		"CREATE TABLE a VALUES (f())":                                                       true,
		"SET STATEMENT lock_wait_timeout=1 FOR CREATE TABLE a WITH c AS (SELECT 1) TABLE c": true,
		"CREATE TABLE a (`select` INT)":                                                     false,
		"CREATE TABLE a (x INT) PARTITION BY RANGE (x) (PARTITION p VALUES LESS THAN (1)), PARTITION BY LIST (x) (PARTITION q VALUES IN (2))": false,
		"CREATE TABLE a LIKE b":          false,
		"CREATE VIEW v AS SELECT 1":      false,
		"ALTER TABLE a COMMENT 'SELECT'": false,
	} {
		if s := ScanStatement(Query{Text: text}, false); s.Selects() != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

// A text is read in the mode that it was written in.
func TestStoredWords(t *testing.T) {
	const text = `UPDATE "Shop".t SET a='x\', b='`
	if got := StoredWords(text, "STRICT_TRANS_TABLES,ANSI_QUOTES,NO_BACKSLASH_ESCAPES"); !slices.Contains(got, "shop") || !slices.Contains(got, "b") {
		t.Errorf("%q", got)
	}
	if got := StoredWords(text, ""); slices.Contains(got, "shop") || slices.Contains(got, "b") {
		t.Errorf("%q", got)
	}
}
