package ghostferry

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	sqlorig "database/sql"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

const (
	// verificationInterval is how often the verifier's progress is saved.
	verificationInterval = 2 * time.Second
	// savedKeys is how many single keys of a table are saved; more become ranges.
	savedKeys = 2000
	// saveTimeout bounds the last save of a run that has ended.
	saveTimeout = 2 * time.Second
)

// VerificationState is what a verifier needs to go on after an interruption: what is
// left to compare, and up to where changes are in it. It is a part of the state, and a
// row of the checkpoint.
type VerificationState struct {
	// VerifierType is the verifier's; another one begins anew.
	VerifierType string
	// Position is the source position up to which every change is compared, or in what
	// is left. A resumed stream begins no later.
	Position BinlogCoordinate
	// Tables is what is left by "schema.table"; a table that is missing begins anew.
	Tables map[string]*TableVerificationState
}

// TableVerificationState is what is left to compare of a table, and what was done.
type TableVerificationState struct {
	// First are ranges that were never compared; Ranges and Keys are compared again. Keys
	// are hexadecimal, of an encoding of the library's own.
	First  []CopiedRangeKeys `json:",omitempty"`
	Ranges []CopiedRangeKeys `json:",omitempty"`
	Keys   []string          `json:",omitempty"`
	// Rows and Chunks were compared; Sum is that of the rows' digests. Seen: a row was
	// compared, which may have been one that changed: Rows does not count those.
	Rows, Chunks uint64
	Seen         bool `json:",omitempty"`
	Sum          string
}

// CopiedRangeKeys is a range of encoded keys, low < key <= high; an open end is null.
type CopiedRangeKeys struct{ Low, High *string }

func hexKey(key keyTuple) *string {
	if key == nil {
		return nil
	}
	var encoded []byte
	for _, part := range key {
		encoded = codec.AppendKeyPart(encoded, part)
	}
	text := hex.EncodeToString(encoded)
	return &text
}

func (f *fingerprint) keyOfHex(text *string) (keyTuple, error) {
	if text == nil {
		return nil, nil
	}
	raw, err := hex.DecodeString(*text)
	if err != nil {
		return nil, err
	}
	return f.checkedKey(string(raw))
}

// checkedKey splits a key that was kept outside the process.
func (f *fingerprint) checkedKey(encoded string) (keyTuple, error) {
	key := f.splitKey(encoded)
	if len(key) != len(f.layout.keys) || f.encodeKey(key) != encoded {
		return nil, fmt.Errorf("%x is not a key of %d columns", encoded, len(f.layout.keys))
	}
	return key, nil
}

// save returns what is left to compare. The position has to be read before.
func (c *comparer) save() map[string]*TableVerificationState {
	work := c.unfinished()
	tables := make(map[string]*TableVerificationState, len(c.prints))
	for _, f := range c.prints {
		t := &TableVerificationState{}
		w := work[f]
		if c.differs(f) {
			// A verdict is not handed on, and what of the table was not looked at because of it
			// is not known any more: who goes on compares all of it.
			if w == nil {
				w = &tableWork{}
			}
			w.keys, w.ranges = nil, []keyRange{{}}
		}
		if w != nil {
			if len(w.keys) > savedKeys {
				w.coalesce(f)
			}
			for key := range w.keys {
				t.Keys = append(t.Keys, hex.EncodeToString([]byte(key)))
			}
			t.First, t.Ranges = rangesOf(w.first), rangesOf(w.ranges)
		}
		tables[f.table.String()] = t
	}
	c.stats.Lock()
	defer c.stats.Unlock()
	for _, f := range c.prints {
		t, s := tables[f.table.String()], c.stats.tables[f]
		t.Rows, t.Chunks, t.Seen, t.Sum = s.rows, s.chunks, s.seen, hex.EncodeToString(s.sum.bytes())
	}
	return tables
}

func rangesOf(ranges []keyRange) []CopiedRangeKeys {
	var out []CopiedRangeKeys
	for _, r := range ranges {
		out = append(out, CopiedRangeKeys{hexKey(r.low), hexKey(r.high)})
	}
	return out
}

// load goes on from what was saved, before anything is compared. Tables that are not in
// it, or whose rows were copied again, stay as they are.
func (c *comparer) load(tables map[string]*TableVerificationState, anew func(*TableSchema) bool) error {
	for _, f := range c.prints {
		t := tables[f.table.String()]
		if t == nil || anew(f.table) {
			continue
		}
		w, err := f.loadWork(t)
		if err != nil {
			return &TableError{Schema: f.table.Schema, Table: f.table.Name, Err: fmt.Errorf("the saved progress of its verification is damaged: %w: start the verification anew by another VerifierType, or the run with empty tables", err)}
		}
		sum, err := hex.DecodeString(t.Sum)
		if err != nil || len(sum) != digestSize {
			sum = make([]byte, digestSize)
		}
		c.queue.replace(f, w)
		c.counters.rows.Add(t.Rows)
		c.counters.chunks.Add(t.Chunks)
		if len(w.first) == 0 {
			c.counters.tablesDone.Add(1)
		}
		c.stats.Lock()
		c.stats.tables[f].rows, c.stats.tables[f].chunks, c.stats.tables[f].seen = t.Rows, t.Chunks, t.Seen || t.Rows > 0
		c.stats.tables[f].sum.addDigest(sum)
		c.stats.Unlock()
	}
	return nil
}

func (f *fingerprint) loadWork(t *TableVerificationState) (*tableWork, error) {
	w := &tableWork{keys: map[string]struct{}{}}
	for _, text := range t.Keys {
		key, err := f.keyOfHex(&text)
		if err != nil {
			return nil, err
		}
		w.keys[f.encodeKey(key)] = struct{}{}
	}
	for _, list := range []struct {
		from []CopiedRangeKeys
		to   *[]keyRange
	}{{t.First, &w.first}, {t.Ranges, &w.ranges}} {
		for _, r := range list.from {
			low, err := f.keyOfHex(r.Low)
			if err != nil {
				return nil, err
			}
			high, err := f.keyOfHex(r.High)
			if err != nil {
				return nil, err
			}
			*list.to = append(*list.to, keyRange{low, high})
		}
	}
	return w, nil
}

// savingVerifier is a verifier that goes on after an interruption.
type savingVerifier interface {
	core() (*comparer, error)
}

// verificationState returns the verifier's progress, nil when there is none to keep.
func (f *Ferry) verificationState() *VerificationState {
	v, ok := f.Verifier.(savingVerifier)
	if _, walksAnew := f.Verifier.(*IterativeVerifier); !ok || walksAnew {
		return nil
	}
	_, inline := f.Verifier.(*InlineVerifier)
	c, err := v.core()
	if err != nil || c.counters.chunks.Load() == 0 && c.counters.rechecks.Load() == 0 && !inline {
		return nil
	}
	state := &VerificationState{VerifierType: f.VerifierType, Position: f.BinlogStreamer.laterFrom()} // before the queue is read
	state.Tables = c.save()
	return state
}

// resumeVerificationOf makes the verifier go on where an earlier process was.
func (f *Ferry) resumeVerificationOf(c *comparer) error {
	if !f.resuming {
		return nil
	}
	state, dump := f.savedVerification(), f.StateToResumeFrom
	var err error
	if !f.compareAll && state != nil && state.VerifierType == f.VerifierType {
		err = c.load(state.Tables, f.copiedAnew)
	} else if !f.compareAll && f.resume == nil && state == nil && dump.BinlogVerifyStore != nil {
		err = c.loadStore(dump.BinlogVerifyStore)
	} else if _, inline := f.Verifier.(*InlineVerifier); inline { // the others compare every table anyway
		f.queueCopied(c)
	}
	if err != nil {
		return err
	}
	return f.queueRechecks(c)
}

// resumeVerificationAgain makes the verifier go on from what was saved when this process took the run over,
// in place of what it has read before. Another one may have gone on meanwhile: that may have copied tables
// anew, and has in its progress what it had to compare again. Of a table of which this process has removed
// rows all is compared: it is copied anew in part.
func (f *Ferry) resumeVerificationAgain() error {
	c := comparing(f.Verifier)
	if c == nil {
		return nil
	}
	c.counters.chunks.Store(0)
	c.compareEverything()
	if _, inline := f.Verifier.(*InlineVerifier); inline {
		c.queue.take()
	}
	if err := f.resumeVerification(); err != nil {
		return err
	}
	for id, t := range f.resume.tables {
		if t.emptied {
			f.queueWhole(f.Tables.Get(id.SchemaName, id.TableName))
		}
	}
	return nil
}

// queueCopied has what an earlier process has copied compared once; the rest is compared when it is
// copied. A later look at what is copied takes the place of an earlier one.
func (f *Ferry) queueCopied(c *comparer) {
	for _, table := range f.sortedTables() {
		fp := c.byName[NewTableIdentifierFromSchemaTable(table)]
		if fp == nil {
			continue
		}
		if f.resume == nil { // a state does not tell it as well
			c.queue.setFirst(fp, []keyRange{{}})
			continue
		}
		t := f.resume.tables[NewTableIdentifierFromSchemaTable(table)]
		switch {
		case t == nil || t.again:
		case t.completed:
			c.queue.setFirst(fp, []keyRange{{}})
		default:
			var copied []keyRange
			for _, chunk := range t.chunks {
				copied = append(copied, chunk.keyRange)
			}
			c.queue.setFirst(fp, copied)
		}
	}
}

// queueRechecks queues the rows that differed when an earlier process wrote them.
func (f *Ferry) queueRechecks(c *comparer) error {
	if f.resume == nil {
		return nil
	}
	for id, keys := range f.resume.rechecks {
		fp := c.byName[id]
		if fp == nil {
			continue
		}
		for _, key := range keys {
			if _, err := fp.checkedKey(key); err != nil {
				return &TableError{Schema: id.SchemaName, Table: id.TableName, Err: fmt.Errorf("the checkpoint's list of rows to compare again is damaged: %w: start again with empty target tables", err)}
			}
			c.queue.add(fp, key)
		}
	}
	return nil
}

// compareAnew has the verifier compare a whole table again, whatever it has compared. With save, a
// process that follows knows of it when it returns, whichever verifier either of them has.
func (f *Ferry) compareAnew(ctx context.Context, table *TableSchema, save bool) error {
	f.queueWhole(table)
	if !save || !f.checkpoint.begun() {
		return nil
	}
	if err := f.forgetCompared(ctx, table); err != nil { // for a verifier that saves nothing yet, or is another one
		return err
	}
	return f.targetPatience.do(ctx, f.DBWriteRetries, func(ctx context.Context, _ int) error { return f.saveVerification(ctx) })
}

// forgetCompared takes back in the checkpoint that tables were compared, which the verifier of this
// process has to know before it saves: else that would say so again.
func (f *Ferry) forgetCompared(ctx context.Context, tables ...*TableSchema) error {
	f.verificationSaved.Lock()
	defer f.verificationSaved.Unlock()
	var names []string
	for _, table := range tables {
		names = append(names, table.String())
	}
	return f.checkpoint.owned(ctx, func(ctx context.Context, tx *sql.Tx) error {
		return f.checkpoint.forgetCompared(ctx, tx, names)
	})
}

// queueWhole queues whole tables, unless the verifier compares everything later.
func (f *Ferry) queueWhole(tables ...*TableSchema) {
	c := comparing(f.Verifier)
	if _, later := f.Verifier.(*IterativeVerifier); c == nil || later {
		return
	}
	for _, table := range tables {
		fp := c.byName[NewTableIdentifierFromSchemaTable(table)]
		if fp != nil && !c.queue.holdsWhole(fp) { // a host's may leave tables out
			c.queue.addRange(fp, keyRange{})
		}
	}
}

func (f *Ferry) savedVerification() *VerificationState {
	if f.resume != nil {
		return f.resume.verification
	}
	if f.StateToResumeFrom != nil {
		return f.StateToResumeFrom.Verification
	}
	return nil
}

// copiedAnew reports that a table's rows are copied again by this process.
func (f *Ferry) copiedAnew(table *TableSchema) bool {
	if f.resume == nil {
		return f.emptied[table.String()]
	}
	t := f.resume.tables[NewTableIdentifierFromSchemaTable(table)]
	return t == nil || t.again || t.emptied
}

// loadStore queues the keys of a state without a Verification: those of older dumps.
func (c *comparer) loadStore(store BinlogVerifySerializedStore) error {
	for schema, tables := range store {
		for table, keys := range tables {
			f := c.byName[TableIdentifier{schema, table}]
			if f == nil {
				continue
			}
			for text := range keys {
				key, err := f.parseKey(text)
				if err != nil {
					return fmt.Errorf("state: BinlogVerifyStore: %w", err)
				}
				c.queue.add(f, key)
			}
		}
	}
	return nil
}

// store returns the queued keys in the form of a BinlogVerifyStore, those that are text.
func (c *comparer) store() *BinlogVerifyStore {
	store := NewBinlogVerifyStore()
	for f, w := range c.unfinished() {
		for key := range w.keys {
			if text := f.keyText(key); utf8.ValidString(text) {
				store.Add(f.table, text)
			}
		}
	}
	return store
}

// saveVerification writes the verifier's progress, and how far the target was watched,
// to the checkpoint.
func (f *Ferry) saveVerification(ctx context.Context) error {
	if f.checkpoint == nil {
		return nil
	}
	f.verificationSaved.Lock() // so that no older one is written after a newer one
	defer f.verificationSaved.Unlock()
	saved := savedVerification{Verification: f.verificationState()}
	saved.watchedUpTo(f.StateTracker.targetWatched())
	if saved.Verification == nil && saved.Watched.Name == "" {
		return nil
	}
	if err := f.checkpoint.saveVerification(ctx, f.checkpoint.db, saved); err != nil {
		return fmt.Errorf("saving the verifier's progress: %w", err)
	}
	return nil
}

// savedVerification is the row of the checkpoint.
type savedVerification struct {
	Verification *VerificationState `json:",omitempty"`
	Watched      mysql.Position
	// whose log Watched is of (absent in those of earlier versions), the mark of the last transaction
	// that was seen there, and whether what others wrote before it is known only by a comparison
	WatchedServer, WatchedMark string `json:",omitempty"`
	Unwatched                  bool   `json:",omitempty"`
}

func (s *savedVerification) watchedUpTo(place watchedPlace) {
	s.Watched, s.WatchedServer, s.WatchedMark, s.Unwatched = place.at.Position(), place.server, place.mark.String(), place.gap
}

func (s *savedVerification) watched() (watchedPlace, error) {
	mark, err := parseLogMark(s.WatchedMark)
	return watchedPlace{at: coordinateFromPosition(s.Watched), server: s.WatchedServer, mark: mark, gap: s.Unwatched}, err
}

func (s *savedVerification) encode() ([]byte, error) {
	data, err := json.Marshal(s)
	return withSum(data), err
}

func (t *StateTracker) targetWatched() watchedPlace {
	t.BinlogRWMutex.RLock()
	defer t.BinlogRWMutex.RUnlock()
	return t.watched
}

func (c *checkpoint) saveVerification(ctx context.Context, db execer, saved savedVerification) error {
	data, err := saved.encode()
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "INSERT INTO "+c.table("verifications")+" (run_id, state) SELECT run_id, ? FROM "+c.table("runs")+
		" WHERE run_id=? AND epoch=?"+c.server.LockingReadSuffix()+" ON DUPLICATE KEY UPDATE state=?", data, c.runID, c.epoch, data)
	return err
}

// forgetCompared takes back that rows of tables were compared, by whichever verifier, in the
// transaction that takes back that they were copied or before: who dies then must not leave it to
// the next process to see that once more. A table that was just left out would be compared by the
// online verifier only.
func (c *checkpoint) forgetCompared(ctx context.Context, tx *sql.Tx, tables []string) error {
	if len(tables) == 0 {
		return nil
	}
	saved, err := c.readVerification(ctx, tx)
	if err != nil || saved.Verification == nil || saved.Verification.Tables == nil {
		return err
	}
	for _, table := range tables {
		saved.Verification.Tables[table] = &TableVerificationState{First: []CopiedRangeKeys{{}}}
	}
	data, err := saved.encode()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE "+c.table("verifications")+" SET state=? WHERE run_id=?", data, c.runID)
	return err
}

// forgetInline gives the inline verifier's progress up when the run goes on with another one, or
// none: what is copied from here on would be compared by nobody, and its progress would not tell.
func (c *checkpoint) forgetInline(ctx context.Context, tx *sql.Tx) error {
	if c.verifier == VerifierTypeInline {
		return nil
	}
	saved, err := c.readVerification(ctx, tx)
	if err != nil || saved.Verification == nil || saved.Verification.VerifierType != VerifierTypeInline {
		return err
	}
	saved.Verification = nil
	return c.saveVerification(ctx, tx, saved)
}

// loadVerification reads the verifier's progress and the rows to be compared again.
func (c *checkpoint) loadVerification(ctx context.Context, db queryer, p *resumePoint) error {
	var exist int
	err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema=? AND table_name IN ('rechecks','verifications')", c.schema).Scan(&exist)
	if err != nil || exist < 2 { // written by an older version
		return err
	}
	saved, err := c.readVerification(ctx, db)
	if err != nil {
		return err
	}
	p.verification = saved.Verification
	if p.watched, err = saved.watched(); err != nil {
		return c.damaged("the place up to which the target was watched cannot be read: " + err.Error())
	}
	return c.loadRechecks(ctx, db, p)
}

// readVerification reads the verifier's progress; it is empty when none was saved.
func (c *checkpoint) readVerification(ctx context.Context, db queryer) (saved savedVerification, err error) {
	var data []byte
	err = db.QueryRowContext(ctx, "SELECT state FROM "+c.table("verifications")+" WHERE run_id=?", c.runID).Scan(&data)
	if errors.Is(err, sqlorig.ErrNoRows) {
		return saved, nil
	}
	if err != nil {
		return saved, err
	}
	text, ok := withoutSum(data)
	if !ok {
		return saved, c.damaged("the saved progress of the verification does not fit its checksum")
	}
	if err := json.Unmarshal(text, &saved); err != nil {
		return saved, c.damaged("the saved progress of the verification cannot be read: " + err.Error())
	}
	return saved, nil
}

func (c *checkpoint) loadRechecks(ctx context.Context, db queryer, p *resumePoint) error {
	names := map[int]TableIdentifier{}
	for id, t := range p.tables {
		names[t.number] = id
	}
	rows, err := db.QueryContext(ctx, "SELECT table_number, row_key, sum FROM "+c.table("rechecks")+" WHERE run_id=?", c.runID)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	p.rechecks = map[TableIdentifier][]string{}
	for rows.Next() {
		var number int
		var key []byte
		var sum uint32
		if err := rows.Scan(&number, &key, &sum); err != nil {
			return err
		}
		id, known := names[number]
		if !known {
			return c.damaged(fmt.Sprintf("a row of table number %d, which it does not know, is to be compared again", number))
		}
		if recheckSum(number, string(key)) != sum {
			return c.damaged(fmt.Sprintf("the key of a row of table number %d that is to be compared again does not fit its checksum", number))
		}
		p.rechecks[id] = append(p.rechecks[id], string(key))
	}
	return rows.Err()
}
