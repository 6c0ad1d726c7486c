package ghostferry

import (
	"context"
	sqlorig "database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// InlineVerifierMismatches is one row that differs.
type InlineVerifierMismatches struct {
	// Pk is the key's String form.
	Pk string
	// SourceChecksum and TargetChecksum are digests in hexadecimal, empty where there is
	// no row.
	SourceChecksum string
	TargetChecksum string
	// MismatchColumn is empty: whole rows are compared. Columns are named by the result of
	// VerifyDuringCutover.
	MismatchColumn string
	// MismatchType is one of the Mismatch constants.
	MismatchType mismatchType
}

// InlineVerifier compares each batch of copied rows inside the transaction that writes
// it, and every row that changes meanwhile, again and again until the cutover. It does
// not look at rows that nobody copied or changed: OnlineVerifier does.
//
// What differs in a batch, and the keys that the binary log says were changed, are
// queued; the queue is part of the state, and bounded in memory.
type InlineVerifier struct {
	// SourceDB and TargetDB are the two servers.
	SourceDB *sql.DB
	TargetDB *sql.DB
	// DatabaseRewrites and TableRewrites map names of the source to the target's.
	DatabaseRewrites map[string]string
	TableRewrites    map[string]string
	// TableSchemaCache are the tables.
	TableSchemaCache TableSchemaCache
	// BatchSize is how many keys are compared at once by older hosts' reckoning; what is
	// read at once is bounded anyway.
	BatchSize int
	// VerifyBinlogEventsInterval is the pause between two comparisons of what is queued.
	// Default one second.
	VerifyBinlogEventsInterval time.Duration
	// MaxExpectedDowntime is how long the last comparison before the cutover may take;
	// 0 means any time.
	MaxExpectedDowntime time.Duration
	// StateTracker gets the position up to which changes are queued.
	StateTracker *StateTracker
	// ErrorHandler gets what PeriodicallyVerifyBinlogEvents cannot return.
	ErrorHandler ErrorHandler

	logger Logger
	ferry  *Ferry // nil in a literal

	made struct { // by core
		sync.Mutex
		*comparer
	}
	cutover    atomic.Bool // VerifyDuringCutover has begun
	background backgroundRun
}

var _ Verifier = (*InlineVerifier)(nil)

// core returns the comparer, made at the first call.
func (v *InlineVerifier) core() (*comparer, error) {
	v.made.Lock()
	defer v.made.Unlock()
	if v.made.comparer != nil {
		return v.made.comparer, nil
	}
	var prints []*fingerprint
	for _, name := range sortedNames(v.TableSchemaCache) {
		f, err := newFingerprint(v.TableSchemaCache[name])
		if err != nil {
			return nil, err
		}
		prints = append(prints, f)
	}
	c := newComparer(v.SourceDB, v.TargetDB, newRewrites(v.DatabaseRewrites, v.TableRewrites), prints)
	c.logger, c.maxDowntime = taggedLogger(v.logger, "inline-verifier"), v.MaxExpectedDowntime
	c.metrics = &comparerMetrics{queue: tellInlineQueue}
	if v.ferry != nil {
		c.metrics.metrics = v.ferry.Metrics
		c.concurrency = v.ferry.DataIterationConcurrency
		c.wire(v.ferry)
	}
	v.made.comparer = c
	return c, nil
}

// binlogEventListener queues the keys of changed rows. Once the cutover's comparison has
// begun there must be none.
func (v *InlineVerifier) binlogEventListener(events []DMLEvent) error {
	if len(events) == 0 {
		return nil
	}
	if v.cutover.Load() {
		return errors.New("cutover has started but received binlog event!") //nolint:revive,staticcheck // hosts know this text
	}
	c, err := v.core()
	if err != nil {
		return err
	}
	if err := c.queueEvents(events); err != nil {
		return err
	}
	if v.StateTracker != nil {
		v.StateTracker.UpdateLastResumableSourceBinlogPositionForInlineVerifier(events[len(events)-1].ResumableBinlogPosition())
	}
	return nil
}

// inlineCheck is what came of the comparison of a batch.
type inlineCheck struct {
	f         *fingerprint
	digests   []byte // of the source's rows; nil: the batch had none, every key is queued
	rows      int
	differing []observation
}

// keys returns the keys to compare again.
func (k *inlineCheck) keys() []string {
	keys := make([]string, len(k.differing))
	for i, seen := range k.differing {
		keys[i] = seen.key
	}
	return keys
}

// texts returns the keys in String form.
func (k *inlineCheck) texts() []string {
	texts := make([]string, len(k.differing))
	for i, seen := range k.differing {
		texts[i] = k.f.keyText(seen.key)
	}
	return texts
}

// check compares a batch with what the transaction that wrote it sees on the target.
func (v *InlineVerifier) check(ctx context.Context, s querySession, quotedTable string, batch *RowBatch) (*inlineCheck, error) {
	c, err := v.core()
	if err != nil {
		return nil, err
	}
	table := batch.TableSchema()
	f := c.byName[NewTableIdentifierFromSchemaTable(table)]
	if f == nil {
		return nil, fmt.Errorf("the inline verifier does not know table %s: it has to be in TableSchemaCache", table)
	}
	keys, err := batch.encodedKeys(f.layout)
	if err != nil {
		return nil, err
	}
	k := &inlineCheck{f: f, digests: batch.digests, rows: len(keys)}
	if k.digests == nil {
		for _, key := range keys {
			k.differing = append(k.differing, observation{key: key})
		}
		return k, nil
	}
	reader := inTransaction(s, quotedTable)
	// A range also shows rows that nobody copied; with a filter those are not ours.
	whole := batch.chunk != nil && c.filterOf(f) == nil
	if whole {
		target, err := reader.chunk(ctx, f, batch.chunk.keyRange)
		if err != nil {
			return nil, err
		}
		if target.equals(chunkDigestOf(uint64(k.rows), k.digests)) {
			return k, nil
		}
	}
	target := map[string]string{}
	if whole {
		target, err = reader.rows(ctx, f, batch.chunk.keyRange)
	} else {
		err = reader.keysInto(ctx, f, keys, target)
	}
	if err != nil {
		return nil, err
	}
	source := make(map[string]string, len(keys))
	for i, key := range keys {
		source[key] = string(k.digests[digestSize*i : digestSize*(i+1)])
	}
	for _, key := range differingKeys(source, target) {
		k.differing = append(k.differing, observation{key: key, source: source[key], target: target[key]})
	}
	return k, nil
}

// keysInto looks up any number of keys.
func (r *fingerprintReader) keysInto(ctx context.Context, f *fingerprint, keys []string, found map[string]string) error {
	for len(keys) > 0 {
		n := min(len(keys), keysPerRead)
		some, err := r.keys(ctx, f, keys[:n])
		if err != nil {
			return err
		}
		for key, digest := range some {
			found[key] = digest
		}
		keys = keys[n:]
	}
	return nil
}

// committed takes a batch that is on the target into account: what differs is queued.
func (v *InlineVerifier) committed(k *inlineCheck) {
	c, err := v.core()
	if err != nil || k == nil {
		return
	}
	digest := chunkDigestOf(uint64(len(k.digests)/digestSize), k.digests)
	walk := &tableWalk{f: k.f, first: true}
	c.count(walk, digest, digest, len(k.differing) == 0)
	if len(k.differing) > 0 {
		c.log().WithField(fieldTable, k.f.table.String()).Infof("noticed mismatched pk, which is okay: %d of %d rows, compared again later", len(k.differing), k.rows)
		c.queue.add(k.f, k.keys()...)
	}
}

// unknown queues a range whose comparison was lost with the answer to its COMMIT.
func (v *InlineVerifier) unknown(batch *RowBatch) {
	c, err := v.core()
	if err != nil {
		return
	}
	if f := c.byName[NewTableIdentifierFromSchemaTable(batch.TableSchema())]; f != nil {
		c.queue.addFirst(f, batch.chunk.keyRange)
	}
}

// CheckFingerprintInline compares a batch's digests with those of the rows that the
// transaction sees on the target, and returns the rows that differ, by key. Unless
// enforceInlineVerification is set, they are queued to be compared again.
func (v *InlineVerifier) CheckFingerprintInline(tx *sql.Tx, targetSchema, targetTable string, sourceBatch *RowBatch, enforceInlineVerification bool) ([]InlineVerifierMismatches, error) {
	k, err := v.check(context.Background(), txSession{tx}, QuotedTableNameFromString(targetSchema, targetTable), sourceBatch)
	if err != nil {
		return nil, err
	}
	var mismatches []InlineVerifierMismatches
	for _, seen := range k.differing {
		m := newMismatch(k.f, seen.key, seen)
		mismatches = append(mismatches, InlineVerifierMismatches{
			Pk: m.Key, SourceChecksum: hex.EncodeToString([]byte(seen.source)), TargetChecksum: hex.EncodeToString([]byte(seen.target)), MismatchType: m.Kind,
		})
	}
	if !enforceInlineVerification {
		v.committed(k)
	}
	return mismatches, nil
}

// txSession reads in a host's transaction.
type txSession struct{ tx *sql.Tx }

func (s txSession) statement() []byte { return nil }

func (s txSession) query(ctx context.Context, stmt []byte, row func(values []driver.Value) error) error {
	rows, err := s.tx.QueryContext(ctx, string(stmt))
	if err != nil {
		return err
	}
	return eachRow(rows, func(_ []string, values []driver.Value) error { return row(values) })
}

// eachRow scans every row of a result, and closes it.
func eachRow(rows *sqlorig.Rows, row func(names []string, values []driver.Value) error) error {
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		return err
	}
	scanned, values := make([]any, len(names)), make([]driver.Value, len(names))
	pointers := make([]any, len(names))
	for i := range scanned {
		pointers[i] = &scanned[i]
	}
	for rows.Next() {
		if err := rows.Scan(pointers...); err != nil {
			return err
		}
		for i := range scanned { // a NULL cannot be scanned into a driver.Value
			values[i] = scanned[i]
		}
		if err := row(names, values); err != nil {
			return err
		}
	}
	return rows.Err()
}

// PeriodicallyVerifyBinlogEvents compares what is queued at intervals, until the context
// ends; failures go to the ErrorHandler. A Ferry's does so by itself.
func (v *InlineVerifier) PeriodicallyVerifyBinlogEvents(ctx context.Context) {
	if err := v.follow(ctx); err != nil && v.ErrorHandler != nil {
		v.ErrorHandler.Fatal("inline_verifier", err)
	}
}

func (v *InlineVerifier) follow(ctx context.Context) error {
	c, err := v.core()
	if err != nil {
		return err
	}
	interval := v.VerifyBinlogEventsInterval
	if interval <= 0 {
		interval = defaultFollowInterval
	}
	return c.follow(ctx, interval)
}

// VerifyBeforeCutover is VerifyBeforeCutoverContext without a context.
func (v *InlineVerifier) VerifyBeforeCutover() error {
	return v.VerifyBeforeCutoverContext(context.Background())
}

// VerifyBeforeCutoverContext compares what is queued until little is left or it does
// not get less. Differences are no error yet; a last comparison that took longer than
// MaxExpectedDowntime is.
func (v *InlineVerifier) VerifyBeforeCutoverContext(ctx context.Context) error {
	c, err := v.core()
	if err != nil {
		return err
	}
	return c.beforeCutover(ctx)
}

// VerifyDuringCutover is VerifyDuringCutoverContext without a context.
func (v *InlineVerifier) VerifyDuringCutover() (VerificationResult, error) {
	return v.VerifyDuringCutoverContext(context.Background())
}

// VerifyDuringCutoverContext compares everything that is still queued, when the source
// no longer changes. A change that comes later is an error of the stream. A verdict
// "different" stays. The error is an [IncompleteVerificationError] when no row was ever
// compared.
func (v *InlineVerifier) VerifyDuringCutoverContext(ctx context.Context) (VerificationResult, error) {
	c, err := v.core()
	if err != nil {
		return VerificationResult{}, err
	}
	v.cutover.Store(true)
	return v.verdict(ctx, c)
}

// verifyFenced is VerifyDuringCutoverContext after which changes may come again.
func (v *InlineVerifier) verifyFenced(ctx context.Context) (VerificationResult, error) {
	c, err := v.core()
	if err != nil {
		return VerificationResult{}, err
	}
	return v.verdict(ctx, c)
}

func (v *InlineVerifier) verdict(ctx context.Context, c *comparer) (VerificationResult, error) {
	result, err := c.duringCutover(ctx)
	if err == nil && !c.sawRows() {
		return VerificationResult{}, fmt.Errorf("%w: no row of the %d tables was copied, nor there when its changes were compared, so none was compared", IncompleteVerificationError{}, len(c.prints))
	}
	return result, err
}

// Mismatches returns the rows found to differ at the cutover.
func (v *InlineVerifier) Mismatches() []OnlineVerifierMismatch {
	c, err := v.core()
	if err != nil {
		return nil
	}
	return c.mismatches()
}

// StartInBackground starts VerifyDuringCutover without waiting for it. It can be called
// once, only of a verifier that a Ferry has made, and not while its run follows the source:
// the next change would end the run.
func (v *InlineVerifier) StartInBackground() error {
	if v.ferry == nil {
		return errors.New("the inline verifier was not made by Ferry.NewInlineVerifier")
	}
	if v.ferry.follows() {
		return errors.New("the inline verifier compares as rows are written and gives its verdict when the source stands still: start it when the stream has ended, or set VerifierType to Online")
	}
	return v.background.startOnce(v.VerifyDuringCutover)
}

// Wait waits for the verification started in the background.
func (v *InlineVerifier) Wait() { v.background.wait() }

// Result is the outcome of the verification started in the background so far.
func (v *InlineVerifier) Result() (VerificationResultAndStatus, error) { return v.background.result() }

// Message tells how much is queued.
func (v *InlineVerifier) Message() string {
	c, err := v.core()
	if err != nil {
		return err.Error()
	}
	s := c.statistics()
	return fmt.Sprintf("currentRowCount = %d, currentEntryCount = %d", s.KeysQueued, s.KeysQueued+s.RangesQueued)
}

// Close ends the connections that are kept between two comparisons.
func (v *InlineVerifier) Close() error {
	if c, err := v.core(); err == nil {
		c.close()
	}
	return nil
}
