package preflight

import (
	"context"
	"fmt"
)

// checkSameServer refuses to move a table onto one that is moved itself. Within one server a table
// may move to another name only.
func (r *run) checkSameServer(context.Context) error {
	if r.SourceServer.Identity != r.TargetServer.Identity {
		return nil
	}
	moved := map[string]bool{}
	for _, t := range r.Tables {
		moved[r.source.id(t.Schema, t.Name)] = true
	}
	var onto []string
	for _, t := range r.Tables {
		if moved[r.source.id(t.TargetSchema, t.TargetName)] {
			onto = append(onto, t.Target())
		}
	}
	if len(onto) == 0 {
		return nil
	}
	remedy := "name another server as the target, or rewrite the names of schemas or tables"
	if r.SourceServer.Hostname != r.TargetServer.Hostname || r.SourceServer.Port != r.TargetServer.Port {
		remedy += "; if they are two servers, one is a copy of the other with its identity: " +
			"stop it, remove auto.cnf from its data directory (MariaDB: change its server_id), start it again"
	}
	r.fault("same", r.TargetServer.String(), fmt.Sprintf("source and target are the same server (identity %s), and %s would be overwritten with itself",
		r.SourceServer.Identity, someOf(onto)), remedy)
	return nil
}
