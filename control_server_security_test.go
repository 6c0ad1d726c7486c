package ghostferry

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/test/certs"
)

const (
	operateToken = "operate-token-0123456789"
	readToken    = "read-token-0123456789abc"
)

// testControlServer serves a Ferry that has not begun, on a port of its own.
func testControlServer(t *testing.T, change func(c *ControlServerConfig)) *ControlServer {
	t.Helper()
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	c := &ControlServerConfig{Enabled: true, ServerBindAddr: "127.0.0.1:0", Token: operateToken, ReadToken: readToken}
	if change != nil {
		change(c)
	}
	s := &ControlServer{Config: c, F: &Ferry{Config: &Config{Logger: logger, ControlServerConfig: c, RunID: "run-1"}, Throttler: &PauserThrottler{}}}
	s.F.prepareChannels()
	s.F.log, s.F.logger = newRunLog(logger)
	s.F.log.runID.Store(&s.F.RunID)
	require.NoError(t, s.Initialize())
	require.NoError(t, s.listen())
	ended := make(chan error, 1)
	go func() { ended <- s.RunContext(context.Background()) }()
	t.Cleanup(func() {
		require.NoError(t, s.Shutdown(context.Background()))
		require.NoError(t, <-ended)
		s.Wait() // returns at once
	})
	return s
}

// request is a good request, to be spoiled by a test.
func (s *ControlServer) request(t *testing.T, method, path, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, strings.TrimSuffix(s.URL(), "/")+path, strings.NewReader(body))
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer "+operateToken)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set(ControlHeader, "1")
	return r
}

// send returns status and body.
func send(t *testing.T, r *http.Request) (int, string, http.Header) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(body), answer.Header
}

func controlConfigFaults(t *testing.T, c ControlServerConfig) string {
	t.Helper()
	err := c.Validate()
	if err == nil {
		return ""
	}
	for _, fault := range ConfigErrors(err) {
		require.Contains(t, fault.Problem, "control_server: ")
	}
	return err.Error()
}

// Security 1: off by default; when on, on a loopback address.
func TestControlServerIsOffAndLocalByDefault(t *testing.T) {
	config := validConfig()
	require.NoError(t, config.ValidateConfig())
	require.False(t, config.ControlServerConfig.Enabled)
	require.Equal(t, "127.0.0.1:8000", config.ControlServerConfig.ServerBindAddr)

	s := testControlServer(t, nil)
	host, _, err := net.SplitHostPort(s.Addr())
	require.NoError(t, err)
	require.True(t, net.ParseIP(host).IsLoopback())
}

// Security 2: an address that others can reach needs TLS and a token.
func TestControlServerRefusesToBeReachedInTheClear(t *testing.T) {
	for _, addr := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:8000", "db.example.com:8000"} {
		require.Contains(t, controlConfigFaults(t, ControlServerConfig{Enabled: true, ServerBindAddr: addr, Token: operateToken}), "TLSCertPath", addr)
	}
	require.Contains(t, controlConfigFaults(t, ControlServerConfig{Enabled: true}), "no token is configured")
	require.Empty(t, controlConfigFaults(t, ControlServerConfig{Enabled: true, ServerBindAddr: "localhost:0", Token: operateToken}))

	authority := certs.NewAuthority(t)
	pair := authority.Issue(t, "control", time.Hour, "127.0.0.1")
	cert, key := pair.Cert, pair.Key
	require.Contains(t, controlConfigFaults(t, ControlServerConfig{Enabled: true, ServerBindAddr: ":0", TLSCertPath: cert, TLSKeyPath: key}), "no token is configured")
	require.Contains(t, controlConfigFaults(t, ControlServerConfig{Enabled: true, Token: operateToken, TLSCertPath: cert}), "belong together")

	s := testControlServer(t, func(c *ControlServerConfig) { c.TLSCertPath, c.TLSKeyPath = cert, key })
	require.True(t, strings.HasPrefix(s.URL(), "https://"))
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(authority.File)
	require.NoError(t, err)
	require.True(t, roots.AppendCertsFromPEM(pem))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}}
	answer, err := client.Do(s.request(t, "GET", "/api/overview", ""))
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, 200, answer.StatusCode)
	old := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots, MaxVersion: tls.VersionTLS11}}}
	_, err = old.Do(s.request(t, "GET", "/api/overview", "")) //nolint:bodyclose // there is none
	require.Error(t, err)
}

// Security 3: every address that tells about the run needs a token, and changes need the
// one that may make them; tokens come from a file of the owner's alone or the environment.
func TestControlServerNeedsTokens(t *testing.T) {
	s := testControlServer(t, nil)
	for _, route := range s.routes() {
		path := strings.NewReplacer("{$}", "", "{file}", "index.html").Replace(route.path)
		with := func(authorization string) int {
			r := s.request(t, route.method, path, "{}")
			r.Header.Set("Authorization", authorization)
			if route.path == "/api/events" {
				r.Header.Set("Sec-Fetch-Site", "cross-site") // not to be streamed to
				if authorization == "Bearer "+readToken {
					return 200
				}
				r.Header.Del("Sec-Fetch-Site")
			}
			status, _, _ := send(t, r)
			return status
		}
		if route.needs == roleNone {
			require.Equal(t, 200, with(""), path)
			continue
		}
		for _, wrong := range []string{"", "Bearer", "Bearer ", "Bearer wrong-token-0123456789", "Basic " + operateToken, "Bearer " + operateToken + "x", operateToken} {
			require.Equal(t, 401, with(wrong), "%s with %q", path, wrong)
		}
		if route.needs == roleOperate {
			require.Equal(t, 403, with("Bearer "+readToken), path)
		} else {
			require.NotContains(t, []int{401, 403, 500}, with("Bearer "+readToken), path)
		}
	}
	// In the address it is nothing.
	r := s.request(t, "GET", "/api/overview?token="+operateToken+"&access_token="+operateToken, "")
	r.Header.Del("Authorization")
	status, _, _ := send(t, r)
	require.Equal(t, 401, status)
	require.False(t, s.F.Throttler.Throttled(), "nothing of this has paused the run")
}

func TestControlServerTokenFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(operateToken+"\n"), 0o600))
	c := ControlServerConfig{Enabled: true, TokenFile: file}
	require.Empty(t, controlConfigFaults(t, c))
	require.NoError(t, c.Validate())
	require.Equal(t, operateToken, c.Token)
	require.NoError(t, os.Chmod(file, 0o640))
	require.Contains(t, controlConfigFaults(t, ControlServerConfig{Enabled: true, TokenFile: file}), "chmod 600")
	require.Contains(t, controlConfigFaults(t, ControlServerConfig{Enabled: true, Token: "short"}), "at least 16")
	require.Contains(t, controlConfigFaults(t, ControlServerConfig{Enabled: true, Token: operateToken, ReadToken: operateToken}), "the same")
	t.Setenv("CONTROL_TOKEN", operateToken)
	c = ControlServerConfig{Enabled: true, TokenEnv: "CONTROL_TOKEN"}
	require.NoError(t, c.Validate())
	require.Equal(t, operateToken, c.Token)
	require.Contains(t, controlConfigFaults(t, ControlServerConfig{Enabled: true, TokenEnv: "NO_SUCH_VARIABLE_HERE"}), "is empty")
	text, err := json.Marshal(c)
	require.NoError(t, err)
	require.NotContains(t, string(text), operateToken)
}

// Security 4: another site's page cannot change anything.
func TestControlServerRefusesOtherSites(t *testing.T) {
	s := testControlServer(t, nil)
	for name, test := range map[string]struct {
		spoil  func(r *http.Request)
		status int
	}{
		"a form":            {func(r *http.Request) { r.Header.Set("Content-Type", "application/x-www-form-urlencoded") }, 415},
		"a form with files": {func(r *http.Request) { r.Header.Set("Content-Type", "multipart/form-data; boundary=x") }, 415},
		"a text":            {func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, 415},
		"no type":           {func(r *http.Request) { r.Header.Del("Content-Type") }, 415},
		"no header":         {func(r *http.Request) { r.Header.Del(ControlHeader) }, 403},
		"an origin":         {func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }, 403},
		"a null origin":     {func(r *http.Request) { r.Header.Set("Origin", "null") }, 403},
		"cross-site":        {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }, 403},
		"same-site":         {func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, 403},
	} {
		r := s.request(t, "POST", "/api/cutover", `{"type":"automatic","run-id":"run-1"}`)
		test.spoil(r)
		status, body, _ := send(t, r)
		require.Equal(t, test.status, status, "%s: %s", name, body)
		require.False(t, s.F.CutoverAllowed(), name)
	}
	r := s.request(t, "POST", "/api/cutover", `{"type":"automatic","run-id":"run-1"}`)
	r.Header.Set("Origin", strings.TrimSuffix(s.URL(), "/"))
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	status, body, _ := send(t, r)
	require.Equal(t, 200, status, body)
	require.True(t, s.F.CutoverAllowed())
}

// Security 5: a name that somebody else has pointed at this address is refused.
func TestControlServerRefusesOtherNames(t *testing.T) {
	s := testControlServer(t, func(c *ControlServerConfig) { c.AllowedHosts = []string{"move.internal"} })
	_, port, err := net.SplitHostPort(s.Addr())
	require.NoError(t, err)
	for host, want := range map[string]int{
		"evil.example": 421, "evil.example:" + port: 421, "127.0.0.1.evil.example": 421, "192.0.2.7": 421, "localhost.": 421,
		"127.0.0.1:" + port: 200, "localhost:" + port: 200, "[::1]:" + port: 200, "move.internal": 200, "MOVE.internal:1": 200,
	} {
		for _, path := range []string{"/", "/api/overview", "/metrics", "/static/app.js"} {
			r := s.request(t, "GET", path, "")
			r.Host = host
			status, _, _ := send(t, r)
			if path == "/static/app.js" && want == 200 {
				continue
			}
			require.Equal(t, want, status, "%s%s", host, path)
		}
	}
}

// Bound to every address, it is localhost for whoever has come from this machine.
func TestControlServerIsLocalhostHere(t *testing.T) {
	s := testControlServer(t, nil)
	s.Config.ServerBindAddr = "0.0.0.0:8000"
	for reached, want := range map[string]int{"127.0.0.1": 200, "::1": 200, "192.0.2.7": 421} {
		r := s.request(t, "GET", "/api/overview", "")
		r.Host = "localhost:8000"
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.ParseIP(reached), Port: 8000}))
		answer := httptest.NewRecorder()
		s.ServeHTTP(answer, r)
		require.Equal(t, want, answer.Code, reached)
	}
}

// Security 6: GET and HEAD change nothing, a wrong method is 405, orders may be repeated,
// and the cutover needs the run's id.
func TestControlServerMethodsAndRepeatedOrders(t *testing.T) {
	s := testControlServer(t, nil)
	for _, route := range s.routes() {
		if route.method != "POST" {
			continue
		}
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "PATCH"} {
			status, _, header := send(t, s.request(t, method, route.path, ""))
			if route.path == "/api/config" && (method == "GET" || method == "HEAD") {
				require.Equal(t, 200, status)
				continue
			}
			require.Contains(t, header.Get("Allow"), "POST")
			require.Equal(t, 405, status, "%s %s", method, route.path)
		}
	}
	for _, path := range []string{"/api/nothing", "/api", "/debug/pprof/", "/static/../control_server.go", "/static/%2e%2e%2fwebui.go"} {
		status, _, _ := send(t, s.request(t, "GET", path, ""))
		require.Contains(t, []int{404, 307}, status, path)
	}
	order := func(body string) int {
		status, _, _ := send(t, s.request(t, "POST", "/api/cutover", body))
		return status
	}
	for _, body := range []string{`{"type":"automatic"}`, `{"type":"automatic","run-id":""}`, `{"type":"automatic","run-id":"run-2"}`} {
		require.Equal(t, 409, order(body), body)
	}
	for _, body := range []string{``, `{}`, `{"type":"now"}`, `{"type":"automatic","run-id":"run-1","x":1}`, `[]`, `{"type":"automatic","run-id":"run-1"}{}`, `{`} {
		require.Equal(t, 400, order(body), body)
	}
	require.False(t, s.F.CutoverAllowed())
	for range 2 {
		require.Equal(t, 200, order(`{"type":"automatic","run-id":"run-1"}`))
		require.True(t, s.F.CutoverAllowed())
	}
	for range 2 {
		require.Equal(t, 200, order(`{"type":"manual"}`))
		require.False(t, s.F.CutoverAllowed())
	}
	require.False(t, s.F.permission.take(), "an attempt waits while it is held back")
	require.Equal(t, 200, order(`{"type":"automatic","run-id":"run-1"}`))
	require.True(t, s.F.permission.take())
	require.Equal(t, 409, order(`{"type":"manual"}`), "the writers are being stopped")
	require.True(t, s.F.CutoverAllowed(), "nothing was changed")
	s.F.permission.giveBack()
	require.Equal(t, 200, order(`{"type":"manual"}`))
	for _, path := range []string{"/api/pause", "/api/pause"} {
		status, body, _ := send(t, s.request(t, "POST", path, ""))
		require.Equal(t, 200, status)
		require.Empty(t, body)
		require.True(t, s.F.Throttler.Throttled())
	}
	status, _, _ := send(t, s.request(t, "POST", "/api/unpause", ""))
	require.Equal(t, 200, status)
	require.False(t, s.F.Throttler.Throttled())
	status, _, _ = send(t, s.request(t, "POST", "/api/stop", ""))
	require.Equal(t, 501, status)
	status, _, _ = send(t, s.request(t, "POST", "/api/verify", ""))
	require.Equal(t, 501, status)
}

// Security 7: a script comes from the configuration only, is no shell's, and is bounded in
// time and output.
func TestControlServerScripts(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	s := testControlServer(t, func(c *ControlServerConfig) {
		c.CustomScriptTimeout = "300ms"
		c.CustomScripts = map[string][]string{
			"hello":   {"echo", "hello; touch " + mark, "$HOME", "`id`"},
			"fails":   {"sh", "-c", "echo oops >&2; exit 3"},
			"missing": {filepath.Join(t.TempDir(), "no-such-program")},
			"endless": {"sleep", "600"},
			"noisy":   {"sh", "-c", "yes | head -c 1000000"},
		}
	})
	run := func(body string) int {
		status, _, _ := send(t, s.request(t, "POST", "/api/script", body))
		return status
	}
	ended := func(name string) CustomScriptStatus {
		require.Equal(t, 200, run(fmt.Sprintf(`{"script-name":%q}`, name)))
		s.scripts.running.Wait()
		return s.scripts.statuses()[name]
	}
	require.Equal(t, "not started yet", s.scripts.statuses()["hello"].Status)
	for _, body := range []string{`{}`, `{"script-name":"sh"}`, `{"script-name":"hello; id"}`} {
		require.Equal(t, 404, run(body), body)
	}
	require.Equal(t, 400, run(`{"script-name":"hello","args":["x"]}`))

	hello := ended("hello")
	require.Equal(t, CustomScriptStatus{Name: "hello", Status: "success", Logs: "hello; touch " + mark + " $HOME `id`\n"}, hello)
	require.NoFileExists(t, mark)
	fails := ended("fails")
	require.Equal(t, 3, fails.ExitCode)
	require.Equal(t, "exitted with error: exit status 3", fails.Status)
	require.Equal(t, "oops\n", fails.Logs)
	missing := ended("missing")
	require.Equal(t, -1, missing.ExitCode)
	require.Contains(t, missing.Status, "no such file")
	require.Contains(t, ended("endless").Status, "ended after 300ms")
	require.Less(t, len(ended("noisy").Logs), scriptOutputBytes+100)
	s.view.changed()
	overview := s.view.current().overview.Scripts // is sent every second
	require.Equal(t, fails, overview["fails"])
	require.LessOrEqual(t, len(overview["noisy"].Logs), scriptTailBytes+len("…"))
	require.Contains(t, overview["noisy"].Logs, "y\n")
	require.Greater(t, len(s.status().CustomScriptStatuses["noisy"].Logs), scriptOutputBytes-1)
	require.Contains(t, controlConfigFaults(t, ControlServerConfig{Enabled: true, Token: operateToken, CustomScripts: map[string][]string{"x": {}}}), "no program")
	require.Contains(t, controlConfigFaults(t, ControlServerConfig{Enabled: true, Token: operateToken, CustomScriptTimeout: "soon"}), "CustomScriptTimeout")
}

// Security 8: nothing that is shown can be a script (the page itself: test/browser).
func TestControlServerHeaders(t *testing.T) {
	s := testControlServer(t, nil)
	for _, path := range []string{"/", "/static/index.html", "/api/overview", "/api/nothing", "/metrics"} {
		_, _, header := send(t, s.request(t, "GET", path, ""))
		require.Contains(t, header.Get("Content-Security-Policy"), "default-src 'none'", path)
		require.NotContains(t, header.Get("Content-Security-Policy"), "unsafe", path)
		require.Equal(t, "nosniff", header.Get("X-Content-Type-Options"), path)
		require.Equal(t, "DENY", header.Get("X-Frame-Options"), path)
		require.NotEmpty(t, header.Get("Content-Type"), path)
	}
}

// Security 18: somebody who only connects, trickles or floods takes little.
func TestControlServerLimits(t *testing.T) {
	s := testControlServer(t, nil)
	require.NotZero(t, s.server.ReadHeaderTimeout)
	require.NotZero(t, s.server.ReadTimeout)
	require.NotZero(t, s.server.WriteTimeout)
	require.NotZero(t, s.server.IdleTimeout)
	answer := httptest.NewRecorder()
	s.ServeHTTP(answer, s.request(t, "POST", "/api/config", `{"DataIterationBatchSize":`+strings.Repeat(" ", controlBodyBytes)+`1}`))
	require.Equal(t, 413, answer.Code)
	require.Equal(t, controlHeaderBytes, s.server.MaxHeaderBytes)

	// One that sends its header byte by byte is cut off.
	conn, err := net.Dial("tcp", s.Addr())
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\nX"))
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(4*controlHeaderTimeout)))
	_, err = io.ReadAll(conn)
	require.NoError(t, err, "the server has not closed the connection")
}

// A listener that is full lets the next one in when somebody leaves.
func TestCappedListener(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := newCappedListener(inner, 1)
	accepted := make(chan net.Conn)
	go func() {
		defer close(accepted)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- conn
		}
	}()
	for range 2 {
		client, err := net.Dial("tcp", inner.Addr().String())
		require.NoError(t, err)
		defer client.Close()
	}
	first := <-accepted
	require.Len(t, l.(*cappedListener).slots, 1)
	select {
	case <-accepted:
		t.Fatal("a second connection was accepted")
	default:
	}
	require.NoError(t, first.Close())
	_ = first.Close() // gives its place back once
	second := <-accepted
	require.NoError(t, second.Close())
	require.NoError(t, l.Close())
	<-accepted
}

// Secrets of the configuration stand in no answer.
func TestControlServerTellsNoSecrets(t *testing.T) {
	s := testControlServer(t, nil)
	s.F.Source = &DatabaseConfig{Host: "db", Port: 3306, User: "u", Pass: "canary-password"}
	s.F.RunLogger().WithError(fmt.Errorf("Error 1062 (23000): Duplicate entry 'canary-row' for key 't.PRIMARY'")).Warn("a line")
	var all bytes.Buffer
	for _, path := range []string{"/", "/api/status", "/api/overview", "/api/tables", "/api/log", "/api/history", "/api/config", "/api/mismatches", "/metrics"} {
		status, body, header := send(t, s.request(t, "GET", path, ""))
		require.Equal(t, 200, status, path)
		all.WriteString(body)
		fmt.Fprint(&all, header)
	}
	require.Contains(t, all.String(), "Duplicate entry '…' for key")
	for _, secret := range []string{operateToken, readToken, "canary-password", "canary-row"} {
		require.NotContains(t, all.String(), secret)
	}
}
