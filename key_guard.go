package ghostferry

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// PublicKeyError says that a password was not sent because it would have travelled,
// without TLS, under a key that nobody has vouched for.
type PublicKeyError struct {
	final
	// Address is the server's.
	Address string
	// Pinned is true when the server offered another key than the configured one.
	Pinned bool
}

// Error names the address and the ways out.
func (e *PublicKeyError) Error() string {
	if e.Pinned {
		return fmt.Sprintf("the server at %s offers another public key than the one in ServerPublicKeyPath: nothing was sent; find out whether its key was renewed or somebody stands between", e.Address)
	}
	return fmt.Sprintf("the server at %s wants the password under a public key that it sends itself, without TLS: anybody between could send one of his own; configure TLS, or get the key in a trusted way (SHOW STATUS LIKE 'Caching_sha2_password_rsa_public_key') and set ServerPublicKeyPath, or set InsecurePublicKeyRetrieval", e.Address)
}

// Resumable is true: with TLS or the key the run goes on.
func (e *PublicKeyError) Resumable() bool { return true }

// maxLoginPacket bounds a packet of the login, which are a few hundred bytes.
const maxLoginPacket = 64 << 10

// keyGuard watches the login over a plain connection: the server's public key, which
// the drivers would take from anybody, has to be the pinned one. It is used by one
// goroutine until the login is over, and passes everything through afterwards.
type keyGuard struct {
	net.Conn
	address string
	pinned  *rsa.PublicKey // nil: no key is taken

	pending  []byte // of the packet that was looked at
	loggedIn bool
	refusal  error
}

// Write passes packets on. The first of a new exchange is a command: the login is over.
func (g *keyGuard) Write(p []byte) (int, error) {
	if !g.loggedIn && len(p) > 4 && p[3] == 0 {
		g.loggedIn = true
	}
	return g.Conn.Write(p)
}

// Read hands out the server's packets, and refuses one that brings a wrong key.
func (g *keyGuard) Read(p []byte) (int, error) {
	if len(g.pending) == 0 {
		if g.loggedIn {
			return g.Conn.Read(p)
		}
		if err := g.readPacket(); err != nil {
			return 0, err
		}
	}
	n := copy(p, g.pending)
	g.pending = g.pending[n:]
	return n, nil
}

func (g *keyGuard) readPacket() error {
	var header [4]byte
	if _, err := io.ReadFull(g.Conn, header[:]); err != nil {
		return err
	}
	size := int(header[0]) | int(header[1])<<8 | int(header[2])<<16
	if size > maxLoginPacket {
		return fmt.Errorf("the server at %s sent a packet of %d bytes during the login", g.address, size)
	}
	packet := make([]byte, 4+size)
	copy(packet, header[:])
	if _, err := io.ReadFull(g.Conn, packet[4:]); err != nil {
		return err
	}
	const moreData = 0x01
	if payload := packet[4:]; size > 0 && payload[0] == moreData && bytes.Contains(payload, []byte("-----BEGIN")) {
		if g.refusal = g.check(payload[1:]); g.refusal != nil {
			return g.refusal
		}
	}
	g.pending = packet
	return nil
}

func (g *keyGuard) check(offered []byte) error {
	if g.pinned == nil {
		return &PublicKeyError{Address: g.address}
	}
	key, err := parsePublicKey(offered)
	if err != nil {
		return fmt.Errorf("the public key of the server at %s: %w", g.address, err)
	}
	if !key.Equal(g.pinned) {
		return &PublicKeyError{Address: g.address, Pinned: true}
	}
	return nil
}

// SyscallConn lets the driver look whether a pooled connection is still alive.
func (g *keyGuard) SyscallConn() (syscall.RawConn, error) {
	if conn, ok := g.Conn.(syscall.Conn); ok {
		return conn.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}
