package compat

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the tables of docs/from-ghostferry.md anew")

var page = filepath.Join("..", "..", "docs", "from-ghostferry.md")

// requirePart compares a generated part of the page, which stands between two marks, with
// what it should be, or writes it with -update.
func requirePart(t *testing.T, part, want string) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	begin, end := "<!-- "+part+": a test compares this with the code -->\n", "<!-- end of "+part+" -->\n"
	head, rest, found := strings.Cut(string(text), begin)
	require.True(t, found, "%s has no %q", page, begin)
	is, tail, found := strings.Cut(rest, end)
	require.True(t, found, "%s has no %q", page, end)
	if *update {
		require.NoError(t, os.WriteFile(page, []byte(head+begin+want+end+tail), 0o644))
		return
	}
	require.Equal(t, want, is, "go test ./test/compat -update writes it anew")
}

// The page lists every entry of the contract with what became of it.
func TestContractTable(t *testing.T) {
	requirePart(t, "contract", contractTable(readContract(t), readDifferences(t)))
}

// contractTable is a line for each type, function, constant and variable, with its members.
func contractTable(entries []contractEntry, differences map[string]difference) string {
	type row struct{ same, other []string }
	rows := make(map[string]*row)
	var order []string
	for _, entry := range entries {
		name := entry.pkg + "." + entry.owner
		if entry.pkg == "ghostferry" {
			name = entry.owner
		}
		r := rows[name]
		if r == nil {
			r = &row{}
			rows[name], order = r, append(order, name)
		}
		_, member, isMember := strings.Cut(entry.key, entry.owner+".")
		switch {
		case !isMember:
			member = "itself"
		case strings.HasPrefix(entry.key, "embed "):
			member = "embeds " + member
		}
		d, listed := differences[entry.pkg+" "+entry.key]
		if whole, covered := differences[entry.pkg+" type "+entry.owner]; covered && isMember && !listed {
			d, listed = difference{whole.verdict, "as the type"}, true
		}
		if listed {
			r.other = append(r.other, fmt.Sprintf("%s: %s (%s)", member, d.verdict, d.why))
		} else {
			r.same = append(r.same, member)
		}
	}
	var table strings.Builder
	table.WriteString("| name | same | not the same |\n|---|---|---|\n")
	slices.Sort(order)
	for _, name := range order {
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", name, strings.Join(rows[name].same, ", "), strings.Join(rows[name].other, "; "))
	}
	return table.String()
}
