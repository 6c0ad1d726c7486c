package ghostferry

import (
	"context"
	"crypto/tls"
	"errors"
	"html/template"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
	"github.com/ghostferry-go/ghostferry/internal/webui"
)

// Limits of the control server: what somebody who only connects, or only trickles, can
// take from the run.
const (
	controlHeaderTimeout = 5 * time.Second
	controlReadTimeout   = 10 * time.Second
	controlWriteTimeout  = 15 * time.Second
	controlIdleTimeout   = time.Minute
	controlHeaderBytes   = 16 << 10
	controlBodyBytes     = 64 << 10
	controlConnections   = 64
	controlStreams       = 16
	controlStopTimeout   = 2 * time.Second
)

// ControlServer shows a Ferry's run over HTTP and takes orders for it. A Ferry makes and
// runs its own when ControlServerConfig.Enabled is set; it serves from the beginning of
// Run until Close. It can also be used as a handler in a server of the host's.
type ControlServer struct {
	// Config are its settings.
	Config *ControlServerConfig
	// F is the run.
	F *Ferry
	// Verifier is what POST /api/verify starts; nil means none.
	Verifier Verifier

	// immutable after Initialize
	logger  Logger
	mux     *http.ServeMux
	custom  *template.Template // of WebBasedir; nil for the built-in page
	scripts *scriptRunner
	view    *runView
	metrics http.Handler
	server  *http.Server

	listener net.Listener // set by listen, before Run
	streams  atomic.Int32 // how many event streams are open
	started  atomic.Bool
	done     chan struct{} // closed when the server has ended
	stopping chan struct{} // closed by Shutdown: event streams end
	stopOnce sync.Once
}

// Initialize checks the settings and builds the routes; it listens to nothing yet.
func (s *ControlServer) Initialize() error {
	if s.Config == nil || s.F == nil || s.F.Config == nil {
		return errors.New("control_server: Config and F have to be set")
	}
	enabled := s.Config.Enabled
	s.Config.Enabled = true // whoever makes one wants its settings checked
	err := s.Config.Validate()
	s.Config.Enabled = enabled
	if err != nil {
		return err
	}
	if s.Config.WebBasedir != "" {
		if s.custom, err = template.ParseFiles(filepath.Join(s.Config.WebBasedir, "webui", "index.html")); err != nil {
			return err
		}
	}
	s.logger = taggedLogger(s.F.baseLogger(), "control_server")
	s.done, s.stopping = make(chan struct{}), make(chan struct{})
	s.scripts = newScriptRunner(s.Config, s.logger)
	s.view = newRunView(s)
	if s.metrics, err = s.metricsHandler(); err != nil {
		return err
	}
	s.route()
	s.server = &http.Server{
		Handler: s, ReadHeaderTimeout: controlHeaderTimeout, ReadTimeout: controlReadTimeout, WriteTimeout: controlWriteTimeout,
		IdleTimeout: controlIdleTimeout, MaxHeaderBytes: controlHeaderBytes, ErrorLog: quietHTTPLog(s.logger),
	}
	return nil
}

// listen binds the address.
func (s *ControlServer) listen() error {
	listener, err := net.Listen("tcp", s.Config.ServerBindAddr)
	if err != nil {
		return &ConfigError{Field: "ControlServerConfig.ServerBindAddr", Problem: "control_server: " + err.Error(),
			Remedy: "choose another address, or end the process that uses it", Err: err}
	}
	s.listener = newCappedListener(listener, controlConnections)
	if s.Config.certificate != nil {
		s.listener = tls.NewListener(s.listener, &tls.Config{
			Certificates: []tls.Certificate{*s.Config.certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		})
	}
	return nil
}

// Addr is the address that is served, empty before that.
func (s *ControlServer) Addr() string {
	if s == nil || s.listener == nil {
		return ""
	}
	return s.listener.Addr().String()
}

// URL is where a browser on this machine finds the page, empty before it is served.
func (s *ControlServer) URL() string {
	host, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	scheme := "http"
	if s.Config.certificate != nil {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port) + "/"
}

// Run is [ControlServer.RunContext] until Shutdown; a failure is only logged.
func (s *ControlServer) Run() {
	if err := s.RunContext(context.Background()); err != nil {
		s.logger.WithError(err).Error("the control server does not run")
	}
}

// RunContext serves until ctx ends or Shutdown is called. It fails when the address
// cannot be bound.
func (s *ControlServer) RunContext(ctx context.Context) error {
	if s.started.Swap(true) {
		return errors.New("control_server: it was run before")
	}
	defer close(s.done)
	if s.listener == nil {
		if err := s.listen(); err != nil {
			return err
		}
	}
	group, _ := lifecycle.New(ctx)
	group.Go("control_server", func(context.Context) error {
		err := s.server.Serve(s.listener)
		if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
			err = nil
		}
		group.Cancel(err)
		return nil
	})
	group.Go("control_server_stop", func(ctx context.Context) error {
		<-ctx.Done()
		s.stop()
		stop, cancel := lifecycle.Detach(ctx, controlStopTimeout)
		defer cancel()
		if s.server.Shutdown(stop) != nil {
			return s.server.Close() // whoever still reads is cut off
		}
		return nil
	})
	group.Go("control_server_view", s.view.run)
	s.logger.Infof("the run can be seen at %s", s.URL())
	err := group.Wait()
	s.scripts.close()
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// stop tells event streams to end.
func (s *ControlServer) stop() { s.stopOnce.Do(func() { close(s.stopping) }) }

// Shutdown ends the server and waits for it, or for ctx.
func (s *ControlServer) Shutdown(ctx context.Context) error {
	if s == nil || s.server == nil {
		return nil
	}
	s.stop()
	if !s.started.Load() {
		if s.listener != nil {
			return s.listener.Close()
		}
		return nil
	}
	err := s.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.server.Close())
	}
	select {
	case <-s.done:
	case <-ctx.Done():
	}
	return err
}

// Wait returns when the server has ended, at once when there is none or it was never run.
func (s *ControlServer) Wait() {
	if s != nil && s.started.Load() {
		<-s.done
	}
}

// NewControlServer returns an initialized control server over the Ferry and its verifier.
func (f *Ferry) NewControlServer() (*ControlServer, error) {
	f.ensureInitialized()
	s := &ControlServer{Config: f.ControlServerConfig, F: f, Verifier: f.Verifier}
	return s, s.Initialize()
}

// prepareControlServer makes the Ferry's own and binds its address, so that a fault is
// told before anything is written.
func (f *Ferry) prepareControlServer() (err error) {
	if !f.ControlServerConfig.Enabled {
		return nil
	}
	if f.ControlServer, err = f.NewControlServer(); err != nil {
		return err
	}
	return f.ControlServer.listen()
}

// startControlServer serves in a group of its own: it goes on after Run, so that its end
// can be seen, until Close.
func (f *Ferry) startControlServer(ctx context.Context) {
	if f.control != nil || f.ControlServer == nil && !f.EnablePProf {
		return
	}
	f.control, _ = lifecycle.New(context.WithoutCancel(ctx))
	if f.ControlServer != nil {
		f.control.Go("control_server", f.ControlServer.RunContext)
	}
	if f.EnablePProf {
		f.control.Go("pprof", f.servePProf)
	}
}

// stopControlServer ends what startControlServer or prepareControlServer have begun.
func (f *Ferry) stopControlServer() {
	if f.control == nil {
		if f.ControlServer != nil && f.ControlServer.listener != nil {
			_ = f.ControlServer.listener.Close()
		}
		return
	}
	f.control.Cancel(nil)
	if err := f.control.Wait(); err != nil {
		f.logger.WithError(err).Warn("the control server has failed")
	}
}

// content returns a file of the page.
func (s *ControlServer) content(name string) ([]byte, error) {
	if s.Config.WebBasedir == "" {
		return webui.Files.ReadFile("static/" + name)
	}
	root, err := os.OpenRoot(filepath.Join(s.Config.WebBasedir, "webui", "static"))
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.ReadFile(name)
}
