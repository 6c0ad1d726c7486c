package ghostferry

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/server"
)

// maxRepairs is how often a row is repaired before it counts as differing for good.
const maxRepairs = 2

// RepairedRow is a row of the target that a verifier made equal to the source's.
type RepairedRow struct {
	// OnlineVerifierMismatch is what was wrong.
	OnlineVerifierMismatch
	// Action is what was done: "inserted", "deleted" or "rewritten".
	Action string `json:"action"`
	// At is when it was done.
	At time.Time `json:"at"`
}

// repairer makes differing rows equal. A row's image is written while the source keeps
// the row, or the gap where it is not, locked: what is written is then what the source
// has at every moment of the write, so that changes applied before and after meet the
// same row (docs/algorithm.md).
type repairer struct {
	c     *comparer
	ferry *Ferry // nil in a literal: then no checkpoint fences us

	// Owned by whoever holds the comparer's phase.
	todo  map[*fingerprint][]repairable
	tried map[*fingerprint]map[string]int
}

type repairable struct {
	key      string
	mismatch OnlineVerifierMismatch
}

func newRepairer(c *comparer, f *Ferry) *repairer {
	return &repairer{c: c, ferry: f, todo: map[*fingerprint][]repairable{}, tried: map[*fingerprint]map[string]int{}}
}

// take notes a differing row, and reports whether it is going to be repaired.
func (r *repairer) take(f *fingerprint, key string, m OnlineVerifierMismatch) bool {
	if r == nil || r.tried[f][key] >= maxRepairs {
		return false
	}
	if r.tried[f] == nil {
		r.tried[f] = map[string]int{}
	}
	r.tried[f][key]++
	r.todo[f] = append(r.todo[f], repairable{key, m})
	return true
}

// repair rewrites everything noted, and queues it to be compared again.
func (r *repairer) repair(ctx context.Context) error {
	if r == nil {
		return nil
	}
	for f, rows := range r.todo {
		delete(r.todo, f)
		for len(rows) > 0 {
			n := min(len(rows), keysPerRead)
			if err := r.rewrite(ctx, f, rows[:n]); err != nil {
				return &TableError{Schema: f.table.Schema, Table: f.table.Name, Err: fmt.Errorf("repairing %d rows, the first with key %s: %w", n, rows[0].mismatch.Key, err)}
			}
			rows = rows[n:]
		}
	}
	return nil
}

// rewrite makes some rows of a table equal in one transaction on either side.
func (r *repairer) rewrite(ctx context.Context, f *fingerprint, rows []repairable) error {
	keys := make([]string, len(rows))
	for i := range rows {
		keys[i] = rows[i].key
	}
	sourceServer, err := server.Detect(ctx, r.c.sourceDB)
	if err != nil {
		return err
	}
	source, err := openSession(ctx, r.c.sourceDB, sourceServer, server.SourceSnapshot)
	if err != nil {
		return err
	}
	defer source.discard() // with it goes its transaction, and the locks
	images, err := r.lock(ctx, source, sourceServer, f, keys)
	if err != nil {
		return err
	}
	if err := r.write(ctx, source, f, keys, images); err != nil {
		return err
	}
	r.audit(f, rows)
	return nil
}

// lock reads the rows with their keys, and keeps rows and gaps locked.
func (r *repairer) lock(ctx context.Context, s *session, srv *server.Server, f *fingerprint, keys []string) (*codec.Rows, error) {
	if _, err := s.execText(ctx, "START TRANSACTION"); err != nil {
		return nil, err
	}
	images := codec.NewRows(len(f.layout.columns), len(keys), 256*len(keys))
	stmt := append(s.statement(), "SELECT "+f.layout.reading(allLeaves)+" FROM "+QuotedTableName(f.table)+f.layout.forceKeyIndex()+" WHERE "...)
	stmt = append(f.appendKeys(stmt, keys), srv.LockingReadSuffix()...)
	err := s.query(ctx, stmt, func(values []driver.Value) error {
		return f.layout.appendRow(images, values)
	})
	return images, err
}

// write sets the keys on the target to the images: what has none is deleted.
func (r *repairer) write(ctx context.Context, source *session, f *fingerprint, keys []string, images *codec.Rows) error {
	srv, err := server.Detect(ctx, r.c.targetDB)
	if err != nil {
		return err
	}
	target, err := openWriter(ctx, r.c.targetDB, srv)
	if err != nil {
		return err
	}
	defer target.discard()
	if r.ferry != nil && r.ferry.checkpoint.begun() {
		if err := r.ferry.checkpoint.lockEpoch(ctx, target); err != nil {
			return err
		}
	}
	schema, name := r.c.names.table(f.table.Schema, f.table.Name)
	tw, err := newTableWriter(f.table, schema, name, srv.UpsertRowAlias(), srv.MaxAllowedPacket)
	if err != nil {
		return err
	}
	tuples := make([]keyTuple, len(keys))
	for i, key := range keys {
		tuples[i] = f.splitKey(key)
	}
	if err := tw.deleteKeys(ctx, target, tuples); err != nil {
		return err
	}
	// A row that another one keeps out differs when it is compared again: that one has
	// to be repaired first.
	if _, err := tw.insertAbsent(ctx, target, allRows(images)); err != nil {
		return err
	}
	// Alive now: its locks were held while the rows were written.
	if _, err := source.execText(ctx, "DO 0"); err != nil {
		return fmt.Errorf("the source's locks were lost, nothing was repaired: %w", err)
	}
	if _, err := target.execText(ctx, "COMMIT"); err != nil {
		return err
	}
	_, err = source.execText(ctx, "COMMIT")
	return err
}

func (r *repairer) audit(f *fingerprint, rows []repairable) {
	actions := map[mismatchType]string{MismatchRowMissingOnTarget: "inserted", MismatchRowMissingOnSource: "deleted"}
	r.c.found.Lock()
	defer r.c.found.Unlock()
	for _, row := range rows {
		action := actions[row.mismatch.Kind]
		if action == "" {
			action = "rewritten"
		}
		r.c.found.repaired = append(r.c.found.repaired, RepairedRow{row.mismatch, action, time.Now().UTC()})
		r.c.log().WithFields(Fields{fieldTable: row.mismatch.Table, fieldKey: row.mismatch.Key, "kind": row.mismatch.Kind}).Warnf("a differing row of the target was %s", action)
		r.c.queue.add(f, row.key)
	}
}
