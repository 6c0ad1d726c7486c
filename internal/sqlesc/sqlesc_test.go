package sqlesc

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestIdentifiers(t *testing.T) {
	require.Equal(t, "`a``b`", Ident("a`b"))
	require.Equal(t, "``", Ident(""))
	require.Equal(t, "`s.x`.`t'\"\n%😀`", Table("s.x", "t'\"\n%😀"))
	require.Equal(t, "`t`", Table("", "t"))
	require.Equal(t, "`a`,```b`,`c,d`", Idents([]string{"a", "`b", "c,d"}))
	require.Equal(t, "", Idents(nil))
}

func TestLiterals(t *testing.T) {
	require.Equal(t, `x'it''s \'`, string(AppendString([]byte("x"), []byte(`it's \`))))
	require.Equal(t, "''''", String("'"))
	require.Equal(t, "''", String(""))
	require.Equal(t, "_binary'\x00''\xff'", string(AppendBinary(nil, []byte("\x00'\xff"))))
}

// A literal or identifier ends exactly at its last byte, and undoubling the quotes gives the
// input back: nothing in a value can reach the statement around it.
func TestQuotingIsReversible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := string(rapid.SliceOf(rapid.SampledFrom([]byte("'`\\a\x00\xff*/"))).Draw(t, "in"))
		for quote, out := range map[string]string{"'": String(in), "`": Ident(in)} {
			body := out[1 : len(out)-1]
			require.Equal(t, quote, out[:1])
			require.Equal(t, quote, out[len(out)-1:])
			require.Equal(t, in, strings.ReplaceAll(body, quote+quote, quote))
			require.NotContains(t, strings.ReplaceAll(body, quote+quote, ""), quote)
		}
	})
}
