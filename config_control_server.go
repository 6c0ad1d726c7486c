package ghostferry

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	defaultControlServerBindAddr = "127.0.0.1:8000"
	defaultCustomScriptTimeout   = time.Minute

	// minTokenLength keeps tokens from being guessed.
	minTokenLength = 16
)

// ControlServerConfig is the HTTP control server: a page that shows the run, a JSON
// interface (docs/openapi.json), and metrics for Prometheus. Everything that tells about
// the run or changes it needs a token. Without TLS it serves on a loopback address only.
type ControlServerConfig struct {
	// Enabled switches it on.
	Enabled bool
	// ServerBindAddr is host:port. Default 127.0.0.1:8000. An address that is not of
	// this machine only needs TLSCertPath and TLSKeyPath.
	ServerBindAddr string
	// WebBasedir is a directory with webui/ that replaces the built-in page: webui/index.html
	// is an html/template, the files of webui/static are served as /static/NAME. The template is given a
	// [ControlServerStatus], an empty one unless the request has a token, which a browser that opens
	// the page does not send: its script asks the addresses of docs/openapi.json. Forms are refused.
	WebBasedir string
	// CustomScripts is name → program and arguments, to be run from the page, without a
	// shell and one at a time each.
	CustomScripts map[string][]string
	// CustomScriptTimeout is a duration after which a script is ended. Default "1m". With a
	// script whatever it has started ends, unless that has left the script's process group.
	CustomScriptTimeout string

	// TokenFile is a file, readable by its owner only, with the token that may see and
	// change everything; TokenEnv names an environment variable that holds it instead.
	TokenFile, TokenEnv string
	// ReadTokenFile and ReadTokenEnv are the same for a token that may only see.
	ReadTokenFile, ReadTokenEnv string
	// Token and ReadToken are the tokens themselves, set in code. They win.
	Token     string `json:"-"`
	ReadToken string `json:"-"`

	// Selection is a short text of the host's about what it has chosen to move, set in code. The
	// overview repeats it, so that who gives an order can tell the run from others at this address.
	Selection string `json:"-"`

	// AllowedHosts are further names by which browsers may address the server, beside the
	// address that it is bound to and, on loopback, localhost.
	AllowedHosts []string
	// TLSCertPath and TLSKeyPath are PEM files; both or neither.
	TLSCertPath, TLSKeyPath string

	certificate   *tls.Certificate
	scriptTimeout time.Duration
}

// Validate fills the defaults, parses the duration and, for a server that is switched on, reads
// tokens and certificate. It reports every fault at once, as one [*ConfigError] a fault.
func (c *ControlServerConfig) Validate() error {
	if c.ServerBindAddr == "" {
		c.ServerBindAddr = defaultControlServerBindAddr
	}
	if WebUiBasedir != "" {
		c.WebBasedir = WebUiBasedir
	}
	var faults []error
	add := controlFaults(&faults)
	c.parseTimeout(add)
	if !c.Enabled {
		return joinErrors(faults)
	}
	c.readTokens(add, true)
	c.readCertificate(add)
	c.checkScripts(add)
	host, _, err := net.SplitHostPort(c.ServerBindAddr)
	switch {
	case err != nil:
		add("ServerBindAddr", fmt.Sprintf("ServerBindAddr %q is not host:port", c.ServerBindAddr), fmt.Sprintf("leave it empty for %s", defaultControlServerBindAddr))
	case !isLoopbackHost(host) && c.certificate == nil:
		add("ServerBindAddr", fmt.Sprintf("%s can be reached from other machines, and the token would travel in the clear", c.ServerBindAddr),
			"set TLSCertPath and TLSKeyPath, or bind it to 127.0.0.1 and use a tunnel")
	}
	if c.WebBasedir != "" {
		if _, err := os.Stat(filepath.Join(c.WebBasedir, "webui", "index.html")); err != nil {
			add("WebBasedir", "WebBasedir has no page: "+err.Error(), "put webui/index.html there, or remove WebBasedir for the built-in page")
		}
	}
	return joinErrors(faults)
}

func controlFaults(faults *[]error) addFault {
	return func(field, problem, remedy string) {
		*faults = append(*faults, &ConfigError{Field: "ControlServerConfig." + field, Problem: "control_server: " + problem, Remedy: remedy})
	}
}

// validateForPProf reads the tokens of a server that is switched off, for EnablePProf.
func (c *ControlServerConfig) validateForPProf() error {
	var faults []error
	c.readTokens(controlFaults(&faults), false)
	return joinErrors(faults)
}

func (c *ControlServerConfig) readTokens(add addFault, needed bool) {
	for _, token := range []struct {
		name, file, env string
		value           *string
		required        bool
	}{
		{"Token", c.TokenFile, c.TokenEnv, &c.Token, needed},
		{"ReadToken", c.ReadTokenFile, c.ReadTokenEnv, &c.ReadToken, false},
	} {
		switch {
		case *token.value != "":
		case token.file != "":
			text, err := readTokenFile(token.file)
			if err != nil {
				add(token.name+"File", err.Error(), "")
				continue
			}
			*token.value = text
		case token.env != "":
			*token.value = strings.TrimSpace(os.Getenv(token.env))
			if *token.value == "" {
				add(token.name+"Env", fmt.Sprintf("the environment variable %s is empty", token.env), "set it to a secret of your own")
				continue
			}
		case token.required:
			add("TokenFile", "no token is configured, and nobody may see or change the run without one",
				"write a secret to a file that only you can read (umask 077; openssl rand -hex 32 > FILE) and name it in TokenFile")
			continue
		default:
			continue
		}
		if len(*token.value) < minTokenLength || strings.ContainsFunc(*token.value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			add(token.name, fmt.Sprintf("the %s has to be at least %d visible ASCII characters", token.name, minTokenLength), "use a random one: openssl rand -hex 32")
		}
	}
	if c.Token != "" && c.Token == c.ReadToken {
		add("ReadToken", "Token and ReadToken are the same", "give those who may only look a token of their own")
	}
}

// readTokenFile reads a token that nobody but its owner can read.
func readTokenFile(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%s can be read by others (mode %04o): chmod 600 it, and change the token", name, info.Mode().Perm())
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	if text := strings.TrimSpace(string(data)); text != "" {
		return text, nil
	}
	return "", fmt.Errorf("%s is empty", name)
}

func (c *ControlServerConfig) readCertificate(add addFault) {
	if c.TLSCertPath == "" && c.TLSKeyPath == "" {
		return
	}
	if c.TLSCertPath == "" || c.TLSKeyPath == "" {
		add("TLSCertPath", "TLSCertPath and TLSKeyPath belong together", "give both or neither")
		return
	}
	certificate, err := tls.LoadX509KeyPair(c.TLSCertPath, c.TLSKeyPath)
	if err != nil {
		add("TLSCertPath", "the certificate cannot be used: "+err.Error(), "")
		return
	}
	c.certificate = &certificate
}

// configured says whether anything is set that a server which is switched off does not use;
// tokens are used for profiles, too.
func (c *ControlServerConfig) configured(profiles bool) bool {
	tokens := c.TokenFile + c.TokenEnv + c.Token + c.ReadTokenFile + c.ReadTokenEnv + c.ReadToken
	web := c.WebBasedir
	if web == WebUiBasedir { // of the build
		web = ""
	}
	return c.ServerBindAddr != defaultControlServerBindAddr || web+c.CustomScriptTimeout+c.TLSCertPath+c.TLSKeyPath != "" ||
		len(c.CustomScripts) > 0 || len(c.AllowedHosts) > 0 || !profiles && tokens != ""
}

func (c *ControlServerConfig) parseTimeout(add addFault) {
	c.scriptTimeout = defaultCustomScriptTimeout
	if c.CustomScriptTimeout != "" {
		timeout, err := parseDuration("CustomScriptTimeout", c.CustomScriptTimeout)
		if err == nil && timeout == 0 {
			err = errors.New("CustomScriptTimeout is zero")
		}
		if err != nil {
			add("CustomScriptTimeout", err.Error(), `a duration looks like "90s"`)
		}
		c.scriptTimeout = timeout
	}
}

func (c *ControlServerConfig) checkScripts(add addFault) {
	for _, name := range sortedNames(c.CustomScripts) {
		if argv := c.CustomScripts[name]; len(argv) == 0 || argv[0] == "" {
			add("CustomScripts", fmt.Sprintf("script %q has no program", name), `a script is a list like ["/path/to/program", "argument"]`)
		}
	}
}

// isLoopbackHost says whether an address reaches this machine only. A name other than
// localhost could be anything.
func isLoopbackHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
