package ghostferry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// interruptedTimeout bounds the error callback of a run that was interrupted: its process
// has to end within seconds.
const interruptedTimeout = 3 * time.Second

// ErrorHandler is where failures of the blocking methods without an error result
// (Run, WaitUntil…, StartCutover, …) end up. Implementations must be safe for
// concurrent use.
type ErrorHandler interface {
	// ReportError tells about an error without ending the run.
	ReportError(from string, err error)

	// Fatal reports an error that ends the run. It normally does not return; where
	// it does, the component that called it stops.
	Fatal(from string, err error)
}

// fatal hands the error of a component to its handler. A component without one, made as
// a literal, logs it: nothing fails unseen.
func fatal(handler ErrorHandler, logger Logger, from string, err error) {
	if handler == nil {
		logger.WithError(err).Error(from + " failed, and it has no ErrorHandler")
		return
	}
	handler.Fatal(from, err)
}

// PanicErrorHandler is the handler of a Ferry that was given none: it dumps the state,
// logs, posts the error callback, and panics.
type PanicErrorHandler struct {
	// Ferry is whose state is dumped; without one nothing is.
	Ferry *Ferry
	// ErrorCallback is posted a JSON object of three strings: ErrFrom, ErrMessage and
	// StateDump, which is empty when there is no state yet.
	ErrorCallback HTTPCallback
	// DumpStateToStdoutOnError prints the state's JSON on standard output.
	DumpStateToStdoutOnError bool

	fatal atomic.Bool // the first Fatal has been taken
}

// errorReport is the payload of the error callback.
type errorReport struct {
	ErrFrom    string
	ErrMessage string
	StateDump  string
}

// ReportError dumps the state, logs one line at error level with the field errfrom, and
// posts the callback, for which it waits for 30 s at most, and for 3 s when the run was
// interrupted.
func (h *PanicErrorHandler) ReportError(from string, err error) {
	logger := h.logger().WithField("errfrom", from)

	state, stateErr := h.state()
	dumped := ""
	if stateErr != nil {
		logger.WithField("reason", stateErr).Warn("no state to dump")
	} else if h.DumpStateToStdoutOnError {
		if _, printErr := fmt.Fprintln(os.Stdout, state); printErr != nil {
			logger.WithField("reason", printErr).Warn("failed to print the state")
		} else {
			dumped = ", state dump in stdout"
		}
	}
	// Before the callback, which may hang, and as the only error line: tools read the last one.
	logger.WithError(err).Error("fatal error detected" + dumped)
	limit := httpCallbackTimeout
	if errors.Is(err, ErrInterrupted) {
		limit = interruptedTimeout
	}
	if postErr := h.post(limit, errorReport{ErrFrom: from, ErrMessage: err.Error(), StateDump: state}); postErr != nil {
		logger.WithField("reason", postErr).Warn("failed to post the error callback")
	}
}

// Fatal reports the first error and panics with "fatal error detected, see logs for
// details". Later ones are only logged, and Fatal returns.
func (h *PanicErrorHandler) Fatal(from string, err error) {
	if h.fatal.Swap(true) {
		h.logger().WithField("errfrom", from).WithError(err).Error("multiple fatal errors detected, not reporting again")
		return
	}
	h.ReportError(from, err)
	panic("fatal error detected, see logs for details")
}

// state is empty with an error as long as there is none.
func (h *PanicErrorHandler) state() (string, error) {
	if h.Ferry == nil {
		return "", fmt.Errorf("the error handler has no Ferry")
	}
	return h.Ferry.SerializeStateToJSON()
}

func (h *PanicErrorHandler) post(limit time.Duration, report errorReport) error {
	if h.ErrorCallback.URI == "" {
		return nil
	}
	payload, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	callback := h.ErrorCallback
	callback.Payload = string(payload)
	// Nobody's context: the run that had one is ending.
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if h.Ferry != nil && h.Ferry.Config != nil {
		return h.Ferry.post(ctx, callback)
	}
	return callback.PostContext(ctx, nil)
}

func (h *PanicErrorHandler) logger() Logger {
	var logger Logger
	if h.Ferry != nil && h.Ferry.Config != nil {
		logger = h.Ferry.baseLogger()
	}
	return taggedLogger(logger, "error_handler")
}
