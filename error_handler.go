package ghostferry

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
