package servers

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Of several trees the newest is used, by numbers and not by letters.
func TestNewestTree(t *testing.T) {
	cache, set := t.TempDir(), packageSet{name: "mysql"}
	require.Empty(t, set.cached(cache))
	for _, next := range []string{"9.7.4-2", "9.7.4-10", "9.10.0-1", "10.1.0-1"} { // each is newer than those before
		tree := filepath.Join(cache, "mysql-"+next)
		require.NoError(t, os.Mkdir(tree, 0o755))
		require.Equal(t, tree, set.cached(cache))
	}
}
