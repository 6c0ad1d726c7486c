package ghostferry

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

// An account of caching_sha2_password that is not in the server's cache, without TLS: the
// password is sent under the key that was given, or under any if that was asked for.
func TestPublicKeyOfTheServer(t *testing.T) {
	server := testServer(t, servers.MySQL)
	db, err := testDatabaseConfig(server).SqlDB(nil)
	require.NoError(t, err)
	defer db.Close()
	mustExec(t, db, "DROP USER IF EXISTS 'uncached'@'%'", "CREATE USER 'uncached'@'%' IDENTIFIED WITH caching_sha2_password BY 'secret 1'", "GRANT ALL ON *.* TO 'uncached'@'%'")
	defer mustExec(t, db, "DROP USER 'uncached'@'%'")

	var name, key string
	require.NoError(t, db.QueryRow("SHOW STATUS LIKE 'Caching_sha2_password_rsa_public_key'").Scan(&name, &key))
	right := filepath.Join(t.TempDir(), "right.pem")
	require.NoError(t, os.WriteFile(right, []byte(key), 0o600))
	wrong := filepath.Join(t.TempDir(), "wrong.pem")
	require.NoError(t, os.WriteFile(wrong, anotherKey(t), 0o600))

	for _, c := range []struct {
		what   string
		change func(*DatabaseConfig)
		says   string
	}{
		{"nothing", func(*DatabaseConfig) {}, "ServerPublicKeyPath"},
		{"another key", func(c *DatabaseConfig) { c.ServerPublicKeyPath = wrong }, "another public key"},
		{"the key", func(c *DatabaseConfig) { c.ServerPublicKeyPath = right }, ""},
		{"any key", func(c *DatabaseConfig) { c.InsecurePublicKeyRetrieval = true }, ""},
	} {
		t.Run(c.what, func(t *testing.T) {
			config := testDatabaseConfig(server)
			config.User, config.Pass, config.distrustLoopback = "uncached", "secret 1", true
			c.change(config)
			require.NoError(t, config.Validate())
			for what, connect := range map[string]func(context.Context) error{
				"SQL": func(ctx context.Context) error {
					db, err := config.SqlDB(nil)
					require.NoError(t, err)
					defer db.Close()
					return db.PingContext(ctx)
				},
				"binary log": func(ctx context.Context) error {
					s := &BinlogStreamer{DB: db, DBConfig: config}
					ctx, cancel := context.WithTimeout(ctx, time.Minute)
					defer cancel()
					if _, err := s.ConnectBinlogStreamerToMysql(); err != nil {
						return err
					}
					s.stopAt = s.start // it ends with the first answer
					return s.RunContext(ctx)
				},
			} {
				mustExec(t, db, "FLUSH PRIVILEGES") // empties the server's cache
				err := connect(t.Context())
				if c.says == "" {
					require.NoError(t, err, what)
					continue
				}
				require.ErrorContains(t, err, c.says, what)
				var refused *PublicKeyError
				require.ErrorAs(t, err, &refused, what)
				require.False(t, Retryable(err), what)
				require.NotContains(t, err.Error(), "secret 1")
			}
		})
	}
}

// A server that takes the connection and never says a word is an outage, and the word of
// the caller's context still counts.
func TestLoginIsBounded(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	require.NoError(t, err)
	number, err := strconv.ParseUint(port, 10, 16)
	require.NoError(t, err)
	config := &DatabaseConfig{Host: "127.0.0.1", Port: uint16(number), User: "u"}
	db, err := config.SqlDB(nil)
	require.NoError(t, err)
	defer db.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, db.PingContext(ctx), context.DeadlineExceeded)
}

func anotherKey(t *testing.T) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
