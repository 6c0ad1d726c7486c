package ghostferry

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLSConfig says how to encrypt the connections to a server, those of the binary log
// included, or to the endpoints of callbacks. The peer's certificate is always verified:
// there is no setting to skip that.
type TLSConfig struct {
	// CertPath is a PEM file with the trusted authorities; empty means the system's.
	CertPath string
	// ServerName is the name that the server's certificate must carry; empty means
	// the host's.
	ServerName string

	// ClientCertPath and ClientKeyPath are PEM files with the client's certificate
	// and key; both or neither.
	ClientCertPath string
	ClientKeyPath  string

	// MinVersion is "1.2" (the default) or "1.3".
	MinVersion string

	built *tls.Config
}

// BuildConfig reads the files and builds the TLS configuration once; later calls
// return the same. An error of reading a file is passed through, a file without a
// certificate is "unable to append pem". The first call must not be concurrent with
// others; Validate makes it.
func (t *TLSConfig) BuildConfig() (*tls.Config, error) {
	if t.built != nil {
		return t.built, nil
	}
	config := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}

	switch t.MinVersion {
	case "", "1.2":
	case "1.3":
		config.MinVersion = tls.VersionTLS13
	default:
		return nil, fmt.Errorf("unknown TLS version %q: MinVersion is \"1.2\" or \"1.3\"", t.MinVersion)
	}

	if t.CertPath != "" {
		pem, err := os.ReadFile(t.CertPath)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("unable to append pem: %s has no certificate", t.CertPath)
		}
	}

	if (t.ClientCertPath == "") != (t.ClientKeyPath == "") {
		return nil, errors.New("ClientCertPath and ClientKeyPath belong together: give both or neither")
	}
	if t.ClientCertPath != "" {
		certificate, err := tls.LoadX509KeyPair(t.ClientCertPath, t.ClientKeyPath)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}

	t.built = config
	return config, nil
}

// tlsConfig is a copy of the configuration for this server, nil for a plain connection.
// The name to expect is filled in here, because the replication client does not.
func (c *DatabaseConfig) tlsConfig() (*tls.Config, error) {
	if c.TLS == nil {
		return nil, nil
	}
	config, err := c.TLS.BuildConfig()
	if err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	config = config.Clone()
	if config.ServerName == "" && c.Net != "unix" {
		config.ServerName = c.Host
	}
	return config, nil
}
