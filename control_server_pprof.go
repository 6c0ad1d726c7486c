package ghostferry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
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

// servePProf serves profiles until ctx ends, on a mux of its own, to who has the control
// server's token, or that of a file which is there as long. Without the address the run goes on.
func (f *Ferry) servePProf(ctx context.Context) error {
	logger := taggedLogger(f.baseLogger(), "pprof")
	access := ControlServerConfig{Token: f.ControlServerConfig.Token, ReadToken: f.ControlServerConfig.ReadToken}
	where := "the control server's"
	if access.Token == "" {
		file, err := makeToken(&access)
		if err != nil {
			logger.WithError(err).Warn("profiles are not served: there is no place for their token, configure ControlServerConfig.TokenFile")
			return nil
		}
		defer os.Remove(file)
		where = "in " + file
	}
	listener, err := net.Listen("tcp", pprofAddr)
	if err != nil {
		logger.WithError(err).Warn("profiles are not served")
		return nil
	}
	server := &http.Server{
		Handler: pprofHandler(&access), BaseContext: func(net.Listener) context.Context { return ctx }, ErrorLog: quietHTTPLog(logger),
		ReadHeaderTimeout: controlHeaderTimeout, ReadTimeout: controlReadTimeout, IdleTimeout: controlIdleTimeout, MaxHeaderBytes: controlHeaderBytes,
	}
	logger.Infof("profiles are served at http://%s/debug/pprof/, their token is %s", pprofAddr, where)
	group, _ := lifecycle.New(ctx)
	group.Go("serve", func(context.Context) error {
		if err := server.Serve(newCappedListener(listener, controlConnections)); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	group.Go("stop", func(ctx context.Context) error {
		<-ctx.Done()
		stop, cancel := lifecycle.Detach(ctx, controlStopTimeout)
		defer cancel()
		if server.Shutdown(stop) != nil { // waits for profiles, which end with ctx
			return server.Close()
		}
		return nil
	})
	return group.Wait()
}

// makeToken gives a server without a token one of its own, in a file that only its owner
// can read.
func makeToken(access *ControlServerConfig) (name string, err error) {
	file, err := os.CreateTemp("", "ghostferry-pprof-token-")
	if err != nil {
		return "", err
	}
	access.Token = rand.Text() + rand.Text()
	_, err = fmt.Fprintln(file, access.Token)
	if err = errors.Join(err, file.Close()); err != nil {
		_ = os.Remove(file.Name())
		return "", err
	}
	return file.Name(), nil
}

// pprofHandler answers on this machine those who address it as such and bring the token
// that may change everything: profiles show what the program works on, and cost it time.
// It is not net/http/pprof's, because that registers itself on the default mux.
func pprofHandler(access *ControlServerConfig) http.Handler {
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
		if !isLoopbackHost(hostOf(r.Host)) {
			refuse(w, http.StatusMisdirectedRequest, "profiles are for this machine only")
			return
		}
		if access.admits(w, r, roleOperate) {
			mux.ServeHTTP(w, r)
		}
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
