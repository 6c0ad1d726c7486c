package ghostferry

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// Numbers of errors by which a server refuses a text that is no name, no text of the
// character set or no JSON.
var refusedTexts = map[uint16]bool{
	1059: true, // the name is too long
	1166: true, // incorrect column name
	1300: true, // not of the character set
	3141: true, // no JSON
	4038: true, // MariaDB: no JSON
}

// Whatever bytes a value or a name has, a server reads the same bytes, in sessions as a
// run has them; nothing of them is taken for SQL.
func FuzzLiterals(f *testing.F) {
	for _, seed := range [][2]string{
		{"plain", "name"}, {"it's", "back`tick"}, {`\' OR 1=1 -- `, "a.b"}, {"\x00\x1a\n\r\\", "new\nline"}, {"''", "''"}, {"\xbf\x27", "%s?"},
		{"\x81\x5c'", "日本語"}, {"*/ DROP", "select"}, {"\xf0\x9f\x98\x80", "é\u3042"}, {strings.Repeat("'", 99), strings.Repeat("`", 30)}, {"", "x "}, {"0", "\x0e"},
	} {
		f.Add([]byte(seed[0]), seed[1])
	}
	dbs := map[servers.Flavour]*sql.DB{}
	for _, flavour := range []servers.Flavour{servers.MySQL, servers.MariaDB} {
		config := testDatabaseConfig(testServer(f, flavour))
		require.NoError(f, config.Validate())
		db, err := config.SqlDB(nil)
		require.NoError(f, err)
		f.Cleanup(func() { _ = db.Close() })
		dbs[flavour] = db
	}
	f.Fuzz(func(t *testing.T, value []byte, name string) {
		for flavour, db := range dbs {
			literals := []string{string(sqlesc.AppendBinary(nil, value))}
			for _, kind := range []codec.Kind{codec.Text, codec.Binary, codec.Geometry} {
				literals = append(literals, string((&codec.Column{Kind: kind}).AppendLiteral(nil, value)))
			}
			charsets := []string{"latin1", "gbk", "sjis", "big5", "cp1251", "utf8mb4"}
			if len(value)%4 == 0 {
				charsets = append(charsets, "ucs2", "utf16", "utf32")
			}
			checkLiterals(t, db, flavour, literals, value)
			for _, charset := range charsets { // one by one: what is no text of one may be of another
				checkLiterals(t, db, flavour, []string{string((&codec.Column{Kind: codec.Text, Charset: charset}).AppendCompared(nil, value))}, value)
			}
			if utf8.Valid(value) {
				literals := []string{sqlesc.String(string(value))}
				if bytes.IndexByte(value, 1) < 0 { // JSON has no such byte; the codec marks leaves with it
					literals = append(literals, string((&codec.Column{Kind: codec.JSON}).AppendLiteral(nil, value)))
				}
				checkLiterals(t, db, flavour, literals, value)
			}
			// Names of servers are of the characters up to U+FFFF, without zero.
			beyond := func(r rune) bool { return r == 0 || r > 0xffff }
			if utf8.ValidString(name) && name != "" && !strings.ContainsFunc(name, beyond) {
				checkName(t, db, flavour, name)
			}
		}
	})
}

func isRefused(err error) bool {
	var refused *mysql.MySQLError
	return errors.As(err, &refused) && refusedTexts[refused.Number]
}

func checkLiterals(t *testing.T, db *sql.DB, flavour servers.Flavour, literals []string, value []byte) {
	t.Helper()
	got := make([]string, len(literals))
	into := make([]any, len(literals))
	for i := range got {
		into[i] = &got[i]
	}
	err := db.QueryRow("SELECT HEX(" + strings.Join(literals, "),HEX(") + ")").Scan(into...)
	if isRefused(err) {
		return
	}
	require.NoError(t, err, "%s: %q", flavour, literals)
	for i := range got {
		read, err := hex.DecodeString(got[i])
		require.NoError(t, err)
		if !bytes.Equal(read, value) {
			t.Fatalf("%s reads %s as %q", flavour, literals[i], read)
		}
	}
}

func checkName(t *testing.T, db *sql.DB, flavour servers.Flavour, name string) {
	t.Helper()
	name = "n" + name // of an alias, unlike of other names, what cannot be seen is taken off in front
	rows, err := db.Query("SELECT 1 AS " + sqlesc.Ident(name))
	if isRefused(err) {
		return
	}
	require.NoError(t, err, "%s: %q", flavour, name)
	defer func() { require.NoError(t, rows.Close()) }()
	columns, err := rows.Columns()
	require.NoError(t, err)
	if got := columns[0]; got != name {
		t.Fatalf("%s reads the name %q as %q", flavour, name, got)
	}
	require.NoError(t, rows.Err())
}
