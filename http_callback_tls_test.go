package ghostferry

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/test/certs"
)

// tlsEndpoint is an https endpoint on 127.0.0.1, and how many payloads it was handed.
func tlsEndpoint(t *testing.T, config *tls.Config) (uri string, payloads func() int) {
	t.Helper()
	received := make(chan string, 100)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		received <- string(body)
	}))
	server.Config.ErrorLog = quietHTTPLog(loggerOrStandard(nil))
	server.TLS = config
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL + "/lock", func() int { return len(received) }
}

// Security 12: no payload reaches an endpoint whose certificate is not right in every
// respect, and one that is right is believed.
func TestCallbackTLS(t *testing.T) {
	authority, other := certs.NewAuthority(t), certs.NewAuthority(t)
	good := authority.Issue(t, "good", time.Hour, "127.0.0.1")
	elsewhere := authority.Issue(t, "elsewhere", time.Hour, "elsewhere.test", "192.0.2.1")
	expired := authority.Issue(t, "expired", -time.Hour, "127.0.0.1")
	client := authority.Issue(t, "client", time.Hour)
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(authority.File)
	require.NoError(t, err)
	require.True(t, roots.AppendCertsFromPEM(pem))
	ours := &TLSConfig{CertPath: authority.File}
	mutual := func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, roots }

	for name, test := range map[string]struct {
		server certs.Pair
		change func(c *tls.Config)
		config *TLSConfig
		says   string // empty: it works
	}{
		"the right authority":       {server: good, config: ours},
		"a name of its own":         {server: elsewhere, config: &TLSConfig{CertPath: authority.File, ServerName: "elsewhere.test"}},
		"a client certificate":      {good, mutual, &TLSConfig{CertPath: authority.File, ClientCertPath: client.Cert, ClientKeyPath: client.Key}, ""},
		"no client certificate":     {good, mutual, ours, "certificate required"},
		"another authority":         {server: good, config: &TLSConfig{CertPath: other.File}, says: "unknown authority"},
		"the system's authorities":  {server: good, config: &TLSConfig{}, says: "unknown authority"},
		"no configuration":          {server: good, says: "unknown authority"},
		"another name":              {server: elsewhere, config: ours, says: "valid for 192.0.2.1, not 127.0.0.1"},
		"another name is asked for": {server: good, config: &TLSConfig{CertPath: authority.File, ServerName: "elsewhere.test"}, says: "elsewhere.test"},
		"expired":                   {server: expired, config: ours, says: "expired"},
		"TLS 1.1":                   {good, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, ours, "protocol version"},
		"less than is asked for":    {good, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, &TLSConfig{CertPath: authority.File, MinVersion: "1.3"}, "protocol version"},
	} {
		t.Run(name, func(t *testing.T) {
			certificate, err := tls.LoadX509KeyPair(test.server.Cert, test.server.Key)
			require.NoError(t, err)
			serves := &tls.Config{Certificates: []tls.Certificate{certificate}} //nolint:gosec // a case serves old versions
			if test.change != nil {
				test.change(serves)
			}
			uri, payloads := tlsEndpoint(t, serves)
			config := &Config{CallbackTLS: test.config}
			err = config.post(t.Context(), HTTPCallback{URI: uri, Payload: "x"})
			if test.says == "" {
				require.NoError(t, err)
				require.Equal(t, 1, payloads())
				return
			}
			require.ErrorContains(t, err, test.says)
			require.Zero(t, payloads())
		})
	}
}

// An endpoint that speaks no TLS is not spoken to without.
func TestCallbackTLSIsNotGivenUp(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a payload was sent in the clear") }))
	defer plain.Close()
	_, port, err := net.SplitHostPort(plain.Listener.Addr().String())
	require.NoError(t, err)
	config := &Config{CallbackTLS: &TLSConfig{CertPath: certs.NewAuthority(t).File}}
	require.Error(t, config.post(t.Context(), HTTPCallback{URI: "https://127.0.0.1:" + port, Payload: "x"}))
}
