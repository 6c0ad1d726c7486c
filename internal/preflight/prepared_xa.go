package preflight

import (
	"context"
	"fmt"

	"github.com/ghostferry-go/ghostferry/internal/server"
)

// checkPreparedXA warns of XA transactions that are prepared: their changes lie in the binary log
// before any position to start from, and no read sees them yet. The start waits for them, and
// refuses when that takes long on the source. A run that resumes begins before them.
func (r *run) checkPreparedXA(ctx context.Context) error {
	if r.Resuming {
		return nil
	}
	err := r.preparedXA(ctx, r.SourceServer, r.Source, "source",
		"the start waits some seconds for them and then refuses; finish each on the source: XA COMMIT %[1]s or XA ROLLBACK %[1]s")
	if err != nil && denied(err) {
		// The stream stops at the commit of a transaction that it does not know, so this cannot go
		// wrong silently.
		var account string
		if g, err := readGrants(ctx, r.Source, r.SourceServer); err == nil {
			account = g.account
		}
		r.warn("unknown", "source", "the account may not list prepared XA transactions; if there is one, the move fails when it is committed",
			"on the source: GRANT XA_RECOVER_ADMIN ON *.* TO "+account+"; or see to it that there is none")
		err = nil
	}
	if err != nil || !r.WatchTarget {
		return err
	}
	err = r.preparedXA(ctx, r.TargetServer, r.Target, "target",
		"the start waits some seconds for them; one that is committed later fails the move, because nobody knows what it has changed; finish each on the target: XA ROLLBACK %[1]s")
	if err != nil && denied(err) {
		return nil // the watch stops as the stream does, and few write to a target
	}
	return err
}

func (r *run) preparedXA(ctx context.Context, srv *server.Server, on server.Querier, side, remedy string) error {
	xids, err := srv.PreparedXA(ctx, on)
	if err == nil && len(xids) > 0 {
		r.warn("prepared", side, fmt.Sprintf("XA transactions are prepared and not yet committed: %s", someOf(xids)), fmt.Sprintf(remedy, xids[0]))
	}
	return err
}
