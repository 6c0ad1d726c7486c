package ghostferry

import (
	"crypto/sha256"
	"crypto/subtle"
	"io"
	"log"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// ControlHeader is the header that every request which changes something has to carry, with
// any value: a form of another site's cannot add it.
const ControlHeader = "X-Ghostferry-Control"

// role is what a token may do.
type role int

const (
	roleNone role = iota
	roleRead
	roleOperate
)

func (r role) String() string { return [...]string{"none", "read", "operate"}[r] }

// roleOf compares the request's token with both, in a time that tells nothing of them.
func (c *ControlServerConfig) roleOf(r *http.Request) role {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return roleNone
	}
	given := sha256.Sum256([]byte(token))
	same := func(token string) bool {
		want := sha256.Sum256([]byte(token))
		return subtle.ConstantTimeCompare(given[:], want[:]) == 1 && token != ""
	}
	operate, read := same(c.Token), same(c.ReadToken)
	switch {
	case operate:
		return roleOperate
	case read:
		return roleRead
	}
	return roleNone
}

// securityHeaders go with every answer. The page's scripts and styles come from files of
// its own, so that nothing that a server or a table's name says can be a script.
func securityHeaders(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// hostAllowed refuses names that somebody else may have pointed at this address.
func (s *ControlServer) hostAllowed(r *http.Request) bool {
	host := strings.ToLower(hostOf(r.Host))
	bound, _, err := net.SplitHostPort(s.Config.ServerBindAddr)
	if err != nil {
		return false
	}
	if host != "" && strings.EqualFold(host, bound) || slices.ContainsFunc(s.Config.AllowedHosts, func(name string) bool { return strings.EqualFold(name, host) }) {
		return true
	}
	// An address, unlike a name, cannot be pointed elsewhere: the one that was reached is us. Nor
	// can localhost, by which whoever has reached a loopback address may call it.
	reached := bound
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok {
		reached = hostOf(local.String())
		if ip := net.ParseIP(host); ip != nil && ip.Equal(net.ParseIP(reached)) {
			return true
		}
	}
	return isLoopbackHost(host) && (isLoopbackHost(reached) || isLoopbackHost(bound))
}

func hostOf(hostPort string) string {
	if host, _, err := net.SplitHostPort(hostPort); err == nil {
		return host
	}
	return strings.Trim(hostPort, "[]")
}

// sameSite refuses what another site's page sends.
func sameSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
	default:
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// admits reports whether a request may see or do what needs a role. It answers those that may not.
func (c *ControlServerConfig) admits(w http.ResponseWriter, r *http.Request, needs role) bool {
	if !sameSite(r) {
		refuse(w, http.StatusForbidden, "requests of other sites are refused")
		return false
	}
	has := c.roleOf(r)
	if has == roleNone {
		w.Header().Set("WWW-Authenticate", `Bearer realm="ghostferry"`)
		refuse(w, http.StatusUnauthorized, "a token is needed, in the header Authorization: Bearer TOKEN")
		return false
	}
	if has < needs {
		refuse(w, http.StatusForbidden, "this token may only see the run")
		return false
	}
	return true
}

// guarded wraps a handler of the interface: who asks, from where, and in which form. Changes
// also need the content type that no form of another site can send.
func (s *ControlServer) guarded(needs role, handle http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !s.Config.admits(w, r, needs) {
			return
		}
		if needs == roleOperate {
			media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
			if err != nil || media != "application/json" {
				refuse(w, http.StatusUnsupportedMediaType, "the body has to be application/json")
				return
			}
			if r.Header.Get(ControlHeader) == "" {
				refuse(w, http.StatusForbidden, "the header "+ControlHeader+" is missing")
				return
			}
		}
		r.Body = http.MaxBytesReader(w, r.Body, controlBodyBytes)
		handle(w, r)
	}
}

// refuse answers with a text for people.
func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, why+"\n")
}

// cappedListener lets so many connections be open; others wait until one of them ends.
type cappedListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newCappedListener(l net.Listener, limit int) net.Listener {
	return &cappedListener{Listener: l, slots: make(chan struct{}, limit), closed: make(chan struct{})}
}

// Accept waits for a place, then for a connection.
func (l *cappedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	conn, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &cappedConn{Conn: conn, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

// Close ends the listener; connections stay.
func (l *cappedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type cappedConn struct {
	net.Conn
	release func()
}

// Close gives the place back.
func (c *cappedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// quietHTTPLog takes the HTTP server's own complaints (about clients, mostly).
func quietHTTPLog(logger Logger) *log.Logger {
	return log.New(debugWriter{logger}, "", 0)
}

type debugWriter struct{ logger Logger }

func (w debugWriter) Write(p []byte) (int, error) {
	w.logger.Debug(strings.TrimSpace(string(p)))
	return len(p), nil
}
