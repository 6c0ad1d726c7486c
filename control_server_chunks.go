package ghostferry

import (
	"math"
	"net/http"
	"slices"
)

// chunkCells is into how many cells a table's keys are divided.
const chunkCells = 200

// ControlServerChunks is the answer of GET /api/chunks: which parts of one table, from its
// lowest key to its highest, are copied.
type ControlServerChunks struct {
	Table string
	// Reason says why there is no map; empty where there is one.
	Reason string
	// From and To are the keys at the ends of the map.
	From, To float64
	// Copied has a percentage for each cell, Copying the cells in which a chunk is
	// under way.
	Copied, Copying []int
	// Ranges is how many separate ranges are copied, ChunksInFlight how many are under way.
	Ranges, ChunksInFlight int
}

func (s *ControlServer) handleChunks(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Query().Get("table")
	if s.F.Tables[name] == nil {
		refuse(w, http.StatusNotFound, "the run has no such table")
		return
	}
	s.answer(w, s.chunks(name))
}

// span is a range of keys on a line.
type span struct{ from, to float64 }

func (s *ControlServer) chunks(name string) ControlServerChunks {
	f := s.F
	table := f.Tables[name]
	answer := ControlServerChunks{Table: name, Copied: []int{}, Copying: []int{}}
	l, err := table.layout()
	if err != nil || f.StateTracker == nil || f.DataIterator == nil {
		answer.Reason = "the run has not begun"
		return answer
	}
	if !l.integerKey {
		answer.Reason = "the keys of this table are no single integer: they have no place on a line"
		return answer
	}
	stored, _ := f.DataIterator.TargetPaginationKeys.Load(name)
	target, ok := stored.(PaginationKey)
	if !ok {
		answer.Reason = "the copy of this table has not begun"
		if f.StateTracker.IsTableComplete(name) {
			answer.Reason = "the table was empty, or was copied before this process began"
		}
		return answer
	}
	low, copied := f.StateTracker.copiedSpans(table, l)
	var copying []span
	if f.gate != nil {
		copying = f.gate.openSpans(table, l)
	}
	answer.Ranges, answer.ChunksInFlight = len(copied), len(copying)
	if low != nil {
		answer.Ranges++
	}
	answer.draw(target.NumericPosition(), low, copied, copying, f.StateTracker.IsTableComplete(name))
	return answer
}

// draw divides the line from the lowest key known to the highest.
func (c *ControlServerChunks) draw(to float64, low *float64, copied, copying []span, complete bool) {
	from := math.Min(to, 0)
	least := to
	for _, s := range slices.Concat(copied, copying) {
		if !math.IsInf(s.from, 0) {
			least = math.Min(least, s.from)
		}
	}
	if low != nil {
		least = math.Min(least, *low)
	}
	if least < to && (least < from || from < least-(to-least)) { // most of the line would be empty
		from = math.Min(least, from+least)
	}
	if from == to {
		from-- // a line has two ends
	}
	c.From, c.To = from, to
	if complete {
		copied = append(copied, span{from, to})
	}
	if low != nil {
		copied = append(copied, span{from, *low})
	}
	filled := make([]float64, chunkCells)
	width := math.Max((to-from)/chunkCells, math.SmallestNonzeroFloat64)
	each := func(s span, f func(cell int, part float64)) {
		s.from, s.to = math.Max(s.from, from), math.Min(s.to, to)
		first, last := int((s.from-from)/width), int((s.to-from)/width)
		for cell := max(0, first); cell <= min(last, chunkCells-1); cell++ {
			begin := from + float64(cell)*width
			f(cell, math.Max(0, math.Min(s.to, begin+width)-math.Max(s.from, begin))/width)
		}
	}
	for _, s := range copied {
		each(s, func(cell int, part float64) { filled[cell] += part })
	}
	for _, part := range filled {
		c.Copied = append(c.Copied, int(math.Round(100*math.Min(1, part))))
	}
	for _, s := range copying {
		each(s, func(cell int, _ float64) {
			if !slices.Contains(c.Copying, cell) {
				c.Copying = append(c.Copying, cell)
			}
		})
	}
	slices.Sort(c.Copying)
}

// copiedSpans returns the end of what is copied from the table's beginning, nil for
// nothing, and the ranges beyond.
func (t *StateTracker) copiedSpans(table *TableSchema, l *tableLayout) (low *float64, beyond []span) {
	t.CopyRWMutex.RLock()
	defer t.CopyRWMutex.RUnlock()
	p := t.tables[table.String()]
	if p == nil || p.ranges == nil {
		return nil, nil
	}
	c := p.ranges
	if c.low != nil {
		at := l.paginationKey(table, c.low).NumericPosition()
		low = &at
	}
	for _, r := range c.beyond {
		beyond = append(beyond, l.spanOf(table, r))
	}
	return low, beyond
}

// openSpans returns the chunks of a table that are under way.
func (g *gate) openSpans(table *TableSchema, l *tableLayout) []span {
	g.mu.Lock()
	defer g.mu.Unlock()
	var open []span
	for c := range g.mu.open[table] {
		open = append(open, l.spanOf(table, keyRange{c.low, c.high}))
	}
	return open
}

// spanOf places a range on a line; an open end is infinitely far.
func (l *tableLayout) spanOf(table *TableSchema, r keyRange) span {
	s := span{math.Inf(-1), math.Inf(1)}
	if r.low != nil {
		s.from = l.paginationKey(table, r.low).NumericPosition()
	}
	if r.high != nil {
		s.to = l.paginationKey(table, r.high).NumericPosition()
	}
	return s
}
