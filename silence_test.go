package ghostferry

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The end of a stream ends a read that waits, and lets no connection be made any more.
func TestStreamEndsAtOnce(t *testing.T) {
	var theirs []net.Conn
	link := &streamLink{dial: func(context.Context, string, string) (net.Conn, error) {
		ours, other := net.Pipe()
		theirs = append(theirs, other)
		return &silenceLimited{Conn: ours, limit: time.Hour}, nil
	}}
	conn, err := link.connect(t.Context(), "tcp", "")
	require.NoError(t, err)
	read := make(chan error)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		read <- err
	}()
	link.end()
	require.Error(t, <-read)
	_, err = link.connect(t.Context(), "tcp", "")
	require.ErrorIs(t, err, net.ErrClosed)
	link.end()
	require.Len(t, theirs, 1)
	_, err = theirs[0].Write([]byte{1})
	require.Error(t, err)
}

// A connection over which nothing comes is given up.
func TestSilenceEndsAStream(t *testing.T) {
	ours, theirs := net.Pipe()
	defer func() { _, _ = ours.Close(), theirs.Close() }()
	c := &silenceLimited{Conn: ours, limit: 50 * time.Millisecond}
	_, err := c.Read(make([]byte, 1))
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
}
