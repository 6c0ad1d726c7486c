//go:build !trace && !failpoint

package ghostferry

import "github.com/ghostferry-go/ghostferry/internal/codec"

// scribbles has packets of the log written over when they are done with, see dump.
const scribbles = false

// With the build tag "trace" the engine tells, step by step, what it does, so that the
// model of internal/model can check real runs (trace_on.go, test/trace). Without it
// these functions are empty and are compiled away.

func traceBegin(*checkpoint, *resumePoint, BinlogCoordinate)               {}
func traceDeliver([]*rowEvent)                                             {}
func traceEnd()                                                            {}
func traceOpen(*gatedChunk)                                                {}
func traceChunk(*gatedChunk, *chunk)                                       {}
func traceBarrier(*chunk)                                                  {}
func traceRead(*chunk, *tableLayout, *codec.Rows)                          {}
func traceEmpty(*chunk)                                                    {}
func traceAbandon(*gatedChunk)                                             {}
func traceClose(*gatedChunk)                                               {}
func traceBatch(*applyBatch)                                               {}
func traceRetry()                                                          {}
func traceLanded(*chunk)                                                   {}
func traceDelete(*session, int, *tableWriter, []*rowChange)                {}
func traceWrite(*session, int, *tableWriter, []*rowChange, []string)       {}
func traceSerial(*session, *tableWriter, []*rowEvent, map[string]struct{}) {}
func traceCopy(*session, *chunk, []string)                                 {}
func tracePosition(*session, BinlogCoordinate)                             {}
func traceSend(*session)                                                   {}
func traceSent(*session, error)                                            {}
func traceDiscard(*session)                                                {}
func traceSettle(*TableSchema, string)                                     {}
func traceStop(*BinlogStreamer, BinlogCoordinate)                          {}
func traceDone()                                                           {}
func traceVerified(bool)                                                   {}
