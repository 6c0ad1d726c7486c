package integration

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// canary is in every secret of these tests and in every value of a row; canaryKey is in what
// may be told: names and keys.
const (
	canary    = "CANARY"
	canaryKey = "visible_key"
)

func secret(name string) string { return canary + "-" + name + "-0123456789" }

// evidence is what a run has told, by where.
type evidence struct {
	mu    sync.Mutex
	parts map[string]*strings.Builder
}

func (e *evidence) add(where, text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.parts == nil {
		e.parts = map[string]*strings.Builder{}
	}
	if e.parts[where] == nil {
		e.parts[where] = &strings.Builder{}
	}
	e.parts[where].WriteString(text + "\n")
}

// writer is evidence that is written, as a log is.
func (e *evidence) writer(where string) io.Writer { return evidenceWriter{e, where} }

type evidenceWriter struct {
	e     *evidence
	where string
}

func (w evidenceWriter) Write(p []byte) (int, error) {
	w.e.add(w.where, string(p))
	return len(p), nil
}

// addError adds an error and everything that it wraps: a host may look at each.
func (e *evidence) addError(err error) {
	if err == nil {
		return
	}
	e.add("errors", fmt.Sprintf("%T %v | %+v", err, err, err))
	switch wrapped := err.(type) {
	case interface{ Unwrap() error }:
		e.addError(wrapped.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range wrapped.Unwrap() {
			e.addError(one)
		}
	}
}

// check fails for each canary that was told, and for each place that told nothing of what
// it should: then it was not looked at.
func (e *evidence) check(t *testing.T, tells map[string]string) {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for where, part := range e.parts {
		for _, line := range strings.Split(part.String(), "\n") {
			if strings.Contains(line, canary) {
				t.Errorf("%s: %.2000s", where, line)
			}
		}
	}
	for where, text := range tells {
		part := e.parts[where]
		require.NotNil(t, part, "nothing of the %s was looked at", where)
		require.Contains(t, part.String(), text, where)
	}
}

// secretRun is a move with secrets wherever there can be some.
type secretRun struct {
	*evidence
	pair  *harness.Pair
	ferry *ghostferry.Ferry
	hooks *httptest.Server
	ran   chan error
}

const canarySchema = "canaries"

// withSecrets adds a user, a query and a fragment to an address.
func withSecrets(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		panic(err)
	}
	u.User, u.RawQuery, u.Fragment = url.UserPassword("hook", secret("uri-password")), "token="+secret("uri-query"), secret("uri-fragment")
	return u.String()
}

// newSecretRun makes accounts, tables and a Ferry; it is not initialized.
func newSecretRun(t *testing.T, p *harness.Pair) *secretRun {
	t.Helper()
	r := &secretRun{evidence: &evidence{}, pair: p, ran: make(chan error, 1)}
	r.hooks = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if request.URL.Path == "/nowhere" {
			http.NotFound(w, request)
		}
		body, _ := io.ReadAll(request.Body)
		r.add("payloads", request.URL.Path+" "+string(body))
	}))
	t.Cleanup(r.hooks.Close)
	p.Create(t, canarySchema, "CREATE TABLE t (id VARCHAR(40) PRIMARY KEY, u VARCHAR(60) NULL UNIQUE, n INT NULL, j JSON NULL, v VARCHAR(200) NULL)")
	for i := range 8 {
		p.In(t, p.SourceDB, canarySchema, fmt.Sprintf(`INSERT INTO t VALUES ('%s%d', '%s', %d, '{"a": "%s"}', '%s')`,
			canaryKey, i, secret(fmt.Sprint("unique", i)), i, secret("json"), secret("value")))
	}
	config := p.Config(canarySchema)
	for side, db := range map[string]*ghostferry.DatabaseConfig{"source": config.Source, "target": config.Target} {
		pool := map[string]*sql.DB{"source": p.SourceDB, "target": p.TargetDB}[side]
		user := "canary_" + side
		harness.Exec(t, pool, "DROP USER IF EXISTS '"+user+"'@'%';\nCREATE USER '"+user+"'@'%' IDENTIFIED BY '"+secret(side)+"';\nGRANT ALL ON *.* TO '"+user+"'@'%'")
		t.Cleanup(func() { harness.Exec(t, pool, "DROP USER IF EXISTS '"+user+"'@'%'") })
		db.User, db.Pass = user, secret(side)
	}
	logger := logrus.New()
	logger.SetOutput(r.writer("log"))
	logger.SetLevel(logrus.TraceLevel)
	config.Logger, config.LogLevel = logger, "debug"
	config.CutoverLock.URI, config.CutoverUnlock.URI = withSecrets(r.hooks.URL+"/lock"), withSecrets(r.hooks.URL+"/unlock")
	config.CutoverAbort.URI = withSecrets(r.hooks.URL + "/abort")
	config.ErrorCallback.URI = withSecrets(r.hooks.URL + "/error")
	config.ProgressCallback, config.ProgressReportFrequency = ghostferry.HTTPCallback{URI: withSecrets(r.hooks.URL + "/progress")}, 50
	config.StateCallback, config.StateReportFrequency = ghostferry.HTTPCallback{URI: withSecrets(r.hooks.URL + "/state")}, 50
	config.CutoverRetryWaitSeconds, config.MaxCutoverRetries, config.TailGuardSeconds = 1, 1, -1
	config.ControlServerConfig = &ghostferry.ControlServerConfig{
		Enabled: true, ServerBindAddr: "127.0.0.1:0", Token: secret("operate"), ReadToken: secret("read"),
		CustomScripts: map[string][]string{"a script": {"/nowhere/program", secret("argument")}},
	}
	r.ferry = &ghostferry.Ferry{Config: config}
	t.Cleanup(func() { _ = r.ferry.Close() })
	return r
}

// cutover runs the ferry to its end, and returns how both ended.
func (r *secretRun) cutover(t *testing.T, hooks ghostferry.CutoverHooks) (cutover, run error) {
	t.Helper()
	ctx, cancel := context.WithCancel(cutoverContext(t))
	defer cancel()
	go func() { r.ran <- r.ferry.RunContext(ctx) }()
	_, cutover = r.ferry.Cutover(ctx, hooks)
	r.ask(t)
	if cutover != nil {
		cancel()
	}
	run = <-r.ran
	r.ask(t) // once more: now it has ended
	return cutover, run
}

// ask sends every request that the control server answers.
func (r *secretRun) ask(t *testing.T) {
	t.Helper()
	base := strings.TrimSuffix(r.ferry.ControlServer.URL(), "/")
	for _, path := range []string{
		"/", "/static/app.js", "/api/status", "/api/overview", "/api/tables", "/api/chunks?table=" + canarySchema + ".t", "/api/mismatches", "/api/history",
		"/api/log", "/api/config", "/metrics", "/api/events?limit=5",
	} {
		ctx, cancel := context.WithCancel(t.Context())
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		require.NoError(t, err)
		r.send(t, request, path)
		cancel()
	}
	for path, body := range map[string]string{
		"/api/script": `{"script-name": "a script"}`, "/api/cutover": `{"type": "sideways"}`, "/api/config": `{"Unknown": 1}`, "/api/pause": "{}", "/api/unpause": "{}",
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+path, strings.NewReader(body))
		require.NoError(t, err)
		r.send(t, request, path)
	}
}

func (r *secretRun) send(t *testing.T, request *http.Request, path string) {
	t.Helper()
	request.Header.Set("Authorization", "Bearer "+secret("operate"))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(ghostferry.ControlHeader, "test")
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	where := "answers"
	if path == "/metrics" {
		where = "metrics"
	}
	r.add(where, fmt.Sprint(path, " ", answer.Status, " ", answer.Header))
	if !strings.HasPrefix(path, "/api/events") {
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		r.add(where, string(body))
		return
	}
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		r.add(where, lines.Text())
		if strings.HasPrefix(lines.Text(), "event: log") && lines.Scan() {
			r.add(where, lines.Text())
			return
		}
	}
}

// collect looks at what is left when the run has ended.
func (r *secretRun) collect(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		r.addError(err)
	}
	if err := errors.Join(errs...); err != nil {
		handler := &ghostferry.PanicErrorHandler{Ferry: r.ferry, ErrorCallback: r.ferry.ErrorCallback}
		handler.ReportError("test", err)
	}
	state, err := r.ferry.SerializeStateToJSON()
	require.NoError(t, err)
	r.add("state", state)
	progress, err := json.Marshal(r.ferry.Progress())
	require.NoError(t, err)
	r.add("progress", string(progress))
	if v, ok := r.ferry.Verifier.(ghostferry.ReportingVerifier); ok {
		dir := t.TempDir()
		for _, name := range []string{"r.json", "r.md", "r.html"} {
			name = filepath.Join(dir, name)
			require.NoError(t, v.Report().WriteFile(name))
			text, err := os.ReadFile(name)
			require.NoError(t, err)
			r.add("report", string(text))
		}
	}
	for _, name := range harness.Rows(t, r.pair.TargetDB, "SELECT table_name FROM information_schema.tables WHERE table_schema = '_ghostferry'") {
		table := strings.Trim(name, `"|`)
		r.add("checkpoint", table+" "+strings.Join(harness.Rows(t, r.pair.TargetDB, "SELECT * FROM _ghostferry.`"+table+"`"), "\n"))
	}
}

// everywhere are the places that every run tells something of.
func everywhere(more map[string]string) map[string]string {
	all := map[string]string{
		"log": canarySchema + ".t", "answers": canarySchema + ".t", "metrics": "ghostferry_info", "payloads": canarySchema, "state": canarySchema,
		"progress": canarySchema + ".t", "report": canarySchema + ".t", "checkpoint": canarySchema,
	}
	for where, text := range more {
		all[where] = text
	}
	return all
}

// A move that succeeds tells nobody a secret or a value of a row.
func TestSecretsStaySecret(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		r := newSecretRun(t, p)
		mustStart(t, t.Context(), r.ferry)
		changed := false
		r.ferry.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error {
			if changed {
				return nil
			}
			changed = true
			return p.TryIn(context.Background(), p.SourceDB, canarySchema, "UPDATE t SET v = '"+secret("changed")+"'", "DELETE FROM t WHERE n = 7")
		})
		cutover, run := r.cutover(t, ghostferry.CutoverHooks{})
		require.NoError(t, cutover)
		require.NoError(t, run)
		r.collect(t)
		r.check(t, everywhere(nil))
		p.MustEqual(t, canarySchema)
	})
}

// Neither does one that fails, on whatever way: what a server says of the row that it refused
// is kept from logs, answers, callbacks and from the error that the host is given.
func TestSecretsStaySecretWhenItFails(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	onTarget := func(statements ...string) func(*secretRun) error {
		return func(r *secretRun) error {
			return p.TryIn(context.Background(), p.TargetDB, canarySchema, statements...)
		}
	}
	const unseen = "SET sql_log_bin = 0" // or the watch on the target would end the run first
	elsewhere := "INSERT INTO " + canarySchema + ".t VALUES ('" + canaryKey + "-elsewhere', '" + secret("unique3") + "', NULL, NULL, '" + secret("theirs") + "')"
	for name, test := range map[string]struct {
		before func(r *secretRun)
		spoil  func(r *secretRun) error // before the first row is written
		hooks  ghostferry.CutoverHooks
		tells  string
	}{
		"duplicate while copying": {spoil: onTarget(unseen, elsewhere), tells: canaryKey},
		"too long":                {spoil: onTarget(unseen, "ALTER TABLE t MODIFY v VARCHAR(5) NULL"), tells: "1406"},
		"incorrect string": {spoil: func(r *secretRun) error {
			if err := p.TryIn(context.Background(), p.SourceDB, canarySchema, "UPDATE t SET v = CONCAT('naïve ', '"+secret("utf8")+"')"); err != nil {
				return err
			}
			return onTarget(unseen, "ALTER TABLE t MODIFY v VARCHAR(200) CHARACTER SET ascii NULL")(r)
		}},
		"incorrect integer": {spoil: onTarget(unseen, "ALTER TABLE t MODIFY u INT NULL"), tells: "1366"},
		"check constraint":  {spoil: onTarget(unseen, "ALTER TABLE t ADD CHECK (v <> '"+secret("value")+"')")},
		"written by others": {spoil: func(r *secretRun) error {
			return onTarget("INSERT INTO t VALUES ('" + canaryKey + "-theirs', NULL, NULL, NULL, '" + secret("theirs") + "')")(r)
		}, tells: canaryKey + "-theirs"},
		"altered": {spoil: func(r *secretRun) error {
			return p.TryIn(context.Background(), p.SourceDB, canarySchema, "ALTER TABLE t ADD COLUMN w VARCHAR(60) NOT NULL DEFAULT '"+secret("default")+"'")
		}, tells: "ALTER"},
		"different": {spoil: nil, hooks: ghostferry.CutoverHooks{Fence: func(context.Context) error {
			return p.TryIn(context.Background(), p.SourceDB, canarySchema, unseen, "UPDATE t SET v = '"+secret("hidden")+"' WHERE n = 2")
		}}},
		"callback":         {before: func(r *secretRun) { r.ferry.CutoverLock.URI = withSecrets("http://127.0.0.1:1/lock") }, tells: "http://127.0.0.1:1/lock"},
		"callback refuses": {before: func(r *secretRun) { r.ferry.CutoverLock.URI = withSecrets(r.hooks.URL + "/nowhere") }, tells: "404"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newSecretRun(t, p)
			r.ferry.VerifierType = ghostferry.VerifierTypeOnline
			if name == "different" {
				r.ferry.OnlineVerifierConfig.CompareAllDuringCutover = true
			}
			if test.before != nil {
				test.before(r)
			}
			require.NoError(t, r.ferry.InitializeContext(t.Context()))
			var once sync.Once
			r.ferry.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) (err error) {
				once.Do(func() {
					if test.spoil != nil {
						err = test.spoil(r)
					}
				})
				return err
			})
			require.NoError(t, r.ferry.StartContext(t.Context()))
			cutover, run := r.cutover(t, test.hooks)
			require.Error(t, errors.Join(cutover, run))
			r.collect(t, cutover, run)
			r.check(t, everywhere(map[string]string{"errors": test.tells}))
		})
	}
	for name, spoil := range map[string]func(*ghostferry.Config){
		"password": func(c *ghostferry.Config) { c.Target.Pass = secret("wrong-password") },
		"token":    func(c *ghostferry.Config) { c.ControlServerConfig.Token = canary },
		"address": func(c *ghostferry.Config) {
			c.CutoverLock.URI = "http://hook:" + secret("uri") + "@127.0.0.1:bad/?token=" + secret("uri")
		},
		"throttler": func(c *ghostferry.Config) {
			c.Throttlers = ghostferry.ThrottlersConfig{HTTP: []ghostferry.HTTPThrottlerConfig{{URI: "ftp://hook:" + secret("uri") + "@127.0.0.1/?token=" + secret("uri")}}}
		},
	} {
		t.Run("refused: "+name, func(t *testing.T) {
			r := newSecretRun(t, p)
			spoil(r.ferry.Config)
			err := r.ferry.InitializeContext(t.Context())
			if name == "address" && err == nil {
				err = r.ferry.CutoverLock.PostContext(t.Context(), nil)
			}
			require.Error(t, err)
			r.addError(err)
			r.check(t, map[string]string{"errors": ""})
		})
	}
}

// The check itself finds what it looks for, in every form.
func TestCanariesAreFound(t *testing.T) {
	e := &evidence{}
	e.addError(errors.Join(errors.New("a"), fmt.Errorf("b: %w", errors.New(secret("deep")))))
	_, _ = io.WriteString(e.writer("log"), secret("logged"))
	require.True(t, strings.Contains(e.parts["errors"].String(), canary))
	require.True(t, slices.Contains(strings.Split(e.parts["log"].String(), "\n"), secret("logged")))
}
