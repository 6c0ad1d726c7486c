package ghostferry

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// States of a run, in their order; Ferry.OverallState holds one of them.
const (
	// StateStarting: Initialize has begun.
	StateStarting = "starting"
	// StateCopying: Run has begun.
	StateCopying = "copying"
	// StateWaitingForCutover: the rows are copied; the cutover is not allowed yet.
	StateWaitingForCutover = "wait-for-cutover"
	// StateVerifyBeforeCutover: the verifier looks at everything while writes go on.
	StateVerifyBeforeCutover = "verify-before-cutover"
	// StateCutover: the host may stop the writers and the stream.
	StateCutover = "cutover"
	// StateDone: the streams have ended.
	StateDone = "done"
)

// Ferry moves data: a zero value with a Config, driven by Initialize, Start and Run,
// and meanwhile WaitUntilRowCopyIsComplete, WaitUntilBinlogStreamerCatchesUp,
// StartCutover (the host's writers stop), FlushBinlogAndStopStreaming; Run returns;
// then Verifier.VerifyDuringCutover, StopTargetVerifier, CheckLateWrites and EndCutover. Cutover is
// all of that behind Run.
//
// Every blocking method has a twin with a context and an error; the method without
// them hands errors to ErrorHandler.Fatal. A Ferry is used for one run. Two Ferries in
// one process share nothing.
type Ferry struct {
	*Config

	// Set by Initialize.
	SourceDB       *sql.DB
	TargetDB       *sql.DB
	BinlogStreamer *BinlogStreamer
	BinlogWriter   *BinlogWriter
	DataIterator   *DataIterator
	BatchWriter    *BatchWriter
	StateTracker   *StateTracker
	// Tables are the tables that move, by "schema.table" of the source.
	Tables TableSchemaCache
	// StartTime is when Initialize was called, in whole seconds.
	StartTime time.Time

	// ErrorHandler gets what the methods without an error result cannot return. Set by
	// the host, else by Initialize.
	ErrorHandler ErrorHandler
	// Throttler pauses copy and apply. Set by the host, else a PauserThrottler.
	Throttler Throttler
	// WaitUntilReplicaIsCaughtUpToMaster is set by the host when the source is a replica.
	WaitUntilReplicaIsCaughtUpToMaster *WaitUntilReplicaIsCaughtUpToMaster
	// Verifier is set by the host or chosen by Config.VerifierType.
	Verifier Verifier
	// TargetVerifier watches what others write to the target; nil when
	// SkipTargetVerification is set. Set by Initialize.
	TargetVerifier *TargetVerifier

	// DoneTime is when the streams had ended; read it after Run has returned.
	DoneTime time.Time
	// OverallState holds one of the State constants as a string.
	OverallState atomic.Value

	// ControlServer shows the run and takes orders; nil unless
	// ControlServerConfig.Enabled is set. Set by Initialize.
	ControlServer *ControlServer

	// immutable after Initialize
	logger       Logger  // in front of Config.Logger
	log          *runLog // what logger feeds
	waits        *waitLog
	sourceServer *server.Server
	targetServer *server.Server
	gate         *gate
	// how outages are waited for
	sourcePatience, targetPatience *patience
	reader                         *sourceReader
	ledger                         *debtLedger
	collisions                     *collisionLedger
	checkpoint                     *checkpoint // nil when Config.Checkpoint is "off"
	indexes                        *deferredIndexes
	indexesDB                      *sql.DB      // see openForIndexes
	targetSessions                 *sessionPool // of transactions on the target beside those that write the data
	began                          time.Time    // of Initialize, with its monotonic reading
	resume                         *resumePoint
	damage                         *DamagedCheckpointError // why the checkpoint cannot be resumed from
	damaged                        *resumePoint            // what is known of its tables then
	resuming                       bool
	process                        sourceProcess // the source, set by Start
	replaced                       bool          // the earlier process of the run had another source server
	// proven, when the source was restarted or replaced since, tells of which reads of the
	// earlier process nothing can be lost, by its position and the log's end after the read.
	proven      func(position, end BinlogCoordinate) bool
	stateStored bool             // StateToResumeFrom came from the CheckpointStore
	processID   string           // in the states of this process; set by Initialize
	epoch       atomic.Uint64    // the same; of the process before until the run begins
	emptied     map[string]bool  // tables that a state has as copied and whose rows are gone; set by Start
	startsAt    BinlogCoordinate // set by Start
	overtaken   BinlogCoordinate // up to where the run may have gone on after the state; zero: it had ended. Set by Start
	xaAtStart   bool             // set by Start: XA transactions were prepared
	compareAll  bool             // set by Start: what earlier processes have compared does not count

	orphaned    []*foreignKeyAudit // owned by Run
	orphanReads sessionPool        // on the target, of one look for orphans

	overview overviewOnce // see control_server_overview.go

	cut cutoverState // see cutover_phase.go
	// followedAtStart: the source followed another server when the run began.
	followedAtStart   bool
	cannotAskDemotion sync.Once // is said once
	// fenceLeft is what an earlier process has closed that may have switched the traffic.
	fenceLeft atomic.Pointer[fenceNote]
	// madeThrottler is Throttler, when the configuration asked for it.
	madeThrottler *CombinedThrottler
	unreported    throttleSince // of a throttler that does not say since when

	verificationSaved sync.Mutex // one after the other
	tidied            sync.Once  // by Close

	watch      *lifecycle.Group // of the target's stream, which outlives the run; nil without one
	watchTask  *lifecycle.Task
	watchCut   atomic.Bool      // it was ended before the end of the log
	control    *lifecycle.Group // of the control server, which outlives the run; nil without one
	rowsCopied chan struct{}    // closed when the rows are copied
	indexed    chan struct{}    // closed when the deferred indexes are there, too
	copied     chan struct{}    // closed when the cutover may begin
	permission cutoverPermission
	copyTook   atomic.Int64 // nanoseconds, set when the rows are copied
	copyBegan  atomic.Int64 // nanoseconds after began
	reports    struct {     // of the progress; see startReports
		group     *lifecycle.Group // nil without a callback
		now, last chan struct{}
	}
	runEnded chan struct{} // closed when Run has ended, the two below set before
	runErr   error
	// ownerAtEnd is whether this process owned the run when it failed, asked before the
	// connections were closed. Set before that, nil until then.
	ownerAtEnd atomic.Pointer[error]
	// runEndedAt is when.
	runEndedAt time.Time
	runOnce    sync.Once
	ran        atomic.Bool     // Run was called
	over       atomic.Bool     // and nothing of it moves any more
	started    bool            // Start has succeeded, with these components
	present    map[string]bool // tables of the moved schemas at the beginning, by "schema.table"
	warnedOf   map[string]bool // those that came during the run; of the phases' goroutine
	// madeVerifier is Verifier, when the configuration asked for it.
	madeVerifier Verifier
	// tellsHandler says that Run tells the ErrorHandler of a failure, handlerTold is closed
	// when it has, or had no need to.
	tellsHandler atomic.Bool
	handlerTold  chan struct{}
}

// Resuming reports whether this run goes on from an earlier one: from the checkpoint on
// the target, or from StateToResumeFrom. Call it after Initialize.
func (f *Ferry) Resuming() bool { return f.resuming }

func (f *Ferry) prepareChannels() {
	f.runOnce.Do(func() {
		f.rowsCopied, f.indexed, f.copied = make(chan struct{}), make(chan struct{}), make(chan struct{})
		f.runEnded, f.handlerTold = make(chan struct{}), make(chan struct{})
	})
}

// Initialize connects to both servers, checks everything that can be checked, loads
// the tables and builds the components. Nothing is written.
func (f *Ferry) Initialize() error { return f.InitializeContext(context.Background()) }

// Start fixes where the stream begins and registers the Ferry's own listeners:
// listeners that the host adds before stand before them, later ones behind.
func (f *Ferry) Start() error { return f.StartContext(context.Background()) }

// Run copies, follows and returns when the streams have ended; failures go to the
// ErrorHandler.
func (f *Ferry) Run() {
	f.prepareChannels()
	if !f.tellsHandler.CompareAndSwap(false, true) {
		f.fatal("ferry", errRanBefore)
		return
	}
	defer close(f.handlerTold)
	if err := f.RunContext(context.Background()); err != nil {
		f.fatal("ferry", err)
	}
}

// WaitUntilRowCopyIsComplete returns when the rows are copied and the cutover may begin, or
// when Run has failed and the ErrorHandler was told.
func (f *Ferry) WaitUntilRowCopyIsComplete() {
	if err := f.WaitUntilRowCopyIsCompleteContext(context.Background()); err != nil {
		f.awaitHandler()
		f.logger.WithError(err).Error("the copy did not complete")
	}
}

// awaitHandler returns when Run, if it was called and has failed, has told the ErrorHandler:
// a host asks its own handler what became of the run.
func (f *Ferry) awaitHandler() {
	if f.tellsHandler.Load() && f.runFailed() {
		<-f.handlerTold
	}
}

// fatalUnlessRunFailed hands an error to the host that Run has not handed to it already.
func (f *Ferry) fatalUnlessRunFailed(from string, err error) {
	f.awaitHandler()
	if f.tellsHandler.Load() && f.runFailed() {
		f.logger.WithError(err).Error("the run has failed")
		return
	}
	f.fatal(from, err)
}

// WaitUntilBinlogStreamerCatchesUp returns when changes reach the target within moments.
func (f *Ferry) WaitUntilBinlogStreamerCatchesUp() {
	if err := f.WaitUntilBinlogStreamerCatchesUpContext(context.Background()); err != nil {
		f.fatalUnlessRunFailed("binlog_streamer", err)
	}
}

// StartCutover posts CutoverLock and returns the start of the last attempt.
func (f *Ferry) StartCutover() time.Time {
	at, err := f.StartCutoverContext(context.Background())
	if err != nil {
		f.fatal("cutover", err)
	}
	return at
}

// FlushBinlogAndStopStreaming ends the stream at the log's present end; the writers of
// the source must have stopped.
func (f *Ferry) FlushBinlogAndStopStreaming() {
	if err := f.FlushBinlogAndStopStreamingContext(context.Background()); err != nil {
		f.fatalUnlessRunFailed("wait_replica", err)
	}
}

// StopTargetVerifier follows the target's binary log to its present end and ends the
// watch on it.
func (f *Ferry) StopTargetVerifier() {
	if err := f.StopTargetVerifierContext(context.Background()); err != nil {
		f.fatalUnlessRunFailed("binlog_streamer", err)
	}
}

// EndCutover posts CutoverUnlock.
func (f *Ferry) EndCutover(cutoverStart time.Time) {
	if err := f.EndCutoverContext(context.Background(), cutoverStart); err != nil {
		f.fatalUnlessRunFailed("cutover", err)
	}
}

// fatal hands an error to the host, under the name of where it came from.
func (f *Ferry) fatal(from string, err error) {
	var o *originError
	if errors.As(err, &o) {
		from = o.from
	}
	f.ErrorHandler.Fatal(from, err)
}

// originError says which component an error came from, in upstream's words.
type originError struct {
	from string
	err  error
}

func (e *originError) Error() string { return e.err.Error() }
func (e *originError) Unwrap() error { return e.err }

// origin names where an error came from, unless it is known already: other components
// may end with the error of the first.
func origin(from string, err error) error {
	var known *originError
	if err == nil || errors.As(err, &known) {
		return err
	}
	return &originError{from, err}
}
