package ghostferry

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
)

// PanicErrorHandler is the default ErrorHandler: on the first fatal error it prints the
// state where configured, posts the error callback, logs one line, and panics. Hosts
// that want an error instead call the methods with a context.
type PanicErrorHandler struct {
	// Ferry is whose state is dumped; nil dumps none.
	Ferry *Ferry
	// ErrorCallback is posted the error; the zero value posts nothing.
	ErrorCallback HTTPCallback
	// DumpStateToStdoutOnError prints the state as JSON on standard output.
	DumpStateToStdoutOnError bool

	fatal atomic.Bool
}

// ReportError dumps and posts an error without ending the run.
func (h *PanicErrorHandler) ReportError(from string, err error) {
	logger := h.logger().WithField("errfrom", from).WithError(err)
	state, stateErr := h.state()
	message := "fatal error detected"
	if h.DumpStateToStdoutOnError && stateErr == nil {
		fmt.Println(state)
		message += ", state dump in stdout"
	}
	if h.ErrorCallback.URI != "" {
		callback := h.ErrorCallback
		payload, jsonErr := json.MarshalIndent(struct{ ErrFrom, ErrMessage, StateDump string }{from, err.Error(), state}, "", "  ")
		if jsonErr == nil {
			callback.Payload = string(payload)
			jsonErr = callback.Post(nil)
		}
		if jsonErr != nil {
			logger.Warnf("the error callback could not be posted: %v", jsonErr)
		}
	}
	logger.Error(message)
}

// Fatal reports the first error and panics. Later ones, of components that fail because
// the first one did, are logged only.
func (h *PanicErrorHandler) Fatal(from string, err error) {
	if !h.fatal.CompareAndSwap(false, true) {
		h.logger().WithField("errfrom", from).WithError(err).Error("multiple fatal errors detected, not reporting again")
		return
	}
	h.ReportError(from, err)
	panic("fatal error detected, see logs for details")
}

func (h *PanicErrorHandler) state() (string, error) {
	if h.Ferry == nil {
		return "", errors.New("no ferry")
	}
	return h.Ferry.SerializeStateToJSON()
}

func (h *PanicErrorHandler) logger() Logger {
	if h.Ferry != nil && h.Ferry.Config != nil {
		return taggedLogger(h.Ferry.Config.Logger, "error_handler")
	}
	return taggedLogger(nil, "error_handler")
}
