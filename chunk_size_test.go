package ghostferry

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Chunks are large only where that pays and where memory allows it.
func TestChunkSize(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		name                string
		configured, workers int
		all                 uint64 // bytes
		loads               bool
		want                int
	}{
		{"much, by LOAD DATA", 0, 3, 10_000 * mib, true, 4 * mib},
		{"by INSERT", 0, 4, 10_000 * mib, false, mib},
		{"of what is not so much every worker has some", 0, 4, 64 * mib, true, 2 * mib},
		{"little", 0, 4, 2 * mib, true, mib},
		{"of unknown size", 0, 4, 0, true, mib},
		{"few workers", 0, 1, 10_000 * mib, true, 4 * mib},
		{"all workers' chunks are in memory", 0, 4, 10_000 * mib, true, 3 * mib},
		{"as many workers as are ever found", 0, maxFoundWorkers, 10_000 * mib, true, mib},
		{"very many workers", 0, 100, 10_000 * mib, true, mib},
		{"configured", 77, 4, 10_000 * mib, true, 77},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, chunkSize(c.configured, c.workers, c.all, c.loads))
		})
	}
}
