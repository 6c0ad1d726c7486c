package preflight

import (
	"encoding/json"
	"errors"
	"testing"
	"unique"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/server"
)

func TestReport(t *testing.T) {
	r := New([]Finding{
		{Code: "packet-size.row", Check: "packet-size", Severity: Warning, Subject: "shop.b", What: "small", Remedy: "raise it"},
		{Code: "tables.engine", Check: "tables", Severity: Error, Subject: "shop.a\nb\x1b[2J", What: "missing", Remedy: "create it", Err: errors.ErrUnsupported},
		{Code: "copydb.create", Check: "copydb", Severity: Error, What: "could not be created"},
	})
	require.Equal(t, []string{"tables.engine", "copydb.create", "packet-size.row"},
		[]string{r.Findings[0].Code, r.Findings[1].Code, r.Findings[2].Code}, "errors first, otherwise in their order")
	require.Equal(t, `error    tables.engine    shop.a�b�[2J: missing
                          remedy: create it
error    copydb.create    could not be created
warning  packet-size.row  shop.b: small
                          remedy: raise it
preflight: 2 errors, 1 warning
`, r.Table())

	err := r.Err()
	var finding *FindingError
	require.ErrorAs(t, err, &finding)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.Equal(t, r.Findings[0], finding.Finding)
	require.ErrorContains(t, err, "tables.engine: shop.a")
	require.NotContains(t, err.Error(), "packet")

	text, err := json.Marshal(r)
	require.NoError(t, err)
	require.Contains(t, string(text), `{"code":"packet-size.row","check":"packet-size","severity":"warning","subject":"shop.b","what":"small","remedy":"raise it"}`)
	var back Report
	require.NoError(t, json.Unmarshal(text, &back))
	r.Findings[0].Err = nil
	require.Equal(t, *r, back)
	require.Error(t, json.Unmarshal([]byte(`{"severity":"dire"}`), &Finding{}))
}

func TestEmptyReport(t *testing.T) {
	r := New(nil)
	require.NoError(t, r.Err())
	require.Equal(t, "preflight: 0 errors, 0 warnings\n", r.Table())
	text, err := json.Marshal(r)
	require.NoError(t, err)
	require.JSONEq(t, `{"findings": []}`, string(text))
	require.NoError(t, New([]Finding{{Severity: Warning}, {Severity: Info}}).Err())
	require.False(t, errors.As(r.Err(), new(*FindingError)))
}

func TestImpliedUniqueKeys(t *testing.T) {
	key := func(parts ...part) index { return index{parts: parts} }
	source := []index{key(part{column: "id", prefix: 0}), key(part{column: "a", prefix: 0}, part{column: "b", prefix: 10})}
	for _, c := range []struct {
		target index
		want   bool
	}{
		{key(part{column: "id", prefix: 0}), true},
		{key(part{column: "ID", prefix: 0}), true},
		{key(part{column: "x", prefix: 0}, part{column: "id", prefix: 0}), true},
		{key(part{column: "b", prefix: 10}, part{column: "a", prefix: 0}), true},
		{key(part{column: "a", prefix: 0}, part{column: "b", prefix: 0}), true},
		{key(part{column: "a", prefix: 0}, part{column: "b", prefix: 20}), true},
		{key(part{column: "a", prefix: 0}, part{column: "b", prefix: 9}), false},
		{key(part{column: "a", prefix: 5}, part{column: "b", prefix: 10}), false},
		{key(part{column: "id", prefix: 4}), false},
		{key(part{column: "a", prefix: 0}), false},
		{key(part{column: "(expression)", prefix: 0}), false},
	} {
		require.Equal(t, c.want, impliedBy(source, c.target), "%v", c.target)
	}
	require.False(t, impliedBy([]index{key(part{column: "(expression)", prefix: 0})}, key(part{column: "(expression)", prefix: 0})),
		"two expressions are not known to be the same")
	lower := key(part{column: "(expression)", expression: "lower(`a`)"})
	require.True(t, impliedBy([]index{lower}, lower))
	require.False(t, impliedBy([]index{lower}, key(part{column: "(expression)", expression: "upper(`a`)"})))
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

func TestRulesOf(t *testing.T) {
	const definition = "CREATE TABLE `c` (\n  `id` int(11) NOT NULL COMMENT 'ON DELETE CASCADE',\n" +
		"  CONSTRAINT `a``b` FOREIGN KEY (`p)`) REFERENCES `x`.`p ON DELETE SET NULL` (`id`) ON DELETE CASCADE ON UPDATE SET NULL,\n" +
		"  CONSTRAINT `a` FOREIGN KEY (`p`) REFERENCES `p` (`id`),\n  CONSTRAINT `u` FOREIGN KEY (`p`) REFERENCES `p` (`id`) ON UPDATE NO ACTION\n) ENGINE=InnoDB"
	for constraint, want := range map[string][2]string{
		"a`b": {"CASCADE", "SET NULL"}, "a": {"RESTRICT", "RESTRICT"}, "u": {"RESTRICT", "NO ACTION"}, "gone": {"unknown", "unknown"},
	} {
		onDelete, onUpdate := rulesOf(definition, constraint)
		require.Equal(t, want, [2]string{onDelete, onUpdate}, constraint)
	}
	require.True(t, foreignKey{onDelete: "unknown", onUpdate: "RESTRICT"}.cascades())
	require.False(t, foreignKey{onDelete: "RESTRICT", onUpdate: "NO ACTION"}.cascades())
}

// Every column of a type that is not carried is named.
func TestTypes(t *testing.T) {
	mysql := &server.Server{}
	in := Input{SourceServer: mysql, TargetServer: mysql, Tables: []Table{{Schema: "s", Name: "t", TargetSchema: "s", TargetName: "t"}}}
	r := &run{Input: in, check: "types", source: structures{byName: map[string]*structure{}}, target: structures{byName: map[string]*structure{}}}
	r.source.byName[r.source.id("s", "t")] = &structure{columns: []unique.Handle[column]{
		unique.Make(column{name: "id", dataType: "int", fullType: "int"}), unique.Make(column{name: "a", dataType: "hologram", fullType: "hologram(3)"}),
		unique.Make(column{name: "b", dataType: "smell", fullType: "smell"}),
	}}
	require.NoError(t, r.checkTypes(t.Context()))
	require.Len(t, r.findings, 2)
	require.Equal(t, "types.unsupported", r.findings[0].Code)
	require.Equal(t, "s.t", r.findings[0].Subject)
	require.Equal(t, "column a has type hologram(3), which cannot be carried exactly", r.findings[0].What)
	require.ErrorAs(t, r.findings[1].Err, new(*codec.UnsupportedTypeError))
}
