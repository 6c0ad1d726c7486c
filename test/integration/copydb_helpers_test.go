package integration

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/shop"
)

// copydbBuilt is the program, built by the first test that runs it.
var copydbBuilt struct {
	sync.Once
	directory string
	err       error
}

func copydbBinary(t *testing.T) string {
	t.Helper()
	b := &copydbBuilt
	b.Do(func() {
		if b.directory, b.err = os.MkdirTemp("", "copydb-test-"); b.err != nil {
			return
		}
		args := []string{"build", "-o", b.directory + "/copydb"}
		if raceDetector {
			args = append(args, "-race")
		}
		build := exec.Command("go", append(args, "github.com/ghostferry-go/ghostferry/examples/copydb/cmd")...)
		if output, err := build.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("%w\n%s", err, output)
		}
	})
	require.NoError(t, b.err, "building copydb")
	return b.directory + "/copydb"
}

// removeCopydb removes the program; main_test.go calls it at the end.
func removeCopydb() { _ = os.RemoveAll(copydbBuilt.directory) }

// copydbProcess is a run of the program.
type copydbProcess struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser

	stdout bytes.Buffer
	stderr lines
}

// lines collects text and tells who waits for some of it.
type lines struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// until waits for a text to be written.
func (l *lines) until(t *testing.T, text string) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		l.mu.Lock()
		found := strings.Contains(l.text.String(), text)
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		if found {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			require.FailNow(t, "copydb did not say "+text, l.String())
		}
	}
}

// startCopydb starts the program; the test ends it if it has not ended by itself.
func startCopydb(t *testing.T, args ...string) *copydbProcess {
	t.Helper()
	p := &copydbProcess{t: t, cmd: exec.Command(copydbBinary(t), args...)}
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	var err error
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	t.Cleanup(func() { _ = p.cmd.Process.Kill() })
	return p
}

// ended waits for the end and returns the exit status, -1 for a killed process.
func (p *copydbProcess) ended() int {
	p.t.Helper()
	timer := time.AfterFunc(3*time.Minute, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		require.NoError(p.t, err)
	}
	p.t.Logf("copydb %s: %v\n%s%s", strings.Join(p.cmd.Args[1:], " "), p.cmd.ProcessState, p.stderr.String(), p.stdout.String())
	return p.cmd.ProcessState.ExitCode()
}

// result is the one line that -json prints.
func (p *copydbProcess) result() copydbResult {
	p.t.Helper()
	var r copydbResult
	require.Equal(p.t, 1, strings.Count(p.stdout.String(), "\n"), "exactly one line: %s", p.stdout.String())
	require.NoError(p.t, json.Unmarshal(p.stdout.Bytes(), &r))
	return r
}

// rehearsal is what -dryrun prints with -json.
func (p *copydbProcess) rehearsal() (found struct {
	Plan      *ghostferry.Plan
	Preflight *ghostferry.PreflightReport
	Refused   bool
}) {
	p.t.Helper()
	require.NoError(p.t, json.Unmarshal(p.stdout.Bytes(), &found))
	return found
}

type copydbResult struct {
	copydb.Result
	Error string `json:"error"`
}

// runCopydb runs the program to its end.
func runCopydb(t *testing.T, args ...string) (status int, p *copydbProcess) {
	t.Helper()
	p = startCopydb(t, args...)
	return p.ended(), p
}

// settings are a configuration as it stands in JSON.
type settings map[string]any

// copydbSettings are those of a move of some schemas, with others on top.
func copydbSettings(p *harness.Pair, schemas []string, more settings) settings {
	s := settings{
		"Source":           settings{"Host": p.Source.Host, "Port": p.Source.Port, "User": p.Source.User(), "Pass": p.Source.Password()},
		"Target":           settings{"Host": p.Target.Host, "Port": p.Target.Port, "User": p.Target.User(), "Pass": p.Target.Password()},
		"Databases":        settings{"Whitelist": schemas},
		"AutomaticCutover": true,
		"TailGuardSeconds": -1,
	}
	for name, value := range more {
		s[name] = value
	}
	return s
}

// file writes the configuration.
func (s settings) file(t *testing.T) string {
	t.Helper()
	text, err := json.MarshalIndent(s, "", "  ")
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "copydb.json")
	require.NoError(t, os.WriteFile(path, text, 0o600))
	return path
}

// config is the same for the library part.
func (s settings) config(t *testing.T) *copydb.Config {
	t.Helper()
	text, err := json.Marshal(s)
	require.NoError(t, err)
	config, err := copydb.ReadConfig(bytes.NewReader(text))
	require.NoError(t, err)
	config.Logger = harness.TestLogger()
	require.NoError(t, config.InitializeAndValidateConfig())
	return config
}

// sourceShop makes a seeded shop on the source only; it is removed from both sides
// after the test.
func sourceShop(t *testing.T, p *harness.Pair, database string, rows int) shop.Options {
	t.Helper()
	freshSchemas(t, p, database)
	o := shop.Options{Database: database, Seed: 7, Rows: rows}
	require.NoError(t, shop.CreateSchema(t.Context(), p.SourceDB, database))
	_, err := shop.Seed(t.Context(), p.SourceDB, o)
	require.NoError(t, err)
	return o
}

// freshSchemas removes schemas from both sides, before and after the test, and the
// checkpoints with them.
func freshSchemas(t *testing.T, p *harness.Pair, names ...string) {
	t.Helper()
	drop := func() {
		for _, db := range []*sql.DB{p.SourceDB, p.TargetDB} {
			conn, err := db.Conn(context.Background())
			require.NoError(t, err)
			statements := []string{"SET SESSION foreign_key_checks=0"}
			for _, name := range append(names, "_ghostferry") {
				statements = append(statements, "DROP DATABASE IF EXISTS "+quote(name))
			}
			for _, statement := range append(statements, "SET SESSION foreign_key_checks=1") {
				_, err := conn.ExecContext(context.Background(), statement)
				require.NoError(t, err)
			}
			require.NoError(t, conn.Close())
		}
	}
	drop()
	t.Cleanup(drop)
}

func quote(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// contents tells what a server holds: every schema, and the rows of every table.
func contents(t *testing.T, db *sql.DB) map[string]int {
	t.Helper()
	held := map[string]int{}
	rows, err := db.Query(`SELECT s.schema_name, COALESCE(t.table_name, '') FROM information_schema.schemata s
		LEFT JOIN information_schema.tables t ON t.table_schema = s.schema_name
		WHERE s.schema_name NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys')`)
	require.NoError(t, err)
	defer rows.Close()
	var names [][2]string
	for rows.Next() {
		var schema, table string
		require.NoError(t, rows.Scan(&schema, &table))
		names = append(names, [2]string{schema, table})
	}
	require.NoError(t, rows.Err())
	for _, name := range names {
		count := 0
		if name[1] != "" {
			require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM "+quote(name[0])+"."+quote(name[1])).Scan(&count))
		}
		held[name[0]+"."+name[1]] = count
	}
	return held
}

// hooks are the host's side of a cutover.
type hooks struct {
	*httptest.Server
	mu       sync.Mutex
	called   []string
	payloads map[string]string // the last of each
}

// serveHooks answers the callbacks; lock is what stops the writers.
func serveHooks(t *testing.T, lock func() error) *hooks {
	t.Helper()
	return serveAllHooks(t, map[string]func() error{"lock": lock})
}

// serveAllHooks answers the callbacks as told, by name: "lock", "unlock", "abort".
func serveAllHooks(t *testing.T, answers map[string]func() error) *hooks {
	t.Helper()
	h := &hooks{payloads: map[string]string{}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		var body struct{ Payload string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		h.mu.Lock()
		h.called = append(h.called, name)
		h.payloads[name] = body.Payload
		h.mu.Unlock()
		if answer := answers[name]; answer != nil {
			if err := answer(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		}
	}))
	t.Cleanup(h.Close)
	return h
}

func (h *hooks) calls() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.called...)
}

func (h *hooks) payload(name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.payloads[name]
}

// settings are the callbacks' part of the configuration.
func (h *hooks) settings() settings {
	return settings{
		"CutoverLock": settings{"URI": h.URL + "/lock"}, "CutoverUnlock": settings{"URI": h.URL + "/unlock"},
		"CutoverAbort": settings{"URI": h.URL + "/abort"},
	}
}

// recordingLogger keeps the messages that are logged.
type recordingLogger struct {
	mu   sync.Mutex
	kept []string
}

func (r *recordingLogger) logger() ghostferry.Logger {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.SetLevel(logrus.DebugLevel)
	logger.AddHook(r)
	return logger
}

func (r *recordingLogger) Levels() []logrus.Level { return logrus.AllLevels }

func (r *recordingLogger) Fire(entry *logrus.Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = append(r.kept, entry.Message)
	return nil
}

func (r *recordingLogger) messages() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.kept...)
}
