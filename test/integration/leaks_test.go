package integration

import (
	"context"
	"errors"
	"testing"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// leakCase is a run and how it should end.
type leakCase struct {
	name string
	// prepare changes the ferry before Initialize.
	prepare func(f *ghostferry.Ferry)
	// started is called between Start and Run; end cancels the run's context.
	started func(t *testing.T, f *ghostferry.Ferry, end context.CancelFunc)
	fence   func(end context.CancelFunc) error
	wants   func(err error) bool
}

var errLeakCase = errors.New("as the test wants it")

func leakCases() []leakCase {
	interrupted := func(err error) bool { return errors.Is(err, ghostferry.ErrInterrupted) }
	failed := func(err error) bool { return errors.Is(err, errLeakCase) }
	return []leakCase{
		{name: "completed", wants: func(err error) bool { return err == nil }},
		{name: "completed without verification", prepare: func(f *ghostferry.Ferry) { f.VerifierType = ghostferry.VerifierTypeNoVerification }, wants: func(err error) bool { return err == nil }},
		{name: "refused", prepare: func(f *ghostferry.Ferry) { f.TableFilter = harness.Schemas{"no_such_schema"} }, wants: func(err error) bool { return err != nil }},
		{name: "cancelled while it copied", wants: interrupted,
			started: func(_ *testing.T, f *ghostferry.Ferry, end context.CancelFunc) {
				f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error {
					end()
					return nil
				})
			}},
		{name: "cancelled while it followed", wants: interrupted, prepare: func(f *ghostferry.Ferry) { f.AutomaticCutover = false },
			started: func(_ *testing.T, f *ghostferry.Ferry, end context.CancelFunc) {
				f.BinlogStreamer.AddEventListener(func([]ghostferry.DMLEvent) error {
					if f.OverallState.Load() == ghostferry.StateWaitingForCutover {
						end()
					}
					return nil
				})
			}},
		{name: "cancelled in the cutover", wants: interrupted,
			fence: func(end context.CancelFunc) error {
				end()
				return nil
			}},
		{name: "throttled and cancelled", wants: interrupted, prepare: func(f *ghostferry.Ferry) {
			throttler := &watchedThrottler{asked: make(chan struct{}, 1)}
			throttler.SetPaused(true)
			f.Throttler = throttler
		}, started: func(_ *testing.T, f *ghostferry.Ferry, end context.CancelFunc) {
			go func() {
				<-f.Throttler.(*watchedThrottler).asked
				end()
			}()
		}},
		{name: "batch listener failed", wants: failed,
			started: func(_ *testing.T, f *ghostferry.Ferry, _ context.CancelFunc) {
				f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { return errLeakCase })
			}},
		{name: "event listener failed", wants: failed,
			started: func(_ *testing.T, f *ghostferry.Ferry, _ context.CancelFunc) {
				f.BinlogStreamer.AddEventListener(func([]ghostferry.DMLEvent) error { return errLeakCase })
			}},
		{name: "verifier failed", wants: failed, prepare: func(f *ghostferry.Ferry) {
			f.VerifierType, f.Verifier = "", failingVerifier{}
		}},
		{name: "throttler failed", wants: failed, prepare: func(f *ghostferry.Ferry) { f.Throttler = &failingThrottler{} }},
		{name: "target lost", wants: func(err error) bool { return err != nil },
			started: func(t *testing.T, f *ghostferry.Ferry, _ context.CancelFunc) {
				f.DataIterator.AddBatchListener(func(*ghostferry.RowBatch) error { return f.TargetDB.Close() })
			}},
	}
}

// failingVerifier is a host's verifier.
type failingVerifier struct{}

func (failingVerifier) VerifyBeforeCutover() error { return errLeakCase }
func (failingVerifier) VerifyDuringCutover() (ghostferry.VerificationResult, error) {
	return ghostferry.VerificationResult{}, errLeakCase
}
func (failingVerifier) StartInBackground() error { return errLeakCase }
func (failingVerifier) Wait()                    {}
func (failingVerifier) Message() string          { return "" }
func (failingVerifier) Result() (ghostferry.VerificationResultAndStatus, error) {
	return ghostferry.VerificationResultAndStatus{}, errLeakCase
}

type failingThrottler struct{ ghostferry.PauserThrottler }

func (*failingThrottler) Run(context.Context) error { return errLeakCase }

// However a run ends, none of its goroutines is left, and no connection.
func TestRunsLeaveNothingBehind(t *testing.T) {
	harness.OnSettings(t, flavours(), false, func(t *testing.T, p *harness.Pair) {
		for _, c := range leakCases() {
			t.Run(c.name, func(t *testing.T) {
				p.Create(t, aloneSchema, "CREATE TABLE a (id BIGINT PRIMARY KEY, v INT)", "CREATE TABLE u (id BIGINT PRIMARY KEY, v INT, UNIQUE KEY (v))")
				for _, table := range []string{"a", "u"} {
					p.In(t, p.SourceDB, aloneSchema, "INSERT INTO "+table+" WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 200) SELECT i, i FROM n")
				}
				churn := p.Churn(t, harness.ChurnOptions{}, on2("UPDATE alone.a SET v=v+1 WHERE id=?", 200))
				defer func() { _ = churn.Stop() }()
				// The churn's connection is there before, and until after.
				p.NoLeak(t, func() { c.run(t, p, churn) })
			})
		}
	})
}

func (c leakCase) run(t *testing.T, p *harness.Pair, churn *harness.Churn) {
	t.Helper()
	ctx, end := context.WithCancel(minute(t))
	defer end()
	f := &ghostferry.Ferry{Config: p.Config(aloneSchema)}
	f.UpdatableConfig.DataIterationBatchSize = 50
	if c.prepare != nil {
		c.prepare(f)
	}
	err := f.InitializeContext(ctx)
	if err == nil {
		err = f.StartContext(ctx)
	}
	if err == nil {
		if c.started != nil {
			c.started(t, f, end)
		}
		err = harness.RunStarted(ctx, f, func() error {
			if err := churn.Stop(); err != nil || c.fence == nil {
				return err
			}
			return c.fence(end)
		})
	}
	if !c.wants(err) {
		t.Errorf("the run ended with %v", err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
