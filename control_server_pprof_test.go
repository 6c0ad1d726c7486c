package ghostferry

import (
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Security 18: profiles are on a mux of their own, for this machine, and for who has the
// token that may change everything.
func TestPProfHandler(t *testing.T) {
	server := &http.Server{Handler: pprofHandler(&ControlServerConfig{Token: operateToken, ReadToken: readToken}), ReadHeaderTimeout: time.Second}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	request := func(host, path string) *http.Request {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+"/debug/pprof/"+path, nil)
		require.NoError(t, err)
		r.Host = host
		r.Header.Set("Authorization", "Bearer "+operateToken)
		return r
	}
	answer := func(r *http.Request) int {
		status, _, _ := send(t, r)
		return status
	}
	get := func(host, path string) int { return answer(request(host, path)) }
	for _, name := range []string{"", "heap", "goroutine?debug=1", "profile?seconds=0.01", "trace?seconds=0.01"} {
		require.Equal(t, 200, get("localhost", name), name)
	}
	require.Equal(t, 421, get("evil.example", "heap"))
	require.Equal(t, 404, get("localhost", "nothing"))
	for authorization, want := range map[string]int{"": 401, "Bearer ": 401, "Basic " + operateToken: 401, "Bearer " + operateToken + "x": 401, "Bearer " + readToken: 403} {
		for _, name := range []string{"", "heap", "profile?seconds=0.01", "nothing"} {
			r := request("localhost", name)
			r.Header.Set("Authorization", authorization)
			require.Equal(t, want, answer(r), "%s with %q", name, authorization)
		}
	}
	r := request("localhost", "heap")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	require.Equal(t, 403, answer(r))
	for _, path := range []string{"/debug/pprof/", "/api/status"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost"+path, nil)
		require.NoError(t, err)
		_, pattern := http.DefaultServeMux.Handler(r)
		require.Empty(t, pattern, "the default mux is the host's")
	}
}

// EnablePProf reads the token of a control server that is off, and is content without one.
func TestPProfTokens(t *testing.T) {
	config := validConfig()
	config.EnablePProf = true
	require.NoError(t, config.ValidateConfig())
	require.Empty(t, config.ControlServerConfig.Token, "the run makes one")

	t.Setenv("PPROF_TOKEN", operateToken)
	config.ControlServerConfig = &ControlServerConfig{TokenEnv: "PPROF_TOKEN"}
	require.NoError(t, config.ValidateConfig())
	require.Equal(t, operateToken, config.ControlServerConfig.Token)

	config.ControlServerConfig = &ControlServerConfig{Token: "short"}
	require.ErrorContains(t, config.ValidateConfig(), "at least 16")
}
