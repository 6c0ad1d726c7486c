package ghostferry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// streamInterval is how often a stream of events looks for something new.
const streamInterval = time.Second

func (s *ControlServer) handleOverview(w http.ResponseWriter, r *http.Request) {
	s.answer(w, s.overviewFor(r))
}

func (s *ControlServer) overviewFor(r *http.Request) ControlServerOverview {
	overview := s.view.current().overview
	overview.Role = s.Config.roleOf(r).String()
	return overview
}

func (s *ControlServer) handleHistory(w http.ResponseWriter, r *http.Request) {
	s.answer(w, map[string]any{"Points": s.view.past()})
}

func (s *ControlServer) handleLog(w http.ResponseWriter, r *http.Request) {
	lines := s.F.log.after(sequenceOf(r))
	if lines == nil {
		lines = []LogLine{}
	}
	s.answer(w, map[string]any{"Lines": lines})
}

func sequenceOf(r *http.Request) uint64 {
	seq, _ := strconv.ParseUint(r.URL.Query().Get("after"), 10, 64) // 0 for everything that is kept
	return seq
}

// handleEvents streams what a page shows as server-sent events: "history" once, then every
// second "overview", and, where they have changed, "tables" (the page of tables that the
// query asks for, as of GET /api/tables), "chunks" (of the table in ?table=) and "log"
// (lines after ?after=). An event's size does not grow with the number of tables. The end of
// the run is sent at once, and the last state before the server stops.
func (s *ControlServer) handleEvents(w http.ResponseWriter, r *http.Request) {
	if s.streams.Add(1) > controlStreams {
		s.streams.Add(-1)
		refuse(w, http.StatusServiceUnavailable, fmt.Sprintf("%d streams are open already", controlStreams))
		return
	}
	defer s.streams.Add(-1)
	stream := &eventStream{s: s, w: w, r: r, control: http.NewResponseController(w), query: tableQueryOf(r), table: r.URL.Query().Get("table"), after: sequenceOf(r)}
	// The limits for a request do not fit; every write gets a new one.
	if err := stream.control.SetReadDeadline(time.Time{}); err != nil {
		refuse(w, http.StatusNotImplemented, "this server cannot stream")
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if !stream.send("history", map[string]any{"Points": s.view.past()}) {
		return
	}
	ticker := time.NewTicker(streamInterval)
	defer ticker.Stop()
	stream.follow(ticker.C)
}

// eventStream is one listener; it is used by its handler's goroutine.
type eventStream struct {
	s       *ControlServer
	w       http.ResponseWriter
	r       *http.Request
	control *http.ResponseController

	query tableQuery
	table string // whose chunks are wanted; empty for none
	after uint64 // the last line of the log that was sent

	tables, chunks []byte // as sent last
}

// follow sends a round at each tick, and at once when the run has ended and before the server
// stops: the process may end with its run, and who looks then has to see how.
func (e *eventStream) follow(tick <-chan time.Time) {
	ended := e.s.F.runEnded
	for e.round() {
		select {
		case <-tick:
		case <-ended:
			ended = nil
			e.s.view.changed()
		case <-e.r.Context().Done():
			return
		case <-e.s.stopping:
			e.s.view.changed()
			e.round()
			return
		}
	}
}

// round sends what is new; false ends the stream.
func (e *eventStream) round() bool {
	ok := e.send("overview", e.s.overviewFor(e.r)) &&
		e.sendChanged("tables", &e.tables, e.s.page(e.s.view.current(), e.query))
	if ok && e.table != "" && e.s.F.Tables[e.table] != nil {
		ok = e.sendChanged("chunks", &e.chunks, e.s.chunks(e.table))
	}
	if lines := e.s.F.log.after(e.after); ok && len(lines) > 0 {
		e.after = lines[len(lines)-1].Seq
		ok = e.send("log", map[string]any{"Lines": lines})
	}
	return ok && e.flush()
}

func (e *eventStream) sendChanged(name string, before *[]byte, document any) bool {
	data, err := json.Marshal(document)
	if err != nil || bytes.Equal(data, *before) {
		return err == nil
	}
	*before = data
	return e.write(name, data)
}

func (e *eventStream) send(name string, document any) bool {
	data, err := json.Marshal(document)
	return err == nil && e.write(name, data)
}

// write sends one event. JSON has no line breaks of its own.
func (e *eventStream) write(name string, data []byte) bool {
	if e.control.SetWriteDeadline(time.Now().Add(controlWriteTimeout)) != nil {
		return false
	}
	_, err := fmt.Fprintf(e.w, "event: %s\ndata: %s\n\n", name, data)
	return err == nil
}

func (e *eventStream) flush() bool { return e.control.Flush() == nil }
