//go:build failpoint

package ghostferry

import "sync/atomic"

// failpointNames are all steps that a run can be stopped at, in about their order. One is
// missing: "index.quiet" is come to only when the server refuses an ALTER while rows change,
// which it does not do for tables that a test can make and fill in a moment.
var failpointNames = []string{
	"resume.loaded", "resume.checked", "resume.created", "resume.before_commit", "resume.taken_over", "resume.repaired",

	"index.recorded", "index.dropped",

	"stream.connected", "stream.rows", "stream.transaction_end", "stream.rotated",

	"copy.opened", "copy.barrier", "copy.read", "copy.empty", "copy.recorded",
	"copy.before_commit", "copy.after_commit", "copy.closed", "copy.completing", "copy.completed",

	"index.waited", "index.creating", "index.created", "index.settled",

	"apply.batch", "apply.intent", "apply.deleted", "apply.before_delete_commit", "apply.after_delete_commit",
	"apply.written", "apply.before_images_commit", "apply.after_images_commit", "apply.serial",
	"apply.position", "apply.before_position_commit", "apply.after_position_commit", "apply.advanced",

	"cutover.copied", "cutover.entered", "cutover.lock", "cutover.locked", "cutover.stop", "cutover.drained",
	"cutover.done", "cutover.verified", "cutover.unlock", "cutover.unlocked",
}

var failpointHandler atomic.Pointer[func(name string)]

// FailpointNames returns the names of all failpoints. It exists with the build tag
// "failpoint" only.
func FailpointNames() []string { return append([]string(nil), failpointNames...) }

// OnFailpoint has f called at every failpoint of the process, by the goroutine that is
// there and possibly with locks held: f ends the process, or returns at once. It exists
// with the build tag "failpoint" only.
func OnFailpoint(f func(name string)) { failpointHandler.Store(&f) }

func failpoint(name string) {
	if f := failpointHandler.Load(); f != nil {
		(*f)(name)
	}
}
