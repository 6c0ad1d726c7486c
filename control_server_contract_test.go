package ghostferry

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The old places of the control server's settings still work.
func TestValidateConfigTakesOldControlServerSettings(t *testing.T) {
	web := webDirectory(t)
	config := validConfig()
	config.ControlServerConfig = &ControlServerConfig{Enabled: true, Token: operateToken}
	config.ServerBindAddr, config.WebBasedir = "127.0.0.1:1", web
	config.ControlServerCustomScripts = map[string][]string{"a": {"true"}}
	require.NoError(t, config.ValidateConfig())
	require.Equal(t, "127.0.0.1:1", config.ControlServerConfig.ServerBindAddr)
	require.Equal(t, web, config.ControlServerConfig.WebBasedir)
	require.Equal(t, map[string][]string{"a": {"true"}}, config.ControlServerConfig.CustomScripts)
}

func webDirectory(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "webui", "static"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "webui", "index.html"), []byte("a page of {{.SourceHostPort}}."), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "webui", "static", "a.css"), []byte("a style"), 0o600))
	return dir
}

// A directory replaces the page; the one that the linker has set wins.
func TestControlServerWebDirectory(t *testing.T) {
	defer func(before string) { WebUiBasedir = before }(WebUiBasedir)
	WebUiBasedir = webDirectory(t)
	c := &ControlServerConfig{WebBasedir: t.TempDir()}
	require.NoError(t, c.Validate())
	require.Equal(t, WebUiBasedir, c.WebBasedir)

	s := testControlServer(t, func(c *ControlServerConfig) { c.WebBasedir = WebUiBasedir })
	for path, want := range map[string]string{"/": "a page of ", "/static/a.css": "a style"} {
		status, body, _ := send(t, s.request(t, "GET", path, ""))
		require.Equal(t, http.StatusOK, status)
		require.True(t, strings.HasPrefix(body, want), body)
	}
}
