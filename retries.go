package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/retry"
)

// WithRetries calls f until it succeeds, at most maxRetries times in total (0: without
// a limit), with a fixed pause between the calls. Every failed attempt is logged as
// "failed to <verb>": as a warning while there are attempts left, the last one as an
// error. It returns the last error unchanged. A nil logger logs nothing.
func WithRetries(maxRetries int, sleep time.Duration, logger Logger, verb string, f func() error) (err error) {
	return WithRetriesContext(context.Background(), maxRetries, sleep, logger, verb, f)
}

// WithRetriesContext is [WithRetries] that ends with the context's error when ctx
// ends. A context.Canceled from f is returned at once: it says that somebody wanted
// this to stop.
func WithRetriesContext(ctx context.Context, maxRetries int, sleep time.Duration, logger Logger, verb string, f func() error) (err error) {
	for attempt := 1; ; attempt++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err = f()
		if err == nil || errors.Is(err, context.Canceled) {
			return err
		}
		if maxRetries > 0 && attempt >= maxRetries {
			if logger != nil {
				logger.WithError(err).Errorf("failed to %s after %d attempts, retry limit exceeded", verb, attempt)
			}
			return err
		}
		if logger != nil {
			logger.WithError(err).Warn(attemptText(verb, attempt, maxRetries))
		}
		if waitErr := retry.Sleep(ctx, sleep); waitErr != nil {
			return waitErr
		}
	}
}

func attemptText(verb string, attempt, maxAttempts int) string {
	if maxAttempts <= 0 {
		return fmt.Sprintf("failed to %s, attempt %d", verb, attempt)
	}
	return fmt.Sprintf("failed to %s, %d of %d max retries", verb, attempt, maxAttempts)
}
