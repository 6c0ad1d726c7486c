package compat

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// readLines returns the lines of a file of testdata without comments, split at tabs into
// the given number of columns.
func readLines(t *testing.T, name string, columns int) (rows [][]string) {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", name))
	require.NoError(t, err)
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		row := strings.SplitN(line, "\t", columns)
		require.Len(t, row, columns, line)
		rows = append(rows, row)
	}
	require.NoError(t, lines.Err())
	return rows
}

func readContract(t *testing.T) (entries []contractEntry) {
	t.Helper()
	seen := make(map[string]bool)
	for _, row := range readLines(t, "contract.txt", 3) {
		entry, err := parseEntry(row[1], row[0] == "*", row[2])
		require.NoError(t, err)
		require.Contains(t, packageDirs, entry.pkg)
		require.False(t, seen[entry.pkg+" "+entry.key], "twice: %s", entry.key)
		seen[entry.pkg+" "+entry.key] = true
		entries = append(entries, entry)
	}
	return entries
}

// difference is a line of differences.txt.
type difference struct{ verdict, why string }

// readDifferences returns the entries that are not the same, by package and key.
func readDifferences(t *testing.T) map[string]difference {
	t.Helper()
	differences := make(map[string]difference)
	for _, row := range readLines(t, "differences.txt", 4) {
		require.Contains(t, []string{"different", "dropped"}, row[2], "%s %s", row[0], row[1])
		require.NotEmpty(t, row[3])
		differences[row[0]+" "+row[1]] = difference{row[2], row[3]}
	}
	return differences
}

// Every entry is there with its type, or listed as different or dropped, with the reason.
func TestContract(t *testing.T) {
	apis := make(map[string]map[string]string)
	for pkg, dir := range packageDirs {
		apis[pkg] = exportedAPI(t, dir)
	}
	differences, used := readDifferences(t), make(map[string]bool)
	for _, entry := range readContract(t) {
		form, exists := apis[entry.pkg][entry.key]
		name := entry.pkg + " " + entry.key
		difference, listed := differences[name]
		if listed {
			used[name] = true
		} else if whole := entry.pkg + " type " + entry.owner; differences[whole].verdict != "" {
			continue // its type is listed
		}
		same := exists && (entry.form == "" || form == entry.form)
		switch {
		case !exists && (!listed || difference.verdict != "dropped"):
			t.Errorf("%s is not there; the contract says %s", name, entry.form)
		case exists && listed && difference.verdict == "dropped":
			t.Errorf("%s is there, and differences.txt says dropped", name)
		case exists && !same && !listed:
			t.Errorf("%s is %s; the contract says %s", name, form, entry.form)
		}
	}
	for name := range differences {
		if !used[name] {
			t.Errorf("differences.txt: the contract has no %s", name)
		}
	}
}
