package ghostferry

import (
	"slices"
	"sync"
)

// maxLateWrites bounds the changes that an alarm lists.
const maxLateWrites = 100

// lateWatch notices changes that are delivered although they lie behind the place where
// the writers of the source were said to have stopped.
type lateWatch struct {
	mu struct {
		sync.Mutex
		after  BinlogCoordinate // zero: not armed
		found  LateWriteError
		notice func(*LateWriteError) // called once, at the first
	}
}

// arm begins to watch for changes behind a place.
func (w *lateWatch) arm(after BinlogCoordinate, notice func(*LateWriteError)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.after, w.mu.found, w.mu.notice = after, LateWriteError{}, notice
}

func (w *lateWatch) disarm() { w.arm(BinlogCoordinate{}, nil) }

// error returns what was found, nil when nothing was.
func (w *lateWatch) error() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.mu.found.Tables) == 0 {
		return nil
	}
	return w.copyLocked()
}

func (w *lateWatch) copyLocked() *LateWriteError {
	e := w.mu.found
	e.Tables, e.Writes = slices.Clone(e.Tables), slices.Clone(e.Writes)
	return &e
}

// observe is an event listener.
func (w *lateWatch) observe(events []DMLEvent) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.after.IsZero() {
		return nil
	}
	for _, ev := range events {
		r, err := rowEventOf(ev)
		if err != nil {
			return err
		}
		if r.end.CompareFilePos(w.mu.after) <= 0 {
			continue
		}
		w.addLocked(r)
	}
	if w.mu.notice != nil && len(w.mu.found.Tables) > 0 {
		w.mu.notice(w.copyLocked())
		w.mu.notice = nil
	}
	return nil
}

func (w *lateWatch) addLocked(r *rowEvent) {
	table := r.table.String()
	if !slices.Contains(w.mu.found.Tables, table) {
		w.mu.found.Tables = append(w.mu.found.Tables, table)
		slices.Sort(w.mu.found.Tables)
	}
	image := r.new
	if image < 0 {
		image = r.old
	}
	if len(w.mu.found.Writes) < maxLateWrites {
		w.mu.found.Writes = append(w.mu.found.Writes, LateWrite{Table: table, Key: r.layout.describeKey(keyOf(r.rows, image, r.layout.keys)), Coordinate: r.end})
	}
}
