package ghostferry

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The list of checks in the documentation is the code's.
func TestPreflightChecksAreDocumented(t *testing.T) {
	text, err := os.ReadFile("docs/operations.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(text), "<!-- preflight checks: a test compares this table with the code -->\n")
	require.True(t, found)
	table, _, found = strings.Cut(table, "<!-- end -->")
	require.True(t, found)
	want := "| check | looks at | codes |\n|---|---|---|\n"
	for _, c := range PreflightChecks() {
		codes := make([]string, len(c.Codes))
		for i, code := range c.Codes {
			codes[i] = "`" + strings.TrimPrefix(code, c.Name+".") + "`"
		}
		want += fmt.Sprintf("| `%s` | %s | %s |\n", c.Name, c.Looks, strings.Join(codes, " "))
	}
	require.Equal(t, want, table)
}

func TestPreflightReport(t *testing.T) {
	r := &PreflightReport{Findings: []PreflightFinding{{Code: "size.bytes", Check: "size", Severity: PreflightInfo, What: "much"}}}
	require.False(t, r.Refused())
	require.NoError(t, r.Err())
	cause := &NoUsableKeyError{Schema: "s", Table: "t"}
	r.Add(PreflightFinding{Code: "settings.sql-mode", Check: "settings", Severity: PreflightWarning, What: "other"},
		PreflightFinding{Code: "key.none", Check: "key", Severity: PreflightError, Subject: "s.t", What: "no key", Remedy: "add one", err: cause})
	require.True(t, r.Refused())
	require.Equal(t, []string{"key.none", "settings.sql-mode", "size.bytes"}, []string{r.Findings[0].Code, r.Findings[1].Code, r.Findings[2].Code})

	err := r.Err()
	require.EqualError(t, err, "key.none: s.t: no key. Remedy: add one")
	finding, ok := errors.AsType[*PreflightFindingError](err)
	require.True(t, ok)
	require.Equal(t, "key.none", finding.Finding.Code)
	require.ErrorIs(t, err, cause)
	require.True(t, Resumable(err), "nothing was written")
	require.False(t, Retryable(err))
	require.Contains(t, r.String(), "error    key.none           s.t: no key\n")

	text, err := json.Marshal(r.Findings[0])
	require.NoError(t, err)
	require.JSONEq(t, `{"code":"key.none","check":"key","severity":"error","subject":"s.t","what":"no key","remedy":"add one"}`, string(text))
}

// A fault of the loading is never lost, and not told twice.
func TestPreflightFaultsOfLoading(t *testing.T) {
	r := &PreflightReport{Findings: []PreflightFinding{
		{Severity: PreflightError, Subject: "s.told"}, {Severity: PreflightWarning, Subject: "s.untold"},
	}}
	r.addFaults([]error{
		&NoUsableKeyError{Schema: "s", Table: "told"}, &UnsupportedTableError{Schema: "s", Table: "untold", Reason: "odd"},
		&TableError{Schema: "s", Table: "other", Err: errors.ErrUnsupported},
	})
	require.Equal(t, 3, r.Count(PreflightError))
	require.ErrorContains(t, r.Err(), "odd")
	require.ErrorIs(t, r.Err(), errors.ErrUnsupported)
}
