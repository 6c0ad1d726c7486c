package ghostferry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	sqlorig "database/sql"

	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// fenceNote is what the checkpoint keeps of a ready-made fence, from before it closes until it
// is open again: what a process that dies behind it leaves to the next one of its run. Table
// locks need none, because they end with the process.
type fenceNote struct {
	// Kind is one of the Fence constants.
	Kind string
	// Before is what the server was, of FenceReadOnly.
	Before *server.ReadOnlyState `json:",omitempty"`
	// Locked are the accounts that the fence locks, of FenceAccounts.
	Locked []server.Account `json:",omitempty"`
	// Switching: the hook that sends the traffic to the target was about to be called.
	Switching bool
}

// createFences is the statement for the notes' table.
func (c *checkpoint) createFences() string {
	return "CREATE TABLE IF NOT EXISTS " + c.table("fences") + " (run_id VARBINARY(64) NOT NULL PRIMARY KEY, note LONGBLOB NOT NULL) ENGINE=InnoDB"
}

// fence returns the note that an earlier process of the run has left; nil when there is none.
func (c *checkpoint) fence(ctx context.Context) (*fenceNote, error) {
	existing, err := c.existingTables(ctx, c.db)
	if err != nil || !existing["fences"] {
		return nil, err
	}
	var text []byte
	err = c.db.QueryRowContext(ctx, "SELECT note FROM "+c.table("fences")+" WHERE run_id=?", c.runID).Scan(&text)
	if errors.Is(err, sqlorig.ErrNoRows) {
		return nil, nil
	}
	note := &fenceNote{}
	if err == nil {
		err = json.Unmarshal(text, note)
	}
	if err != nil {
		return nil, fmt.Errorf("what the checkpoint of run %s says of its fence cannot be read: %w", c.runID, err)
	}
	return note, nil
}

// leftReadOnly tells whether a fence of the run, of this process or an earlier one, may have made the
// server that it closes on read-only.
func (f *Ferry) leftReadOnly(ctx context.Context) (bool, error) {
	if f.checkpoint == nil {
		return false, nil
	}
	note, err := f.checkpoint.fence(ctx)
	return note != nil && note.Kind == FenceReadOnly, err
}

// masterIsPrimary tells whether the server that the source replicates from may be written, but for a
// fence of the run.
func (f *Ferry) masterIsPrimary(ctx context.Context) (bool, error) {
	readOnly, err := isReadOnly(ctx, f.WaitUntilReplicaIsCaughtUpToMaster.MasterDB)
	if err != nil || !readOnly {
		return err == nil, err
	}
	return f.leftReadOnly(ctx)
}

// noteFence keeps a note, or removes it. Nobody but the process that owns the run may.
func (c *checkpoint) noteFence(ctx context.Context, note *fenceNote) error {
	if !c.begun() {
		return nil
	}
	text, err := json.Marshal(note)
	if err != nil {
		return err
	}
	return c.owned(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if note == nil {
			_, err := tx.ExecContext(ctx, "DELETE FROM "+c.table("fences")+" WHERE run_id=?", c.runID)
			return err
		}
		_, err := tx.ExecContext(ctx, "REPLACE INTO "+c.table("fences")+" (run_id, note) VALUES (?,?)", c.runID, text)
		return err
	})
}

// openLeftFence lets the writers go on that an earlier process of the run has stopped and
// died: they write to the source, which this one follows. It is called when that process
// cannot go on any more. Where it may have switched the traffic, nothing but a person or the
// cutover itself may.
func (f *Ferry) openLeftFence(ctx context.Context) error {
	note, err := f.checkpoint.fence(ctx)
	if err != nil || note == nil {
		return err
	}
	if note.Kind == FenceAccounts && len(note.Locked) == 0 {
		return f.checkpoint.noteFence(ctx, nil) // all had been locked before
	}
	fence, err := f.leftFence(note)
	if err != nil {
		return err
	}
	defer func() { _ = fence.Close(context.WithoutCancel(ctx)) }()
	closed, err := fence.adopt(ctx, note)
	switch {
	case err != nil:
		return fmt.Errorf("looking at the fence that an earlier process of the run has left: %w", err)
	case !closed: // somebody has opened it
		return f.checkpoint.noteFence(ctx, nil)
	case note.Switching:
		f.fenceLeft.Store(note)
		f.logger.Warn("an earlier process of this run had begun to switch the traffic to the target: the source stays fenced until the cutover, or until somebody who knows where the application writes opens it")
		return nil
	}
	if err := fence.Unfence(ctx); err != nil {
		return fmt.Errorf("the writers of the source are still stopped by an earlier process of the run, and cannot be let go on: %w", err)
	}
	f.logger.Warn("an earlier process of this run had died with the fence closed: it was opened, the writers go on, on the source")
	return nil
}

// leftFence makes the fence that a note tells of.
func (f *Ferry) leftFence(note *fenceNote) (readyFence, error) {
	config := &FenceConfig{Kind: note.Kind}
	if f.CutoverFence != nil {
		config.Connection = f.CutoverFence.Connection
	}
	for _, a := range note.Locked {
		config.Accounts = append(config.Accounts, a.User+"@"+a.Host)
	}
	fence, err := f.NewFence(config)
	if err != nil {
		return nil, err
	}
	return fence.(readyFence), nil //nolint:errcheck,forcetypeassert // the call above makes nothing else
}

// readyFence is a ready-made fence, which can be taken over from a process that died.
type readyFence interface {
	Fence
	// adopt takes over what a note says, and tells whether the fence is still closed.
	adopt(ctx context.Context, note *fenceNote) (closed bool, err error)
	// switching notes that the traffic is about to be switched.
	switching(ctx context.Context) error
}
