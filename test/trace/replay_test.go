//go:build trace

package trace

import (
	"errors"
	"slices"
	"testing"

	"github.com/ghostferry-go/ghostferry/internal/model"
)

// projections is how many pairs of keys of a run are followed through the model itself.
const projections = 150

// replay follows pairs of keys through the model: every one must be a schedule of it, and
// none any more when the trace is spoiled.
func replay(t *testing.T, steps []model.Step, locking bool) {
	t.Helper()
	var accepted []model.Projection
	voids := 0
	for _, p := range model.Projections(steps, projections) {
		void, err := model.Replay(steps, p, locking)
		switch {
		case err != nil:
			t.Fatalf("%s: %v", p.Table, explain(steps, err))
		case void:
			voids++
		default:
			accepted = append(accepted, p)
		}
	}
	t.Logf("%d pairs of keys are schedules of the model, %d are kept out by other rows or do not fit", len(accepted), voids)
	if len(accepted) < projections/2 {
		t.Fatal("too few pairs fit into the model")
	}
	for _, mistake := range []struct {
		name  string
		spoil func([]model.Step, model.Projection) ([]model.Step, int)
		least int
	}{
		{"a position is committed too early", positionBeforeWrite, 1},
		{"a chunk is closed without its write", closeWithoutCopy, 1},
		{"a change overtakes an open chunk", batchBeforeClose, 0}, // not every run has one that waited
	} {
		name, spoil, tried := mistake.name, mistake.spoil, 0
		for _, p := range accepted {
			spoiled, at := spoil(steps, p)
			if at < 0 {
				continue
			}
			_, err := model.Replay(spoiled, p, locking)
			var rejected *model.RejectedError
			if !errors.As(err, &rejected) || rejected.Index != at {
				t.Fatalf("%s, keys %v of %s: the model says %v, and not that step %d, %s, is wrong", name, p.Keys, p.Table, err, at, spoiled[at])
			}
			if tried++; tried == 10 {
				break
			}
		}
		t.Logf("%s: rejected for %d pairs", name, tried)
		if tried < mistake.least {
			t.Errorf("%s: no pair of keys shows it", name)
		}
	}
}

// positionBeforeWrite moves the position in front of the last phase of a batch with the
// pair's first key.
func positionBeforeWrite(steps []model.Step, p model.Projection) ([]model.Step, int) {
	written := func(s *model.Step) bool {
		return s.Kind == "write" && s.Table == p.Table && slices.Contains(s.Keys, p.Keys[0])
	}
	for i := next(steps, 0, written); i >= 0; i = next(steps, i+1, written) {
		ended := next(steps, i, ofKind("position", "retry", "crash"))
		before := next(steps, 0, ofKind("position"))
		if ended >= 0 && steps[ended].Kind == "position" && before < i && moves(steps, i, ended) {
			return slices.Insert(without(steps, ended), i, steps[ended]), i
		}
	}
	return nil, -1
}

// moves reports whether the position is another than the one before step i.
func moves(steps []model.Step, i, position int) bool {
	for i--; i >= 0; i-- {
		if steps[i].Kind == "position" || steps[i].Kind == "resume" {
			return steps[i].At != steps[position].At
		}
	}
	return false
}

// closeWithoutCopy takes away the write of the chunk that copied the pair's first key.
func closeWithoutCopy(steps []model.Step, p model.Projection) ([]model.Step, int) {
	for i := range steps {
		s := &steps[i]
		if _, ok := s.Rows[p.Keys[0]]; s.Kind != "read" || !ok {
			continue
		}
		ofChunk := func(kind string) func(*model.Step) bool {
			return func(x *model.Step) bool { return x.Kind == kind && x.Chunk == s.Chunk }
		}
		copied, closed := next(steps, i, ofChunk("copy")), next(steps, i, ofChunk("close"))
		opened := next(steps, 0, ofChunk("open"))
		if copied >= 0 && closed >= 0 && steps[opened].Table == p.Table {
			return without(steps, copied), closed - 1
		}
	}
	return nil, -1
}

// batchBeforeClose has a chunk with a key of the pair close only when a batch with a
// change has begun that was delivered while it was open.
func batchBeforeClose(steps []model.Step, p model.Projection) ([]model.Step, int) {
	for i := range steps {
		s := &steps[i]
		if s.Kind != "deliver" || s.Table != p.Table || !slices.Contains(p.Keys[:], s.New) {
			continue
		}
		for j := i - 1; j >= 0 && steps[j].Kind != "resume"; j-- {
			open := &steps[j]
			if open.Kind != "open" || open.Table != p.Table || s.New <= open.Low || s.New > open.High {
				continue
			}
			closed := next(steps, j, func(x *model.Step) bool { return x.Kind == "close" && x.Chunk == open.Chunk })
			read := next(steps, j, func(x *model.Step) bool { return x.Kind == "read" && x.Chunk == open.Chunk })
			if closed < i || read < 0 || read > closed || steps[read].High < s.New {
				continue
			}
			batch := next(steps, closed, ofKind("batch", "crash"))
			if batch >= 0 && steps[batch].Kind == "batch" && takes(steps, batch, i) {
				return slices.Insert(without(steps, closed), batch, steps[closed]), batch - 1
			}
		}
	}
	return nil, -1
}

// takes reports whether the batch at step i reaches the change at step j.
func takes(steps []model.Step, i, j int) bool {
	for k := i - 1; k >= j; k-- {
		if steps[k].Kind == "deliver" && steps[k].At == steps[i].At {
			return true
		}
	}
	return false
}
