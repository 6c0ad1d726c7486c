package ghostferry

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
)

const (
	// tailLines is how many lines of the log are kept for the control server.
	tailLines = 500
	// tailLineBytes bounds a kept line's message and each of its fields.
	tailLineBytes = 2 << 10
)

// LogLine is one line of a run's log.
type LogLine struct {
	// Seq numbers the lines of a run, from 1.
	Seq uint64
	// Time is when it was written.
	Time time.Time
	// Level is "debug", "info", "warning" or "error".
	Level string
	// Tag is the component.
	Tag string
	// Message is the text, without values of rows.
	Message string
	// Fields are the other fields, as text.
	Fields map[string]string `json:",omitempty"`
}

// runLog stands before a run's logger: every line of the run gets its id, and the table and
// coordinate that its error is about, loses the values of rows that servers put into their
// error texts, and is kept for a while. The line then
// goes to the host's logger, whose level, format and hooks apply.
type runLog struct {
	to Logger // set by Initialize, before anything runs

	runID atomic.Pointer[string] // nil until it is known

	mu struct {
		sync.Mutex
		lines []LogLine // a ring, oldest at next once it is full
		next  int
		seq   uint64
	}
}

// newRunLog returns the log and the logger that feeds it.
func newRunLog(to Logger) (*runLog, Logger) {
	l := &runLog{to: loggerOrStandard(to)}
	front := &logrus.Logger{Out: io.Discard, Formatter: noFormat{}, Hooks: logrus.LevelHooks{}, Level: logrus.DebugLevel, ExitFunc: func(int) {}}
	front.AddHook(l)
	return l, front
}

// noFormat makes nothing of a line: its hook has passed it on.
type noFormat struct{}

// Format returns nothing.
func (noFormat) Format(*logrus.Entry) ([]byte, error) { return nil, nil }

// Levels are all.
func (l *runLog) Levels() []logrus.Level { return logrus.AllLevels }

// Fire keeps a line and passes it on.
func (l *runLog) Fire(entry *logrus.Entry) error {
	if to := logrusOf(l.to); to != nil && !to.IsLevelEnabled(entry.Level) {
		return nil
	}
	message := mysqlerr.Redact(entry.Message)
	fields := make(Fields, len(entry.Data)+3)
	for name, value := range entry.Data {
		switch v := value.(type) {
		case error:
			for about, value := range fieldsOf(v) {
				if entry.Data[about] == nil {
					fields[about] = value
				}
			}
			value = redactedError{v}
		case string:
			value = mysqlerr.Redact(v)
		}
		fields[name] = value
	}
	if id := l.runID.Load(); id != nil {
		fields["run"] = *id
	}
	l.keep(entry, message, fields)
	pass(l.to.WithFields(fields), entry, message)
	return nil
}

// pass writes a line to the host's logger.
func pass(to Logger, entry *logrus.Entry, message string) {
	if e, ok := to.(*logrus.Entry); ok {
		e.WithTime(entry.Time).WithContext(entry.Context).Log(max(entry.Level, logrus.ErrorLevel), message)
		return
	}
	switch {
	case entry.Level <= logrus.ErrorLevel:
		to.Error(message)
	case entry.Level == logrus.WarnLevel:
		to.Warn(message)
	case entry.Level == logrus.InfoLevel:
		to.Info(message)
	default:
		to.Debug(message)
	}
}

func (l *runLog) keep(entry *logrus.Entry, message string, fields Fields) {
	line := LogLine{Time: entry.Time, Level: entry.Level.String(), Message: cut(message)}
	for name, value := range fields {
		text := cut(fmt.Sprint(value))
		if name == "tag" {
			line.Tag = text
			continue
		}
		if line.Fields == nil {
			line.Fields = make(map[string]string, len(fields))
		}
		line.Fields[name] = text
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.seq++
	line.Seq = l.mu.seq
	if len(l.mu.lines) < tailLines {
		l.mu.lines = append(l.mu.lines, line)
		return
	}
	l.mu.lines[l.mu.next] = line
	l.mu.next = (l.mu.next + 1) % tailLines
}

// after returns the kept lines with higher numbers, oldest first.
func (l *runLog) after(seq uint64) []LogLine {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []LogLine
	for i := range l.mu.lines {
		line := l.mu.lines[(l.mu.next+i)%len(l.mu.lines)]
		if line.Seq > seq {
			line.Fields = maps.Clone(line.Fields)
			out = append(out, line)
		}
	}
	return out
}

func cut(text string) string {
	if len(text) <= tailLineBytes {
		return text
	}
	return string(bytes.ToValidUTF8([]byte(text[:tailLineBytes]), nil)) + "…"
}

// redactedError is an error whose text has no values of rows.
type redactedError struct{ err error }

func (e redactedError) Error() string { return mysqlerr.Redact(e.err.Error()) }
func (e redactedError) Unwrap() error { return e.err }

// baseLogger is where components of the run log to: its own log in front of the host's
// logger once Initialize was called.
func (f *Ferry) baseLogger() Logger {
	if f.logger != nil {
		return f.logger
	}
	return taggedLogger(f.Config.Logger, "ferry")
}

// RunLogger returns the logger of the run for lines of the host's: they carry the run's id
// and are shown by the control server. Before Initialize it is Config.Logger.
func (f *Ferry) RunLogger() Logger { return f.baseLogger() }

func redactedText(text string) string { return mysqlerr.Redact(text) }
