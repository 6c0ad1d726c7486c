package ghostferry

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/ghostferry-go/ghostferry/internal/lifecycle"
	"github.com/ghostferry-go/ghostferry/internal/retry"
)

// CheckpointStore keeps the states of runs outside of the target, for hosts that cannot
// have the checkpoint's schema there. A state is written every StateReportFrequency
// milliseconds and when the run has ended, when nothing moves any more; the next run of
// the same id goes on from it, on the same target server: another one is refused
// (*[TargetChangedError]). Without a RunID the id names the source: set one where a
// replica may be promoted in its place. A state may be older than the rows on the target, which
// does no harm while the source is the same process; of a run that had ended it tells what was
// executed, any other is refused when the source was restarted or replaced since
// (*[OvertakenStateError]). It must not be newer: on a target that can lose commits that it has
// acknowledged, keep the checkpoint there. Methods may be called from any goroutine.
//
// A store keeps no second process of a run from writing to the target at the same time, as the
// checkpoint there does: see to it that there is one. Where there is no checkpoint a process loads the
// state that is there before it saves one, and ends with a *[FencedError] when that is of another, which
// has begun after it (SerializableState.Epoch); until then both write, and only a comparison tells what
// that has done.
type CheckpointStore interface {
	// LoadState returns the state of a run that was saved last, not one of a cache or a replica that may
	// be behind; nil when there is none.
	LoadState(ctx context.Context, runID string) (*SerializableState, error)
	// SaveState replaces the state of a run, durably and whole or not at all.
	SaveState(ctx context.Context, runID string, state *SerializableState) error
	// ForgetState removes the state of a run, if there is one.
	ForgetState(ctx context.Context, runID string) error
}

// FileCheckpointStore keeps each run's state in a file of a directory, readable by its
// owner only. A state has no credentials, but the keys of copied rows.
type FileCheckpointStore struct {
	// Directory is where the files are; it must exist.
	Directory string
}

func (s FileCheckpointStore) path(runID string) string {
	// Quoted, so that no id leaves the directory.
	return filepath.Join(s.Directory, fmt.Sprintf("ghostferry-%x.json", runID))
}

// LoadState reads the run's file. One that is damaged is an error.
func (s FileCheckpointStore) LoadState(_ context.Context, runID string) (*SerializableState, error) {
	path := s.path(runID)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the checkpoint: %w", err)
	}
	var stored storedState
	state := &SerializableState{}
	err = json.Unmarshal(text, &stored)
	if again, _ := json.Marshal(stored); err == nil && (stored.Checksum != stateChecksum(runID, stored.State) || !bytes.Equal(again, text)) {
		err = errors.New("it does not fit its checksum, or is another run's")
	}
	if err == nil {
		err = json.Unmarshal(stored.State, state)
	}
	if err != nil {
		return nil, fmt.Errorf("the checkpoint %s is damaged: %w: remove it and start afresh with empty target tables", path, err)
	}
	return state, nil
}

// storedState is a file's content.
type storedState struct {
	Checksum string
	State    json.RawMessage
}

// stateChecksum tells a state of a run from any other text, and from other runs' states.
func stateChecksum(runID string, state []byte) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q\n%s", runID, state)
	return hex.EncodeToString(h.Sum(nil))
}

// SaveState writes a new file, makes it durable, and gives it the run's name.
func (s FileCheckpointStore) SaveState(_ context.Context, runID string, state *SerializableState) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("writing the checkpoint: %w", err)
		}
	}()
	text, err := json.Marshal(state)
	if err == nil {
		text, err = json.Marshal(storedState{stateChecksum(runID, text), text})
	}
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(s.Directory, "ghostferry-*.tmp") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.Write(text)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), s.path(runID)); err != nil {
		return err
	}
	return syncDirectory(s.Directory)
}

// ForgetState removes the run's file.
func (s FileCheckpointStore) ForgetState(_ context.Context, runID string) error {
	err := os.Remove(s.path(runID))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("removing the checkpoint: %w", err)
	}
	return syncDirectory(s.Directory)
}

// syncDirectory makes a file's new name durable.
func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

// loadStoredState takes the state that the host's store has of this run, unless there is
// a better source to go on from.
func (f *Ferry) loadStoredState(ctx context.Context) error {
	if f.CheckpointStore == nil || f.resume != nil || f.StateToResumeFrom != nil {
		return nil
	}
	state, err := f.CheckpointStore.LoadState(ctx, f.runID())
	if err != nil || state == nil {
		return err
	}
	f.StateToResumeFrom, f.stateStored = state, true
	f.epoch.Store(state.Epoch)                 // also when the host forgets the state: who made it may still run
	if err := f.ValidateConfig(); err != nil { // it judges states
		return err
	}
	_, err = f.loadTables(ctx) // compared with the state's; faults of keys are known already
	return err
}

// storeState hands the present state to the host's store.
func (f *Ferry) storeState(ctx context.Context) error {
	state, err := f.serializeState()
	if err != nil {
		return err
	}
	return f.replaceState(ctx, state)
}

// replaceState stores a state, unless a process has stored one that has begun after this one: then the
// run is that one's. A state of an older process is replaced: it was being saved when this one took
// the run over. Where the checkpoint is on the target its epoch alone decides: the two orders may differ, and
// nobody would go on. What is there and cannot be loaded is replaced, too: it may be damaged.
func (f *Ferry) replaceState(ctx context.Context, state *SerializableState) error {
	if !f.checkpoint.begun() {
		stored, err := f.CheckpointStore.LoadState(ctx, f.runID())
		if err == nil && stored != nil && stored.isNewerThan(state) {
			return &FencedError{RunID: f.runID()}
		}
	}
	return f.CheckpointStore.SaveState(ctx, f.runID(), state)
}

// isNewerThan tells whose process has taken the run over from the other's. Of two that have done so
// at once the lot decides, so that one of them goes on.
func (s *SerializableState) isNewerThan(other *SerializableState) bool {
	return cmp.Or(cmp.Compare(s.Epoch, other.Epoch), cmp.Compare(s.Process, other.Process)) > 0
}

// storeFirstState takes the run over from any other process, and takes the word from a stored state
// that nothing was executed after it, before anything is, also where the run goes on from something
// else. Where the stored state does not say that, the run goes on without: a later one takes its place.
func (f *Ferry) storeFirstState(ctx context.Context) error {
	if f.CheckpointStore == nil {
		return nil
	}
	ended := f.resuming && (!f.stateStored || f.StateToResumeFrom.Final) // or it is not known
	before := f.epoch.Load()
	if f.StateToResumeFrom != nil {
		before = max(before, f.StateToResumeFrom.Epoch)
	}
	err := f.keepStoring(ctx, func(ctx context.Context) error {
		stored, err := f.CheckpointStore.LoadState(ctx, f.runID())
		if err == nil {
			ended = stored != nil && stored.Final
		}
		if err == nil && stored != nil {
			before = max(before, stored.Epoch)
		}
		f.epoch.Store(before + 1)
		state, err := f.serializeState()
		if err != nil {
			return err
		}
		return f.CheckpointStore.SaveState(ctx, f.runID(), state)
	})
	if err != nil && ended {
		return fmt.Errorf("storing a state before the run goes on, in place of one that nothing was executed after: %w: see to the CheckpointStore and start the same command again", err)
	}
	if err != nil && ctx.Err() == nil {
		f.logger.WithError(err).Error("the first state was not stored; the one before still is")
	}
	return nil
}

// keepStoring repeats store for as long as a run may wait for a state.
func (f *Ferry) keepStoring(ctx context.Context, store func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, interruptedTimeout)
	defer cancel()
	return retry.Do(ctx, retry.Policy{Max: time.Second}, func(err error) bool { return !fencedOut(err) }, nil, store)
}

// storeLastState is storeState at the end of a run, whose context may have ended; runErr is how it did.
// It is tried again for as long as it may take: behind it writers may wait for the traffic's switch. One
// that was done leaves nothing of what was compared: the same command then compares everything anew.
// What another process has taken over is that one's to store.
func (f *Ferry) storeLastState(ctx context.Context, runErr error) error {
	if f.CheckpointStore == nil || fencedOut(runErr) {
		return nil
	}
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), ownerLimit)
	defer cancel()
	if err := f.notTakenOver(asking); err != nil { // while this one stood still, or had nothing to write
		return err
	}
	state, err := f.serializeState()
	if err != nil {
		return err
	}
	if runErr == nil {
		state.Verification, state.BinlogVerifyStore = nil, nil
		state.LastStoredBinlogPositionForInlineVerifier = mysql.Position{}
	}
	err = f.keepStoring(context.WithoutCancel(ctx), func(ctx context.Context) error { return f.replaceState(ctx, state) })
	if err != nil && !fencedOut(err) {
		return fmt.Errorf("storing the run's last state: %w: the rows on the target are not concerned; see to the CheckpointStore and start the same command again", err)
	}
	return err
}

// storeStates keeps the store up to date during a run, which ends when it is another process's.
func (f *Ferry) storeStates(ctx context.Context, run *lifecycle.Group) error {
	return every(ctx, time.Duration(f.StateReportFrequency)*time.Millisecond, func() {
		err := f.storeState(ctx)
		if fencedOut(err) {
			run.Cancel(origin("ferry", err))
		} else if err != nil && ctx.Err() == nil {
			f.logger.WithError(err).Error("the state was not stored; the one before still is")
		}
	})
}

// runID names the run, for its checkpoints.
func (f *Ferry) runID() string {
	if f.RunID != "" {
		return f.RunID
	}
	return f.derivedRunID(f.sourceServer.Identity)
}
