package ghostferry

import (
	"github.com/go-mysql-org/go-mysql/mysql"
)

// What happens to a table at the moment; see [TableProgress].
const (
	// TableActionWaiting: not begun.
	TableActionWaiting = "waiting"
	// TableActionCopying: some of its rows have been copied.
	TableActionCopying = "copying"
	// TableActionCompleted: every row has been copied, or there were none.
	TableActionCompleted = "completed"
)

// TableProgress tells how far one table is.
type TableProgress struct {
	// LastSuccessfulPaginationKey is null until the first rows were written.
	LastSuccessfulPaginationKey PaginationKey
	// TargetPaginationKey is the highest key to copy; null for an empty table.
	TargetPaginationKey PaginationKey
	// CurrentAction is one of the TableAction constants.
	CurrentAction string
	// RowsWritten counts rows handed to the target by this process.
	RowsWritten uint64
	// RowsWrittenBefore counts those of earlier processes of the run, as far as that is known: the
	// part of RowsEstimate that is copied is both.
	RowsWrittenBefore uint64
	// BatchSize is the current number of rows of a batch.
	BatchSize uint64
	// BytesWritten counts bytes handed to the target by this process.
	BytesWritten uint64
	// RowsEstimate is the source's own estimate of the table's rows at the start.
	RowsEstimate uint64
}

// Progress is a snapshot of a run: the payload of the progress callback.
// Lags, ETA and TimeTaken are seconds.
type Progress struct {
	// CurrentState is one of the State constants.
	CurrentState string

	// CutoverPhase is where the cutover is, beside CurrentState; empty before the rows are
	// copied. Cutover tells more of it.
	CutoverPhase CutoverPhase
	Cutover      CutoverStatus

	// CustomPayload is the configured Payload of the progress callback.
	CustomPayload string

	// Tables is keyed by "schema.table" with the source's names.
	Tables map[string]TableProgress

	// LastSuccessfulBinlogPos is the last streamed position, not the last applied.
	LastSuccessfulBinlogPos mysql.Position
	// BinlogStreamerLag is the age of the last event read from the source, in seconds; 0 before the first.
	BinlogStreamerLag float64
	// BinlogWriterLag is the age of the last event written to the target, likewise.
	BinlogWriterLag float64
	// Throttled says whether the run is pausing now.
	Throttled bool
	// CopyPace is how fast the copy may go between its bounds, from 0 to 1; 1 when nothing
	// controls it.
	CopyPace float64
	// Throttle says who makes the run pause, why and since when; null when nobody does.
	Throttle *ThrottleReport `json:",omitempty"`

	// Waits tells for which causes parts of this process have waited, those only that occurred:
	// the Count of "conflict" is how often work was repeated after a deadlock or lock wait.
	Waits []WaitStats `json:",omitempty"`

	// TargetBinlogStreamerLag is the same for the watch on the target; 0 when it is off
	// or has not seen anything yet.
	TargetBinlogStreamerLag float64

	// ActiveDataIterators counts the tables being copied.
	ActiveDataIterators int

	// VerifierType is the configured verifier's name.
	VerifierType string
	// VerifierMessage is the verifier's free text.
	VerifierMessage string

	// FinalBinlogPos is where the stream stops; zero until a stop was requested.
	FinalBinlogPos mysql.Position

	// PaginationKeysPerSecond is the estimated speed of the copy in key distance.
	PaginationKeysPerSecond uint64
	// RowsCopied and BytesCopied count what this process has copied, of all tables.
	RowsCopied, BytesCopied uint64
	// RowsCopiedBefore counts the rows that earlier processes of the run have copied, as far as
	// that is known.
	RowsCopiedBefore uint64
	// CopySeconds is how long this process's copy has taken so far, or took.
	CopySeconds float64
	// BinlogRowsApplied counts the row changes that this process has applied.
	BinlogRowsApplied uint64
	// ETA is the estimated time until the rows are copied, at this process's speed so far; 0 when
	// that is not known.
	ETA float64
	// TimeTaken is the time since the run started.
	TimeTaken float64
}
