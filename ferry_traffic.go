package ghostferry

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	sqlorig "database/sql"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// RecordTraffic keeps in the checkpoint who owns the traffic, for the next process of the run:
// TrafficUnknown before the host switches it, TrafficOnTarget when it has, TrafficOnSource
// takes either back. A host that records it asks RecordedTraffic before Start: a run that goes
// on where the application writes to the target would overwrite that.
//
// Called after Initialize and not after Run has begun, it takes the run over first. Another
// process that owns the run makes it fail with a [*FencedError]. Without a checkpoint it does
// nothing. In a damaged one only TrafficOnSource can be recorded.
func (f *Ferry) RecordTraffic(ctx context.Context, owner TrafficOwner) error {
	c := f.checkpoint
	if c == nil {
		return nil
	}
	if !c.begun() {
		if f.damage != nil && owner != TrafficOnSource {
			return f.damage
		}
		if cmp.Or(f.resume, f.damaged) == nil {
			return errors.New("the target has no checkpoint of this run that could keep who owns the traffic")
		}
		if err := f.fenceOutOthers(ctx); err != nil {
			return err
		}
	}
	err := c.owned(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if owner == TrafficOnSource {
			_, err := tx.ExecContext(ctx, "DELETE FROM "+c.table("traffic")+" WHERE run_id=?", c.runID)
			return err
		}
		// Who relies on the source to own it, see RunsOfSameSource, keeps this from going on.
		if _, err := tx.ExecContext(ctx, "UPDATE "+c.table("runs")+" SET epoch=epoch WHERE run_id=?", c.runID); err != nil {
			return err
		}
		stop := f.StopCoordinate() // of this process; what another has recorded stays
		again, args := " ON DUPLICATE KEY UPDATE owner=?", []any{c.runID, string(owner), stop.File, stop.Pos, string(owner)}
		if !stop.IsZero() {
			again, args = again+", file=?, pos=?", append(args, stop.File, stop.Pos)
		}
		_, err := tx.ExecContext(ctx, "INSERT INTO "+c.table("traffic")+" (run_id, owner, file, pos) VALUES (?,?,?,?)"+again, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("recording that the traffic is %s: %w", owner, err)
	}
	if previous := cmp.Or(f.resume, f.damaged); previous != nil {
		previous.traffic = owner
	}
	return nil
}

// fenceOutOthers takes the run over from whoever else makes it, for what is done to it without Run,
// unless another process has recorded another owner of the traffic since Initialize.
func (f *Ferry) fenceOutOthers(ctx context.Context) error {
	if err := f.checkpoint.create(ctx); err != nil { // an older version's has no place for the traffic
		return err
	}
	return f.pastLostSessions(ctx, func(ctx context.Context) error {
		return f.checkpoint.fenceOut(ctx, true, cmp.Or(f.resume, f.damaged))
	})
}

// RecordedTraffic returns what an earlier process of the run has recorded of the traffic,
// after Initialize. Without a record the source owns it. A damaged checkpoint tells it, too; what
// is none of the answers is damaged itself, and TrafficUnknown.
func (f *Ferry) RecordedTraffic() TrafficOwner {
	previous := cmp.Or(f.resume, f.damaged)
	if previous == nil {
		return TrafficOnSource
	}
	return cmp.Or(previous.traffic, TrafficOnSource)
}

// sameOwner fails when another process has recorded another owner of the traffic than was
// known before this one took the run over: what it decided then is wrong now.
func (p *resumePoint) sameOwner(known TrafficOwner) error {
	owner := func(recorded TrafficOwner) TrafficOwner { return cmp.Or(recorded, TrafficOnSource) }
	if owner(p.traffic) == owner(known) {
		return nil
	}
	return fmt.Errorf("%w: another process of the run has recorded meanwhile that the traffic is %q, and not %q: run the same command again", ErrTrafficUnknown, owner(p.traffic), owner(known))
}

// createTraffic is the statement for the table of what RecordTraffic keeps, with the stop
// position: what comes after it in the source's log came too late.
func (c *checkpoint) createTraffic() string {
	return "CREATE TABLE IF NOT EXISTS " + c.table("traffic") + ` (
  run_id VARBINARY(64) NOT NULL PRIMARY KEY, owner VARBINARY(16) NOT NULL, file VARBINARY(512) NOT NULL, pos BIGINT UNSIGNED NOT NULL) ENGINE=InnoDB`
}

func (c *checkpoint) loadTraffic(ctx context.Context, db queryer, p *resumePoint) error {
	err := db.QueryRowContext(ctx, "SELECT owner, file, pos FROM "+c.table("traffic")+" WHERE run_id=?", c.runID).Scan(&p.traffic, &p.stopped.File, &p.stopped.Pos)
	if errors.Is(err, sqlorig.ErrNoRows) {
		return nil
	}
	switch {
	case err != nil:
		return err
	case p.traffic != TrafficUnknown && p.traffic != TrafficOnTarget:
		err := c.damaged(fmt.Sprintf("%q is nobody who could own the traffic", p.traffic))
		p.traffic = TrafficUnknown
		return err
	}
	return nil
}
