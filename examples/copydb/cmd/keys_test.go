package main

import (
	"io"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
)

// pieces gives out one text with each read, as a terminal does.
type pieces []string

func (p *pieces) Read(b []byte) (int, error) {
	if len(*p) == 0 {
		return 0, io.EOF
	}
	n := copy(b, (*p)[0])
	*p = (*p)[1:]
	return n, nil
}

// A key is one byte by itself: neither pasted text nor a cursor key quits. The cutover needs
// two keys.
func TestKeys(t *testing.T) {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	quits := 0
	p := &program{logger: logger, quit: func(error) { quits++ }}
	ferry := &copydb.CopydbFerry{Ferry: &ghostferry.Ferry{Config: &ghostferry.Config{}, Throttler: &ghostferry.PauserThrottler{}}}
	press := func(keys ...string) {
		typed := pieces(keys)
		p.listenKeys(&typed, ferry)
	}
	press("quit", "\x1b[q", "c", "yes", "x")
	require.Zero(t, quits)
	require.False(t, ferry.Ferry.CutoverAllowed())
	press("c")
	require.Equal(t, confirmLine, p.keyLine())
	press("n", "y")
	require.False(t, ferry.Ferry.CutoverAllowed())
	require.Equal(t, keysLine, p.keyLine())
	press("p")
	require.True(t, ferry.Ferry.Throttler.Throttled())
	press("r", "c", "y", "?", "q")
	require.False(t, ferry.Ferry.Throttler.Throttled())
	require.True(t, ferry.Ferry.CutoverAllowed())
	require.Equal(t, 1, quits)
	press("h")
	require.False(t, ferry.Ferry.CutoverAllowed())
	press("c", "y", "c", "h") // it is allowed: asked again, "no" would leave it so
	require.False(t, ferry.Ferry.CutoverAllowed())
}
