package preflight

import (
	"context"
	"fmt"

	"github.com/ghostferry-go/ghostferry/internal/server"
)

// checkVersions warns of servers that the library is not made for, and of two flavours.
func (r *run) checkVersions(context.Context) error {
	untested := func(side string, s *server.Server) {
		if !s.Supported() {
			r.warn("untested", side, fmt.Sprintf("%s is older than the releases that the library is made for (MySQL 8.0, MariaDB 10.11)", s),
				"upgrade the server, or try the move with a copy of it first")
		}
	}
	untested("source", r.SourceServer)
	untested("target", r.TargetServer)
	if from, to := r.SourceServer.Flavour, r.TargetServer.Flavour; from != to {
		r.warn("flavours", "target", fmt.Sprintf("the source is a %s, the target a %s: definitions are not translated, and applications may have to be changed", from, to),
			"create the target's tables yourself where the target refuses the source's definitions")
	}
	return nil
}
