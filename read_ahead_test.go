package ghostferry

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tcpPair is a connection and its other end.
func tcpPair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	near, err = net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	far, err = listener.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

// What is sent arrives in order, however large the pieces are that are sent and asked for.
func TestReadAheadKeepsTheOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	near, far := tcpPair(t)
	sent := make([]byte, 3<<20)
	for i := range sent {
		sent[i] = byte(random.Uint32())
	}
	go func() {
		for rest := sent; len(rest) > 0; {
			n := min(len(rest), 1+random.IntN(100<<10))
			_, _ = far.Write(rest[:n])
			rest = rest[n:]
		}
		_ = far.Close()
	}()
	c := &readAhead{Conn: near}
	var got bytes.Buffer
	sizes := rand.New(rand.NewPCG(3, 4))
	for {
		p := make([]byte, []int{0, 1, 4, 4096, 20 << 10, 200 << 10}[sizes.IntN(6)])
		n, err := c.Read(p)
		got.Write(p[:n])
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
	}
	require.True(t, bytes.Equal(sent, got.Bytes()))
}

// A connection that is sent little keeps no buffer; a deadline ends a read; the driver sees
// whether an idle connection was closed, and one with unread bytes is not used again.
func TestReadAheadOfAnIdleConnection(t *testing.T) {
	near, far := tcpPair(t)
	c := &readAhead{Conn: near}
	answer := make([]byte, 4096)
	_, err := far.Write([]byte("answer"))
	require.NoError(t, err)
	n, err := c.Read(answer)
	require.NoError(t, err)
	require.Equal(t, "answer", string(answer[:n]))
	require.Nil(t, c.buf)

	require.NoError(t, c.SetReadDeadline(time.Now().Add(-time.Second)))
	_, err = c.Read(answer)
	require.ErrorContains(t, err, "timeout")
	require.NoError(t, c.SetReadDeadline(time.Time{}))

	var conn syscall.Conn = c
	_, err = conn.SyscallConn()
	require.NoError(t, err)
	_, err = far.Write(make([]byte, 5000))
	require.NoError(t, err)
	_, err = io.ReadFull(c, answer)
	require.NoError(t, err)
	_, err = c.Read(answer[:1])
	require.NoError(t, err)
	require.NotEmpty(t, c.left)
	_, err = conn.SyscallConn()
	require.ErrorContains(t, err, "more than it was asked for")
}
