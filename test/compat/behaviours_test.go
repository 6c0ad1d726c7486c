package compat

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// behaviour is a line of behaviours.txt.
type behaviour struct {
	number                 int
	verdict, subject, what string
}

func readBehaviours(t *testing.T) (behaviours []behaviour) {
	t.Helper()
	for _, row := range readLines(t, "behaviours.txt", 4) {
		number, err := strconv.Atoi(row[0])
		require.NoError(t, err)
		behaviours = append(behaviours, behaviour{number, row[1], row[2], row[3]})
	}
	return behaviours
}

// Every fact is there once, in order (the list has no 163), and is kept or improved, with
// tests, or different, with the reason; the tests exist.
func TestBehaviours(t *testing.T) {
	tests, named := testNames(t), regexp.MustCompile(`\bTest\w+`)
	next := 1
	for _, b := range readBehaviours(t) {
		require.Equal(t, next, b.number)
		if next++; next == 163 {
			next++
		}
		require.Contains(t, []string{"kept", "improved", "different"}, b.verdict, b.number)
		names := named.FindAllString(b.what, -1)
		require.NotEmpty(t, names, "%d names no test", b.number)
		for _, name := range names {
			if !tests[name] {
				t.Errorf("%d, %s: %s does not exist", b.number, b.subject, name)
			}
		}
		if b.verdict == "different" {
			require.False(t, strings.HasPrefix(b.what, "Test"), "%d gives no reason", b.number)
		}
	}
	require.Equal(t, 277, next)
}

// The page has the same list.
func TestBehavioursTable(t *testing.T) {
	var table strings.Builder
	table.WriteString("| # | about | verdict | tests, or why |\n|---|---|---|---|\n")
	for _, b := range readBehaviours(t) {
		fmt.Fprintf(&table, "| %d | %s | %s | %s |\n", b.number, b.subject, b.verdict, b.what)
	}
	requirePart(t, "behaviours", table.String())
}

// testNames are the names of all test functions of the module.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names, declared := make(map[string]bool), regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != "..":
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		for _, match := range declared.FindAllSubmatch(text, -1) {
			names[string(match[1])] = true
		}
		return err
	})
	require.NoError(t, err)
	return names
}
