package ghostferry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	// httpCallbackTimeout bounds a callback that is posted with the default client.
	// A host that needs longer (a lock callback that waits for its writers) passes
	// its own client.
	httpCallbackTimeout = 30 * time.Second

	// httpCallbackBodyLimit is how much of an answer's body an error shows.
	httpCallbackBodyLimit = 4 << 10
)

// HTTPCallback is an endpoint that is told about something by a POST of
// {"Payload": "…"} as application/json. The zero value is switched off.
type HTTPCallback struct {
	// URI is the endpoint; empty means off.
	URI string
	// Payload is sent as it is, except where the callback's purpose defines its own.
	Payload string
}

// HTTPCallbackError is the answer of an endpoint that did not say 200.
type HTTPCallbackError struct {
	// URI is the endpoint without user information and query.
	URI string
	// StatusCode is the answer's status, e.g. 503.
	StatusCode int
	// Body is the beginning of the answer's body.
	Body string
}

// Error says "callback returned 503 Service Unavailable" and where.
func (e *HTTPCallbackError) Error() string {
	text := fmt.Sprintf("callback returned %d %s", e.StatusCode, http.StatusText(e.StatusCode))
	if e.URI != "" {
		text += " from " + e.URI
	}
	if e.Body != "" {
		text += ": " + e.Body
	}
	return text
}

// Post is [HTTPCallback.PostContext] without a context.
func (h HTTPCallback) Post(client *http.Client) error {
	return h.PostContext(context.Background(), client)
}

// PostContext sends the payload. It does nothing without a URI. Only status 200 is a
// success, any other is an [*HTTPCallbackError]. A nil client means one with a
// timeout of 30 s that follows redirects within the same host only, so that a
// payload is never handed to a host nobody configured, and only those that repeat
// the POST (307 and 308). With any client an answer to another method, which has
// not been given the payload, is an error.
func (h HTTPCallback) PostContext(ctx context.Context, client *http.Client) error {
	if h.URI == "" {
		return nil
	}
	if client == nil {
		client = newHTTPCallbackClient(nil)
	}

	// An encoder, because it ends the document with the newline the wire form has.
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(struct{ Payload string }{h.Payload}); err != nil {
		return fmt.Errorf("callback payload: %w", err)
	}

	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.URI, &body)
	if err != nil {
		return fmt.Errorf("callback request: %w", withoutSecrets(err))
	}
	request.Header.Set("Content-Type", "application/json")

	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("callback: %w", withoutSecrets(err))
	}
	defer response.Body.Close()

	if last := response.Request; last != nil && last.Method != http.MethodPost {
		return fmt.Errorf("callback: %w", errNotPosted(last))
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, httpCallbackBodyLimit))
	if response.StatusCode != http.StatusOK {
		return &HTTPCallbackError{URI: shownURL(request.URL.String()), StatusCode: response.StatusCode, Body: string(bytes.TrimSpace(answer))}
	}
	if err != nil {
		return fmt.Errorf("callback answer: %w", err)
	}
	return nil
}

// shownURL is an address without user information, query and fragment: what gives access
// to an endpoint stands there.
func shownURL(address string) string {
	at, err := url.Parse(address)
	if err != nil {
		return "(an address that cannot be read)"
	}
	return (&url.URL{Scheme: at.Scheme, Opaque: at.Opaque, Host: at.Host, Path: at.Path, RawPath: at.RawPath}).String()
}

// withoutSecrets leaves out of an HTTP client's error what shownURL leaves out.
func withoutSecrets(err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		failed.URL = shownURL(failed.URL)
	}
	return err
}

// CallbackClient returns the client that the configuration's callbacks are posted with:
// the default one of [HTTPCallback.PostContext], with CallbackTLS if that is set.
func (c *Config) CallbackClient() (*http.Client, error) {
	if c.CallbackTLS == nil {
		return newHTTPCallbackClient(nil), nil
	}
	config, err := c.CallbackTLS.BuildConfig()
	if err != nil {
		return nil, fmt.Errorf("CallbackTLS: %w", err)
	}
	// Connections are not kept: nobody would close them when the run has ended.
	return newHTTPCallbackClient(&http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config.Clone(), DisableKeepAlives: true, ForceAttemptHTTP2: true,
	}), nil
}

// post sends a payload with the configuration's client.
func (c *Config) post(ctx context.Context, callback HTTPCallback) error {
	if callback.URI == "" {
		return nil
	}
	client, err := c.CallbackClient()
	if err != nil {
		return err
	}
	return callback.PostContext(ctx, client)
}

// errNotPosted is about a redirect (301, 302 or 303) that HTTP clients follow by a GET
// without the payload: what answers there says nothing of what was asked.
func errNotPosted(request *http.Request) error {
	return fmt.Errorf("refused a redirect to %s, which would be asked by %s without the payload: name that address in the callback's URI, or redirect with status 307 or 308",
		shownURL(request.URL.String()), request.Method)
}

func newHTTPCallbackClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: transport,
		Timeout:   httpCallbackTimeout,
		CheckRedirect: func(request *http.Request, via []*http.Request) error {
			if request.URL.Host != via[0].URL.Host || request.URL.Scheme != via[0].URL.Scheme {
				return fmt.Errorf("refused to follow a redirect to %s: name that host in the callback's URI", request.URL.Host)
			}
			if via[0].Method == http.MethodPost && request.Method != http.MethodPost {
				return errNotPosted(request)
			}
			if len(via) >= 10 {
				return fmt.Errorf("stopped after %d redirects", len(via))
			}
			return nil
		},
	}
}
