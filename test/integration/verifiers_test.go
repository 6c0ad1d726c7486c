package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Masterminds/squirrel"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// Every verifier agrees that a moved shop, which was written all along, is equal.
func TestEveryVerifierOnALiveShop(t *testing.T) {
	verifiers := []string{ghostferry.VerifierTypeOnline, ghostferry.VerifierTypeInline, ghostferry.VerifierTypeIterative, ghostferry.VerifierTypeChecksumTable}
	for _, s := range harness.OneFlavour(t) {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			p := harness.Shared(t, s)
			for _, verifier := range verifiers {
				t.Run(verifier, func(t *testing.T) {
					o := p.Shop(t, "verified_shop", 3000)
					w := p.Write(t, o, 80)
					config := p.Config("verified_shop")
					config.VerifierType = verifier
					f := &ghostferry.Ferry{Config: config}
					var atFence ghostferry.OnlineVerifierStats
					online := func() ghostferry.OnlineVerifierStats {
						if v, ok := f.Verifier.(*ghostferry.OnlineVerifier); ok {
							return v.Stats()
						}
						return ghostferry.OnlineVerifierStats{}
					}
					require.NoError(t, harness.Move(context.Background(), f, func() error {
						atFence = online()
						return harness.StopWriter(w)()
					}))
					if end := online(); verifier == ghostferry.VerifierTypeOnline {
						require.Equal(t, end.Tables, atFence.TablesDone, "the cutover came before everything was compared")
						require.Equal(t, atFence.Chunks, end.Chunks, "under the write block more than single keys was compared")
						require.Positive(t, end.DuringCutover)
					}
					p.MustEqual(t, "verified_shop")
					require.NoError(t, f.Close())
				})
			}
		})
	}
}

// ofTenant is a CopyFilter for the rows of one tenant, in the second column.
type ofTenant struct{ tenant uint64 }

func (f ofTenant) BuildSelect(columns []string, table *ghostferry.TableSchema, last ghostferry.PaginationKey, size uint64) (squirrel.SelectBuilder, error) {
	return ghostferry.DefaultBuildSelect(columns, table, last, size).Where(squirrel.Eq{"tenant": f.tenant}), nil
}

func (f ofTenant) ApplicableEvent(ev ghostferry.DMLEvent) (bool, error) {
	for _, row := range []ghostferry.RowData{ev.OldValues(), ev.NewValues()} {
		if row == nil {
			continue
		}
		if tenant, err := row.GetUint64(1); err != nil || tenant == f.tenant {
			return true, err
		}
	}
	return false, nil
}

// One tenant's rows are compared where others live on both sides, while they are written.
func TestVerifiersOfOneTenant(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		for _, verifier := range []string{ghostferry.VerifierTypeOnline, ghostferry.VerifierTypeInline, ghostferry.VerifierTypeChecksumTable} {
			t.Run(verifier, func(t *testing.T) {
				p.Create(t, "one_tenant", "CREATE TABLE t (id INT PRIMARY KEY, tenant INT NOT NULL, v INT)")
				var rows []string
				for id := range 3000 {
					rows = append(rows, fmt.Sprintf("(%d,%d,0)", id, id%3))
				}
				p.In(t, p.SourceDB, "one_tenant", "INSERT INTO t VALUES "+strings.Join(rows, ","))
				p.In(t, p.TargetDB, "one_tenant", "INSERT INTO t VALUES (1000000,9,9),(1000001,2,9)")
				churn := p.Churn(t, harness.ChurnOptions{Every: 5 * time.Millisecond}, func(_ context.Context, tx *harness.Tx) error {
					return tx.Exec("UPDATE one_tenant.t SET v = v + 1 WHERE id = ?", tx.Rand.IntN(3000))
				})
				config := p.Config("one_tenant")
				config.VerifierType, config.CopyFilter, config.SkipTargetVerification = verifier, ofTenant{1}, true
				f := &ghostferry.Ferry{Config: config}
				require.NoError(t, harness.Move(t.Context(), f, churn.Stop))
				const ours = "SELECT * FROM one_tenant.t WHERE tenant = 1 ORDER BY id"
				require.Equal(t, harness.Rows(t, p.SourceDB, ours), harness.Rows(t, p.TargetDB, ours))
				require.Equal(t, 2, harness.Count(t, p.TargetDB, "one_tenant.t WHERE tenant <> 1"), "rows of others stay")
				if v, ok := f.Verifier.(*ghostferry.ChecksumTableVerifier); ok {
					v.UseChecksumStatement = true
					_, err := v.VerifyDuringCutover()
					require.ErrorContains(t, err, "unset UseChecksumStatement")
				}
				require.NoError(t, f.Close())
			})
		}
	})
}

// A verification that is started while the source is written compares every row again, finds
// what somebody has changed on the target, and nothing else.
func TestVerificationIsStartedWhileTheSourceIsWritten(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		ctx := cutoverContext(t)
		o := p.Shop(t, "asked", 1000)
		p.In(t, p.SourceDB, o.Database, "CREATE TABLE quiet (id INT PRIMARY KEY, v INT)", "INSERT INTO quiet VALUES (1,1),(2,2)")
		p.In(t, p.TargetDB, o.Database, "CREATE TABLE quiet (id INT PRIMARY KEY, v INT)")
		writer := p.Write(t, o, 100)
		f := &ghostferry.Ferry{Config: p.Config(o.Database)}
		f.Config.AutomaticCutover, f.SkipTargetVerification = false, true
		mustStart(t, ctx, f)
		ran := make(chan error, 1)
		run, stop := context.WithCancel(ctx)
		go func() { ran <- f.RunContext(run) }()
		verifier, ok := f.Verifier.(*ghostferry.OnlineVerifier)
		require.True(t, ok)
		harness.Await(t, "everything is compared once", func() bool {
			s := verifier.Stats()
			return f.OverallState.Load() == ghostferry.StateWaitingForCutover && s.TablesDone == s.Tables
		})
		ask := func() ghostferry.VerificationResult {
			require.NoError(t, verifier.StartInBackground())
			verifier.Wait()
			result, err := verifier.Result()
			require.NoError(t, err)
			return result.VerificationResult
		}
		result := ask()
		require.True(t, result.DataCorrect, result.Message)
		p.In(t, p.TargetDB, o.Database, "UPDATE quiet SET v = 3 WHERE id = 2")
		result = ask()
		require.False(t, result.DataCorrect)
		require.Equal(t, []string{o.Database + ".quiet"}, result.IncorrectTables)
		require.Len(t, verifier.Mismatches(), 1)

		// One that is under way does not keep an interrupted run from ending.
		lock, err := p.TargetDB.Conn(ctx)
		require.NoError(t, err)
		defer func() {
			_, err := lock.ExecContext(ctx, "UNLOCK TABLES")
			require.NoError(t, errors.Join(err, lock.Close()))
		}()
		_, err = lock.ExecContext(ctx, "LOCK TABLES "+o.Database+".quiet WRITE")
		require.NoError(t, err)
		require.NoError(t, verifier.StartInBackground())
		harness.Await(t, "the comparison waits for the lock", func() bool {
			list, err := harness.Processes(ctx, p.TargetDB)
			return err == nil && slices.ContainsFunc(list, func(one harness.Process) bool { return strings.HasPrefix(one.State, "Waiting for table") })
		})
		stop()
		mustBeInterrupted(t, <-ran)
		verifier.Wait()
		require.NoError(t, f.Close())
		_, err = writer.Stop()
		require.NoError(t, err)
	})
}

// When the cutover has begun, a comparison of everything would be one that the writers wait
// for: it is refused.
func TestVerificationIsNotStartedInTheCutover(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		h := newHooked(t, p, "asked_late", nil)
		verifier, ok := h.ferry.Verifier.(*ghostferry.OnlineVerifier)
		require.True(t, ok)
		fence := h.hooks.Fence
		h.hooks.Fence = func(ctx context.Context) error {
			require.ErrorContains(t, verifier.StartInBackground(), "the cutover has begun")
			return fence(ctx)
		}
		_, err := h.ferry.Cutover(cutoverContext(t), h.hooks)
		require.NoError(t, err)
		require.NoError(t, <-h.ran)
		require.NoError(t, verifier.StartInBackground(), "the stream has ended")
		verifier.Wait()
		result, err := verifier.Result()
		require.NoError(t, err)
		require.True(t, result.DataCorrect)
	})
}
