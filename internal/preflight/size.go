package preflight

import (
	"context"
	"fmt"
	"slices"
)

// checkSize tells how much is to be moved. Whether it fits is for somebody else to see: no server
// tells by SQL how much of its disk is free.
func (r *run) checkSize(context.Context) error {
	if len(r.Tables) == 0 || r.Resuming {
		return nil
	}
	largest := slices.MaxFunc(r.Tables, func(a, b Table) int { return int(int64(a.Bytes) - int64(b.Bytes)) })
	r.note("bytes", "target", fmt.Sprintf("about %s of rows are to be moved in %s, %s of them in %s; estimated to take up to %s",
		mebibytes(r.bytes()), plural(len(r.Tables), "table"), mebibytes(largest.Bytes), largest, Duration(r.bytes())),
		"see to it that the target's disk has room for them, for indexes and for the target's own binary log: free disk cannot be asked by SQL")
	return nil
}

func mebibytes(bytes uint64) string { return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20)) }
