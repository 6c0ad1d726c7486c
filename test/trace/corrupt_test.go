//go:build trace

package trace

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/ghostferry-go/ghostferry/internal/model"
)

// corruption spoils a copy of an accepted trace as an engine with a mistake would have
// written it. It returns the step that must be rejected, or -1 when it found nothing to
// spoil before from.
type corruption struct {
	name    string
	corrupt func(steps []model.Step, from int) ([]model.Step, int)
	rule    string
}

var corruptions = []corruption{
	{"an event is dropped", dropEvent, "is not in the batch"},
	{"a change is not applied", dropWrite, "is not written yet"},
	{"a position is committed too early", earlyPosition, "is not written yet"},
	{"a chunk is closed without its write", dropCopy, "neither committed nor abandoned"},
	{"a row was read before a change that had been delivered", staleRead, "delivered when the gate opened"},
	{"a batch does not wait for a chunk", lateClose, "waits for chunk"},
	{"a key is inserted before it is deleted", insertFirst, "is not deleted yet"},
	{"a resumed run leaves changes out", skipAtResume, "comes after"},
}

// rejectsCorrupted spoils the trace in every way and fails when that is accepted, or
// rejected at another step than the spoiled one.
func rejectsCorrupted(t *testing.T, steps []model.Step) {
	t.Helper()
	for _, c := range corruptions {
		t.Run(strings.ReplaceAll(c.name, " ", "-"), func(t *testing.T) {
			spoiled, at := c.corrupt(steps, len(steps)/4)
			if at < 0 { // on a busy machine the copy may be over by then
				spoiled, at = c.corrupt(steps, 0)
			}
			if at < 0 {
				t.Fatal("the trace has nothing of the kind")
			}
			err := model.Accept(spoiled)
			var rejected *model.RejectedError
			if !errors.As(err, &rejected) {
				t.Fatalf("the model accepts it: %v", err)
			}
			if rejected.Index != at || !strings.Contains(rejected.Rule, c.rule) {
				t.Fatalf("rejected as %v; expected step %d, %q", err, at, c.rule)
			}
			t.Log(err)
		})
	}
}

func without(steps []model.Step, i int) []model.Step {
	return slices.Delete(slices.Clone(steps), i, i+1)
}

// next returns the first step of a kind at or after from, -1 without one.
func next(steps []model.Step, from int, match func(s *model.Step) bool) int {
	for i := max(0, from); i < len(steps); i++ {
		if match(&steps[i]) {
			return i
		}
	}
	return -1
}

func ofKind(kinds ...string) func(*model.Step) bool {
	return func(s *model.Step) bool { return slices.Contains(kinds, s.Kind) }
}

// onlyChange reports whether the change is the only one of its key.
func onlyChange(steps []model.Step, i int) bool {
	key := steps[i].New
	for j := range steps {
		s := &steps[j]
		if s.Kind == "deliver" && s.At != steps[i].At && s.Table == steps[i].Table && (s.Old == key || s.New == key) {
			return false
		}
	}
	return steps[i].Old == key
}

// dropEvent takes away the only change of a key: what writes it writes what it was never
// handed.
func dropEvent(steps []model.Step, from int) ([]model.Step, int) {
	for i := next(steps, from, ofKind("deliver")); i >= 0; i = next(steps, i+1, ofKind("deliver")) {
		delivered := func(s *model.Step) bool { return s.Kind == "deliver" && s.At == steps[i].At }
		if !onlyChange(steps, i) || steps[i].End && steps[i-1].Kind != "deliver" || next(steps, 0, delivered) != i || next(steps, i+1, delivered) >= 0 {
			continue
		}
		if next(steps, 0, func(s *model.Step) bool { return s.Rows[steps[i].New].Name == steps[i].Is.Name }) >= 0 {
			continue // a read has seen it
		}
		spoiled := without(steps, i)
		spoiled[i-1].End = spoiled[i-1].End || steps[i].End
		at := next(spoiled, i, func(s *model.Step) bool {
			return s.Table == steps[i].Table && (s.Kind == "delete" || s.Kind == "write") && slices.Contains(s.Keys, steps[i].New)
		})
		if at >= 0 && next(spoiled, i, ofKind("crash")) < 0 && next(spoiled, i, refersTo(steps[i].At)) < 0 {
			return spoiled, at
		}
	}
	return nil, -1
}

// refersTo matches steps that name a change.
func refersTo(change string) func(*model.Step) bool {
	return func(s *model.Step) bool { return s.At == change }
}

// dropWrite takes a key out of what a lane has written.
func dropWrite(steps []model.Step, from int) ([]model.Step, int) {
	written := func(s *model.Step) bool { return s.Kind == "write" && len(s.Keys) > 1 }
	for i := next(steps, from, written); i >= 0; i = next(steps, i+1, written) {
		ended := next(steps, i, ofKind("position", "retry", "crash"))
		if ended < 0 || steps[ended].Kind != "position" {
			continue
		}
		spoiled := slices.Clone(steps)
		spoiled[i].Keys = spoiled[i].Keys[1:]
		return spoiled, ended
	}
	return nil, -1
}

// earlyPosition moves a batch's position in front of one of its writes.
func earlyPosition(steps []model.Step, from int) ([]model.Step, int) {
	written := func(s *model.Step) bool { return s.Kind == "write" && len(s.Keys) > 0 }
	for i := next(steps, from, written); i >= 0; i = next(steps, i+1, written) {
		ended := next(steps, i, ofKind("position", "retry", "crash"))
		if ended >= 0 && steps[ended].Kind == "position" {
			return slices.Insert(without(steps, ended), i, steps[ended]), i
		}
	}
	return nil, -1
}

// dropCopy takes away the write of a chunk: the gate closes over nothing.
func dropCopy(steps []model.Step, from int) ([]model.Step, int) {
	i := next(steps, from, ofKind("copy"))
	if i < 0 {
		return nil, -1
	}
	spoiled := without(steps, i)
	return spoiled, next(spoiled, i, func(s *model.Step) bool { return s.Kind == "close" && s.Chunk == steps[i].Chunk })
}

// staleRead gives a read the image that a change, the only one of its key, had replaced
// before the gate opened.
func staleRead(steps []model.Step, _ int) ([]model.Step, int) {
	opened, changed := map[int]int{}, map[string]int{}
	for i := range steps {
		switch s := &steps[i]; s.Kind {
		case "open":
			opened[s.Chunk] = i
		case "deliver":
			changed[s.Table+" "+s.New] = i
		case "read":
			open := opened[s.Chunk]
			for key := range s.Rows {
				change, ok := changed[steps[open].Table+" "+key]
				if !ok || change > open || next(steps[change:open], 0, ofKind("crash")) >= 0 || !onlyChange(steps, change) {
					continue
				}
				spoiled := slices.Clone(steps)
				spoiled[i].Rows = maps.Clone(s.Rows)
				spoiled[i].Rows[key] = steps[change].Was
				return spoiled, i
			}
		}
	}
	return nil, -1
}

// lateClose opens a gate in front of the last change of a batch, which begins while it is
// open.
func lateClose(steps []model.Step, from int) ([]model.Step, int) {
	for i := next(steps, from, ofKind("batch")); i >= 0; i = next(steps, i+1, ofKind("batch")) {
		change := next(steps[:i], 0, func(s *model.Step) bool { return s.Kind == "deliver" && s.At == steps[i].At })
		if change < 1 || steps[change-1].Kind != "deliver" || next(steps[change:i], 0, ofKind("crash")) >= 0 {
			continue
		}
		gate := model.Step{Kind: "open", Chunk: 1 << 20, Table: steps[change].Table, AnyKey: true, At: steps[change-1].At}
		return slices.Insert(slices.Clone(steps), change, gate), i + 1
	}
	return nil, -1
}

// insertFirst takes away the first phase of a batch. No rows are copied between the phases:
// they might have a unique value that the first one makes free.
func insertFirst(steps []model.Step, from int) ([]model.Step, int) {
	deleted := func(s *model.Step) bool { return s.Kind == "delete" && len(s.Keys) > 0 }
	for i := next(steps, from, deleted); i >= 0; i = next(steps, i+1, deleted) {
		written := next(steps, i, func(s *model.Step) bool {
			return s.Table == steps[i].Table && s.Kind == "write" || slices.Contains([]string{"copy", "retry", "crash"}, s.Kind)
		})
		if written >= 0 && steps[written].Kind == "write" {
			return without(steps, i), written - 1
		}
	}
	return nil, -1
}

// skipAtResume takes away a change that is delivered again, so that another comes in its
// place.
func skipAtResume(steps []model.Step, _ int) ([]model.Step, int) {
	again := map[string]bool{}
	for i := range steps {
		if steps[i].Kind != "deliver" {
			continue
		}
		if again[steps[i].At] {
			spoiled := without(steps, i)
			if at := next(spoiled, i, ofKind("deliver", "batch")); at >= 0 && spoiled[at].Kind == "deliver" {
				return spoiled, at
			}
		}
		again[steps[i].At] = true
	}
	return nil, -1
}
