package ghostferry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"
)

// ErrInterrupted is the cause of a run that was stopped from outside, by a signal or
// by its context. What it wrote is consistent: the same command goes on from there.
var ErrInterrupted = errors.New("interrupted; the run can be resumed")

// Resumable says whether a run that ended with err can be continued by starting it
// again, once the reason is out of the way. Errors that make the rows already on the
// target, or the way from here on, untrustworthy are not.
func Resumable(err error) bool {
	if err == nil {
		return false
	}
	if answer, ok := errors.AsType[interface {
		error
		Resumable() bool
	}](err); ok {
		return answer.Resumable()
	}
	return true
}

// Retryable says whether the same step may be tried again at once, in the same
// process. Verdicts (wrong configuration, differing data, a lost epoch) and endings
// asked for from outside are not retried.
func Retryable(err error) bool {
	if err == nil || errors.Is(err, ErrInterrupted) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if answer, ok := errors.AsType[interface {
		error
		Retryable() bool
	}](err); ok {
		return answer.Retryable()
	}
	return true
}

// final is embedded by errors that are a verdict: trying again changes nothing.
type final struct{}

// Retryable is false.
func (final) Retryable() bool { return false }

// ruined is embedded by verdicts after which the target's rows cannot be built upon.
type ruined struct{ final }

// Resumable is false.
func (ruined) Resumable() bool { return false }

// ConfigError is one fault of the configuration. Validation reports all faults at
// once, joined: see [ConfigErrors].
type ConfigError struct {
	final
	// Field is the path of the setting in the configuration, e.g. "Source.Host".
	Field string
	// Problem says what is wrong with it.
	Problem string
	// Remedy says what to do; may be empty.
	Remedy string
	// Err is the error behind the problem, if there is one.
	Err error
}

// Error gives problem, setting and remedy in one line.
func (e *ConfigError) Error() string {
	text := e.Problem
	if e.Field != "" && !strings.Contains(text, e.Field) {
		text += " [" + e.Field + "]"
	}
	if e.Remedy != "" {
		text += ": " + e.Remedy
	}
	return text
}

// Unwrap returns the error behind the problem.
func (e *ConfigError) Unwrap() error { return e.Err }

// Resumable is true: a corrected configuration goes on from where the run was.
func (e *ConfigError) Resumable() bool { return true }

// ConfigErrors returns all faults of the configuration in err, in the order in which
// they were found.
func ConfigErrors(err error) []*ConfigError {
	switch e := err.(type) { //nolint:errorlint // it walks the tree itself, to find all of them
	case nil:
		return nil
	case *ConfigError:
		return []*ConfigError{e}
	case interface{ Unwrap() []error }:
		var all []*ConfigError
		for _, one := range e.Unwrap() {
			all = append(all, ConfigErrors(one)...)
		}
		return all
	case interface{ Unwrap() error }:
		return ConfigErrors(e.Unwrap())
	}
	return nil
}

// NoUsableKeyError says that a table has no key to walk it by.
type NoUsableKeyError struct {
	final
	// Schema and Table name the table on the source.
	Schema, Table string
	// Column is the column that does not do; empty when there is none to name.
	Column string
	// Reason says what was looked at and why it did not do.
	Reason string
}

// Error names the table, the reason and what can be done.
func (e *NoUsableKeyError) Error() string {
	reason := e.Reason
	if reason == "" {
		reason = "it has no Primary Key to default to, nor a unique index of whole NOT NULL columns"
	}
	return fmt.Sprintf("no usable Pagination Key for %s: %s; add such a key, name a unique NOT NULL column in CascadingPaginationColumnConfig, or leave the table out by the table filter",
		QuotedTableNameFromString(e.Schema, e.Table), reason)
}

// UnsupportedTableError says that a selected table is of a kind that cannot be moved.
type UnsupportedTableError struct {
	final
	// Schema and Table name the table on the source.
	Schema, Table string
	// Reason says what kind it is.
	Reason string
}

// Error names table and reason.
func (e *UnsupportedTableError) Error() string {
	return fmt.Sprintf("table %s cannot be moved: %s; leave it out by the table filter", QuotedTableNameFromString(e.Schema, e.Table), e.Reason)
}

// SchemaChangedError says that a table is no longer defined as it was when the run
// began: rows already copied and changes still to come do not fit together.
type SchemaChangedError struct {
	ruined
	// Schema and Table name the table on the source.
	Schema, Table string
	// Change says what is different.
	Change string
}

// Error names table and change.
func (e *SchemaChangedError) Error() string {
	return fmt.Sprintf("the definition of table %s has changed since the run began: %s; undo the change, or start again with an empty table", QuotedTableNameFromString(e.Schema, e.Table), e.Change)
}

// SelectionChangedError says that a run is to go on with another selection than it began with: a
// table of it is left out, other rows of it move, or it goes to another table of the target.
type SelectionChangedError struct {
	final
	// RunID is the run.
	RunID string
	// Schema and Table name the table on the source.
	Schema, Table string
	// Change says what is different.
	Change string
}

// Error names run, table, change and the remedies.
func (e *SelectionChangedError) Error() string {
	return fmt.Sprintf("run %s moves table %s, but %s: go on with the selection that the run began with, give another selection a RunID of its own, or start afresh with empty target tables (ForgetCheckpoint, copydb: -restart)", e.RunID, QuotedTableNameFromString(e.Schema, e.Table), e.Change)
}

// Resumable is true: nothing was written, and the selection that the run began with goes on.
func (e *SelectionChangedError) Resumable() bool { return true }

// EmptySelectionError says that the table filter left nothing to move.
type EmptySelectionError struct {
	final
	// Databases are the schemas that the filter chose; empty when it chose none.
	Databases []string
}

// Error says which step of the filter left nothing.
func (e *EmptySelectionError) Error() string {
	if len(e.Databases) == 0 {
		return "the table filter selects no schema of the source: check its names and the account's privileges on the source"
	}
	return fmt.Sprintf("the table filter selects no table in %s: check its names and the account's privileges on the source", strings.Join(e.Databases, ", "))
}

// NotEmptyTargetError says that tables of the target hold rows before the copy began.
type NotEmptyTargetError struct {
	final
	// Tables are "schema.table" names on the target.
	Tables []string
}

// Error names the tables.
func (e *NotEmptyTargetError) Error() string {
	return fmt.Sprintf("the target already has rows in %s: empty or drop these tables, or resume the run that wrote them", strings.Join(e.Tables, ", "))
}

// TargetConflictError says that a row of the target that is not ours holds a key or
// a unique value that a row of the source needs. Nothing was overwritten.
type TargetConflictError struct {
	ruined
	// Table is "schema.table" on the target.
	Table string
	// Key is the source row's key.
	Key string
	// Index is the unique index on the target in which the two collide, where it is known.
	Index string

	// Others: only some rows of the table move, and the one in the way is of others. Nothing
	// was built on it: the run can go on when it is out of the way.
	Others bool
}

// Resumable reports whether the run can go on when the foreign row is out of the way:
// where only some rows of a table move, nothing of ours was built on it.
func (e *TargetConflictError) Resumable() bool { return e.Others }

// Error names table and key.
func (e *TargetConflictError) Error() string {
	if e.Others {
		return fmt.Sprintf("a row of table %s on the target that is not part of the move is in the way of the row with key %s (unique index %s): give one of the two another value, then go on; nothing of it was changed", e.Table, e.Key, cmp.Or(e.Index, "not known"))
	}
	return fmt.Sprintf("a foreign row in table %s of the target stands in the way of the row with key %s: remove it, or find out who writes to the target, and start again with an empty table", e.Table, e.Key)
}

// FencedError says that another process has taken the run over: this one has stopped
// writing.
type FencedError struct {
	final
	// RunID is the run that was taken over.
	RunID string
	// Epoch is the newer epoch found on the target; 0 where a [CheckpointStore] told it.
	Epoch uint64
}

// Error names the run and the epoch.
func (e *FencedError) Error() string {
	if e.Epoch == 0 {
		return fmt.Sprintf("run %s was taken over by another process, whose state the CheckpointStore has: this process has stopped writing; both may have written at once: let the other one finish, with a VerifierType that compares every row", e.RunID)
	}
	return fmt.Sprintf("run %s was taken over by another process (epoch %d): this process has stopped writing; let the other one finish", e.RunID, e.Epoch)
}

// Resumable is false: another process owns the run.
func (e *FencedError) Resumable() bool { return false }

// RunBegunError says that another process has begun the same new run after this one had looked
// for it: this one has written nothing.
type RunBegunError struct {
	final
	// RunID is the run.
	RunID string
}

// Error names the run and both ways to go on.
func (e *RunBegunError) Error() string {
	return fmt.Sprintf("another process has just begun run %s, and this one has written nothing: let the other one go on; or stop it and start this command again, which goes on where it has come to", e.RunID)
}

// Resumable is true: started again, this one takes the run over.
func (e *RunBegunError) Resumable() bool { return true }

// DamagedCheckpointError says that the checkpoint on the target holds what no version of
// this library writes: somebody has changed it.
type DamagedCheckpointError struct {
	ruined
	// RunID is the run, Schema where its checkpoint is.
	RunID, Schema string
	// What is wrong with it.
	What string
}

// Error names run, schema, fault and remedy.
func (e *DamagedCheckpointError) Error() string {
	return fmt.Sprintf("the checkpoint of run %s in schema %s is damaged: %s: start afresh with empty target tables (copydb: -restart)", e.RunID, e.Schema, e.What)
}

// TargetLostCommitsError says that the target has acknowledged transactions and lost them
// in a crash, because it does not write its log at each commit
// (innodb_flush_log_at_trx_commit), or a replica took its place. What is there is
// consistent: the same command goes on from it.
type TargetLostCommitsError struct {
	final
	// RunID is the run whose checkpoint went back.
	RunID string
	// What is missing.
	What string
}

// Error names the run, what is missing and the remedy.
func (e *TargetLostCommitsError) Error() string {
	return fmt.Sprintf("the target has lost %s of run %s that it had acknowledged: start the same command again, it goes on from what is there; set innodb_flush_log_at_trx_commit=1 on the target so that it does not happen again", e.What, e.RunID)
}

// UnsupportedEventError says that the binary log contains something that can neither
// be applied nor be proven irrelevant. The position has not moved past it.
type UnsupportedEventError struct {
	ruined
	// Coordinate is where the event ends, at most 4 GiB.
	Coordinate mysql.Position
	// End is the same in full; zero in errors made by hosts.
	End BinlogCoordinate
	// Table is "schema.table" on the source, or empty when the event has none. Of a statement
	// that does not name the tables it may have changed it is the only moved one in reach; of
	// several What names some.
	Table string
	// What names the event; a statement by its verb.
	What string
	// Remedy says what to do.
	Remedy string
}

// Error names event, table, coordinate and remedy.
func (e *UnsupportedEventError) Error() string {
	at := e.End
	if at.IsZero() {
		at = coordinateFromPosition(e.Coordinate)
	}
	text := fmt.Sprintf("%s at %s", e.What, at)
	if e.Table != "" {
		text = fmt.Sprintf("%s on table %s at %s", e.What, e.Table, at)
	}
	text += " is not supported"
	if e.Remedy != "" {
		text += ": " + e.Remedy
	}
	return text
}

// PreparedTransactionsError says that XA transactions are prepared on the source and
// neither committed nor rolled back: at the start, where their rows would not be seen, or
// at the stop position, where they changed moved tables and may be committed later.
type PreparedTransactionsError struct {
	final
	// XIDs are the transactions, as XA COMMIT takes them.
	XIDs []string
	// Tables are "schema.table" names of the moved tables that they changed; empty at the
	// start, when that is not known.
	Tables []string
	// Coordinate is the stop position; zero at the start.
	Coordinate BinlogCoordinate
	// Target is true for transactions of somebody else on the target.
	Target bool
}

// Error names the transactions, the tables and the coordinate.
func (e *PreparedTransactionsError) Error() string {
	where := "source"
	if e.Target {
		where = "target"
	}
	text := fmt.Sprintf("the %s has prepared XA transactions (%s)", where, strings.Join(e.XIDs, "; "))
	if len(e.Tables) > 0 {
		text += " with changes of " + strings.Join(e.Tables, ", ")
	}
	if !e.Coordinate.IsZero() {
		text += fmt.Sprintf(" at the stop position %s", e.Coordinate)
	}
	if e.Target {
		return text + ": XA ROLLBACK each of them there, and start again"
	}
	return text + ": XA COMMIT or XA ROLLBACK each of them on the source, and start again"
}

// LateWriteError says that the source was still written after its writers were said
// to have stopped.
type LateWriteError struct {
	final
	// Tables are "schema.table" names on the source.
	Tables []string
	// Writes are the first of them, as far as they are known.
	Writes []LateWrite
	// Switched says that the target had taken over when it was noticed.
	Switched bool
}

// Resumable is false once the target has taken over: the source must not be followed then.
func (e *LateWriteError) Resumable() bool { return !e.Switched }

// LateWrite is one change of the source that came too late.
type LateWrite struct {
	// Table is "schema.table" on the source, Key the row's key as text.
	Table, Key string
	// Coordinate is where the change ends in the source's log.
	Coordinate BinlogCoordinate
}

// Error names the tables and the first keys.
func (e *LateWriteError) Error() string {
	text := "the source was written after the stop position, in " + strings.Join(e.Tables, ", ")
	for i, w := range e.Writes {
		separator := "; "
		if i == 0 {
			separator = " ("
		}
		text += fmt.Sprintf("%s%s key %s at %s", separator, w.Table, w.Key, w.Coordinate)
		if i == 4 && len(e.Writes) > 5 {
			text += fmt.Sprintf("; and %d more", len(e.Writes)-5)
			break
		}
	}
	if len(e.Writes) > 0 {
		text += ")"
	}
	if e.Switched {
		return text + ": the target has taken over without these changes; find who wrote them, stop it, and bring each over by hand"
	}
	return text + ": not all writers were stopped; stop them and run again before the target takes over"
}

// DebtError says that rows left out because another row of the target held their unique value
// were not delivered by the binary log when they had to be: that row is of somebody else, or the
// source's log lacks changes. They stay owed: every process that goes on ends so until they are there.
type DebtError struct {
	ruined
	// Table is "schema.table" on the source.
	Table string
	// Keys are some of the missing rows' keys.
	Keys []string
	// KeptOut says of rows in Keys by which rows of the target, as far as that could be found.
	KeptOut []KeptOutRow
	// Coordinate is the position by which the rows had to have arrived.
	Coordinate mysql.Position
}

// Error names table, keys, coordinate and what is in the way.
func (e *DebtError) Error() string {
	var by strings.Builder
	for _, k := range e.KeptOut {
		fmt.Fprintf(&by, "; row %s is kept out by row %s, unique index %s", k.Key, k.Holder, k.Index)
	}
	return fmt.Sprintf("rows of table %s that were due by %s:%d have not arrived, keys %s%s: other rows of the target had their unique values when they were to be written: find out who wrote those, and make the rows as the source has them, then the same command goes on; or the source's binary log does not contain every change: start again with an empty table",
		e.Table, e.Coordinate.Name, e.Coordinate.Pos, strings.Join(e.Keys, ", "), by.String())
}

// TableError is a failure that concerns one table.
type TableError struct {
	// Schema and Table name the table on the source.
	Schema, Table string
	// Err is what went wrong.
	Err error
}

// Error names the table and what went wrong.
func (e *TableError) Error() string {
	return fmt.Sprintf("table %s: %v", QuotedTableNameFromString(e.Schema, e.Table), e.Err)
}

// Unwrap returns what went wrong.
func (e *TableError) Unwrap() error { return e.Err }
