package ghostferry

import (
	"cmp"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"slices"
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
	todo  map[*fingerprint]map[string]OnlineVerifierMismatch // by key
	tried map[*fingerprint]map[string]int                    // how often a row was written
}

func newRepairer(c *comparer, f *Ferry) *repairer {
	return &repairer{c: c, ferry: f, todo: map[*fingerprint]map[string]OnlineVerifierMismatch{}, tried: map[*fingerprint]map[string]int{}}
}

// take notes a differing row, and reports whether it is going to be repaired.
func (r *repairer) take(f *fingerprint, key string, m OnlineVerifierMismatch) bool {
	if r == nil || r.tried[f][key] >= maxRepairs {
		return false
	}
	if r.todo[f] == nil {
		r.todo[f] = map[string]OnlineVerifierMismatch{}
	}
	r.todo[f][key] = m
	return true
}

// repair rewrites everything noted, and queues it to be compared again. What an error leaves is
// found again.
func (r *repairer) repair(ctx context.Context) error {
	if r == nil {
		return nil
	}
	todo := r.todo
	r.todo = map[*fingerprint]map[string]OnlineVerifierMismatch{}
	for f, rows := range todo {
		keys := slices.Sorted(maps.Keys(rows))
		for len(keys) > 0 {
			n := min(len(keys), keysPerRead)
			written, err := r.rewrite(ctx, f, keys[:n])
			if err != nil {
				return &TableError{Schema: f.table.Schema, Table: f.table.Name, Err: fmt.Errorf("repairing %d rows, the first with key %s: %w", n, rows[keys[0]].Key, err)}
			}
			for _, key := range keys[:written] {
				r.audit(f, key, rows[key])
			}
			keys = keys[written:]
		}
	}
	return nil
}

// rewrite makes the rows of the first keys equal, as many of them as are not too large together.
// While one server is waited for, nothing is locked on the other.
func (r *repairer) rewrite(ctx context.Context, f *fingerprint, keys []string) (written int, err error) {
	srv, err := detectPatiently(ctx, r.c.targetDB, r.c.targetPatience)
	if err != nil {
		return 0, err
	}
	schema, name := r.c.names.table(f.table.Schema, f.table.Name)
	tw, err := newTableWriter(f.table, schema, name, srv.UpsertRowAlias(), srv.MaxAllowedPacket)
	if err != nil {
		return 0, err
	}
	var ofSource error // no matter of the target's patience
	err = r.c.targetPatience.do(ctx, fingerprintAttempts, func(ctx context.Context, _ int) error {
		var ofTarget error
		ofSource = r.c.sourcePatience.do(ctx, fingerprintAttempts, func(ctx context.Context, _ int) (err error) {
			err, ofTarget = r.attempt(ctx, f, srv, tw, keys)
			for errors.Is(err, errLargeTogether) {
				keys = keys[:len(keys)/2]
				err, ofTarget = r.attempt(ctx, f, srv, tw, keys)
			}
			return err
		})
		if ofSource != nil {
			return nil //nolint:nilerr // it has had its own patience, and is returned below
		}
		return ofTarget
	})
	return len(keys), cmp.Or(err, ofSource)
}

// attempt makes some rows of a table equal in one transaction on either side. What is done twice,
// because a COMMIT had no answer, does no harm: it is what the source has then.
func (r *repairer) attempt(ctx context.Context, f *fingerprint, srv *server.Server, tw *tableWriter, keys []string) (ofSource, ofTarget error) {
	followed := r.c.servers.planning
	if r.ferry != nil {
		followed = r.ferry.reader // knows which process of the server the stream follows
	}
	source, err := openSession(ctx, r.c.sourceDB, followed.server, server.SourceSnapshot, "SET innodb_lock_wait_timeout="+readLockWait)
	if err != nil {
		return err, nil
	}
	defer source.discard() // with it goes its transaction, and the locks
	if err := followed.mayRead(ctx, source); err != nil {
		return err, nil
	}
	images, err := r.lock(ctx, source, followed, f, keys)
	if err != nil {
		return err, nil
	}
	target, err := openWriter(ctx, r.c.targetDB, srv)
	if err != nil {
		return nil, err
	}
	defer target.discard()
	if err := r.write(ctx, target, f, tw, keys, images); err != nil {
		return nil, err
	}
	// Alive now: its locks were held while the rows were written.
	if _, err := source.execText(ctx, "DO 0"); err != nil {
		return fmt.Errorf("the source's locks were lost, nothing was repaired: %w", err), nil
	}
	if _, err := target.execText(ctx, "COMMIT"); err != nil {
		return nil, err
	}
	_, err = source.execText(ctx, "COMMIT")
	return err, nil
}

// repairBytes bounds the rows that are repaired together, unless it is one.
const repairBytes = 16 << 20

// errLargeTogether says that rows exceed repairBytes.
var errLargeTogether = errors.New("the rows are too large to be repaired together")

// lock reads the rows with their keys, and keeps rows and gaps locked.
func (r *repairer) lock(ctx context.Context, s *session, followed *sourceReader, f *fingerprint, keys []string) (*codec.Rows, error) {
	if _, err := s.execText(ctx, "START TRANSACTION"); err != nil {
		return nil, err
	}
	images := codec.NewRows(len(f.layout.columns), len(keys), 256*len(keys))
	stmt := append(s.statement(), "SELECT "+f.layout.reading(allLeaves)+" FROM "+QuotedTableName(f.table)+f.layout.forceKeyIndex()+" WHERE "...)
	stmt = append(f.appendKeys(stmt, keys), followed.server.LockingReadSuffix()...)
	ctx, cut := context.WithCancel(ctx) // which ends the connection, or the rest would be read
	defer cut()
	large := false
	err := s.query(ctx, stmt, func(values []driver.Value) error {
		if large = len(keys) > 1 && images.Bytes() > repairBytes; large {
			cut()
			return errLargeTogether
		}
		return f.layout.appendRow(images, values)
	})
	if large {
		return nil, errLargeTogether
	}
	return images, followed.waitsForRows(ctx, err)
}

// write sets the keys on the target to the images: what has none is deleted.
func (r *repairer) write(ctx context.Context, target *session, f *fingerprint, tw *tableWriter, keys []string, images *codec.Rows) error {
	if r.ferry != nil && r.ferry.checkpoint.begun() {
		if err := r.ferry.checkpoint.lockEpoch(ctx, target); err != nil {
			return err
		}
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
	_, err := tw.insertAbsent(ctx, target, allRows(images))
	return err
}

// audit tells of a repaired row, and queues it.
func (r *repairer) audit(f *fingerprint, key string, m OnlineVerifierMismatch) {
	action := "rewritten"
	switch m.Kind {
	case MismatchRowMissingOnTarget:
		action = "inserted"
	case MismatchRowMissingOnSource:
		action = "deleted"
	}
	if r.tried[f] == nil {
		r.tried[f] = map[string]int{}
	}
	r.tried[f][key]++
	r.c.found.Lock()
	defer r.c.found.Unlock()
	r.c.found.repaired = append(r.c.found.repaired, RepairedRow{m, action, time.Now().UTC()})
	r.c.log().WithFields(Fields{fieldTable: m.Table, fieldKey: m.Key, "kind": m.Kind}).Warnf("a differing row of the target was %s", action)
	r.c.queue.add(f, key)
}
