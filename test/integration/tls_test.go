package integration

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"io"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	wrapped "github.com/ghostferry-go/ghostferry/sqlwrapper"
	"github.com/ghostferry-go/ghostferry/test/certs"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

const (
	tlsAccount  = "tls_only"
	tlsPassword = "tls secret 1"
)

// tlsServers is a pair whose servers have a certificate, and an account on both that
// must show one.
type tlsServers struct {
	*harness.Pair
	authority *certs.Authority
	client    certs.Pair
}

func startTLS(t *testing.T, flavour servers.Flavour, flags ...string) *tlsServers {
	t.Helper()
	s := &tlsServers{authority: certs.NewAuthority(t)}
	server := s.authority.Issue(t, "server", time.Hour, "127.0.0.1", "db.test")
	s.client = s.authority.Issue(t, "client", time.Hour)
	options := servers.Options{Flavour: flavour, GTID: true, Flags: append([]string{
		"--ssl-ca=" + s.authority.File, "--ssl-cert=" + server.Cert, "--ssl-key=" + server.Key}, flags...)}
	source, target, err := servers.StartPair(t.Context(), options, options)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, source.Stop())
		require.NoError(t, target.Stop())
	})
	s.Pair = &harness.Pair{Setting: harness.Setting{Name: "tls", Flavour: flavour, GTID: true}, Source: source, Target: target}
	s.SourceDB, err = source.DB(t.Context())
	require.NoError(t, err)
	s.TargetDB, err = target.DB(t.Context())
	require.NoError(t, err)
	for _, db := range []*sql.DB{s.SourceDB, s.TargetDB} {
		harness.Exec(t, db, "CREATE USER '"+tlsAccount+"'@'%' IDENTIFIED BY '"+tlsPassword+"' REQUIRE X509;\nGRANT ALL ON *.* TO '"+tlsAccount+"'@'%'")
	}
	return s
}

// tls is what the account needs.
func (s *tlsServers) tls() *ghostferry.TLSConfig {
	return &ghostferry.TLSConfig{CertPath: s.authority.File, ClientCertPath: s.client.Cert, ClientKeyPath: s.client.Key}
}

func (s *tlsServers) database(server *servers.Server, tls *ghostferry.TLSConfig) *ghostferry.DatabaseConfig {
	return &ghostferry.DatabaseConfig{Host: server.Host, Port: uint16(server.Port), User: tlsAccount, Pass: tlsPassword, TLS: tls}
}

// A move by an account that must show a certificate, everywhere: SQL and binary log.
func TestMoveWithClientCertificates(t *testing.T) {
	t.Parallel() // it waits for certificates to expire, with servers of its own
	for _, flavour := range []servers.Flavour{servers.MySQL, servers.MariaDB} {
		t.Run(string(flavour), func(t *testing.T) {
			s := startTLS(t, flavour, "--tls-version=TLSv1.2")
			s.Create(t, "tls_move", "CREATE TABLE t (id INT PRIMARY KEY, v INT)")
			s.In(t, s.SourceDB, "tls_move", "INSERT INTO t VALUES (1,1),(2,2)")
			config := s.Config("tls_move")
			config.Source, config.Target = s.database(s.Source, s.tls()), s.database(s.Target, s.tls())
			f := &ghostferry.Ferry{Config: config}
			require.NoError(t, harness.Move(t.Context(), f, func() error { return nil }))
			require.NoError(t, f.Close())
			s.MustEqual(t, "tls_move")
			s.refusals(t)
		})
	}
}

// refusals: whoever is on the other side, nothing is sent without a certificate that is
// right in every respect, over SQL and for the binary log alike.
func (s *tlsServers) refusals(t *testing.T) {
	other := certs.NewAuthority(t)
	for _, c := range []struct {
		name   string
		change func(t *testing.T, c *ghostferry.DatabaseConfig)
		says   string
	}{
		{"another authority", func(_ *testing.T, c *ghostferry.DatabaseConfig) { c.TLS.CertPath = other.File }, "unknown authority"},
		{"another name", func(_ *testing.T, c *ghostferry.DatabaseConfig) { c.TLS.ServerName = "elsewhere.test" }, "elsewhere.test"},
		{"no client certificate", func(_ *testing.T, c *ghostferry.DatabaseConfig) { c.TLS.ClientCertPath, c.TLS.ClientKeyPath = "", "" }, "Access denied"},
		{"no TLS", func(_ *testing.T, c *ghostferry.DatabaseConfig) { c.TLS = nil }, "Access denied"},
		{"an older version", func(_ *testing.T, c *ghostferry.DatabaseConfig) { c.TLS.MinVersion = "1.3" }, "protocol version"},
		{"TLS taken away on the way", func(t *testing.T, c *ghostferry.DatabaseConfig) { c.Port = withoutTLS(t, s.Source) }, "TLS"},
		{"expired", func(t *testing.T, _ *ghostferry.DatabaseConfig) { s.expire(t) }, "expired"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := s.Config("tls_move")
			config.Source = s.database(s.Source, s.tls())
			c.change(t, config.Source)
			f := &ghostferry.Ferry{Config: config}
			require.ErrorContains(t, f.InitializeContext(t.Context()), c.says)

			stream := &ghostferry.BinlogStreamer{DB: pool(t, s.Source), DBConfig: config.Source}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			require.ErrorContains(t, stream.RunContext(ctx), c.says)
			require.NoError(t, ctx.Err(), "it is not tried again and again")
		})
	}
}

// expire gives the source a certificate whose time is over. MySQL takes none whose time
// is over already.
func (s *tlsServers) expire(t *testing.T) {
	t.Helper()
	end := time.Now().Add(6 * time.Second)
	s.present(t, s.authority.Issue(t, "expired", time.Until(end), "127.0.0.1"))
	<-time.After(time.Until(end) + time.Second) // certificates know whole seconds
}

// present gives the source another certificate.
func (s *tlsServers) present(t *testing.T, pair certs.Pair) {
	t.Helper()
	if s.IsMariaDB() { // it reads the same files again only
		overwrite(t, s.SourceDB, "ssl_cert", pair.Cert)
		overwrite(t, s.SourceDB, "ssl_key", pair.Key)
		harness.Exec(t, s.SourceDB, "FLUSH SSL")
		return
	}
	harness.Exec(t, s.SourceDB, "SET GLOBAL ssl_cert='"+pair.Cert+"', ssl_key='"+pair.Key+"';\nALTER INSTANCE RELOAD TLS")
}

// overwrite replaces the file that a variable of the server names.
func overwrite(t *testing.T, db *sql.DB, variable, with string) {
	t.Helper()
	var name string
	require.NoError(t, db.QueryRow("SELECT @@GLOBAL."+variable).Scan(&name))
	text, err := os.ReadFile(with)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(name, text, 0o600))
}

// pool is root's, as a run has it.
func pool(t *testing.T, server *servers.Server) *wrapped.DB {
	t.Helper()
	c := &ghostferry.DatabaseConfig{Host: server.Host, Port: uint16(server.Port), User: server.User(), Pass: server.Password()}
	db, err := c.SqlDB(nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// withoutTLS is a port in front of a server at which it seems to offer no TLS.
func withoutTLS(t *testing.T, server *servers.Server) uint16 {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go strip(client, net.JoinHostPort(server.Host, strconv.Itoa(server.Port)))
		}
	}()
	return uint16(listener.Addr().(*net.TCPAddr).Port)
}

// strip passes a connection on and takes CLIENT_SSL out of the greeting.
func strip(client net.Conn, address string) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	greeting := make([]byte, 4)
	if _, err := io.ReadFull(server, greeting); err != nil {
		return
	}
	greeting = append(greeting, make([]byte, int(greeting[0])|int(greeting[1])<<8)...) //nolint:makezero // the header stands there already
	if _, err := io.ReadFull(server, greeting[4:]); err != nil {
		return
	}
	// Protocol, version, thread, salt and a filler come before the capabilities.
	at := 4 + 1 + bytes.IndexByte(greeting[5:], 0) + 1 + 4 + 8 + 1
	const clientSSL = 0x0800
	binary.LittleEndian.PutUint16(greeting[at:], binary.LittleEndian.Uint16(greeting[at:])&^clientSSL)
	if _, err := client.Write(greeting); err != nil {
		return
	}
	go func() { _, _ = io.Copy(server, client) }()
	_, _ = io.Copy(client, server)
}
