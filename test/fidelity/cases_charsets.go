package main

import (
	"fmt"
	"strings"
)

// charset is a character set with characters that somebody may cut, escape or strip. All of
// them, and a text with spaces behind, go in CHAR, VARCHAR and TEXT.
type charset struct {
	name string
	// space is a space, and widest a character of as many bytes as the set has, in hexadecimal.
	space, widest string
	// more are further texts: characters that have the byte of a quote or a backslash, and
	// those of which the server knows less than of others.
	more []string
}

var charsets = []charset{
	{"utf8mb4", "20", "f09f9880", []string{"275c", "5c5c2727", "c3a9", "65cc81"}},
	{"utf8mb3", "20", "e282ac", []string{"275c", "5c5c2727", "c3a9"}},
	{"latin1", "20", "e9", []string{"275c", "27275c5c", "80", "81", "00", "ff00fe27225c", "f09f9880", "c3a9", "8d8f9d"}}, // bytes of another encoding, too
	{"gbk", "20", "b0a1", []string{"bf5c", "bf5c27", "bf5cbf5c", "8140", "815c5c", "61"}},
	{"sjis", "20", "8abf", []string{"835c", "835c27", "835c5c", "b1", "61"}},
	{"big5", "20", "a440", []string{"a55c", "a44027", "a55c5c", "61"}},
	{"cp1251", "20", "ff", []string{"275c", "d0d1d2", "98"}},
	{"ucs2", "0020", "20ac", []string{"005c0027", "5c27", "275c", "0041", "d800", "0000"}},
	{"utf16", "0020", "d83dde00", []string{"00270027", "5c27275c", "0041", "0000"}},
	{"utf32", "00000020", "0001f600", []string{"0000005c00000027", "00005c270000275c", "00000041"}},
	{"binary", "20", "ff", []string{"275c", "00", "f09f9880"}},
}

// textBytes is the most that a TEXT holds.
const textBytes = 65535

// ofEveryLength is a table of the columns CHAR, VARCHAR and TEXT in the character set.
func (s charset) ofEveryLength(group string) *Case {
	typ := func(name string) string { return name + " CHARACTER SET " + s.name + " NULL" }
	c := &Case{
		Group: group, Name: "CHAR(10), VARCHAR(20), TEXT CHARACTER SET " + s.name, Cols: []string{"c", "v", "t"},
		Columns: "c " + typ("CHAR(10)") + ", v " + typ("VARCHAR(20)") + ", t " + typ("TEXT"),
		Values:  [][]string{{"NULL", "NULL", "NULL"}, {"''", "''", "''"}},
	}
	literal := func(hex string) string { return "_" + s.name + " X'" + hex + "'" }
	for _, hex := range append([]string{s.widest, s.space, s.widest + s.space + s.space}, s.more...) {
		c.Values = append(c.Values, []string{literal(hex), literal(hex), literal(hex)})
	}
	full := func(n int) string { return fmt.Sprintf("REPEAT(%s,%d)", literal(s.widest), n) }
	c.Values = append(c.Values, []string{full(10), full(20), full(textBytes / (len(s.widest) / 2))})
	c.Values = append(c.Values, []string{full(9), full(19), literal(s.widest + strings.Repeat(s.space, 30))})
	return c
}
