package ghostferry

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// controlRoute is one address of the interface.
type controlRoute struct {
	method, path string
	needs        role // roleNone: served to everybody, and tells nothing about the run
	handle       http.HandlerFunc
}

// routes are all of them; docs/openapi.json describes them.
func (s *ControlServer) routes() []controlRoute {
	return []controlRoute{
		{"GET", "/{$}", roleNone, s.HandleIndex},
		{"GET", "/static/{file}", roleNone, s.handleStatic},
		{"GET", "/api/status", roleRead, s.HandleStatus},
		{"GET", "/api/overview", roleRead, s.handleOverview},
		{"GET", "/api/tables", roleRead, s.handleTables},
		{"GET", "/api/chunks", roleRead, s.handleChunks},
		{"GET", "/api/mismatches", roleRead, s.handleMismatches},
		{"GET", "/api/history", roleRead, s.handleHistory},
		{"GET", "/api/log", roleRead, s.handleLog},
		{"GET", "/api/events", roleRead, s.handleEvents},
		{"GET", "/api/config", roleRead, s.HandleConfigGet},
		{"GET", "/metrics", roleRead, s.handleMetrics},
		{"POST", "/api/pause", roleOperate, s.HandlePause},
		{"POST", "/api/unpause", roleOperate, s.HandleUnpause},
		{"POST", "/api/cutover", roleOperate, s.HandleCutover},
		{"POST", "/api/stop", roleOperate, s.HandleStop},
		{"POST", "/api/verify", roleOperate, s.HandleVerify},
		{"POST", "/api/script", roleOperate, s.HandleScript},
		{"POST", "/api/config", roleOperate, s.HandleConfigPost},
	}
}

func (s *ControlServer) route() {
	s.mux = http.NewServeMux()
	for _, r := range s.routes() {
		handle := r.handle
		if r.needs != roleNone {
			handle = s.guarded(r.needs, handle)
		}
		s.mux.HandleFunc(r.method+" "+r.path, handle)
	}
}

// ServeHTTP answers one request.
func (s *ControlServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	securityHeaders(w.Header())
	if !s.hostAllowed(r) {
		refuse(w, http.StatusMisdirectedRequest, "this server is not addressed by that name: add it to ControlServerConfig.AllowedHosts")
		return
	}
	began := time.Now()
	s.mux.ServeHTTP(w, r)
	s.logger.WithFields(Fields{"method": r.Method, "path": r.URL.Path, "took": time.Since(began)}).Debug("served")
}

// HandleIndex serves the page. Everybody may see it, because the token is typed into it; a
// page of WebBasedir is given the status only where the request brings a token.
func (s *ControlServer) HandleIndex(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if s.custom == nil {
		s.serveFile(w, "index.html")
		return
	}
	status := &ControlServerStatus{}
	if s.Config.roleOf(r) != roleNone {
		status = s.status()
	}
	if err := s.custom.ExecuteTemplate(w, "index.html", status); err != nil {
		s.logger.WithError(err).Warn("the page of WebBasedir cannot be made")
	}
}

func (s *ControlServer) handleStatic(w http.ResponseWriter, r *http.Request) {
	s.serveFile(w, r.PathValue("file"))
}

func (s *ControlServer) serveFile(w http.ResponseWriter, name string) {
	content, err := s.content(name)
	if err != nil {
		refuse(w, http.StatusNotFound, "there is no such file")
		return
	}
	if kind := contentTypes[extension(name)]; kind != "" {
		w.Header().Set("Content-Type", kind)
	}
	_, _ = w.Write(content)
}

var contentTypes = map[string]string{
	"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
	"svg": "image/svg+xml", "png": "image/png", "ico": "image/x-icon",
}

func extension(name string) string {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '.' {
			return name[i+1:]
		}
	}
	return ""
}

// HandleStatus serves the [ControlServerStatus]. Without Content-Type application/json
// there is no such address.
func (s *ControlServer) HandleStatus(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Content-Type") != "application/json" {
		http.NotFound(w, r)
		return
	}
	status := s.status()
	status.TimeTaken /= time.Second
	status.ETA /= time.Second
	status.BinlogStreamerLag /= time.Second
	s.answer(w, status)
}

// answer sends a document.
func (s *ControlServer) answer(w http.ResponseWriter, document any) {
	data, err := json.Marshal(document)
	if err != nil {
		s.logger.WithError(err).Error("an answer cannot be made")
		refuse(w, http.StatusInternalServerError, "the answer cannot be made")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(data, '\n'))
}

// HandlePause pauses copy and apply.
func (s *ControlServer) HandlePause(w http.ResponseWriter, r *http.Request) {
	s.setPaused(w, r, true, "paused by the control server")
}

// HandleUnpause ends the pause.
func (s *ControlServer) HandleUnpause(w http.ResponseWriter, r *http.Request) {
	s.setPaused(w, r, false, "the control server ended the pause")
}

func (s *ControlServer) setPaused(w http.ResponseWriter, r *http.Request, paused bool, what string) {
	if s.F.Throttler == nil {
		refuse(w, http.StatusConflict, "the run has no throttler")
		return
	}
	s.F.Throttler.SetPaused(paused)
	s.did(w, r, what)
}

// did logs and answers a change.
func (s *ControlServer) did(w http.ResponseWriter, r *http.Request, what string) {
	s.logger.WithField("from", r.RemoteAddr).Info(what)
	s.view.changed()
	w.WriteHeader(http.StatusOK)
}

// HandleCutover allows the cutover ("automatic") or takes that back ("manual"), as long as
// the writers are not being stopped: then it answers 409. Allowing
// it needs the run's id, so that an order never reaches another run than the one meant.
func (s *ControlServer) HandleCutover(w http.ResponseWriter, r *http.Request) {
	var order struct {
		Type  string `json:"type"`
		RunID string `json:"run-id"`
	}
	if !decodeBody(w, r, &order) {
		return
	}
	switch order.Type {
	case "automatic":
		if run := s.view.current().overview.RunID; order.RunID != run {
			refuse(w, http.StatusConflict, fmt.Sprintf("this is run %q: give it as run-id", run))
			return
		}
		s.F.AllowCutover()
		s.did(w, r, "the control server allowed the cutover")
	case "manual":
		if !s.F.DenyCutover() {
			phase := cmp.Or(s.F.Phase(), PhaseFence)
			refuse(w, http.StatusConflict, fmt.Sprintf("it is too late to hold the cutover back, its phase is %q: if this attempt is given up, the next can be held back", phase))
			return
		}
		s.did(w, r, "the control server holds the cutover back")
	default:
		refuse(w, http.StatusBadRequest, `type has to be "automatic" or "manual"`)
	}
}

// HandleStop is not implemented: a run is ended by its process.
func (s *ControlServer) HandleStop(w http.ResponseWriter, r *http.Request) {
	refuse(w, http.StatusNotImplemented, "a run is stopped by its process: interrupt it, it can be resumed")
}

// HandleVerify starts the verifier in the background.
func (s *ControlServer) HandleVerify(w http.ResponseWriter, r *http.Request) {
	if s.Verifier == nil {
		refuse(w, http.StatusNotImplemented, "this run has no verifier")
		return
	}
	if state, _ := s.F.OverallState.Load().(string); state == StateStarting || state == StateCopying {
		refuse(w, http.StatusInternalServerError, "verification cannot start before the rows are copied and the indexes created")
		return
	}
	if err := s.Verifier.StartInBackground(); err != nil {
		refuse(w, http.StatusInternalServerError, redactedText(err.Error()))
		return
	}
	s.did(w, r, "the control server started a verification")
}

// HandleScript starts a configured script, unless it is running.
func (s *ControlServer) HandleScript(w http.ResponseWriter, r *http.Request) {
	var order struct {
		Name string `json:"script-name"`
	}
	if !decodeBody(w, r, &order) {
		return
	}
	if !s.scripts.start(order.Name) {
		refuse(w, http.StatusNotFound, "no script of that name is configured")
		return
	}
	w.WriteHeader(http.StatusOK)
}

// HandleConfigGet serves the settings that can be changed.
func (s *ControlServer) HandleConfigGet(w http.ResponseWriter, r *http.Request) {
	s.answer(w, s.F.Updatable())
}

// HandleConfigPost changes settings; those that are left out or zero stay.
func (s *ControlServer) HandleConfigPost(w http.ResponseWriter, r *http.Request) {
	var settings UpdatableConfig
	if !decodeBody(w, r, &settings) {
		return
	}
	if err := settings.Validate(); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	s.F.Update(settings)
	s.did(w, r, "the control server changed settings")
}

// decodeBody reads one JSON object with known members only. An empty body is an empty one.
func decodeBody(w http.ResponseWriter, r *http.Request, into any) bool {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, more := decoder.Token(); more != io.EOF {
			err = errors.New("there is something behind the object")
		}
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		refuse(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("a body may have %d bytes", controlBodyBytes))
		return false
	}
	if err != nil && !errors.Is(err, io.EOF) {
		refuse(w, http.StatusBadRequest, "the body cannot be used: "+err.Error())
		return false
	}
	return true
}
