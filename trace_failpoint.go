//go:build failpoint && !trace

package ghostferry

import (
	"sync"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// scribbles has packets of the log written over when they are done with, see dump.
const scribbles = true

// The steps that the engine tells a trace of are failpoints as well.

func traceBegin(*checkpoint, *resumePoint, BinlogCoordinate) {}
func traceDeliver([]*rowEvent)                               { failpoint("stream.rows") }
func traceEnd()                                              { failpoint("stream.transaction_end") }
func traceOpen(*gatedChunk)                                  { failpoint("copy.opened") }
func traceChunk(*gatedChunk, *chunk)                         {}
func traceBarrier(*chunk)                                    { failpoint("copy.barrier") }
func traceRead(*chunk, *tableLayout, *codec.Rows)            { failpoint("copy.read") }
func traceEmpty(*chunk)                                      { failpoint("copy.empty") }
func traceAbandon(*gatedChunk)                               {}
func traceClose(*gatedChunk)                                 { failpoint("copy.closed") }
func traceBatch(*applyBatch)                                 { failpoint("apply.batch") }
func traceRetry()                                            {}
func traceLanded(*chunk)                                     {}
func traceSettle(*TableSchema, string)                       {}
func traceStop(*BinlogStreamer, BinlogCoordinate)            { failpoint("cutover.stop") }
func traceDone()                                             { failpoint("cutover.done") }
func traceVerified(bool)                                     { failpoint("cutover.verified") }

// commits knows what the transaction of a session is for, which decides what its COMMIT
// is called.
var commits sync.Map // *session to [2]string: the names before and after it

func traceCopy(s *session, c *chunk, _ []string) {
	if c != nil {
		commits.Store(s, [2]string{"copy.before_commit", "copy.after_commit"})
	}
}

func traceDelete(s *session, _ int, _ *tableWriter, changes []*rowChange) {
	if len(changes) > 0 {
		commits.Store(s, [2]string{"apply.before_delete_commit", "apply.after_delete_commit"})
		failpoint("apply.deleted")
	}
}

func traceWrite(s *session, _ int, _ *tableWriter, changes []*rowChange, _ []string) {
	if len(changes) > 0 {
		commits.LoadOrStore(s, [2]string{"apply.before_images_commit", "apply.after_images_commit"})
		failpoint("apply.written")
	}
}

func traceSerial(_ *session, _ *tableWriter, events []*rowEvent, _ map[string]struct{}) {
	if len(events) > 0 {
		failpoint("apply.serial")
	}
}

func tracePosition(s *session, _ BinlogCoordinate) {
	commits.Store(s, [2]string{"apply.before_position_commit", "apply.after_position_commit"})
	failpoint("apply.position")
}

func traceSend(s *session) {
	if names, ok := commits.Load(s); ok {
		failpoint(names.([2]string)[0])
	}
}

func traceSent(s *session, err error) {
	if names, ok := commits.LoadAndDelete(s); ok && err == nil {
		failpoint(names.([2]string)[1])
	}
}

func traceDiscard(s *session) { commits.Delete(s) }
