//go:build trace

package trace

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/internal/model"
)

// readTrace reads the lines that the processes of a run have written.
func readTrace(t *testing.T, path string) (lines []ghostferry.TraceStep) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		var s ghostferry.TraceStep
		if err := json.Unmarshal(scanner.Bytes(), &s); err != nil {
			t.Fatalf("line %d of the trace: %v", len(lines)+1, err)
		}
		lines = append(lines, s)
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// translator turns the engine's lines into steps of the model. It names the places of
// the log by the changes delivered, and finds out what became of a COMMIT that the
// process did not live to see answered: the checkpoint tells, or the retry.
type translator struct {
	steps []model.Step

	log       []ghostferry.TracePlace // of all changes, in the order of the log
	names     map[string]int          // of changes: position after it
	delivered int                     // of this process
	chunks    int                     // of earlier processes
	lastRow   int                     // step of the change delivered last, -1 when its transaction is over
	rest      map[int]string          // gates: d
	stops     []int                   // steps whose place is known at the end
	stopsAt   []ghostferry.TracePlace

	sent  *transaction   // COMMIT sent, not answered yet
	lost  []*transaction // answer lost
	began bool
	died  bool
}

// transaction is one of the target, as told and as steps of the model.
type transaction struct {
	told  []ghostferry.TraceStep
	steps []model.Step // the position last
}

// translate returns the steps of a trace.
func translate(lines []ghostferry.TraceStep) []model.Step {
	t := &translator{names: map[string]int{}, lastRow: -1, rest: map[int]string{}}
	for i := range lines {
		t.line(&lines[i])
	}
	for i, step := range t.stops {
		t.steps[step].At = t.nameAt(&t.stopsAt[i], len(t.log))
	}
	return t.steps
}

func (t *translator) add(s model.Step) { t.steps = append(t.steps, s) }

func (t *translator) line(s *ghostferry.TraceStep) {
	switch s.Kind {
	case "process":
		t.chunks += len(t.rest)
		t.rest = map[int]string{}
		t.died = t.began
		if t.sent != nil {
			t.lost, t.sent = append(t.lost, t.sent), nil
		}
	case "begin":
		t.begin(s)
	case "table":
		t.add(model.Step{Kind: "table", Table: s.Table, Phases: s.Phases})
	case "deliver":
		t.deliver(s)
	case "end":
		if t.lastRow >= 0 {
			t.steps[t.lastRow].End = true
		}
		t.lastRow = -1
	case "open", "barrier", "read", "empty", "abandon", "close", "fail":
		t.copier(s)
	case "send":
		t.sent = t.transaction(s.Steps)
	case "sent":
		t.steps = append(t.steps, t.sent.steps...)
		t.sent = nil
	case "unknown":
		t.lost, t.sent = append(t.lost, t.sent), nil
	case "landed":
		t.landed(s.Chunk)
	case "batch":
		t.add(model.Step{Kind: "batch", At: t.nameAt(s.At, t.delivered)})
	case "retry":
		t.undecided(nil)
		t.add(model.Step{Kind: "retry"})
	case "settle":
		t.add(model.Step{Kind: "settle", Table: s.Table, Keys: s.Keys})
	case "stop":
		t.stops, t.stopsAt = append(t.stops, len(t.steps)), append(t.stopsAt, *s.At)
		t.add(model.Step{Kind: "stop"})
	case "verified":
		kind := "verified"
		if !s.Equal {
			kind = "different" // the model has no such step
		}
		t.add(model.Step{Kind: kind})
	default:
		t.add(model.Step{Kind: s.Kind})
	}
}

// begin is the first step of a process: what the one before it left undecided is seen.
func (t *translator) begin(s *ghostferry.TraceStep) {
	t.began = true
	if !t.died {
		return
	}
	t.undecided(s)
	t.died, t.lastRow = false, -1
	at := t.nameAt(s.At, len(t.log))
	t.delivered = t.names[at]
	t.add(model.Step{Kind: "crash"})
	t.add(model.Step{Kind: "resume", At: at, Epoch: int(s.Epoch)})
}

// undecided decides the transactions whose COMMIT was not answered, by the checkpoint
// that the next process found; nil when the process goes on without having seen them.
func (t *translator) undecided(next *ghostferry.TraceStep) {
	for _, lost := range t.lost {
		landed, known := false, false
		for i := range lost.told {
			switch s := &lost.told[i]; s.Kind {
			case "position":
				known = true
				landed = next != nil && *next.At == *s.At
			case "copy":
				known = true
				table, _, _ := strings.Cut(unhex(s.Number), "/")
				landed = next != nil && slices.ContainsFunc(next.Chunks, func(c string) bool { return c == s.Number || unhex(c) == table })
			}
		}
		switch {
		case landed:
			t.steps = append(t.steps, lost.steps...)
		case !known:
			t.add(model.Step{Kind: "maybe", Steps: lost.steps})
		}
	}
	t.lost = nil
}

func unhex(s string) string {
	b, err := hex.DecodeString(s)
	if err != nil {
		return ""
	}
	return string(b)
}

// landed finds the transaction that turned out to have been committed.
func (t *translator) landed(chunk int) {
	for i, lost := range t.lost {
		for _, s := range lost.told {
			if chunk != 0 && s.Kind == "copy" && s.Chunk == chunk || chunk == 0 && s.Kind == "position" {
				t.lost = slices.Delete(t.lost, i, i+1)
				t.steps = append(t.steps, lost.steps...)
				return
			}
		}
	}
}

func (t *translator) transaction(told []ghostferry.TraceStep) *transaction {
	txn := &transaction{told: told}
	for _, positions := range []bool{false, true} {
		for i := range told {
			if (told[i].Kind == "position") == positions {
				txn.steps = append(txn.steps, t.write(&told[i]))
			}
		}
	}
	return txn
}

func (t *translator) write(s *ghostferry.TraceStep) model.Step {
	out := model.Step{Kind: s.Kind, Table: s.Table, Chunk: t.chunk(s.Chunk), Lane: s.Lane, Keys: s.Keys, Skipped: s.Skipped}
	if s.Kind == "position" {
		out.At = t.nameAt(s.At, t.delivered)
	}
	return out
}

func (t *translator) deliver(s *ghostferry.TraceStep) {
	name := placeName(*s.At)
	if _, known := t.names[name]; !known {
		t.log = append(t.log, *s.At)
		t.names[name] = len(t.log)
	}
	t.delivered = t.names[name]
	t.lastRow = len(t.steps)
	t.add(model.Step{Kind: "deliver", Table: s.Table, At: name, Old: s.Old, New: s.New, Was: image(s.Was), Is: image(s.Is)})
}

func image(x *ghostferry.TraceImage) model.Image {
	if x == nil {
		return model.Image{}
	}
	return model.Image{Name: x.Digest, Unique: x.Unique}
}

func placeName(p ghostferry.TracePlace) string { return fmt.Sprintf("%s:%d/%d", p.File, p.Pos, p.Row) }

// nameAt is the last of the first n changes that end at or before a place.
func (t *translator) nameAt(at *ghostferry.TracePlace, n int) string {
	for i := n - 1; i >= 0; i-- {
		if p := t.log[i]; p.File < at.File || p.File == at.File && p.Pos <= at.Pos {
			return placeName(p)
		}
	}
	return ""
}

// chunk numbers the chunks of all processes.
func (t *translator) chunk(number int) int {
	if number == 0 {
		return 0
	}
	return t.chunks + number
}

func (t *translator) copier(s *ghostferry.TraceStep) {
	chunk := t.chunk(s.Chunk)
	switch s.Kind {
	case "open":
		if t.rest[s.Chunk] = ""; t.delivered > 0 {
			t.rest[s.Chunk] = placeName(t.log[t.delivered-1])
		}
		t.add(model.Step{Kind: "open", Table: s.Table, Chunk: chunk, Low: s.Low, High: s.High, AnyKey: s.AnyKey, At: t.rest[s.Chunk]})
	case "barrier": // what the read then saw is checked
		t.add(model.Step{Kind: "barrier", Chunk: chunk, At: t.rest[s.Chunk]})
	case "read":
		rows := make(map[string]model.Image, len(s.Rows))
		for key, x := range s.Rows {
			rows[key] = image(&x)
		}
		t.add(model.Step{Kind: "read", Chunk: chunk, High: s.High, Rows: rows})
	case "empty":
		t.add(model.Step{Kind: "copy", Chunk: chunk})
	default:
		t.add(model.Step{Kind: s.Kind, Chunk: chunk})
	}
}
