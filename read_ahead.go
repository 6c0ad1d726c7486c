package ghostferry

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// readAheadBytes is how much is read from a connection at once. Servers send rows in pieces
// of net_buffer_length, 16 KiB.
const readAheadBytes = 64 << 10

// readAhead reads from a server in large pieces: the driver reads rows by 4 KiB, and a
// system call for 20 rows costs as much as making something of them. A connection that is
// sent little keeps no buffer.
type readAhead struct {
	net.Conn
	buf  []byte // nil until a read has filled all that was asked for
	left []byte // of buf
}

func (c *readAhead) Read(p []byte) (int, error) {
	if len(c.left) == 0 {
		if c.buf == nil || len(p) >= len(c.buf) {
			n, err := c.Conn.Read(p)
			if n == len(p) && c.buf == nil {
				c.buf = make([]byte, readAheadBytes)
			}
			return n, err
		}
		n, err := c.Conn.Read(c.buf)
		if c.left = c.buf[:n]; n == 0 {
			return 0, err
		}
		// An error comes again with the next read.
	}
	n := copy(p, c.left)
	c.left = c.left[n:]
	return n, nil
}

// SyscallConn lets the driver look whether an idle connection has been closed.
func (c *readAhead) SyscallConn() (syscall.RawConn, error) {
	if len(c.left) > 0 {
		return nil, errors.New("the server has sent more than it was asked for")
	}
	conn, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a %T cannot be looked at", c.Conn)
	}
	return conn.SyscallConn()
}
