package copydb

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/ghostferry-go/ghostferry"
)

// ensureToken gives a control server that is switched on without a token one of its own: in
// a file that only its owner can read. It returns the file's name, empty when a token is
// configured. The file stays, so that the next process of the move has the same token.
func (c *Config) ensureToken() (string, error) {
	s := c.ControlServerConfig
	if s == nil || !s.Enabled || s.Token != "" || s.TokenFile != "" || s.TokenEnv != "" {
		return "", nil
	}
	name, err := tokenFile(c.ServerBindAddr, s.ServerBindAddr)
	if err != nil {
		return "", err
	}
	s.TokenFile = name
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, os.ErrExist) {
		return name, nil
	}
	if err != nil {
		return "", err
	}
	_, err = fmt.Fprintln(file, rand.Text()+rand.Text())
	return name, errors.Join(err, file.Close())
}

// tokenFile is where the token of a server at an address is kept: in the directory of the
// user's own settings, which a temporary directory is not.
func tokenFile(addrs ...string) (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("there is no place for the control server's token, set ControlServerConfig.TokenFile: %w", err)
	}
	dir = filepath.Join(dir, "ghostferry")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	addr := "127.0.0.1:8000"
	for _, a := range addrs {
		if a != "" {
			addr = a
			break
		}
	}
	safe := []rune(addr)
	for i, r := range safe {
		if (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '.' && r != '-' {
			safe[i] = '_'
		}
	}
	return filepath.Join(dir, "token-"+string(safe)), nil
}

// Selection is a digest of what the configuration chooses and what it calls that on the target: of
// two configurations that have the same, an order to the one's control server is meant for the
// other's run, too. It is the same before and after InitializeAndValidateConfig.
func (c *Config) Selection() string {
	kept := func(string, string, string) {} // what contradicts itself is refused elsewhere
	text, err := json.Marshal(struct {
		RunID                                      string
		Databases, NotDatabases, Tables, NotTables []string
		DatabaseRewrites, TableRewrites            map[string]string
	}{
		c.RunID,
		slices.Sorted(slices.Values(c.Databases.Whitelist)), slices.Sorted(slices.Values(c.Databases.Blacklist)),
		slices.Sorted(slices.Values(c.Tables.Whitelist)), slices.Sorted(slices.Values(c.Tables.Blacklist)),
		oneRewrites(c.DatabaseRewrites, c.Databases.Rewrites, "Database", kept), oneRewrites(c.TableRewrites, c.Tables.Rewrites, "Table", kept),
	})
	if err != nil { // unreachable: it is text
		return err.Error()
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:12])
}

// TokenFile is where the control server's token is when the configuration names none: set
// by InitializeAndValidateConfig, empty where there is no such server.
func (c *Config) TokenFile() string { return c.tokenFile }

// ControlServer returns the settings of the control server of a copydb that runs with this
// configuration, its token included.
func (c *Config) ControlServer() (*ghostferry.ControlServerConfig, error) {
	s := c.ControlServerConfig
	if s == nil || !s.Enabled {
		return nil, &ghostferry.ConfigError{Field: "ControlServerConfig.Enabled", Problem: "the configuration has no control server", Remedy: "set ControlServerConfig.Enabled and start the move again"}
	}
	if c.ServerBindAddr != "" {
		s.ServerBindAddr = c.ServerBindAddr
	}
	if _, err := c.ensureToken(); err != nil {
		return nil, err
	}
	return s, s.Validate()
}
