package ghostferry

import (
	"bytes"
	"fmt"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// ForeignWriteError says that somebody else wrote to a moved row on the target. Only a
// comparison can tell whether the row is right.
type ForeignWriteError struct {
	ruined
	// Schema and Table name the table on the source.
	Schema, Table string
	// Key is the row's key in String form, empty when the row could not be read.
	Key string
	// Change is "insert", "update" or "delete".
	Change string
	// Coordinate is where the event ends in the target's binary log.
	Coordinate mysql.Position
	// Comment is the comment in front of the statement, as the application's, empty when
	// there is none or the statement is not in the log.
	Comment string
}

// Error names key, table, coordinate and the statement's comment.
func (e *ForeignWriteError) Error() string {
	comment := "no comment"
	if e.Comment != "" {
		comment = fmt.Sprintf("the comment %q", e.Comment)
	}
	which := "row data"
	if e.Key != "" {
		which += " with paginationKey " + e.Key
	}
	return fmt.Sprintf("%s on %s has been corrupted by a change directly performed in the target at binlog file: %s and position: %d; it was a row %s by a statement with %s: stop who writes there, and start again with an empty table",
		which, QuotedTableNameFromString(e.Schema, e.Table), e.Coordinate.Name, e.Coordinate.Pos, e.Change, comment)
}

// TargetVerifier watches the target's binary log for rows that somebody else wrote. A
// write is ours when its statement begins with our pool's comment: the target has to
// log statements before their rows (binlog_rows_query_log_events on MySQL,
// binlog_annotate_row_events on MariaDB). It works as a literal of its exported fields, too,
// whose BinlogEventListener the host registers on the stream; StateTracker is not told then.
type TargetVerifier struct {
	// DB is the target; its Marginalia is the comment.
	DB *sql.DB
	// BinlogStreamer follows the target's log.
	BinlogStreamer *BinlogStreamer
	// StateTracker gets the position up to which the log was watched.
	StateTracker *StateTracker
}

// NewTargetVerifier registers the verifier on the stream, before it runs.
func NewTargetVerifier(targetDB *sql.DB, stateTracker *StateTracker, binlogStreamer *BinlogStreamer) (*TargetVerifier, error) {
	v := &TargetVerifier{DB: targetDB, BinlogStreamer: binlogStreamer, StateTracker: stateTracker}
	binlogStreamer.own = v.isOwn
	binlogStreamer.AddEventListener(v.BinlogEventListener)
	binlogStreamer.onEnd = append(binlogStreamer.onEnd, v.watchedTo)
	return v, nil
}

// watchedTo notes from where a later process has to watch: it does not have the rows of
// transactions that are prepared, which stand in the log before that. By file and offset no
// set of GTIDs says so.
func (v *TargetVerifier) watchedTo(e transactionEnd) {
	if v.StateTracker != nil && e.at.File != "" {
		v.StateTracker.watchedTo(e.at, v.BinlogStreamer.xa.hold, e.mark)
	}
}

// lag is how old the newest event seen is; 0 before the first one, and once the watch was told
// to end.
func (v *TargetVerifier) lag() time.Duration {
	s := v.BinlogStreamer
	if !s.stopCoordinate().IsZero() || s.lastEvent().IsZero() {
		return 0
	}
	return s.lag()
}

// isOwn reports whether a statement is ours. What a server logs in its own words, the
// removal of a table for one, is not: once a run has begun none of ours removes a moved table.
func (v *TargetVerifier) isOwn(statement []byte) bool {
	return bytes.HasPrefix(statement, []byte("/*"+sql.Annotation(v.DB.Marginalia)+"*/"))
}

// BinlogEventListener fails with a [*ForeignWriteError] at the first row that was not
// written by a statement of ours.
func (v *TargetVerifier) BinlogEventListener(evs []DMLEvent) error {
	for _, ev := range evs {
		comment, err := ev.Annotation()
		if err == nil && comment == sql.Annotation(v.DB.Marginalia) {
			continue
		}
		r, err := rowEventOf(ev)
		if err != nil {
			return err
		}
		return v.foreign(r, comment)
	}
	return nil
}

func (v *TargetVerifier) foreign(r *rowEvent, comment string) error {
	e := &ForeignWriteError{
		Schema: r.table.Schema, Table: r.table.Name, Change: "update", Coordinate: r.end.Position(), Comment: comment,
	}
	image := r.new
	switch {
	case r.old < 0:
		e.Change = "insert"
	case r.new < 0:
		e.Change, image = "delete", r.old
	}
	f := &fingerprint{table: r.table, layout: r.layout}
	e.Key = f.keyText(r.key(image))
	return e
}
