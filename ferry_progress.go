package ghostferry

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
)

// SerializeStateToJSON returns the state of the run as JSON.
func (f *Ferry) SerializeStateToJSON() (string, error) {
	state, err := f.serializeState()
	if err != nil {
		return "", err
	}
	data, err := json.MarshalIndent(state, "", " ")
	return string(data), err
}

func (f *Ferry) serializeState() (*SerializableState, error) {
	if f.StateTracker == nil {
		return nil, errors.New("no valid StateTracker")
	}
	over := f.over.Load() // first: what is found after that stays as it is
	tables := f.Tables
	if f.DoNotIncludeSchemaCacheInStateDump {
		tables = nil
	}
	verification := f.verificationState() // first: changes from then on are delivered again
	var store *BinlogVerifyStore
	if v, ok := f.Verifier.(*InlineVerifier); ok {
		if c, err := v.core(); err == nil {
			store = c.store()
		}
	}
	state := f.StateTracker.Serialize(tables, store)
	state.Debts = f.ledger.serialize() // after what claims the rows, see debtLedger
	if verification != nil {
		state.Verification = verification
		state.LastStoredBinlogPositionForInlineVerifier = verification.Position.Position()
	}
	if f.sourceServer != nil {
		state.SourceIdentity = f.sourceServer.Identity
	}
	if f.targetServer != nil {
		state.TargetIdentity = f.targetServer.Identity
	}
	state.Process, state.Epoch = f.processID, f.epoch.Load()
	// Who went on from a state that was overtaken knows only where that process cannot have been
	// further.
	state.Final = over && f.BinlogWriter.appliedUpTo().CompareFilePos(f.overtaken) >= 0
	return state, nil
}

// Progress returns a snapshot of the run.
func (f *Ferry) Progress() *Progress {
	state, _ := f.OverallState.Load().(string)
	p := &Progress{
		CurrentState: state, CustomPayload: f.ProgressCallback.Payload, VerifierType: f.VerifierType,
		Tables: make(map[string]TableProgress, len(f.Tables)), TimeTaken: f.elapsed().Seconds(),
	}
	p.CutoverPhase, p.Cutover = f.Phase(), f.cutoverStatus()
	if f.BinlogStreamer == nil {
		return p
	}
	p.LastSuccessfulBinlogPos = f.BinlogStreamer.GetLastStreamedBinlogPosition()
	p.FinalBinlogPos = f.StopCoordinate().Position()
	p.BinlogStreamerLag, p.BinlogWriterLag = secondsOrZero(f.BinlogStreamer.lag()), secondsOrZero(f.writerLag())
	p.Throttled, p.Throttle = f.Throttler.Throttled(), f.throttleReport()
	p.CopyPace = f.DataIterator.pace.now()
	p.Waits = slices.DeleteFunc(f.waits.stats(), func(w WaitStats) bool { return w.Count == 0 })
	p.BinlogRowsApplied = f.BinlogWriter.appliedRows.Load()
	if f.TargetVerifier != nil {
		p.TargetBinlogStreamerLag = f.TargetVerifier.lag().Seconds()
	}
	if f.Verifier != nil {
		p.VerifierMessage = f.Verifier.Message()
	}
	sums := f.tableProgress(p)
	p.PaginationKeysPerSecond = uint64(f.StateTracker.EstimatedPaginationKeysPerSecond())
	f.estimate(p, sums)
	return p
}

// writerLag is how old the source's changes are when they reach the target: that of
// the last change, or of the stream's when nothing waits.
func (f *Ferry) writerLag() time.Duration {
	if f.BinlogWriter.appliedUpTo().CompareFilePos(f.BinlogStreamer.lastStreamed()) >= 0 {
		return f.BinlogStreamer.lag()
	}
	last := f.BinlogWriter.lastTimestamp.Load()
	if last == 0 {
		return f.BinlogStreamer.lag()
	}
	return f.BinlogStreamer.clock.age(time.Unix(last, 0))
}

// secondsOrZero is 0 for a lag that is not known.
func secondsOrZero(lag time.Duration) float64 {
	if seconds := knownSeconds(lag); seconds != nil {
		return *seconds
	}
	return 0
}

// lateChanges is how long a change may wait on its way to the target before the copy lets it go
// first.
const lateChanges = time.Second

// changesAreLate says whether the copy is to leave the target to the changes. What counts is how
// long they wait here: that the source is late itself, or that a statement took long, is nothing
// that the copy could help.
func (f *Ferry) changesAreLate() bool {
	since, waits := f.BinlogWriter.queue.waitsSince()
	return waits && time.Since(since) > lateChanges
}

// begin notes when the run began. StartTime, in whole seconds for whoever shows it, has lost
// the monotonic reading.
func (f *Ferry) begin() {
	f.began = time.Now()
	f.StartTime = f.began.Truncate(time.Second)
}

// elapsed is the time since begin, by a clock that is not stepped; 0 before.
func (f *Ferry) elapsed() time.Duration {
	if f.began.IsZero() {
		return 0
	}
	return time.Since(f.began)
}

// tableProgress fills in the tables, and returns their sums.
func (f *Ferry) tableProgress(p *Progress) *ControlServerOverview {
	names := slices.Collect(maps.Keys(f.Tables))
	copied := make([]tableProgress, len(names))
	f.StateTracker.eachTable(names, func(i int, p *tableProgress) { copied[i] = *p })
	sums := &ControlServerOverview{}
	for i, name := range names {
		table := f.Tables[name]
		facts := factsOf(table, &copied[i])
		sums.count(facts)
		t := TableProgress{
			CurrentAction: tableActions[facts.action], RowsEstimate: facts.estimated,
			RowsWritten: facts.rows, BytesWritten: facts.bytes, RowsWrittenBefore: facts.before,
			LastSuccessfulPaginationKey: copied[i].last,
			BatchSize:                   f.DataIterator.CursorConfig.GetBatchSize(table.Schema, table.Name),
		}
		if key, ok := f.DataIterator.TargetPaginationKeys.Load(name); ok {
			t.TargetPaginationKey, _ = key.(PaginationKey)
		}
		p.Tables[name] = t
	}
	p.ActiveDataIterators, p.RowsCopied = sums.TablesCopying, sums.RowsCopied
	p.BytesCopied, p.RowsCopiedBefore = sums.BytesCopied, sums.RowsCopiedBefore
	return sums
}

// estimate fills in how long the copy took, or has yet to take at the rate so far. Row
// counts before the copy are the optimizer's estimates, so this is one as well.
func (f *Ferry) estimate(p *Progress, sums *ControlServerOverview) {
	p.CopySeconds = f.copySeconds()
	if ended, _ := f.ended(); ended || f.copyTook.Load() > 0 || p.RowsCopied == 0 || p.CopySeconds <= 0 {
		return
	}
	if left, _ := sums.secondsLeft(float64(p.RowsCopied) / p.CopySeconds); left != nil {
		p.ETA = *left
	}
}

// copySeconds is how long the copy has taken so far, or took until its end or the run's; 0 before.
func (f *Ferry) copySeconds() float64 {
	began, took := f.copyBegan.Load(), f.copyTook.Load()
	switch ended, _ := f.ended(); {
	case began == 0 || took > 0:
	case ended:
		took = int64(f.runEndedAt.Sub(f.began)) - began
	default:
		took = int64(f.elapsed()) - began
	}
	return time.Duration(took).Seconds()
}

// ReportProgress posts the progress to ProgressCallback; a failure is logged only.
func (f *Ferry) ReportProgress() { f.reportProgress(context.Background()) }

func (f *Ferry) reportProgress(ctx context.Context) {
	f.report(ctx, f.ProgressCallback, "progress", func() (string, error) {
		data, err := json.Marshal(f.Progress())
		return string(data), err
	})
}

// ReportState posts the state to StateCallback; a failure is logged only.
func (f *Ferry) ReportState() { f.reportState(context.Background()) }

func (f *Ferry) reportState(ctx context.Context) {
	f.report(ctx, f.StateCallback, "state", f.SerializeStateToJSON)
}

// reportLastState posts the state of a run that has ended otherwise than done. It is the only one
// that says that nothing was executed after it.
func (f *Ferry) reportLastState(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), interruptedTimeout)
	defer cancel()
	f.reportState(ctx)
}

// reportTimeout bounds one report: the next is due soon, and newer.
const reportTimeout = 10 * time.Second

func (f *Ferry) report(ctx context.Context, callback HTTPCallback, what string, payload func() (string, error)) {
	if callback.URI == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	var err error
	if callback.Payload, err = payload(); err == nil {
		err = f.post(ctx, callback)
	}
	if err != nil && !errors.Is(context.Cause(ctx), lifecycle.ErrStopped) {
		f.logger.WithError(err).Warnf("the %s was not reported to its callback; the run goes on", what)
	}
}

// lastReportTimeout is how long Close waits for the last report of the progress.
const lastReportTimeout = 3 * time.Second

// startReports posts the progress at its interval, and at once when it is asked to: from a
// goroutine of its own, which the run never waits for. It outlives the run for the last
// report, until that is made, or Close.
func (f *Ferry) startReports(ctx context.Context) {
	if f.ProgressCallback.URI == "" {
		return
	}
	f.reports.now, f.reports.last = make(chan struct{}, 1), make(chan struct{})
	f.reports.group, _ = lifecycle.New(context.WithoutCancel(ctx))
	f.reports.group.Go("progress", func(ctx context.Context) error {
		ticker := time.NewTicker(max(leastInterval, time.Duration(f.ProgressReportFrequency)*time.Millisecond))
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-f.reports.last:
				f.reportProgress(ctx)
				return nil
			case <-f.reports.now:
			case <-ticker.C:
			}
			f.reportProgress(ctx)
		}
	})
}

// reportSoon asks for a report of the progress without waiting for it.
func (f *Ferry) reportSoon() {
	select {
	case f.reports.now <- struct{}{}:
	default: // there are none, or one is asked for already
	}
}

// endReports asks for the last report.
func (f *Ferry) endReports() {
	if f.reports.last != nil {
		close(f.reports.last)
	}
}

// stopReports waits for the last report, not for long. A run that is still going on has none.
func (f *Ferry) stopReports() {
	if f.reports.group == nil {
		return
	}
	ended := make(chan struct{})
	go func() {
		_ = f.reports.group.Wait() // it returns no error
		close(ended)
	}()
	timer := time.NewTimer(lastReportTimeout)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		f.reports.group.Cancel(nil)
		<-ended
	}
}
