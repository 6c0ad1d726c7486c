package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// tokenFiles is sent the name of the file that the log says the token is in, empty when
// profiles are not served.
type tokenFiles chan string

// Levels are those of the lines that Fire is called with.
func (tokenFiles) Levels() []logrus.Level { return []logrus.Level{logrus.InfoLevel, logrus.WarnLevel} }

// Fire looks for a name.
func (c tokenFiles) Fire(line *logrus.Entry) error {
	if _, file, found := strings.Cut(line.Message, "their token is in "); found || strings.HasPrefix(line.Message, "profiles are not served") {
		c <- file
	}
	return nil
}

// Security 18: a host that only sets EnablePProf gets profiles behind a token of the run's,
// from Run to Close, which does not wait for somebody who is recording.
func TestPProfDuringARun(t *testing.T) {
	p := harness.Shared(t, harness.Settings[0])
	p.Create(t, "pprof_", "CREATE TABLE rows_ (id INT NOT NULL PRIMARY KEY)")
	p.In(t, p.SourceDB, "pprof_", "INSERT INTO rows_ VALUES (1)")
	served := make(tokenFiles, 1)
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.AddHook(served)
	f := &ghostferry.Ferry{Config: p.Config("pprof_")}
	f.Config.Logger, f.Config.EnablePProf = logger, true

	get := func(path, token string) (*http.Response, error) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:6060/debug/pprof/"+path, nil)
		if err != nil {
			return nil, err
		}
		r.Header.Set("Authorization", "Bearer "+token)
		return (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	}
	status := func(path, token string) (int, error) {
		answer, err := get(path, token)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode, errors.Join(err, answer.Body.Close())
	}
	var file string
	var recording *http.Response
	require.NoError(t, harness.Move(context.Background(), f, func() (err error) {
		file = <-served
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o600 {
			return fmt.Errorf("the token's file: %v, %w", info, err)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		token := strings.TrimSpace(string(text))
		for given, want := range map[string]int{"": 401, token[1:] + "x": 401, token: 200} {
			if got, err := status("goroutine?debug=1", given); err != nil || got != want {
				return fmt.Errorf("status %d instead of %d with %q: %w", got, want, given, err)
			}
		}
		recording, err = get("trace?seconds=300", token)
		return err
	}))
	require.Equal(t, 200, recording.StatusCode)
	require.NoError(t, f.Close())
	_, _ = io.Copy(io.Discard, recording.Body) // it has ended, whole or not
	require.NoError(t, recording.Body.Close())
	_, err := status("heap", "")
	require.ErrorContains(t, err, "connection refused")
	require.NoFileExists(t, file)
}
