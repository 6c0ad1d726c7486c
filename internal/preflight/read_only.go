package preflight

import "context"

// checkReadOnly refuses a source that is somebody's replica, unless the move waits for its
// primary, and a target that cannot be written.
func (r *run) checkReadOnly(context.Context) error {
	if r.SourceServer.ReadOnly && !r.SourceIsReplicaOK {
		r.fault("source", "source, read_only", "source is a read replica. running Ghostferry with a source replica is unsafe "+
			"unless WaitUntilReplicaIsCaughtUpToMaster is used",
			"set WaitUntilReplicaIsCaughtUpToMaster with its primary, or move from the primary itself")
	}
	switch {
	case r.TargetServer.SuperReadOnly:
		r.fault("target-super", "target, super_read_only", "@@super_read_only must be OFF on target db: no account can write to it",
			"on the target: SET GLOBAL read_only = OFF (which switches super_read_only off too)")
	case r.TargetServer.ReadOnly && !r.AllowReadOnlyTarget:
		r.fault("target", "target, read_only", "@@read_only must be OFF on target db",
			"on the target: SET GLOBAL read_only = OFF; or set AllowSuperUserOnReadOnly when the account may write anyway")
	}
	return nil
}
