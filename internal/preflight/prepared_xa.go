package preflight

import (
	"context"
	"fmt"
)

// checkPreparedXA warns of XA transactions that are prepared on the source: their changes lie in
// the binary log before any position to start from, and no read sees them yet. The start waits
// for them, and refuses when that takes long. A run that resumes begins before them.
func (r *run) checkPreparedXA(ctx context.Context) error {
	if r.Resuming {
		return nil
	}
	xids, err := r.SourceServer.PreparedXA(ctx, r.Source)
	switch {
	case err != nil && denied(err):
		// The stream stops at the commit of a transaction that it does not know, so this cannot go
		// wrong silently.
		var account string
		if g, err := readGrants(ctx, r.Source, r.SourceServer); err == nil {
			account = g.account
		}
		r.warn("unknown", "source", "the account may not list prepared XA transactions; if there is one, the move fails when it is committed",
			"on the source: GRANT XA_RECOVER_ADMIN ON *.* TO "+account+"; or see to it that there is none")
		return nil
	case err != nil:
		return err
	case len(xids) > 0:
		r.warn("prepared", "source", fmt.Sprintf("XA transactions are prepared and not yet committed: %s", someOf(xids)),
			fmt.Sprintf("the start waits some seconds for them and then refuses; finish each on the source: XA COMMIT %[1]s or XA ROLLBACK %[1]s", xids[0]))
	}
	return nil
}
