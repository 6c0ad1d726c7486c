package ghostferry

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"database/sql/driver"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/retry"
)

const (
	// dialTimeout bounds the connection to a server that does not answer, and then the
	// login.
	dialTimeout = 15 * time.Second
	// rotationPatience is how long a refused password that can be rotated is asked for
	// again: the server and the place where we read it change one after the other.
	rotationPatience = 10 * time.Second
	// unacknowledgedLimit is how long sent bytes may stay unacknowledged, and an idle peer
	// silent to keep-alive probes, before a SQL connection is given up.
	unacknowledgedLimit = 30 * time.Second
)

// rotates reports whether the password is asked for at every connection.
func (c *DatabaseConfig) rotates() bool { return c.Password != nil || c.PassFile != "" }

// password returns the password of a new connection.
func (c *DatabaseConfig) password(ctx context.Context) (string, error) {
	switch {
	case c.Password != nil:
		pass, err := c.Password(ctx)
		if err != nil {
			return "", fmt.Errorf("asking for the password of user %s: %w", c.User, err)
		}
		return pass, nil
	case c.PassFile != "":
		text, err := os.ReadFile(c.PassFile)
		if err != nil {
			return "", fmt.Errorf("reading the password of user %s: %w", c.User, err)
		}
		return strings.TrimRight(string(text), "\r\n"), nil
	}
	return c.Pass, nil
}

// publicKey reads ServerPublicKeyPath, nil when it is not set.
func (c *DatabaseConfig) publicKey() (*rsa.PublicKey, error) {
	if c.ServerPublicKeyPath == "" {
		return nil, nil
	}
	text, err := os.ReadFile(c.ServerPublicKeyPath)
	if err != nil {
		return nil, fmt.Errorf("the server's public key: %w", err)
	}
	key, err := parsePublicKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.ServerPublicKeyPath, err)
	}
	return key, nil
}

func parsePublicKey(text []byte) (*rsa.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("there is no PEM block")
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading a public key: %w", err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("the key is a %T, not an RSA key", parsed)
	}
	return key, nil
}

// dialer returns how to connect to this server, with SQL and with the replication
// protocol alike. silence limits how long a read waits; 0 means no limit.
func (c *DatabaseConfig) dialer(silence time.Duration) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	pinned, err := c.publicKey()
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{
		Timeout:         dialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: unacknowledgedLimit / 3, Interval: unacknowledgedLimit / 6, Count: 4},
		Control:         limitUnacknowledged,
	}
	guarded := c.TLS == nil && c.Net != "unix" && !c.InsecurePublicKeyRetrieval
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if silence > 0 {
			conn = &silenceLimited{Conn: conn, limit: silence}
		} else {
			conn = &readAhead{Conn: conn}
		}
		if guarded && (c.distrustLoopback || !isLoopback(conn.RemoteAddr())) {
			guard := &keyGuard{Conn: conn, pinned: pinned, address: address}
			if login, ok := ctx.Value(loginKey{}).(*login); ok {
				login.guard = guard
			}
			conn = guard
		}
		return conn, nil
	}, nil
}

// isLoopback reports whether nobody can be between.
func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// login carries what the connection knows of a failed login past the driver, which
// reports every failed read as a broken connection.
type login struct{ guard *keyGuard }

// refused returns why nothing was sent, nil when that is not what happened.
func (l *login) refused() error {
	if l.guard == nil {
		return nil
	}
	return l.guard.refusal
}

type loginKey struct{}

// boundedConnector bounds the login, which the driver does not, and asks again while a
// password that can be rotated is refused.
type boundedConnector struct {
	driver.Connector
	rotates bool
}

// Connect returns a connection that is logged in.
func (c *boundedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	if !c.rotates {
		return c.connect(ctx)
	}
	var conn driver.Conn
	patience, cancel := context.WithTimeout(ctx, rotationPatience)
	defer cancel()
	refused := func(err error) bool { return mysqlerr.Classify(err) == mysqlerr.AccessDenied }
	var last error
	err := retry.Do(patience, retry.Policy{Max: time.Second}, refused, nil, func(context.Context) (err error) {
		conn, last = c.connect(ctx)
		return last
	})
	if err != nil && ctx.Err() == nil {
		err = last // our patience is no end of the caller's context
	}
	return conn, err
}

func (c *boundedConnector) connect(ctx context.Context) (driver.Conn, error) {
	state := &login{}
	bounded, cancel := context.WithTimeout(context.WithValue(ctx, loginKey{}, state), dialTimeout)
	defer cancel()
	conn, err := c.Connector.Connect(bounded)
	switch {
	case err == nil:
		return conn, nil
	case state.refused() != nil:
		return nil, state.refused()
	case bounded.Err() != nil && ctx.Err() == nil:
		// Not the context's error: that would say that the caller gave up.
		return nil, fmt.Errorf("the server did not let us in within %s: %w", dialTimeout, os.ErrDeadlineExceeded)
	}
	return nil, err
}
