//go:build trace

package ghostferry

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"strings"
	"sync"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// scribbles has packets of the log written over when they are done with, see dump.
const scribbles = true

// TraceStep is one line of a trace: what the engine has just done. The steps stand in
// the order in which they took effect. Keys are written so that the order of their texts
// is their order on the server, where that is known; an empty one is an open end.
//
//	process  a process begins; the one before is gone
//	begin    it has raised the epoch to Epoch and goes on from At; Chunks are finished
//	table    Table has Phases: 1, 2, or 0 for the serial path
//	deliver  a row change is handed to the applier: At its place, Old and New its keys,
//	         Was and Is its images
//	end      the transaction of the change before is complete
//	open     the gate of Chunk, for Table and Low < key <= High, registers; AnyKey: keys
//	         cannot be ordered
//	barrier  what was delivered when the gate opened is visible to the read of Chunk
//	read     Rows are in memory, up to High, which may be less than planned
//	empty    the chunk had no rows, nothing is written
//	abandon  nothing of Chunk can come to the target
//	close    the gate of Chunk closes
//	fail     it is unknown what of Chunk is on the target; who waits for its gate gives up
//	batch    the applier takes what is delivered up to At; all gates are closed
//	send     COMMIT is about to be sent for Steps
//	sent     it was acknowledged
//	unknown  it was not
//	landed   it turned out to have been committed: that of Chunk, or the batch's last
//	retry    the batch begins again
//	copy     (in Steps) the rows of Chunk and its mark, but for the Keys skipped
//	delete   (in Steps) the first phase of Table for Keys, by Lane
//	write    (in Steps) the last phase of Table for Keys, by Lane, but for those Skipped
//	position (in Steps) At is the position, the batch is over
//	settle   the Keys of Table were looked up and found to be paid
//	block    the source's writers have stopped (written by the host)
//	stop     the stream ends at At
//	done     everything up to there is on the target
//	verified the verifier's verdict: Equal
type TraceStep struct {
	Kind    string                `json:"kind"`
	Table   string                `json:"table,omitempty"`
	Phases  int                   `json:"phases,omitempty"`
	At      *TracePlace           `json:"at,omitempty"`
	Old     string                `json:"old,omitempty"`
	New     string                `json:"new,omitempty"`
	Was     *TraceImage           `json:"was,omitempty"`
	Is      *TraceImage           `json:"is,omitempty"`
	Chunk   int                   `json:"chunk,omitempty"`
	Low     string                `json:"low,omitempty"`
	High    string                `json:"high,omitempty"`
	AnyKey  bool                  `json:"any_key,omitempty"`
	Rows    map[string]TraceImage `json:"rows,omitempty"`
	Lane    int                   `json:"lane,omitempty"`
	Keys    []string              `json:"keys,omitempty"`
	Skipped []string              `json:"skipped,omitempty"`
	Steps   []TraceStep           `json:"steps,omitempty"`
	Epoch   uint64                `json:"epoch,omitempty"`
	Chunks  []string              `json:"chunks,omitempty"`
	Number  string                `json:"number,omitempty"`
	Equal   bool                  `json:"equal,omitempty"`
}

// TracePlace is a place in the source's log; Row tells apart changes that end at one.
type TracePlace struct {
	File string `json:"file"`
	Pos  uint64 `json:"pos"`
	Row  int    `json:"row,omitempty"`
}

// TraceImage is a row: the digest of its values, and its values in unique indexes
// beside the key, each with the index's name.
type TraceImage struct {
	Digest string   `json:"digest"`
	Unique []string `json:"unique,omitempty"`
}

// tracer writes the steps of the process's only Ferry.
var tracer struct {
	// commit is held while a COMMIT is sent and answered, so that the order of the
	// lines is that in which transactions took effect. It comes before mu.
	commit sync.Mutex

	mu      sync.Mutex
	out     io.Writer // nil: nothing is traced
	err     error
	known   map[*TableSchema]bool
	gates   map[*gatedChunk]int
	chunks  map[*chunk]int
	pending map[*session][]TraceStep
	last    TracePlace
}

// TraceTo has the steps of the engine written to w, a line of JSON each in a single
// Write. It exists with the build tag "trace" only, for a process with one Ferry, which
// has no CopyFilter.
func TraceTo(w io.Writer) {
	t := &tracer
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out, t.err, t.last = w, nil, TracePlace{}
	t.known, t.gates, t.chunks = map[*TableSchema]bool{}, map[*gatedChunk]int{}, map[*chunk]int{}
	t.pending = map[*session][]TraceStep{}
	emitLocked(TraceStep{Kind: "process"})
}

// TraceError returns why the trace is not complete, nil when it is.
func TraceError() error {
	tracer.mu.Lock()
	defer tracer.mu.Unlock()
	return tracer.err
}

func emit(s TraceStep) {
	tracer.mu.Lock()
	defer tracer.mu.Unlock()
	emitLocked(s)
}

func emitLocked(s TraceStep) {
	if tracer.out == nil || tracer.err != nil {
		return
	}
	line, err := json.Marshal(s)
	if err == nil {
		_, err = tracer.out.Write(append(line, '\n'))
	}
	tracer.err = err
}

// tableLocked tells of a table before its first step.
func tableLocked(t *TableSchema) (l *tableLayout, name string) {
	l, name = t.cachedLayout.Load(), t.String()
	if !tracer.known[t] {
		tracer.known[t] = true
		phases := 1
		switch {
		case !l.keyBytes:
			phases = 0
		case l.replaced:
			phases = 2
		}
		emitLocked(TraceStep{Kind: "table", Table: name, Phases: phases})
	}
	return l, name
}

func traceBegin(c *checkpoint, previous *resumePoint, at BinlogCoordinate) {
	s := TraceStep{Kind: "begin", Epoch: c.epoch, At: place(at)}
	if previous != nil {
		for id, t := range previous.tables {
			name := fullTableName(id.SchemaName, id.TableName)
			if t.completed {
				s.Chunks = append(s.Chunks, name)
			}
			for _, done := range t.chunks {
				s.Chunks = append(s.Chunks, name+"/"+done.high.encode())
			}
		}
		for i := range s.Chunks {
			s.Chunks[i] = hex.EncodeToString([]byte(s.Chunks[i]))
		}
	}
	emit(s)
}

func place(c BinlogCoordinate) *TracePlace { return &TracePlace{File: c.File, Pos: c.Pos} }

func traceDeliver(events []*rowEvent) {
	t := &tracer
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, ev := range events {
		l, name := tableLocked(ev.table)
		at := *place(ev.end)
		if at.File == t.last.File && at.Pos == t.last.Pos {
			at.Row = t.last.Row + 1
		}
		t.last = at
		s := TraceStep{Kind: "deliver", Table: name, At: &at}
		if ev.old >= 0 {
			s.Old, s.Was = traceKey(l, ev.rows, ev.old), imageOf(ev.table, l, ev.rows, ev.old)
		}
		if ev.new >= 0 {
			s.New, s.Is = traceKey(l, ev.rows, ev.new), imageOf(ev.table, l, ev.rows, ev.new)
		}
		emitLocked(s)
	}
}

func traceEnd() { emit(TraceStep{Kind: "end"}) }

// traceKey writes a key so that texts sort as keys do.
func traceKey(l *tableLayout, rows *codec.Rows, row int) string {
	return traceTuple(l, keyOf(rows, row, l.keys))
}

func traceTuple(l *tableLayout, key keyTuple) string {
	parts := make([]string, len(key))
	for i, v := range key {
		switch l.columns[l.keys[i]].Kind {
		case codec.Int, codec.Uint, codec.Year, codec.Bit, codec.Enum, codec.Set:
			parts[i] = orderedNumber(string(v))
		default:
			parts[i] = "." + hex.EncodeToString(v)
		}
	}
	return strings.Join(parts, ",") // a comma sorts before every digit
}

// orderedNumber pads a decimal integer; of a negative one the digits are complemented.
func orderedNumber(v string) string {
	digits, negative := strings.CutPrefix(v, "-")
	padded := strings.Repeat("0", max(0, 20-len(digits))) + digits
	if !negative {
		return "1" + padded
	}
	return "0" + strings.Map(func(r rune) rune { return '9' - r + '0' }, padded)
}

// imageOf digests a row.
func imageOf(table *TableSchema, l *tableLayout, rows *codec.Rows, row int) *TraceImage {
	sum := fnv.New64a()
	for c := range l.columns {
		v := rows.Value(row, c)
		fmt.Fprintf(sum, "%t,%d,%s;", v == nil, len(v), v)
	}
	image := &TraceImage{Digest: fmt.Sprintf("%016x", sum.Sum64())}
	for _, index := range table.indexInfos {
		if !index.Unique || index.isExactly(l.keys) {
			continue
		}
		value, null := index.Name, false
		for _, c := range index.Columns {
			if c < 0 {
				null = true // an expression: its value is not known here
				break
			}
			v := rows.Value(row, c)
			null = null || v == nil
			value += "=" + hex.EncodeToString(v)
		}
		if !null {
			image.Unique = append(image.Unique, value)
		}
	}
	return image
}

func traceOpen(g *gatedChunk) {
	t := &tracer
	t.mu.Lock()
	defer t.mu.Unlock()
	l, name := tableLocked(g.table)
	t.gates[g] = len(t.gates) + 1
	s := TraceStep{Kind: "open", Chunk: t.gates[g], Table: name, AnyKey: !l.keyOrdered}
	if l.keyOrdered {
		s.Low, s.High = traceTuple(l, g.low), traceTuple(l, g.high)
	}
	emitLocked(s)
}

// traceChunk notes that g is the gate of c now.
func traceChunk(g *gatedChunk, c *chunk) {
	tracer.mu.Lock()
	defer tracer.mu.Unlock()
	tracer.chunks[c] = tracer.gates[g]
}

func chunkStep(kind string, c *chunk) {
	tracer.mu.Lock()
	defer tracer.mu.Unlock()
	emitLocked(TraceStep{Kind: kind, Chunk: tracer.chunks[c]})
}

func traceBarrier(c *chunk) { chunkStep("barrier", c) }
func traceEmpty(c *chunk)   { chunkStep("empty", c) }

func traceRead(c *chunk, l *tableLayout, rows *codec.Rows) {
	s := TraceStep{Kind: "read", Rows: map[string]TraceImage{}}
	if l.keyOrdered {
		s.High = traceTuple(l, c.high)
	}
	for i := range rows.Len() {
		s.Rows[traceKey(l, rows, i)] = *imageOf(c.table, l, rows, i)
	}
	tracer.mu.Lock()
	defer tracer.mu.Unlock()
	s.Chunk = tracer.chunks[c]
	emitLocked(s)
}

func gateStep(kind string, g *gatedChunk) {
	tracer.mu.Lock()
	defer tracer.mu.Unlock()
	emitLocked(TraceStep{Kind: kind, Chunk: tracer.gates[g]})
}

func traceAbandon(g *gatedChunk) { gateStep("abandon", g) }

func traceClose(g *gatedChunk) {
	if g.failed != nil {
		gateStep("fail", g)
		return
	}
	gateStep("close", g)
}

func traceBatch(b *applyBatch) { emit(TraceStep{Kind: "batch", At: place(b.intent)}) }
func traceRetry()              { emit(TraceStep{Kind: "retry"}) }

// traceLanded: the lost COMMIT of a chunk, or (nil) of the batch's position, was executed.
func traceLanded(c *chunk) {
	tracer.mu.Lock()
	defer tracer.mu.Unlock()
	emitLocked(TraceStep{Kind: "landed", Chunk: tracer.chunks[c]})
}

// pend adds a step to the transaction of a session.
func pend(s *session, step TraceStep) {
	tracer.mu.Lock()
	defer tracer.mu.Unlock()
	if tracer.out != nil {
		tracer.pending[s] = append(tracer.pending[s], step)
	}
}

func traceDelete(s *session, lane int, w *tableWriter, changes []*rowChange) {
	pend(s, TraceStep{Kind: "delete", Table: w.table.String(), Lane: lane, Keys: changedKeys(w.layout, changes)})
}

func traceWrite(s *session, lane int, w *tableWriter, changes []*rowChange, skipped []string) {
	pend(s, TraceStep{Kind: "write", Table: w.table.String(), Lane: lane, Keys: changedKeys(w.layout, changes), Skipped: encodedKeys(w.layout, skipped)})
}

func traceSerial(s *session, w *tableWriter, events []*rowEvent, left map[string]struct{}) {
	if len(events) == 0 {
		return
	}
	step := TraceStep{Kind: "write", Table: w.table.String()}
	seen := map[string]bool{}
	for _, ev := range events {
		for _, image := range []int{ev.old, ev.new} {
			if image < 0 || seen[ev.key(image)] {
				continue
			}
			seen[ev.key(image)] = true
			step.Keys = append(step.Keys, traceKey(w.layout, ev.rows, image))
		}
	}
	for key := range left {
		step.Skipped = append(step.Skipped, encodedKeys(w.layout, []string{key})...)
	}
	pend(s, step)
}

func traceCopy(s *session, c *chunk, skipped []string) {
	if c == nil {
		return
	}
	l := c.table.cachedLayout.Load()
	tracer.mu.Lock()
	id := tracer.chunks[c]
	tracer.mu.Unlock()
	number := hex.EncodeToString([]byte(c.table.String() + "/" + c.high.encode()))
	pend(s, TraceStep{Kind: "copy", Chunk: id, Number: number, Keys: encodedKeys(l, skipped)})
}

func tracePosition(s *session, at BinlogCoordinate) {
	pend(s, TraceStep{Kind: "position", At: place(at)})
}

func changedKeys(l *tableLayout, changes []*rowChange) []string {
	keys := make([]string, len(changes))
	for i, c := range changes {
		keys[i] = traceTuple(l, decodeTuple([]byte(c.key)))
	}
	return keys
}

func encodedKeys(l *tableLayout, encoded []string) []string {
	keys := make([]string, len(encoded))
	for i, key := range encoded {
		keys[i] = traceTuple(l, decodeTuple([]byte(key)))
	}
	return keys
}

// traceSend holds tracer.commit until traceSent.
func traceSend(s *session) {
	tracer.commit.Lock()
	tracer.mu.Lock()
	defer tracer.mu.Unlock()
	if steps := tracer.pending[s]; len(steps) > 0 {
		emitLocked(TraceStep{Kind: "send", Steps: steps})
	}
}

func traceSent(s *session, err error) {
	defer tracer.commit.Unlock()
	tracer.mu.Lock()
	defer tracer.mu.Unlock()
	if len(tracer.pending[s]) == 0 {
		return
	}
	delete(tracer.pending, s)
	if err != nil {
		emitLocked(TraceStep{Kind: "unknown"})
		return
	}
	emitLocked(TraceStep{Kind: "sent"})
}

// traceDiscard: what the session had not committed never happened.
func traceDiscard(s *session) {
	tracer.mu.Lock()
	defer tracer.mu.Unlock()
	delete(tracer.pending, s)
}

func traceSettle(table *TableSchema, key string) {
	emit(TraceStep{Kind: "settle", Table: table.String(), Keys: encodedKeys(table.cachedLayout.Load(), []string{key})})
}

// traceStop tells of the source's stream, not of the target verifier's.
func traceStop(s *BinlogStreamer, at BinlogCoordinate) {
	if s.LogTag != "target_binlog_streamer" {
		emit(TraceStep{Kind: "stop", At: place(at)})
	}
}

func traceDone()               { emit(TraceStep{Kind: "done"}) }
func traceVerified(equal bool) { emit(TraceStep{Kind: "verified", Equal: equal}) }
