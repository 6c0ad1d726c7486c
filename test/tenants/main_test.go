// Package tenants shows on real servers what holds when only some rows of shared tables
// move: rows of others stay as they are, byte by byte.
package tenants

import (
	"context"
	"database/sql"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

func TestMain(m *testing.M) {
	ghostferry.SetLogLevel(ghostferry.LogLevelWarn)
	code := m.Run()
	harness.Stop()
	os.Exit(code)
}

// onEachSetting runs a test on every kind of pair of servers, some at once: each has its own.
func onEachSetting(t *testing.T, f func(t *testing.T, p *harness.Pair)) {
	t.Helper()
	harness.OnSettings(t, harness.Settings, true, f)
}

// onSomeSettings is onEachSetting on a share of the settings (harness.SomeSettings).
func onSomeSettings(t *testing.T, f func(t *testing.T, p *harness.Pair)) {
	t.Helper()
	harness.OnSettings(t, harness.SomeSettings(t), true, f)
}

// withGTIDs are the settings whose binary log names transactions: where nothing depends on
// it, a test runs on one setting of each flavour.
func withGTIDs(t *testing.T, f func(t *testing.T, p *harness.Pair)) {
	t.Helper()
	harness.OnSettings(t, namingTransactions(), true, f)
}

// onOneFlavour is withGTIDs on a share of the flavours (harness.OneFlavour).
func onOneFlavour(t *testing.T, f func(t *testing.T, p *harness.Pair)) {
	t.Helper()
	harness.OnSettings(t, harness.OneFlavour(t), true, f)
}

// inTurn is withGTIDs for tests of what belongs to the whole process.
func inTurn(t *testing.T, f func(t *testing.T, p *harness.Pair)) {
	t.Helper()
	harness.OnSettings(t, namingTransactions(), false, f)
}

func namingTransactions() []harness.Setting {
	return []harness.Setting{harness.Settings[0], harness.Settings[2]}
}

func minutes(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// onCheckpoint are statements that change the checkpoint and nothing else.
var onCheckpoint = regexp.MustCompile("^(?:INSERT INTO|REPLACE INTO|UPDATE|DELETE FROM) `_ghostferry`\\.")

// record returns every statement that changes data, as the target was told it while f
// ran. Statements that change the checkpoint are left out.
func record(t *testing.T, db *sql.DB, f func()) (told []string) {
	t.Helper()
	for _, text := range recordAll(t, db, f) {
		switch strings.ToUpper(strings.Fields(text + " .")[0]) {
		case "INSERT", "UPDATE", "DELETE", "REPLACE", "LOAD", "TRUNCATE":
			if !onCheckpoint.MatchString(text) {
				told = append(told, text)
			}
		}
	}
	return told
}

// recordAll returns every statement that a server was told while f ran, without comments.
func recordAll(t *testing.T, db *sql.DB, f func()) []string {
	t.Helper()
	for _, statement := range []string{"SET GLOBAL log_output='TABLE'", "TRUNCATE mysql.general_log", "SET GLOBAL general_log=ON"} {
		harness.Exec(t, db, statement)
	}
	f()
	harness.Exec(t, db, "SET GLOBAL general_log=OFF")
	defer harness.Exec(t, db, "TRUNCATE mysql.general_log")
	rows, err := db.QueryContext(t.Context(), "SELECT CONVERT(argument USING latin1) FROM mysql.general_log WHERE command_type IN ('Query','Execute')")
	require.NoError(t, err)
	defer func() { _ = rows.Close() }()
	var told []string
	for rows.Next() {
		var text string
		require.NoError(t, rows.Scan(&text))
		if _, rest, ok := strings.Cut(text, "*/"); ok && strings.HasPrefix(text, "/*") {
			text = strings.TrimSpace(rest)
		}
		told = append(told, text)
	}
	require.NoError(t, rows.Err())
	return told
}

// mustKeepToScope fails on statements that could touch a row of others: only plain
// INSERTs, and DELETEs and UPDATEs with the scope's predicate.
func mustKeepToScope(t *testing.T, told []string, predicate string) {
	t.Helper()
	deletes := 0
	for _, text := range told {
		shown := text[:min(len(text), 200)]
		switch word := strings.ToUpper(strings.Fields(text)[0]); word {
		case "INSERT":
			require.NotContains(t, text, "ON DUPLICATE KEY", shown)
			require.NotContains(t, text, "IGNORE", shown)
		case "DELETE", "UPDATE":
			deletes++
			require.True(t, strings.HasSuffix(text, " AND "+predicate), shown)
		default:
			t.Errorf("the target was told: %s", shown)
		}
	}
	require.NotZero(t, len(told)-deletes, "no row was inserted")
}
