package ghostferry

import (
	"context"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// A run that has failed over follows the log of another server. Files, offsets and marks that
// were recorded of the log before mean nothing there, and nothing beside them tells whose they
// are: where they stayed, a later process would look for them in the wrong log, and compare
// them with places of the right one. Of MySQL's places the sets of GTIDs hold on every server.

// furthestOf is how far any lane may have executed: the furthest place, with the transactions of all.
func furthestOf(places []executedUpTo) (end executedUpTo) {
	all := &binlog.GTIDSet{}
	for _, place := range places {
		if end.IsZero() || end.CompareFilePos(place.BinlogCoordinate) < 0 {
			end = place
		}
		if set, err := binlog.ParseGTIDSet(place.GTIDSet, false); err == nil { // else MariaDB's, which go with the place
			all.AddSet(set)
		}
	}
	if !all.Empty() {
		end.GTIDSet = all.String()
	}
	return end
}

// keepBare leaves only the sets of GTIDs of a run's places. A verifier's progress without
// one is given up: it compares everything.
func (p *resumePoint) keepBare() {
	p.furthest = []executedUpTo{{BinlogCoordinate: furthestOf(p.furthest).bare()}}
	p.position, p.mark = p.position.bare(), logMark{}
	if p.held != nil {
		held := p.held.bare()
		p.held = &held
	}
	p.verification = p.verification.bare()
}

// bare is the progress with the set of GTIDs of its place only; nil without one.
func (v *VerificationState) bare() *VerificationState {
	if v == nil || v.Position.GTIDSet == "" {
		return nil
	}
	kept := *v // others hold it, too
	kept.Position = v.Position.bare()
	return &kept
}

// keepSets records of the places that the process before has left behind only the sets of GTIDs,
// and changes found alike. It may be repeated.
func (c *checkpoint) keepSets(ctx context.Context, tx *sql.Tx, found *resumePoint) error {
	found.keepBare()
	lanes := c.appendPlace([]byte("UPDATE "+c.table("lanes")+" SET file="), executedUpTo{BinlogCoordinate: found.position}, "")
	lanes = c.appendPlace(append(lanes, ", intent_file="...), found.furthest[0], "intent_")
	lanes = appendHex(append(lanes, " WHERE run_id="...), []byte(c.runID))
	if _, err := tx.ExecContext(ctx, string(lanes)); err != nil {
		return err
	}
	if c.held != nil {
		held := c.held.bare()
		c.held = &held
		if _, err := tx.ExecContext(ctx, string(c.appendHold(nil, c.held))); err != nil {
			return err
		}
	}
	saved, err := c.readVerification(ctx, tx) // a repair may have taken back some of what was found
	if err != nil {
		return err
	}
	saved.Verification = saved.Verification.bare()
	return c.saveVerification(ctx, tx, saved)
}
