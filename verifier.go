package ghostferry

import (
	"time"
)

// IncompleteVerificationError says that a verification ended without a verdict.
type IncompleteVerificationError struct{}

// Error is the pinned text.
func (IncompleteVerificationError) Error() string { return "verification is incomplete" }

// VerificationResult is a verifier's verdict. It can be used as an error.
type VerificationResult struct {
	// DataCorrect is true when both sides were compared and found equal.
	DataCorrect bool
	// Message says what differs; empty when nothing does.
	Message string
	// IncorrectTables names the differing tables as "schema.table" of the source.
	IncorrectTables []string
}

// Error is the message.
func (r VerificationResult) Error() string { return r.Message }

// Retryable is false: comparing again changes nothing.
func (VerificationResult) Retryable() bool { return false }

// Resumable is false: the target's rows cannot be built upon.
func (VerificationResult) Resumable() bool { return false }

// NewCorrectVerificationResult is the verdict "equal".
func NewCorrectVerificationResult() VerificationResult {
	return VerificationResult{DataCorrect: true, IncorrectTables: []string{}}
}

// VerificationResultAndStatus is a verdict with the times of the verification.
type VerificationResultAndStatus struct {
	VerificationResult

	// StartTime is zero until the verification started.
	StartTime time.Time
	// DoneTime is zero until it ended.
	DoneTime time.Time
}

// IsStarted says whether the verification has started.
func (r VerificationResultAndStatus) IsStarted() bool { return !r.StartTime.IsZero() }

// IsDone says whether the verification has ended.
func (r VerificationResultAndStatus) IsDone() bool { return !r.DoneTime.IsZero() }

// Verifier compares source and target. A host may bring its own.
type Verifier interface {
	// VerifyBeforeCutover is called by Run once the rows are copied, to leave as
	// little as possible for the cutover. An error ends the run.
	VerifyBeforeCutover() error

	// VerifyDuringCutover gives the verdict, when the source no longer changes. The
	// host calls it.
	VerifyDuringCutover() (VerificationResult, error)

	// StartInBackground starts VerifyDuringCutover without waiting for it.
	StartInBackground() error

	// Wait waits for the verification started in the background.
	Wait()

	// Message is free text for progress reports.
	Message() string

	// Result is the outcome of the verification started in the background so far.
	Result() (VerificationResultAndStatus, error)
}
