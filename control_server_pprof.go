package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
	"github.com/ghostferry-go/ghostferry/internal/retry"
)

const (
	// pprofAddr is where EnablePProf serves: this machine only, whatever the control server does.
	pprofAddr = "127.0.0.1:6060"
	// maxProfileSeconds bounds profiles of a time.
	maxProfileSeconds = 300
)

// servePProf serves profiles until ctx ends, on a mux of its own. Without the address the
// run goes on.
func (f *Ferry) servePProf(ctx context.Context) error {
	logger := taggedLogger(f.baseLogger(), "pprof")
	listener, err := net.Listen("tcp", pprofAddr)
	if err != nil {
		logger.WithError(err).Warn("profiles are not served")
		return nil
	}
	server := &http.Server{
		Handler: pprofHandler(), ReadHeaderTimeout: controlHeaderTimeout, ReadTimeout: controlReadTimeout, IdleTimeout: controlIdleTimeout,
		MaxHeaderBytes: controlHeaderBytes, ErrorLog: quietHTTPLog(logger),
	}
	logger.Infof("profiles are served at http://%s/debug/pprof/", pprofAddr)
	group, _ := lifecycle.New(ctx)
	group.Go("serve", func(context.Context) error {
		if err := server.Serve(newCappedListener(listener, controlConnections)); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go("stop", func(ctx context.Context) error {
		<-ctx.Done()
		return server.Close()
	})
	return group.Wait()
}

// pprofHandler answers browsers of this machine that address it as such, and go tool pprof.
// It is not net/http/pprof's, because that registers itself on the default mux.
func pprofHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		for _, p := range pprof.Profiles() {
			fmt.Fprintf(w, "/debug/pprof/%s?debug=1 (%d)\n", p.Name(), p.Count())
		}
		_, _ = io.WriteString(w, "/debug/pprof/profile?seconds=30\n/debug/pprof/trace?seconds=1\n")
	})
	mux.HandleFunc("GET /debug/pprof/profile", func(w http.ResponseWriter, r *http.Request) {
		during(w, r, 30, pprof.StartCPUProfile, pprof.StopCPUProfile)
	})
	mux.HandleFunc("GET /debug/pprof/trace", func(w http.ResponseWriter, r *http.Request) {
		during(w, r, 1, trace.Start, trace.Stop)
	})
	mux.HandleFunc("GET /debug/pprof/{name}", func(w http.ResponseWriter, r *http.Request) {
		p := pprof.Lookup(r.PathValue("name"))
		if p == nil {
			refuse(w, http.StatusNotFound, "there is no such profile")
			return
		}
		debug, _ := strconv.Atoi(r.URL.Query().Get("debug")) // 0: for the tool
		w.Header().Set("Content-Type", "application/octet-stream")
		if debug > 0 {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		}
		_ = p.WriteTo(w, debug) // the reader has gone
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		securityHeaders(w.Header())
		if !isLoopbackHost(hostOf(r.Host)) || !sameSite(r) {
			refuse(w, http.StatusMisdirectedRequest, "profiles are for this machine only")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// during records for ?seconds=.
func during(w http.ResponseWriter, r *http.Request, byDefault float64, start func(io.Writer) error, stop func()) {
	seconds, err := strconv.ParseFloat(r.URL.Query().Get("seconds"), 64)
	if err != nil || seconds <= 0 || seconds > maxProfileSeconds {
		seconds = byDefault
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if err := start(w); err != nil {
		refuse(w, http.StatusConflict, err.Error())
		return
	}
	defer stop()
	_ = retry.Sleep(r.Context(), time.Duration(seconds*float64(time.Second)))
}
