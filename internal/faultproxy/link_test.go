package faultproxy

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A link carries every byte, both ways, and leaves nothing behind.
func TestLinkCarriesEverything(t *testing.T) {
	echo, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = echo.Close() }()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	link, err := StartLink(echo.Addr().String(), 1_000_000_000, 2*time.Millisecond)
	require.NoError(t, err)
	sent := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{1})
	_, _ = random.Read(sent)
	c, err := net.Dial("tcp", link.Addr())
	require.NoError(t, err)
	begun := time.Now()
	go func() { _, _ = c.Write(sent) }()
	got := make([]byte, len(sent))
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.True(t, bytes.Equal(sent, got))
	require.GreaterOrEqual(t, time.Since(begun), 2*time.Millisecond, "a round trip takes its time")
	up, down := link.Bytes()
	require.Equal(t, int64(len(sent)), up)
	require.Equal(t, int64(len(sent)), down)
	_ = c.Close()
	require.NoError(t, link.Close())
}
