package ghostferry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// HTTPThrottlerConfig is an endpoint that knows whether the run may go on.
type HTTPThrottlerConfig struct {
	// Name tells it from others in reports; default "http".
	Name string
	// URI is asked by GET: 200 means go on, any other status means pause, with the answer's
	// beginning as the reason. Redirects to other hosts are not followed.
	URI string
	// UpdateInterval is the time between two looks. Default "1s".
	UpdateInterval Duration
}

// HTTPThrottler pauses the run while an endpoint says so.
type HTTPThrottler struct {
	observed
	client *http.Client
}

// NewHTTPThrottler validates the configuration. A nil client means the one of callbacks
// without a configuration, see [HTTPCallback.PostContext].
func NewHTTPThrottler(config *HTTPThrottlerConfig, client *http.Client) (*HTTPThrottler, error) {
	at, err := url.Parse(config.URI)
	if err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return nil, &ConfigError{Field: "URI", Problem: "throttler: the URI is not one of http or https", Remedy: "write it like http://host/path"}
	}
	if client == nil {
		client = newHTTPCallbackClient(nil)
	}
	t := &HTTPThrottler{observed: newObserved(config.Name, "http", config.UpdateInterval), client: client}
	t.look = func(ctx context.Context) (func() string, error) { return t.ask(ctx, config.URI) }
	return t, nil
}

func (t *HTTPThrottler) ask(ctx context.Context, uri string) (func() string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, withoutSecrets(err)
	}
	response, err := t.client.Do(request)
	if err != nil {
		return nil, withoutSecrets(err)
	}
	defer response.Body.Close()
	const shown = 200
	body, _ := io.ReadAll(io.LimitReader(response.Body, shown)) // only for the reason
	why := ""
	if response.StatusCode != http.StatusOK {
		why = fmt.Sprintf("the endpoint answered %d %s", response.StatusCode, http.StatusText(response.StatusCode))
		if text := bytes.TrimSpace(body); len(text) > 0 {
			why += fmt.Sprintf(": %q", text)
		}
	}
	return func() string { return why }, nil
}

// Close ends idle connections.
func (t *HTTPThrottler) Close() error {
	t.client.CloseIdleConnections()
	return nil
}
