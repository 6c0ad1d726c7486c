package ghostferry

import (
	"net"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A deadline ends a stream's reads at once, wherever it lies, and those that begin later.
func TestStreamEndsAtOnce(t *testing.T) {
	ours, theirs := net.Pipe()
	defer func() { _, _ = ours.Close(), theirs.Close() }()
	c := &silenceLimited{Conn: ours, limit: time.Hour}
	read := make(chan error)
	go func() {
		for range 2 {
			c.moved = time.Time{} // so that each read sets its own
			_, err := c.Read(make([]byte, 1))
			read <- err
		}
	}()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Hour)))
	require.ErrorIs(t, <-read, os.ErrDeadlineExceeded)
	require.ErrorIs(t, <-read, os.ErrDeadlineExceeded)
}
