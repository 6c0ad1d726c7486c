package ghostferry

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// docs/reliability.md has a line for every promise, and the tests that it names exist.
func TestReliabilityTable(t *testing.T) {
	page, err := os.ReadFile("docs/reliability.md")
	require.NoError(t, err)
	for n := range 40 {
		require.Contains(t, string(page), fmt.Sprintf("\n| F%02d | ", n+1))
	}
	var tests strings.Builder
	require.NoError(t, filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		tests.Write(text)
		return err
	}))
	fidelity, err := os.ReadFile("docs/fidelity.md")
	require.NoError(t, err)
	for _, name := range regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(page)+string(fidelity), -1) {
		require.True(t, strings.Contains(tests.String(), "func "+name[1]+"("), "docs/reliability.md or docs/fidelity.md names %s, which does not exist", name[1])
	}
}
