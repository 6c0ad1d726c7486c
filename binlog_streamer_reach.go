package ghostferry

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
	"github.com/ghostferry-go/ghostferry/internal/server"
)

// statementReach judges changes by statement whose log does not say which schemas they
// changed (MariaDB's). Such a statement reaches a moved table that it does not name only by a
// view, a trigger or a routine of another schema that names the moved schema.
//
// The server is asked what there is of these now, and the statement was executed before: a
// definition that was removed in between is still to come in the log, before until, and ends
// the run if the statement may have been led to it.
//
// It is used by the goroutine that handles events.
type statementReach struct {
	asked    bool                // stored is what there is now
	complete bool                // the account sees everything
	stored   []server.StoredText // of all schemas
	words    [][]string          // of each
	until    BinlogCoordinate    // the end of the log after the server was asked

	// judged are the words of the statements that were found harmless, and of what they lead
	// to, until the stream has passed until. tooMany: more than are kept, so every word counts.
	judged  map[string]bool
	tooMany bool
	// made are tables and schemas whose creation was in this stream, and no trigger, view or
	// routine since: nothing is led to by them.
	made map[binlog.TableName]bool
}

// maxReachWords bounds judged and made.
const maxReachWords = 1 << 14

const byRowRemedy = "set binlog_format=ROW for every session of the source, and start again with empty target tables"

// mayReach refuses a change by statement unless it cannot reach the moved schemas. One that
// only reads what it names (CREATE TABLE … SELECT) changes tables by routines alone.
func (s *BinlogStreamer) mayReach(ev *rawEvent, q binlog.Query, texts []*binlog.Statement, moved map[string]bool, reads bool) error {
	r := &s.reach
	if len(moved) == 0 {
		return nil
	}
	r.passed(ev.end)
	if !r.asked {
		if err := s.askReach(); err != nil {
			return &replayError{fmt.Errorf("what a change by statement at %s may reach: %w", ev.end, err)}
		}
	}
	what := fmt.Sprintf("a change by statement (%s) in schema %s", texts[0].Verb, QuoteField(q.Schema))
	switch {
	case !r.complete && s.own != nil:
		return nil // a target's account sees little, and its rows are compared besides
	case !r.complete:
		return s.unsupportedReach(ev, s.movedIn(ev, moved), what+", which may reach a moved table by a view, trigger or routine that the account cannot see,",
			"set binlog_format=ROW for every session of the source, or grant the account SELECT, SHOW VIEW and TRIGGER on *.* there, and start again with empty target tables")
	}
	words := map[string]bool{strings.ToLower(q.Schema): true}
	for _, st := range texts {
		for _, w := range st.Words() {
			words[w] = true
		}
	}
	follow := r.follow
	if reads {
		follow = r.followReads
	}
	if i := follow(words, moved); i >= 0 {
		return s.unsupportedReach(ev, s.movedIn(ev, moved), what+", which may reach a moved table by "+r.stored[i].String()+",", byRowRemedy)
	}
	r.keep(words)
	return nil
}

// askReach reads what there is, and then the end of the log.
func (s *BinlogStreamer) askReach() error {
	r := &s.reach
	stored, complete, err := s.srv.StoredTexts(s.ctx, s.DB)
	if err != nil {
		return err
	}
	end, err := s.srv.LogEnd(s.ctx, s.DB)
	if err != nil {
		return err
	}
	r.words = make([][]string, len(stored))
	for i, t := range stored {
		r.words[i] = binlog.StoredWords(t.Text, t.SQLMode)
	}
	r.asked, r.complete, r.stored, r.until = true, complete, stored, BinlogCoordinate{File: end.File, Pos: end.Pos}
	return nil
}

// followReads is follow for words of a query: views lead to routines, which change tables.
func (r *statementReach) followReads(words, moved map[string]bool) int {
	changes := map[string]bool{}
	seen := make([]bool, len(r.stored))
	for more := true; more; {
		more = false
		for i, t := range r.stored {
			if seen[i] || t.Kind == "TRIGGER" || !words[strings.ToLower(t.By)] {
				continue
			}
			seen[i], more = true, true
			to := words
			if t.Kind != "VIEW" {
				to = changes
				to[strings.ToLower(t.By)] = true // where it is followed from
			}
			if t.Text == "" || t.Kind != "VIEW" && moved[t.Schema] {
				return i
			}
			for _, w := range r.words[i] {
				to[w] = true
			}
		}
	}
	i := r.follow(changes, moved)
	for w := range changes {
		words[w] = true
	}
	return i
}

// follow adds to words those of all that they lead to, and returns the first that names a
// moved schema or whose text is not known, -1 when there is none.
func (r *statementReach) follow(words, moved map[string]bool) int {
	names := make(map[string]bool, len(moved))
	for schema := range moved {
		names[strings.ToLower(schema)] = true
	}
	seen := make([]bool, len(r.stored))
	for i, t := range r.stored {
		seen[i] = moved[t.Schema] // who is led there has named the schema
	}
	for more := true; more; {
		more = false
		for i, t := range r.stored {
			if seen[i] || !words[strings.ToLower(t.By)] {
				continue
			}
			seen[i], more = true, true
			if t.Text == "" {
				return i
			}
			for _, w := range r.words[i] {
				if names[w] {
					return i
				}
				words[w] = true
			}
		}
	}
	return -1
}

func (r *statementReach) keep(words map[string]bool) {
	if r.judged == nil {
		r.judged = map[string]bool{}
	}
	for w := range words {
		r.judged[w] = true
	}
	if len(r.judged) > maxReachWords {
		r.judged, r.tooMany = nil, true
	}
}

// passed forgets the statements before until when the stream has come there.
func (r *statementReach) passed(at BinlogCoordinate) {
	if at.CompareFilePos(r.until) >= 0 {
		r.judged, r.tooMany = nil, false
	}
}

// redefinition takes note of a definition, and refuses one that has removed what an earlier
// change by statement may have been led to.
func (s *BinlogStreamer) redefinition(ev *rawEvent, q binlog.Query, texts []*binlog.Statement) error {
	r := &s.reach
	st := texts[0]
	if made, ok := st.Made(q.Schema); ok {
		if r.made == nil || len(r.made) >= maxReachWords {
			r.made = map[binlog.TableName]bool{}
		}
		r.made[made] = true
	}
	if !st.Redefines() {
		return nil
	}
	r.passed(ev.end)
	r.asked = false
	dropped := st.Dropped(q.Schema)
	inSight := len(dropped) > 0
	for _, t := range dropped {
		inSight = inSight && r.made[t]
	}
	if len(dropped) == 0 { // a trigger may be new, or a table come under a name
		r.made = nil
	}
	if inSight || st.OnlyAdds() || !r.touches(texts) {
		return nil
	}
	return s.unsupportedReach(ev, s.movedIn(ev, nil), st.Verb+", before which a change by statement may have reached a moved table,", byRowRemedy)
}

// touches tells whether a definition names something that a harmless statement was led to.
func (r *statementReach) touches(texts []*binlog.Statement) bool {
	if r.tooMany || len(r.judged) > 0 && texts[0].OfTrigger() {
		return true
	}
	return slices.ContainsFunc(texts, func(st *binlog.Statement) bool {
		return slices.ContainsFunc(st.Redefined(), func(name string) bool { return r.judged[name] })
	})
}
