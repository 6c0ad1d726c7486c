package preflight

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"unicode"
)

// Severity says whether a finding stops the move.
type Severity int

const (
	// Error stops the move.
	Error Severity = iota
	// Warning does not, but somebody should know.
	Warning
	// Info is for the record.
	Info
)

// String returns "error", "warning" or "info".
func (s Severity) String() string {
	switch s {
	case Error:
		return "error"
	case Warning:
		return "warning"
	default:
		return "info"
	}
}

// MarshalText makes JSON carry the word.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word back.
func (s *Severity) UnmarshalText(text []byte) error {
	for _, severity := range []Severity{Error, Warning, Info} {
		if severity.String() == string(text) {
			*s = severity
			return nil
		}
	}
	return fmt.Errorf("unknown severity %q", text)
}

// Finding is one fault.
type Finding struct {
	// Code is for programs: the check's name, a dot, and one of the check's codes.
	Code     string   `json:"code"`
	Check    string   `json:"check"`
	Severity Severity `json:"severity"`
	// Subject is what is at fault: schema.table, a setting, a server; empty for the check itself.
	Subject string `json:"subject"`
	// What says what is wrong with it.
	What string `json:"what"`
	// Remedy is what to do about it, with the exact statement where there is one.
	Remedy string `json:"remedy"`
	// Err is the error behind it, if there is one.
	Err error `json:"-"`
}

// String returns the finding as one line.
func (f Finding) String() string {
	subject := f.Subject
	if subject != "" {
		subject += ": "
	}
	return fmt.Sprintf("%s: %s%s. Remedy: %s", f.Code, subject, f.What, f.Remedy)
}

// FindingError is a finding of severity Error as an error.
type FindingError struct{ Finding Finding }

// Error returns the finding as one line.
func (e *FindingError) Error() string { return e.Finding.String() }

// Unwrap returns the error behind the finding.
func (e *FindingError) Unwrap() error { return e.Finding.Err }

// Report is what the checks found, errors first.
type Report struct {
	Findings []Finding `json:"findings"`
}

// New returns a report of the findings, errors first.
func New(findings []Finding) *Report {
	sort.SliceStable(findings, func(i, j int) bool { return findings[i].Severity < findings[j].Severity })
	if findings == nil {
		findings = []Finding{} // [] in JSON, not null
	}
	return &Report{Findings: findings}
}

// Err returns nil when the move may begin, and otherwise every finding of severity Error as a
// *FindingError, joined.
func (r *Report) Err() error {
	var errs []error
	for _, f := range r.Findings {
		if f.Severity == Error {
			errs = append(errs, &FindingError{f})
		}
	}
	return errors.Join(errs...)
}

// Count returns the number of findings of a severity.
func (r *Report) Count(s Severity) int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == s {
			n++
		}
	}
	return n
}

// Table returns the report for people: a block for each finding, and a line that counts them.
func (r *Report) Table() string {
	width := 0
	for _, f := range r.Findings {
		width = max(width, len(f.Code))
	}
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%-7s  %-*s  ", f.Severity, width, f.Code)
		if f.Subject != "" {
			fmt.Fprintf(&b, "%s: ", printable(f.Subject))
		}
		fmt.Fprintf(&b, "%s\n", printable(f.What))
		if f.Remedy != "" {
			fmt.Fprintf(&b, "%*s  remedy: %s\n", width+9, "", printable(f.Remedy))
		}
	}
	fmt.Fprintf(&b, "preflight: %s, %s\n", plural(r.Count(Error), "error"), plural(r.Count(Warning), "warning"))
	return b.String()
}

func plural(n int, word string) string {
	if n != 1 {
		word += "s"
	}
	return fmt.Sprintf("%d %s", n, word)
}

// printable replaces what would move the cursor or break the line: names may hold any character.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return '�'
	}, s)
}
