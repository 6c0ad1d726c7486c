package preflight

import "context"

// checkReadOnly refuses a source that is somebody's replica, unless the move waits for its
// primary, and a target that cannot be written.
func (r *run) checkReadOnly(context.Context) error {
	switch {
	case !r.SourceServer.ReadOnly || r.SourceIsReplicaOK: // as it should be
	case r.SourceFenced:
		r.warn("source-fenced", "source, read_only", "the source is read-only: an earlier process of this run died in its cutover",
			"let this one begin, which opens the fence unless the traffic may have been switched; or SET GLOBAL read_only = OFF on the source, if the application writes there")
	default:
		r.fault("source", "source, read_only", "source is a read replica. running Ghostferry with a source replica is unsafe "+
			"unless WaitUntilReplicaIsCaughtUpToMaster is used",
			"set WaitUntilReplicaIsCaughtUpToMaster with its primary, or move from the primary itself; a primary that was left read-only: SET GLOBAL read_only = OFF")
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
