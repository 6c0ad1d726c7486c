package ghostferry

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"

	sqlorig "database/sql"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/server"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// checkpoint keeps a run's progress in a small schema on the target, committed in the
// same transactions as the data it describes, so that a run that dies at any instant
// goes on from what is really there.
//
//	runs    one row a run: the epoch that fences an older process out, the source's identity
//	lanes   one row an apply lane: lane 0's position is where the stream goes on from; each
//	        lane's intent is how far it may already have executed
//	tables  the numbers of the run's tables and whether their copy is complete
//	chunks  one row a finished chunk of a table that is still being copied
//	rechecks       rows that differed when their batch was written
//	verifications  how far the verifier is, see verification_state.go
//	held    one row while XA transactions are prepared: the stream goes on from there, and
//	        everything up to lane 0's position is executed all the same
//	definitions  how each table was defined when the run began
//	deferred_indexes  what to create when a table's rows are there, see checkpoint_indexes.go
//
// Every transaction that writes data first locks the run's row (shared, chunks) or its
// lane's row, with the epoch in the condition: a newcomer raises the epoch in all of
// them, which waits for transactions in flight and stops later ones.
type checkpoint struct {
	db     *sql.DB
	server *server.Server // target
	schema string
	runID  string
	epoch  uint64
	lanes  int // how many have a row; owned by the writing goroutine after begin

	attempts int // how often a transaction of its own is tried; 0 means without limit
	patience *patience

	tableNumbers map[TableIdentifier]int // immutable once the run has begun

	recorded struct {
		sync.Mutex
		chunks    map[int]int  // by table number: how many are on the target
		completed map[int]bool // tables whose copy is recorded as complete
	}

	held *BinlogCoordinate // what the table held has; owned by the writing goroutine
}

// resumePoint is what a checkpoint says of an earlier process of the run.
type resumePoint struct {
	epoch     uint64
	source    string // identity of the source
	position  BinlogCoordinate
	held      *BinlogCoordinate  // where to go on from, when it is not position
	furthest  []BinlogCoordinate // how far lanes may have executed
	batch     uint64
	tables    map[TableIdentifier]*resumeTable
	finished  bool
	rowsTotal uint64

	watched      BinlogCoordinate // up to where the target's log was watched; zero when it was not
	verification *VerificationState
	rechecks     map[TableIdentifier][]string // encoded keys of rows that differed when they were written
}

type resumeTable struct {
	number    int
	again     bool // what the checkpoint says of it does not count: it is copied anew
	completed bool
	chunks    []resumeChunk
	next      uint64 // next free chunk number
	rows      uint64

	definition string // tableDefinition at the start of the run; empty when it is not known
}

type resumeChunk struct {
	keyRange
	debts []string // encoded keys that were skipped
}

const checkpointFormat = 1

// begun reports whether there is a run to record: components of a Ferry that does not
// run record nothing.
func (c *checkpoint) begun() bool { return c != nil && c.epoch > 0 }

func (c *checkpoint) table(name string) string { return sqlesc.Table(c.schema, name) }

// create makes the schema and its tables where they do not exist.
func (c *checkpoint) create(ctx context.Context) error {
	const text = "LONGTEXT CHARACTER SET ascii NULL"
	ddl := []string{
		"CREATE DATABASE IF NOT EXISTS " + sqlesc.Ident(c.schema),
		"CREATE TABLE IF NOT EXISTS " + c.table("runs") + ` (
  run_id VARBINARY(64) NOT NULL PRIMARY KEY, format INT NOT NULL, epoch BIGINT UNSIGNED NOT NULL,
  source VARCHAR(255) NOT NULL, finished TINYINT NOT NULL DEFAULT 0) ENGINE=InnoDB`,
		"CREATE TABLE IF NOT EXISTS " + c.table("lanes") + ` (
  run_id VARBINARY(64) NOT NULL, lane INT NOT NULL, epoch BIGINT UNSIGNED NOT NULL, batch BIGINT UNSIGNED NOT NULL,
  file VARBINARY(512) NOT NULL, pos BIGINT UNSIGNED NOT NULL, gtid_set ` + text + `,
  intent_file VARBINARY(512) NOT NULL, intent_pos BIGINT UNSIGNED NOT NULL, intent_gtid_set ` + text + `,
  PRIMARY KEY (run_id, lane)) ENGINE=InnoDB`,
		"CREATE TABLE IF NOT EXISTS " + c.table("tables") + ` (
  run_id VARBINARY(64) NOT NULL, number INT NOT NULL, source_schema VARBINARY(256) NOT NULL, source_table VARBINARY(256) NOT NULL,
  completed TINYINT NOT NULL, rows_copied BIGINT UNSIGNED NOT NULL, PRIMARY KEY (run_id, number)) ENGINE=InnoDB`,
		"CREATE TABLE IF NOT EXISTS " + c.table("chunks") + ` (
  run_id VARBINARY(64) NOT NULL, table_number INT NOT NULL, number BIGINT UNSIGNED NOT NULL,
  low LONGBLOB NULL, high LONGBLOB NOT NULL, rows_copied BIGINT UNSIGNED NOT NULL, debts LONGBLOB NULL,
  PRIMARY KEY (run_id, table_number, number)) ENGINE=InnoDB`,
		"CREATE TABLE IF NOT EXISTS " + c.table("rechecks") + ` (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, run_id VARBINARY(64) NOT NULL, table_number INT NOT NULL,
  row_key LONGBLOB NOT NULL, KEY (run_id)) ENGINE=InnoDB`,
		"CREATE TABLE IF NOT EXISTS " + c.table("verifications") + ` (
  run_id VARBINARY(64) NOT NULL PRIMARY KEY, state LONGBLOB NOT NULL) ENGINE=InnoDB`,
		"CREATE TABLE IF NOT EXISTS " + c.table("held") + ` (
  run_id VARBINARY(64) NOT NULL PRIMARY KEY, file VARBINARY(512) NOT NULL, pos BIGINT UNSIGNED NOT NULL, gtid_set ` + text + `) ENGINE=InnoDB`,
		"CREATE TABLE IF NOT EXISTS " + c.table("definitions") + ` (
  run_id VARBINARY(64) NOT NULL, table_number INT NOT NULL, definition LONGBLOB NOT NULL, PRIMARY KEY (run_id, table_number)) ENGINE=InnoDB`,
		c.createIndexRecords(),
	}
	for _, stmt := range ddl {
		if _, err := c.db.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("creating the checkpoint in schema %s of the target: %w: grant CREATE, SELECT, INSERT, UPDATE and DELETE on it, or set Checkpoint to \"off\"", sqlesc.Ident(c.schema), err)
		}
	}
	return nil
}

// load reads the run's checkpoint, nil when there is none.
func (c *checkpoint) load(ctx context.Context) (*resumePoint, error) {
	existing, err := c.existingTables(ctx, c.db)
	if err != nil || !existing["runs"] {
		return nil, err
	}
	return c.loadFrom(ctx, c.db)
}

// queryer is a pool or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sqlorig.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sqlorig.Row
}

func (c *checkpoint) loadFrom(ctx context.Context, db queryer) (*resumePoint, error) {
	p := &resumePoint{tables: map[TableIdentifier]*resumeTable{}}
	var format int
	err := db.QueryRowContext(ctx, "SELECT format, epoch, source, finished FROM "+c.table("runs")+" WHERE run_id=?", c.runID).
		Scan(&format, &p.epoch, &p.source, &p.finished)
	if errors.Is(err, sqlorig.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if format != checkpointFormat {
		return nil, fmt.Errorf("the checkpoint of run %s in %s has format %d, this version reads format %d: finish the run with the version that began it", c.runID, c.schema, format, checkpointFormat)
	}
	if err := c.loadLanes(ctx, db, p); err != nil {
		return nil, err
	}
	if err := c.loadTables(ctx, db, p); err != nil {
		return nil, err
	}
	existing, err := c.existingTables(ctx, db)
	if err != nil {
		return nil, err
	}
	// A checkpoint begun by an early version lacks these tables.
	if existing["held"] {
		err = c.loadHeld(ctx, db, p)
	}
	if err == nil && existing["definitions"] {
		err = c.loadDefinitions(ctx, db, p)
	}
	if err == nil {
		err = c.loadVerification(ctx, db, p)
	}
	return p, err
}

func (c *checkpoint) existingTables(ctx context.Context, db queryer) (map[string]bool, error) {
	names := map[string]bool{}
	rows, err := db.QueryContext(ctx, "SELECT table_name FROM information_schema.tables WHERE table_schema=?", c.schema)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names[name] = true
	}
	return names, rows.Err()
}

func (c *checkpoint) loadHeld(ctx context.Context, db queryer, p *resumePoint) error {
	var at BinlogCoordinate
	err := db.QueryRowContext(ctx, "SELECT file, pos, COALESCE(gtid_set,'') FROM "+c.table("held")+" WHERE run_id=?", c.runID).Scan(&at.File, &at.Pos, &at.GTIDSet)
	if errors.Is(err, sqlorig.ErrNoRows) {
		return nil
	}
	p.held = &at
	return err
}

func (c *checkpoint) loadDefinitions(ctx context.Context, db queryer, p *resumePoint) error {
	rows, err := db.QueryContext(ctx, "SELECT table_number, definition FROM "+c.table("definitions")+" WHERE run_id=?", c.runID)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	byNumber := map[int]string{}
	for rows.Next() {
		var number int
		var definition string
		if err := rows.Scan(&number, &definition); err != nil {
			return err
		}
		byNumber[number] = definition
	}
	for _, t := range p.tables {
		t.definition = byNumber[t.number]
	}
	return rows.Err()
}

func (c *checkpoint) loadLanes(ctx context.Context, db queryer, p *resumePoint) error {
	rows, err := db.QueryContext(ctx, "SELECT lane, batch, file, pos, COALESCE(gtid_set,''), intent_file, intent_pos, COALESCE(intent_gtid_set,'') FROM "+c.table("lanes")+" WHERE run_id=? ORDER BY lane", c.runID)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var lane int
		var batch uint64
		var at, intent BinlogCoordinate
		if err := rows.Scan(&lane, &batch, &at.File, &at.Pos, &at.GTIDSet, &intent.File, &intent.Pos, &intent.GTIDSet); err != nil {
			return err
		}
		if lane == 0 {
			p.position, p.batch = at, batch
		}
		if !intent.IsZero() {
			p.furthest = append(p.furthest, intent)
		}
	}
	return rows.Err()
}

func (c *checkpoint) loadTables(ctx context.Context, db queryer, p *resumePoint) error {
	rows, err := db.QueryContext(ctx, "SELECT number, source_schema, source_table, completed, rows_copied FROM "+c.table("tables")+" WHERE run_id=?", c.runID)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	byNumber := map[int]*resumeTable{}
	for rows.Next() {
		var id TableIdentifier
		t := &resumeTable{next: 1}
		if err := rows.Scan(&t.number, &id.SchemaName, &id.TableName, &t.completed, &t.rows); err != nil {
			return err
		}
		p.tables[id], byNumber[t.number] = t, t
		p.rowsTotal += t.rows
	}
	if err := rows.Err(); err != nil {
		return err
	}
	chunks, err := db.QueryContext(ctx, "SELECT table_number, number, low, high, rows_copied, COALESCE(debts,'') FROM "+c.table("chunks")+" WHERE run_id=? ORDER BY table_number, number", c.runID)
	if err != nil {
		return err
	}
	defer func() { _ = chunks.Close() }()
	for chunks.Next() {
		var table int
		var number, copied uint64
		var low, high, debts []byte
		if err := chunks.Scan(&table, &number, &low, &high, &copied, &debts); err != nil {
			return err
		}
		t := byNumber[table]
		if t == nil {
			return fmt.Errorf("the checkpoint of run %s has a chunk of table number %d, which it does not know: it is damaged, start afresh", c.runID, table)
		}
		t.chunks = append(t.chunks, resumeChunk{keyRange: keyRange{decodeTuple(low), decodeTuple(high)}, debts: decodeDebts(debts)})
		t.next = max(t.next, number+1)
		p.rowsTotal += copied
	}
	return chunks.Err()
}

// decodeTuple reads a key as AppendKeyPart wrote it, whatever its number of parts.
func decodeTuple(data []byte) keyTuple {
	if data == nil {
		return nil
	}
	return keyTuple(codec.SplitKey(data, len(data)/4))
}

func decodeDebts(data []byte) []string {
	var keys []string
	for _, key := range codec.SplitKey(data, len(data)/4) {
		keys = append(keys, string(key))
	}
	return keys
}

// begin takes the run over: it raises the epoch in every row that a writer locks, and,
// for a new run, records where the stream starts. From then on an older process of the
// run can commit nothing. It returns what that process has left behind, nil for a new
// run: it may have gone on since previous was loaded.
func (c *checkpoint) begin(ctx context.Context, previous *resumePoint, source string, at BinlogCoordinate, lanes int, tables []*TableSchema) (*resumePoint, error) {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	if previous == nil {
		err = c.beginNew(ctx, tx, source)
	} else {
		previous, err = c.takeOver(ctx, tx, previous)
	}
	if err != nil {
		return nil, fmt.Errorf("taking over run %s: %w", c.runID, err)
	}
	if previous != nil {
		at = previous.position
	}
	for lane := range lanes {
		_, err := tx.ExecContext(ctx, "INSERT INTO "+c.table("lanes")+" (run_id, lane, epoch, batch, file, pos, gtid_set, intent_file, intent_pos, intent_gtid_set) VALUES (?,?,?,0,?,?,?,?,?,?)"+
			" ON DUPLICATE KEY UPDATE epoch=?", c.runID, lane, c.epoch, at.File, at.Pos, at.GTIDSet, at.File, at.Pos, at.GTIDSet, c.epoch)
		if err != nil {
			return nil, err
		}
	}
	c.lanes = lanes
	if err := c.numberTables(ctx, tx, previous, tables); err != nil {
		return nil, err
	}
	failpoint("resume.before_commit")
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	c.countRecorded(previous)
	traceBegin(c, previous, at)
	return previous, nil
}

// ensureLanes adds the rows of lanes that the run did not have so far. The epoch is the
// condition, as everywhere: of a process that was fenced out nothing is added.
func (c *checkpoint) ensureLanes(ctx context.Context, lanes int) error {
	if c == nil {
		return nil
	}
	for ; c.lanes < lanes; c.lanes++ {
		_, err := c.db.ExecContext(ctx, "INSERT INTO "+c.table("lanes")+" (run_id, lane, epoch, batch, file, pos, gtid_set, intent_file, intent_pos, intent_gtid_set)"+
			" SELECT * FROM (SELECT run_id, ?, epoch, 0, file, pos, gtid_set, file AS f, pos AS p, gtid_set AS g FROM "+c.table("lanes")+" WHERE run_id=? AND lane=0 AND epoch=?) AS first_lane"+
			" ON DUPLICATE KEY UPDATE epoch=?", c.lanes, c.runID, c.epoch, c.epoch)
		if err != nil {
			return fmt.Errorf("adding lane %d to the checkpoint: %w", c.lanes, err)
		}
	}
	return nil
}

// beginNew records a run that nobody has begun. Its first epoch is drawn by lot, so that
// a process of a run that was forgotten meanwhile does not have the same.
func (c *checkpoint) beginNew(ctx context.Context, tx *sql.Tx, source string) error {
	c.epoch = 1 + rand.Uint64N(1<<40)
	_, err := tx.ExecContext(ctx, "INSERT INTO "+c.table("runs")+" (run_id, format, epoch, source) VALUES (?,?,?,?)", c.runID, checkpointFormat, c.epoch, source)
	return err
}

// takeOver raises the epoch, which waits for transactions in flight, and then reads what
// the process before has left behind. Tables to be copied again are taken from previous.
func (c *checkpoint) takeOver(ctx context.Context, tx *sql.Tx, previous *resumePoint) (*resumePoint, error) {
	var finished bool
	err := tx.QueryRowContext(ctx, "SELECT epoch, finished FROM "+c.table("runs")+" WHERE run_id=? FOR UPDATE", c.runID).Scan(&c.epoch, &finished)
	if err != nil {
		return nil, err
	}
	c.epoch++
	if _, err := tx.ExecContext(ctx, "UPDATE "+c.table("runs")+" SET epoch=?, finished=0 WHERE run_id=?", c.epoch, c.runID); err != nil {
		return nil, err
	}
	if _, err := tx.ExecContext(ctx, "UPDATE "+c.table("lanes")+" SET epoch=? WHERE run_id=?", c.epoch, c.runID); err != nil {
		return nil, err
	}
	// The transaction's first read: it sees what is committed now, with all locks held.
	now, err := c.loadFrom(ctx, tx)
	if err != nil {
		return nil, err
	}
	now.finished = finished
	for id, t := range previous.tables {
		if t.again && now.tables[id] != nil {
			now.tables[id] = t
		}
	}
	return now, nil
}

func (c *checkpoint) numberTables(ctx context.Context, tx *sql.Tx, previous *resumePoint, tables []*TableSchema) error {
	c.tableNumbers = map[TableIdentifier]int{}
	next := 1
	if previous != nil {
		for id, t := range previous.tables {
			c.tableNumbers[id] = t.number
			next = max(next, t.number+1)
			if t.again {
				if err := c.forgetCopy(ctx, tx, t.number); err != nil {
					return err
				}
			}
		}
	}
	var numbers, definitions [][]byte
	for _, t := range tables {
		id := NewTableIdentifierFromSchemaTable(t)
		number, ok := c.tableNumbers[id]
		if !ok {
			number = next
			next++
			c.tableNumbers[id] = number
			numbers = append(numbers, fmt.Appendf(nil, "(0x%x,%d,0x%x,0x%x,0,0)", c.runID, number, t.Schema, t.Name))
		}
		definitions = append(definitions, fmt.Appendf(nil, "(0x%x,%d,0x%x)", c.runID, number, tableDefinition(t)))
	}
	if err := insertMany(ctx, tx, "INSERT INTO "+c.table("tables")+" (run_id, number, source_schema, source_table, completed, rows_copied) VALUES ", numbers, ""); err != nil {
		return err
	}
	// What is there stays: it is the definition that the run began with.
	return insertMany(ctx, tx, "INSERT INTO "+c.table("definitions")+" (run_id, table_number, definition) VALUES ", definitions, " ON DUPLICATE KEY UPDATE run_id=run_id")
}

// insertMany sends rows, each in parentheses, in a few statements: a run may have ten
// thousand tables.
func insertMany(ctx context.Context, tx *sql.Tx, head string, rows [][]byte, tail string) error {
	const statementBytes = 256 << 10
	for len(rows) > 0 {
		stmt := append([]byte(head), rows[0]...)
		for rows = rows[1:]; len(rows) > 0 && len(stmt)+len(rows[0]) < statementBytes; rows = rows[1:] {
			stmt = append(append(stmt, ','), rows[0]...)
		}
		if _, err := tx.ExecContext(ctx, string(stmt)+tail); err != nil {
			return err
		}
	}
	return nil
}

// forgetCopy takes back that rows of a table were copied.
func (c *checkpoint) forgetCopy(ctx context.Context, tx *sql.Tx, number int) error {
	_, err := tx.ExecContext(ctx, "UPDATE "+c.table("tables")+" SET completed=0, rows_copied=0 WHERE run_id=? AND number=?", c.runID, number)
	if err == nil {
		_, err = tx.ExecContext(ctx, "DELETE FROM "+c.table("chunks")+" WHERE run_id=? AND table_number=?", c.runID, number)
	}
	return err
}

// appendChunk appends the statement that records a chunk as copied, if this process
// still owns the run: its result is one row, or none when fenced or recorded before.
func (c *checkpoint) appendChunk(dst []byte, ch *chunk, rows int) []byte {
	dst = append(dst, "INSERT INTO "+c.table("chunks")+" (run_id, table_number, number, low, high, rows_copied) SELECT run_id,"...)
	dst = strconv.AppendInt(dst, int64(c.tableNumbers[NewTableIdentifierFromSchemaTable(ch.table)]), 10)
	dst = append(dst, ',')
	dst = strconv.AppendUint(dst, ch.number, 10)
	dst = append(dst, ',')
	if ch.low == nil {
		dst = append(dst, "NULL"...)
	} else {
		dst = appendHex(dst, []byte(ch.low.encode()))
	}
	dst = appendHex(append(dst, ','), []byte(ch.high.encode()))
	dst = append(dst, ',')
	dst = strconv.AppendInt(dst, int64(rows), 10)
	dst = append(dst, " FROM "+c.table("runs")+" WHERE run_id="...)
	dst = appendHex(dst, []byte(c.runID))
	dst = append(dst, " AND epoch="...)
	dst = strconv.AppendUint(dst, c.epoch, 10)
	return append(dst, c.server.LockingReadSuffix()...)
}

// appendDebts appends the statement that keeps a chunk's skipped keys with its record.
func (c *checkpoint) appendDebts(dst []byte, ch *chunk, keys []string) []byte {
	var list []byte
	for _, key := range keys {
		list = codec.AppendKeyPart(list, []byte(key))
	}
	dst = append(dst, "UPDATE "+c.table("chunks")+" SET debts="...)
	dst = append(appendHex(dst, list), " WHERE run_id="...)
	dst = append(appendHex(dst, []byte(c.runID)), " AND table_number="...)
	dst = strconv.AppendInt(dst, int64(c.tableNumbers[NewTableIdentifierFromSchemaTable(ch.table)]), 10)
	return strconv.AppendUint(append(dst, " AND number="...), ch.number, 10)
}

// appendRechecks appends the statement that remembers rows to be compared again.
func (c *checkpoint) appendRechecks(dst []byte, table *TableSchema, keys []string) []byte {
	dst = append(dst, "INSERT INTO "+c.table("rechecks")+" (run_id, table_number, row_key) VALUES "...)
	number := c.tableNumbers[NewTableIdentifierFromSchemaTable(table)]
	for i, key := range keys {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendHex(append(dst, '('), []byte(c.runID)), ',')
		dst = append(strconv.AppendInt(dst, int64(number), 10), ',')
		dst = append(appendHex(dst, []byte(key)), ')')
	}
	return dst
}

// appendIntent appends the statement that records how far a lane is about to execute;
// it affects no row when this process was fenced, or when the same intent stands there.
func (c *checkpoint) appendIntent(dst []byte, lane int, to BinlogCoordinate) []byte {
	dst = append(dst, "UPDATE "+c.table("lanes")+" SET intent_file="...)
	return c.appendLane(c.appendCoordinate(dst, to, "intent_"), lane)
}

// appendPosition appends the statement that makes lane 0's position the end of the last
// whole transaction of a batch, and its intent the end of the batch; it affects one row
// unless this process was fenced or the batch was committed before.
func (c *checkpoint) appendPosition(dst []byte, position, intent BinlogCoordinate, batch uint64) []byte {
	dst = append(dst, "UPDATE "+c.table("lanes")+" SET file="...)
	dst = append(c.appendCoordinate(dst, position, ""), ", intent_file="...)
	dst = append(c.appendCoordinate(dst, intent, "intent_"), ", batch="...)
	dst = strconv.AppendUint(dst, batch, 10)
	dst = append(c.appendLane(dst, 0), " AND batch="...)
	return strconv.AppendUint(dst, batch-1, 10)
}

// appendHold appends the statement that keeps where a later process has to begin, or
// that it is the position again. It is for a transaction that has recorded the position.
func (c *checkpoint) appendHold(dst []byte, hold *BinlogCoordinate) []byte {
	if hold == nil {
		dst = append(dst, "DELETE FROM "+c.table("held")+" WHERE run_id="...)
		return appendHex(dst, []byte(c.runID))
	}
	dst = append(dst, "REPLACE INTO "+c.table("held")+" SET run_id="...)
	dst = append(appendHex(dst, []byte(c.runID)), ", file="...)
	return c.appendCoordinate(dst, *hold, "")
}

func sameHold(a, b *BinlogCoordinate) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func (c *checkpoint) appendCoordinate(dst []byte, at BinlogCoordinate, prefix string) []byte {
	dst = appendHex(dst, []byte(at.File))
	dst = append(dst, ", "+prefix+"pos="...)
	dst = strconv.AppendUint(dst, at.Pos, 10)
	dst = append(dst, ", "+prefix+"gtid_set="...)
	return sqlesc.AppendString(dst, []byte(at.GTIDSet))
}

func (c *checkpoint) appendLane(dst []byte, lane int) []byte {
	dst = append(dst, " WHERE run_id="...)
	dst = append(appendHex(dst, []byte(c.runID)), " AND lane="...)
	dst = append(strconv.AppendInt(dst, int64(lane), 10), " AND epoch="...)
	return strconv.AppendUint(dst, c.epoch, 10)
}

func appendHex(dst, v []byte) []byte {
	if len(v) == 0 {
		return append(dst, "''"...)
	}
	return hex.AppendEncode(append(dst, "0x"...), v)
}

// committedBatch returns the number of the last batch whose position is committed, as
// the session's transaction sees it with lane 0's row locked.
func (c *checkpoint) committedBatch(ctx context.Context, s *session) (batch uint64, err error) {
	var epoch uint64
	err = s.conn.QueryRowContext(ctx, "SELECT epoch, batch FROM "+c.table("lanes")+" WHERE run_id=? AND lane=0 FOR UPDATE", c.runID).Scan(&epoch, &batch)
	return batch, c.ownedAt(epoch, err)
}

// lockEpoch makes sure that this process owns the run until the session's transaction ends.
func (c *checkpoint) lockEpoch(ctx context.Context, s *session) error {
	var epoch uint64
	err := s.conn.QueryRowContext(ctx, "SELECT epoch FROM "+c.table("runs")+" WHERE run_id=?"+c.server.LockingReadSuffix(), c.runID).Scan(&epoch)
	return c.ownedAt(epoch, err)
}

// ownerError returns a FencedError when another process has taken the run over, and a
// TargetLostCommitsError when the target has forgotten that this one had.
func (c *checkpoint) ownerError(ctx context.Context) error {
	var epoch uint64
	err := c.db.QueryRowContext(ctx, "SELECT epoch FROM "+c.table("runs")+" WHERE run_id=?", c.runID).Scan(&epoch)
	return c.ownedAt(epoch, err)
}

// ownedAt judges the epoch that was read, if it was. The one before its own, or none,
// means that the target has lost the transaction by which this process began.
func (c *checkpoint) ownedAt(found uint64, err error) error {
	switch {
	case err != nil && !errors.Is(err, sqlorig.ErrNoRows):
		return fmt.Errorf("reading the epoch of run %s: %w", c.runID, err)
	case err == nil && found == c.epoch:
		return nil
	case err != nil || found == c.epoch-1:
		return &TargetLostCommitsError{RunID: c.runID, What: "the beginning of this process"}
	}
	return &FencedError{RunID: c.runID, Epoch: found}
}

// forget removes every trace of the run.
func (c *checkpoint) forget(ctx context.Context) error {
	if err := c.create(ctx); err != nil { // tables that an older version did not have
		return err
	}
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, name := range []string{"runs", "lanes", "tables", "chunks", "held", "definitions", "deferred_indexes", "rechecks", "verifications"} {
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+c.table(name)+" WHERE run_id=?", c.runID); err != nil {
			return err
		}
	}
	return tx.Commit()
}
