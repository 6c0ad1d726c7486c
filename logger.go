package ghostferry

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/sirupsen/logrus"
)

// Logger is what the library logs to: a logrus logger or entry. A run's logger is
// Config.Logger; without one it is logrus' standard logger, which writes to standard
// error. Every line carries a "tag" field that names the component.
type Logger = logrus.FieldLogger

// Fields are the named values of a log line.
type Fields = logrus.Fields

// LogLevel is the least severity that is logged.
type LogLevel int

// The levels of [Config.LogLevel], least severe first.
const (
	LogLevelDebug LogLevel = iota
	LogLevelInfo
	LogLevelWarn
	LogLevelError
)

// logBackendLogrus is the one accepted name of Config.LogBackend.
const logBackendLogrus = "logrus"

// ParseLogLevel reads "debug", "info", "warn", "warning" or "error" in any case.
// Anything else gives (LogLevelInfo, false).
func ParseLogLevel(s string) (LogLevel, bool) {
	switch strings.ToLower(s) {
	case "debug":
		return LogLevelDebug, true
	case "info":
		return LogLevelInfo, true
	case "warn", "warning":
		return LogLevelWarn, true
	case "error":
		return LogLevelError, true
	}
	return LogLevelInfo, false
}

func (l LogLevel) logrusLevel() logrus.Level {
	switch l {
	case LogLevelDebug:
		return logrus.DebugLevel
	case LogLevelWarn:
		return logrus.WarnLevel
	case LogLevelError:
		return logrus.ErrorLevel
	}
	return logrus.InfoLevel
}

// LogWithField returns a line maker with one field on the process's standard logger.
// A run logs to its own Config.Logger.
func LogWithField(key string, value any) Logger {
	return logrus.StandardLogger().WithField(key, value)
}

// LogWithFields is LogWithField with several fields.
func LogWithFields(fields Fields) Logger { return logrus.StandardLogger().WithFields(fields) }

// LogWithError is LogWithField with the field "error".
func LogWithError(err error) Logger { return logrus.StandardLogger().WithError(err) }

// NewDefaultLogger returns the process's standard logger.
func NewDefaultLogger() Logger { return logrus.StandardLogger() }

// SetLogLevel sets the level of the process's standard logger. A single run's level
// is Config.LogLevel.
func SetLogLevel(level LogLevel) { logrus.SetLevel(level.logrusLevel()) }

// SetLogJSONFormatter makes the process's standard logger write JSON lines with the
// fields msg, level and time.
func SetLogJSONFormatter() { logrus.SetFormatter(&logrus.JSONFormatter{}) }

// SetLogOutput redirects the process's standard logger.
func SetLogOutput(w io.Writer) { logrus.SetOutput(w) }

// taggedLogger is how a component gets its logger: the run's, or the process's
// standard logger where a component is used alone, with the component's name.
func taggedLogger(logger Logger, tag string) Logger {
	return loggerOrStandard(logger).WithField("tag", tag)
}

func loggerOrStandard(logger Logger) Logger {
	if logger == nil {
		return logrus.StandardLogger()
	}
	return logger
}

// loggerAtLevel returns a logger that writes where the given one writes, at a level
// of its own: a run must not change the level of a logger that others use too.
func loggerAtLevel(logger Logger, level LogLevel) (Logger, error) {
	switch l := logger.(type) {
	case nil:
		return copyLogger(logrus.StandardLogger(), level), nil
	case *logrus.Logger:
		return copyLogger(l, level), nil
	case *logrus.Entry:
		entry := l.Dup()
		entry.Logger = copyLogger(l.Logger, level)
		return entry, nil
	}
	return nil, fmt.Errorf("a Logger of type %T has no level that could be set", logger)
}

func copyLogger(original *logrus.Logger, level LogLevel) *logrus.Logger {
	return &logrus.Logger{
		Out:          original.Out,
		Hooks:        original.Hooks,
		Formatter:    original.Formatter,
		ReportCaller: original.ReportCaller,
		Level:        level.logrusLevel(),
		ExitFunc:     original.ExitFunc,
		BufferPool:   original.BufferPool,
	}
}

// NewSlogLogger returns a slog.Logger whose lines go to a Logger. Groups become
// dotted names; the level is left to the Logger.
func NewSlogLogger(logger Logger) *slog.Logger {
	if logger == nil {
		logger = logrus.StandardLogger()
	}
	return slog.New(&slogHandler{logger: logger})
}

type slogHandler struct {
	logger Logger
	prefix string
}

func (h *slogHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *slogHandler) Handle(_ context.Context, record slog.Record) error {
	fields := make(Fields, record.NumAttrs())
	record.Attrs(func(attr slog.Attr) bool {
		addSlogAttr(fields, h.prefix, attr)
		return true
	})
	logger := h.logger.WithFields(fields)
	switch {
	case record.Level >= slog.LevelError:
		logger.Error(record.Message)
	case record.Level >= slog.LevelWarn:
		logger.Warn(record.Message)
	case record.Level >= slog.LevelInfo:
		logger.Info(record.Message)
	default:
		logger.Debug(record.Message)
	}
	return nil
}

func (h *slogHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	fields := make(Fields, len(attrs))
	for _, attr := range attrs {
		addSlogAttr(fields, h.prefix, attr)
	}
	return &slogHandler{logger: h.logger.WithFields(fields), prefix: h.prefix}
}

func (h *slogHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &slogHandler{logger: h.logger, prefix: h.prefix + name + "."}
}

func addSlogAttr(fields Fields, prefix string, attr slog.Attr) {
	value := attr.Value.Resolve()
	if value.Kind() != slog.KindGroup {
		if attr.Key != "" {
			fields[prefix+attr.Key] = value.Any()
		}
		return
	}
	if attr.Key != "" {
		prefix += attr.Key + "."
	}
	for _, inner := range value.Group() {
		addSlogAttr(fields, prefix, inner)
	}
}

// logrusOf returns the logger whose level decides about a Logger's lines; nil when there
// is none that could be set.
func logrusOf(logger Logger) *logrus.Logger {
	switch l := logger.(type) {
	case nil:
		return logrus.StandardLogger()
	case *logrus.Logger:
		return l
	case *logrus.Entry:
		return l.Logger
	}
	return nil
}
