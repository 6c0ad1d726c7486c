package ghostferry

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	defaultTablesLimit = 50
	maxTablesLimit     = 200
	maxSearchBytes     = 256
)

// ControlServerTables is the answer of GET /api/tables: one page of the tables.
type ControlServerTables struct {
	// Total is how many tables there are, Matching how many the search and the status
	// leave, Offset where this page begins among them.
	Total, Matching, Offset int
	Tables                  []ControlServerTable
}

// ControlServerTable is one table of [ControlServerTables].
type ControlServerTable struct {
	// Name is "schema.table" of the source, Target the same of the target where it differs.
	Name   string
	Target string `json:",omitempty"`
	// Status is one of the TableAction constants.
	Status string
	// RowsWritten and BytesWritten count what this process has copied, RowsWrittenBefore the
	// rows of earlier processes of the run. RowsEstimate is the source's estimate at the start.
	RowsWritten, BytesWritten, RowsWrittenBefore, RowsEstimate uint64
	// Fraction is about how much is copied, from 0 to 1.
	Fraction float64
	// KeyColumn is what the table is walked by; LastKey and TargetKey are texts, empty
	// where there is none.
	KeyColumn, LastKey, TargetKey string
	// BatchSize is the current number of rows of a batch.
	BatchSize uint64
}

// tableQuery says which tables are wanted.
type tableQuery struct {
	search, status, sort string
	descending           bool
	offset, limit        int
}

// tableQueryOf reads ?search=&status=&sort=&order=&offset=&limit=.
func tableQueryOf(r *http.Request) tableQuery {
	q := r.URL.Query()
	number := func(name string, byDefault, most int) int {
		n, err := strconv.Atoi(q.Get(name))
		if err != nil || n < 0 {
			return byDefault
		}
		return min(n, most)
	}
	search := q.Get("search")
	if len(search) > maxSearchBytes {
		search = search[:maxSearchBytes]
	}
	return tableQuery{
		search: strings.ToLower(search), status: q.Get("status"), sort: q.Get("sort"), descending: q.Get("order") == "desc",
		offset: number("offset", 0, 1<<30), limit: number("limit", defaultTablesLimit, maxTablesLimit),
	}
}

// page chooses the tables of a snapshot.
func (s *ControlServer) page(snapshot *runSnapshot, q tableQuery) ControlServerTables {
	chosen := make([]int, 0, len(snapshot.names))
	for i, name := range snapshot.names {
		if q.search != "" && !strings.Contains(strings.ToLower(name), q.search) {
			continue
		}
		if q.status != "" && q.status != tableActions[snapshot.tables[i].action] {
			continue
		}
		chosen = append(chosen, i)
	}
	q.order(snapshot, chosen)
	answer := ControlServerTables{Total: len(snapshot.names), Matching: len(chosen), Offset: min(q.offset, len(chosen)), Tables: []ControlServerTable{}}
	for _, i := range chosen[answer.Offset:min(answer.Offset+q.limit, len(chosen))] {
		answer.Tables = append(answer.Tables, s.tableRow(snapshot.names[i], snapshot.schemas[i], snapshot.tables[i]))
	}
	return answer
}

// order sorts tables, of the same worth by name.
func (q tableQuery) order(snapshot *runSnapshot, chosen []int) {
	by := func(f func(t tableFacts) float64) func(a, b int) int {
		return func(a, b int) int { return cmp.Compare(f(snapshot.tables[a]), f(snapshot.tables[b])) }
	}
	var compare func(a, b int) int
	switch q.sort {
	case "progress":
		compare = by(tableFacts.fraction)
	case "rows":
		compare = by(func(t tableFacts) float64 { return float64(max(t.copied(), t.estimated)) })
	case "copied":
		compare = by(func(t tableFacts) float64 { return float64(t.copied()) })
	case "bytes":
		compare = by(func(t tableFacts) float64 { return float64(t.bytes) })
	case "status": // what is copied now comes first
		compare = by(func(t tableFacts) float64 { return float64([...]int{1, 0, 2}[t.action]) })
	default: // the names are in order already
		if q.descending {
			slices.Reverse(chosen)
		}
		return
	}
	slices.SortStableFunc(chosen, func(a, b int) int {
		if q.descending {
			a, b = b, a
			if c := compare(a, b); c != 0 {
				return c
			}
			return b - a
		}
		if c := compare(a, b); c != 0 {
			return c
		}
		return a - b
	})
}

func (s *ControlServer) tableRow(name string, table *TableSchema, facts tableFacts) ControlServerTable {
	f := s.F
	row := ControlServerTable{
		Name: name, Status: tableActions[facts.action], RowsWritten: facts.rows, BytesWritten: facts.bytes,
		RowsWrittenBefore: facts.before, RowsEstimate: facts.estimated, Fraction: facts.fraction(),
	}
	if schema, bare := newRewrites(f.DatabaseRewrites, f.TableRewrites).table(table.Schema, table.Name); schema != table.Schema || bare != table.Name {
		row.Target = schema + "." + bare
	}
	if column := table.GetPaginationColumn(); column != nil {
		row.KeyColumn = column.Name
	}
	if f.StateTracker != nil {
		row.LastKey = keyText(f.StateTracker.lastKey(name))
	}
	if f.DataIterator != nil {
		if key, ok := f.DataIterator.TargetPaginationKeys.Load(name); ok {
			target, _ := key.(PaginationKey)
			row.TargetKey = keyText(target)
		}
		row.BatchSize = f.DataIterator.CursorConfig.GetBatchSize(table.Schema, table.Name)
	}
	return row
}

// keyText is a key for people: no longer than a line.
func keyText(key PaginationKey) string {
	if key == nil {
		return ""
	}
	const longest = 64
	text := strings.ToValidUTF8(key.String(), "�")
	if utf8.RuneCountInString(text) > longest {
		return string([]rune(text)[:longest]) + "…"
	}
	return text
}

func (s *ControlServer) handleTables(w http.ResponseWriter, r *http.Request) {
	s.answer(w, s.page(s.view.current(), tableQueryOf(r)))
}

// ControlServerMismatches is the answer of GET /api/mismatches.
type ControlServerMismatches struct {
	// Total is how many rows were found to differ, at most a thousand a table.
	Total, Offset int
	Mismatches    []OnlineVerifierMismatch
}

func (s *ControlServer) handleMismatches(w http.ResponseWriter, r *http.Request) {
	q := tableQueryOf(r)
	answer := ControlServerMismatches{Mismatches: []OnlineVerifierMismatch{}}
	if c := comparing(s.Verifier); c != nil {
		found := c.mismatches()
		answer.Total, answer.Offset = len(found), min(q.offset, len(found))
		answer.Mismatches = append(answer.Mismatches, found[answer.Offset:min(answer.Offset+q.limit, len(found))]...)
	}
	s.answer(w, answer)
}
