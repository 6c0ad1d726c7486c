package preflight

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReport(t *testing.T) {
	r := newReport([]Finding{
		{"packet-size", Warning, "max_allowed_packet", "small", "raise it"},
		{"tables", Error, "shop.a\nb\x1b[2J", "missing", "create it"},
		{"binlog-filters", Error, "", "could not be checked", "see the error"},
	})
	require.Equal(t, []string{"tables", "binlog-filters", "packet-size"},
		[]string{r.Findings[0].Check, r.Findings[1].Check, r.Findings[2].Check}, "errors first, otherwise in their order")
	require.Equal(t, `error    tables          shop.a�b�[2J: missing
                         remedy: create it
error    binlog-filters  could not be checked
                         remedy: see the error
warning  packet-size     max_allowed_packet: small
                         remedy: raise it
preflight: 2 errors, 1 warning
`, r.Table())

	err := r.Err()
	var finding *FindingError
	require.ErrorAs(t, err, &finding)
	require.Equal(t, r.Findings[0], finding.Finding)
	require.ErrorContains(t, err, "binlog-filters: could not be checked. Remedy: see the error")
	require.NotContains(t, err.Error(), "packet")

	text, err := json.Marshal(r)
	require.NoError(t, err)
	require.Contains(t, string(text), `{"check":"packet-size","severity":"warning","subject":"max_allowed_packet","problem":"small","remedy":"raise it"}`)
	var back Report
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, *r, back)
	require.Error(t, json.Unmarshal([]byte(`{"severity":"dire"}`), &Finding{}))
}

func TestEmptyReport(t *testing.T) {
	r := newReport(nil)
	require.NoError(t, r.Err())
	require.Equal(t, "preflight: 0 errors, 0 warnings\n", r.Table())
	text, err := json.Marshal(r)
	require.NoError(t, err)
	require.JSONEq(t, `{"findings": []}`, string(text))
	require.NoError(t, newReport([]Finding{{Severity: Warning}, {Severity: Info}}).Err())
	require.False(t, errors.As(r.Err(), new(*FindingError)))
}

func TestImpliedUniqueKeys(t *testing.T) {
	key := func(parts ...part) index { return index{parts: parts} }
	source := []index{key(part{"id", 0}), key(part{"a", 0}, part{"b", 10})}
	for _, c := range []struct {
		target index
		want   bool
	}{
		{key(part{"id", 0}), true},
		{key(part{"ID", 0}), true},
		{key(part{"x", 0}, part{"id", 0}), true},
		{key(part{"b", 10}, part{"a", 0}), true},
		{key(part{"a", 0}, part{"b", 0}), true},
		{key(part{"a", 0}, part{"b", 20}), true},
		{key(part{"a", 0}, part{"b", 9}), false},
		{key(part{"a", 5}, part{"b", 10}), false},
		{key(part{"id", 4}), false},
		{key(part{"a", 0}), false},
		{key(part{"(expression)", 0}), false},
	} {
		require.Equal(t, c.want, impliedBy(source, c.target), "%v", c.target)
	}
	require.False(t, impliedBy([]index{key(part{"(expression)", 0})}, key(part{"(expression)", 0})),
		"two expressions are not known to be the same")
}

func TestCanonicalNames(t *testing.T) {
	for in, want := range map[string]string{
		"int(11)": "int", "int(10) unsigned zerofill": "int unsigned zerofill", "bigint(20) unsigned": "bigint unsigned",
		"year(4)": "year", "varchar(10)": "varchar(10)", "decimal(10,2)": "decimal(10,2)", "bit(1)": "bit(1)",
		"varchar(100) /*M!100301 COMPRESSED*/": "varchar(100)", "enum('A /*x*/','b')": "enum('A /*x*/','b')",
	} {
		require.Equal(t, want, canonicalType(in))
	}
	require.Equal(t, "utf8", canonicalCharset("utf8mb3"))
	require.Equal(t, "utf8_bin", canonicalCharset("utf8mb3_bin"))
	require.Equal(t, "utf8mb4_bin", canonicalCharset("utf8mb4_bin"))
}
