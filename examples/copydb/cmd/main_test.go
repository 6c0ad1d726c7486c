package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
)

// -version needs no configuration and ends its line.
func TestVersion(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	require.NoError(t, err)
	defer out.Close()
	require.Zero(t, run([]string{"-version"}, nil, out, out))
	said, err := os.ReadFile(out.Name())
	require.NoError(t, err)
	require.Equal(t, ghostferry.BuildVersion()+"\n", string(said))
}
