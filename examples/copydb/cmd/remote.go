package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/examples/copydb"
)

// orders are what a running copydb can be told: copydb ORDER CONFIG.json.
var orders = map[string]func(r *remote, ctx context.Context) error{
	"status":  (*remote).status,
	"pause":   func(r *remote, ctx context.Context) error { return r.order(ctx, "/api/pause") },
	"resume":  func(r *remote, ctx context.Context) error { return r.order(ctx, "/api/unpause") },
	"cutover": func(r *remote, ctx context.Context) error { return r.permit(ctx, "automatic", "allowed") },
	"hold":    func(r *remote, ctx context.Context) error { return r.permit(ctx, "manual", "held back") },
	"verify":  func(r *remote, ctx context.Context) error { return r.order(ctx, "/api/verify") },
}

// remoteTimeout bounds one order.
const remoteTimeout = 10 * time.Second

// remote is the control server of another process.
type remote struct {
	base, token string
	client      *http.Client
	config      *copydb.Config
	stdout      io.Writer
}

// tell gives an order to the copydb that runs with the same configuration.
func tell(ctx context.Context, order string, args []string, stdout, stderr io.Writer) int {
	if len(args) != 1 {
		fmt.Fprintf(stderr, "copydb: usage: copydb %s CONFIG.json\n", order)
		return copydb.Refused.ExitStatus()
	}
	r, err := newRemote(args[0], stdout)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, remoteTimeout)
		defer cancel()
		err = orders[order](r, ctx)
	}
	if err != nil {
		fmt.Fprintf(stderr, "copydb: %s: %s\n", order, message(err))
		return copydb.Failed.ExitStatus()
	}
	return 0
}

// newRemote finds address and token in the configuration of the running process.
func newRemote(name string, stdout io.Writer) (*remote, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	config, err := copydb.ReadConfig(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	server, err := config.ControlServer()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(server.ServerBindAddr)
	if err != nil {
		return nil, fmt.Errorf("ServerBindAddr: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	r := &remote{base: "http://" + net.JoinHostPort(host, port), token: server.Token, client: &http.Client{}, config: config, stdout: stdout}
	if server.TLSCertPath != "" {
		certificate, err := os.ReadFile(server.TLSCertPath)
		if err != nil {
			return nil, err
		}
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		roots.AppendCertsFromPEM(certificate)
		r.base = "https" + strings.TrimPrefix(r.base, "http")
		r.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: serverName(certificate, host), MinVersion: tls.VersionTLS12}}
	}
	return r, nil
}

// serverName is the name by which the certificate is checked: it is the one that the other
// process was given, which need not know the address that this machine reaches it at.
func serverName(certificate []byte, host string) string {
	block, rest := pem.Decode(certificate)
	for block != nil && block.Type != "CERTIFICATE" {
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return host
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	switch {
	case err != nil || leaf.VerifyHostname(host) == nil:
		return host
	case len(leaf.DNSNames) > 0:
		return leaf.DNSNames[0]
	case len(leaf.IPAddresses) > 0:
		return leaf.IPAddresses[0].String()
	}
	return host
}

func (r *remote) do(ctx context.Context, method, path string, body any) ([]byte, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, method, r.base+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+r.token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set(ghostferry.ControlHeader, "copydb")
	answer, err := r.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("no copydb answers (does it run, with this configuration?): %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 16<<20))
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", answer.Status, strings.TrimSpace(string(text)))
	}
	return text, err
}

func (r *remote) post(ctx context.Context, path string, body any) error {
	if body == nil {
		body = struct{}{}
	}
	_, err := r.do(ctx, http.MethodPost, path, body)
	return err
}

func (r *remote) overview(ctx context.Context) (*ghostferry.ControlServerOverview, error) {
	text, err := r.do(ctx, http.MethodGet, "/api/overview", nil)
	if err != nil {
		return nil, err
	}
	o := &ghostferry.ControlServerOverview{}
	return o, json.Unmarshal(text, o)
}

// meant returns the overview of the run that answers, if it is one of this configuration:
// address and token are the same for all configurations of a user that set neither.
func (r *remote) meant(ctx context.Context) (*ghostferry.ControlServerOverview, error) {
	o, err := r.overview(ctx)
	if err != nil {
		return nil, err
	}
	other := func(what string) error {
		return fmt.Errorf("another run answers at %s: run %s, %s → %s; %s. Nothing was ordered: use that run's configuration, or give each a ControlServerConfig.ServerBindAddr of its own",
			r.base, o.RunID, o.SourceHostPort, o.TargetHostPort, what)
	}
	for _, same := range []struct{ setting, theirs, ours string }{
		{"Source", o.SourceHostPort, hostPort(r.config.Source)}, {"Target", o.TargetHostPort, hostPort(r.config.Target)},
	} {
		if same.theirs != same.ours {
			return nil, other(fmt.Sprintf("this configuration's %s is %s", same.setting, same.ours))
		}
	}
	if r.config.RunID != "" && o.RunID != "" && r.config.RunID != o.RunID {
		return nil, other("this configuration's RunID is " + r.config.RunID)
	}
	if o.Selection != r.config.Selection() {
		return nil, other("it was started with other Databases, Tables or rewrites than this configuration has now, or by another version of copydb")
	}
	return o, nil
}

// hostPort is as in an overview.
func hostPort(c *ghostferry.DatabaseConfig) string {
	if c == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d", c.Host, c.Port)
}

// order posts what needs no words.
func (r *remote) order(ctx context.Context, path string) error {
	if _, err := r.meant(ctx); err != nil {
		return err
	}
	return r.post(ctx, path, nil)
}

// permit allows the cutover of the run that answers, or holds it back, as POST /api/cutover calls it.
func (r *remote) permit(ctx context.Context, what, done string) error {
	o, err := r.meant(ctx)
	if err != nil {
		return err
	}
	if o.Failed {
		return errors.New("the run has failed: " + o.Error)
	}
	if err := r.post(ctx, "/api/cutover", map[string]string{"type": what, "run-id": o.RunID}); err != nil {
		return err
	}
	fmt.Fprintf(r.stdout, "cutover of run %s, %s → %s %s\n", o.RunID, o.SourceHostPort, o.TargetHostPort, done)
	return nil
}

// status prints what the page shows at a glance.
func (r *remote) status(ctx context.Context) error {
	o, err := r.overview(ctx)
	if err != nil {
		return err
	}
	fmt.Fprint(r.stdout, overviewText(o))
	return nil
}

func overviewText(o *ghostferry.ControlServerOverview) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-13s %s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	line("run", "%s, %s → %s", o.RunID, o.SourceHostPort, o.TargetHostPort)
	line("phase", "%s", o.Phase)
	if o.Failed {
		line("error", "%s", o.Error)
	}
	line("tables", "%d of %d copied, %d copying", o.TablesCompleted, o.TablesTotal, o.TablesCopying)
	line("rows", "%s", copied(o))
	line("changes", "%s", changeTotals(o))
	for _, f := range facts(o) {
		line(f.name, "%s", f.text)
	}
	return b.String()
}
