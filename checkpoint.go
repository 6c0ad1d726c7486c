package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	sqlorig "database/sql"

	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
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
//	held    one row while XA transactions are prepared, or changes are executed again because
//	        the verifier has not seen them: the stream goes on from there, and everything up
//	        to lane 0's position was executed once all the same
//	definitions  how each table was defined when the run began, and which of its rows move where to
//	collisions  rows that wait until a row of another move is gone, see collision_ledger.go
//	debts  rows that the apply has left out and that are owed, see checkpoint_debts.go
//	deferred_indexes  what to create when a table's rows are there, see checkpoint_indexes.go
//	origins  the source with which a run was begun that follows another since a failover
//	fences  what a cutover has closed and how to open it, see checkpoint_fence.go
//	traffic  who owns it, where a host records that, see ferry_traffic.go
//
// Every transaction that writes data first locks the run's row (shared, chunks) or its
// lane's row, with the epoch in the condition: a newcomer raises the epoch in all of
// them, which waits for transactions in flight and stops later ones.
type checkpoint struct {
	db       *sql.DB
	sessions *sessionPool   // of its own transactions, which write to db
	server   *server.Server // target
	schema   string
	runID    string
	verifier string // its type
	// definition is what is recorded of a table.
	definition func(*TableSchema) string
	epoch      uint64
	lanes      int // how many have a row; owned by the writing goroutine after begin

	attempts int // how often a transaction of its own is tried; 0 means without limit
	patience *patience

	tableNumbers map[TableIdentifier]int // immutable once the run has begun

	recorded struct {
		sync.Mutex
		chunks    map[int]int              // by table number: how many are on the target
		completed map[int]bool             // tables whose copy is recorded as complete
		readEnd   map[int]BinlogCoordinate // how far the source's log reached after any read of the table
		lastEnd   BinlogCoordinate         // one of them
	}

	held *BinlogCoordinate // what the table held has; owned by the writing goroutine
}

// resumePoint is what a checkpoint says of an earlier process of the run.
type resumePoint struct {
	epoch    uint64
	source   string // identity of the source
	started  int64  // when that process of it began that the rows were read of; 0: unknown
	position BinlogCoordinate
	mark     logMark           // of the last transaction up to position
	held     *BinlogCoordinate // where to go on from, when it is not position
	furthest []executedUpTo    // how far lanes may have executed
	batch    uint64
	tables   map[TableIdentifier]*resumeTable
	finished bool
	traffic  TrafficOwner     // as the host recorded it; empty: it did not
	stopped  BinlogCoordinate // the stop position then; zero when there was none

	watched      watchedPlace
	verification *VerificationState
	rechecks     map[TableIdentifier][]string // encoded keys of rows that differed when they were written
	collisions   map[TableIdentifier][]string // encoded keys of rows that wait until a row of another move is gone
	debts        map[TableIdentifier][]string // encoded keys of rows that the apply has left out
	debtsKept    bool                         // they are all of them
}

// process is the one of the source that was followed.
func (p *resumePoint) process() sourceProcess { return sourceProcess{p.source, p.started} }

// executedUpTo is a place that a lane may have executed everything up to, and the last
// transaction there.
type executedUpTo struct {
	BinlogCoordinate
	mark logMark
}

type resumeTable struct {
	number    int
	again     bool // what the checkpoint says of it does not count: it is copied anew
	emptied   bool // some of its rows on the target are removed and copied anew
	completed bool
	readEnd   BinlogCoordinate // how far the source's log reached after the reads of a completed table
	chunks    []resumeChunk
	next      uint64 // next free chunk number
	rows      uint64 // that were copied, but for those of chunks

	definition string // tableDefinition at the start of the run; empty when it is not known
}

type resumeChunk struct {
	keyRange
	number  uint64
	rows    uint64
	readEnd BinlogCoordinate // how far the source's log reached after the read
	debts   []string         // encoded keys that were skipped
}

// rowsCopied is how many rows of the table earlier processes have copied.
func (t *resumeTable) rowsCopied() uint64 {
	rows := t.rows
	for _, ch := range t.chunks {
		rows += ch.rows
	}
	return rows
}

const checkpointFormat = 3

// begun reports whether there is a run to record: components of a Ferry that does not
// run record nothing.
func (c *checkpoint) begun() bool { return c != nil && c.epoch > 0 }

func (c *checkpoint) table(name string) string { return sqlesc.Table(c.schema, name) }

// create makes the schema and its tables where they do not exist.
func (c *checkpoint) create(ctx context.Context) error {
	return c.patience.do(ctx, c.attempts, func(ctx context.Context, _ int) error { return c.createMissing(ctx) })
}

func (c *checkpoint) createMissing(ctx context.Context) error {
	const text = "LONGTEXT CHARACTER SET ascii NULL"
	ddl := []string{
		"CREATE DATABASE IF NOT EXISTS " + sqlesc.Ident(c.schema),
		"CREATE TABLE IF NOT EXISTS " + c.table("runs") + ` (
  run_id VARBINARY(64) NOT NULL PRIMARY KEY, format INT NOT NULL, epoch BIGINT UNSIGNED NOT NULL,
  source VARCHAR(255) NOT NULL, source_started BIGINT NOT NULL DEFAULT 0, finished TINYINT NOT NULL DEFAULT 0) ENGINE=InnoDB`,
		"CREATE TABLE IF NOT EXISTS " + c.table("lanes") + ` (
  run_id VARBINARY(64) NOT NULL, lane INT NOT NULL, epoch BIGINT UNSIGNED NOT NULL, batch BIGINT UNSIGNED NOT NULL,
  file VARBINARY(512) NOT NULL, pos BIGINT UNSIGNED NOT NULL, gtid_set ` + text + `, mark VARBINARY(700) NOT NULL DEFAULT '', sum INT UNSIGNED NOT NULL,
  intent_file VARBINARY(512) NOT NULL, intent_pos BIGINT UNSIGNED NOT NULL, intent_gtid_set ` + text + `, intent_mark VARBINARY(700) NOT NULL DEFAULT '', intent_sum INT UNSIGNED NOT NULL,
  PRIMARY KEY (run_id, lane)) ENGINE=InnoDB`,
		"CREATE TABLE IF NOT EXISTS " + c.table("tables") + ` (
  run_id VARBINARY(64) NOT NULL, number INT NOT NULL, source_schema VARBINARY(256) NOT NULL, source_table VARBINARY(256) NOT NULL,
  completed TINYINT NOT NULL, sum INT UNSIGNED NOT NULL, rows_copied BIGINT UNSIGNED NOT NULL,
  read_file VARBINARY(512) NOT NULL DEFAULT '', read_pos BIGINT UNSIGNED NOT NULL DEFAULT 0, PRIMARY KEY (run_id, number)) ENGINE=InnoDB`,
		"CREATE TABLE IF NOT EXISTS " + c.table("chunks") + ` (
  run_id VARBINARY(64) NOT NULL, table_number INT NOT NULL, number BIGINT UNSIGNED NOT NULL,
  low LONGBLOB NULL, high LONGBLOB NOT NULL, rows_copied BIGINT UNSIGNED NOT NULL, debts LONGBLOB NULL, sum INT UNSIGNED NOT NULL,
  read_file VARBINARY(512) NOT NULL DEFAULT '', read_pos BIGINT UNSIGNED NOT NULL DEFAULT 0,
  PRIMARY KEY (run_id, table_number, number)) ENGINE=InnoDB`,
		"CREATE TABLE IF NOT EXISTS " + c.table("rechecks") + ` (
  id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, run_id VARBINARY(64) NOT NULL, table_number INT NOT NULL,
  row_key LONGBLOB NOT NULL, sum INT UNSIGNED NOT NULL, KEY (run_id)) ENGINE=InnoDB`,
		"CREATE TABLE IF NOT EXISTS " + c.table("verifications") + ` (
  run_id VARBINARY(64) NOT NULL PRIMARY KEY, state LONGBLOB NOT NULL) ENGINE=InnoDB`,
		"CREATE TABLE IF NOT EXISTS " + c.table("held") + ` (
  run_id VARBINARY(64) NOT NULL PRIMARY KEY, file VARBINARY(512) NOT NULL, pos BIGINT UNSIGNED NOT NULL, gtid_set ` + text + `, sum INT UNSIGNED NOT NULL) ENGINE=InnoDB`,
		"CREATE TABLE IF NOT EXISTS " + c.table("definitions") + ` (
  run_id VARBINARY(64) NOT NULL, table_number INT NOT NULL, definition LONGBLOB NOT NULL, PRIMARY KEY (run_id, table_number)) ENGINE=InnoDB`,
		"CREATE TABLE IF NOT EXISTS " + c.table("origins") + ` (
  run_id VARBINARY(64) NOT NULL PRIMARY KEY, source VARCHAR(255) NOT NULL) ENGINE=InnoDB`,
		c.createKeys(collisionsTable),
		c.createKeys(debtsTable),
		c.createIndexRecords(),
		c.createFences(),
		c.createTraffic(),
	}
	for _, stmt := range ddl {
		if _, err := c.db.ExecContext(ctx, stmt); err != nil {
			err = fmt.Errorf("creating the checkpoint in schema %s of the target: %w", sqlesc.Ident(c.schema), err)
			if mysqlerr.Classify(err) == mysqlerr.AccessDenied {
				err = fmt.Errorf("%w: grant CREATE, SELECT, INSERT, UPDATE and DELETE on it, or set Checkpoint to \"off\"", err)
			}
			return err
		}
	}
	var current int
	err := c.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema=? AND table_name IN ('chunks','rechecks') AND column_name='sum'", c.schema).Scan(&current)
	if err == nil && current < 2 {
		err = fmt.Errorf("the checkpoint's tables in schema %s of the target were made by another version: drop the schema if no run of that version goes on, or set CheckpointSchema", sqlesc.Ident(c.schema))
	}
	return err
}

// begin takes the run over: it raises the epoch in every row that a writer locks, and,
// for a new run, records where the stream starts. From then on an older process of the
// run can commit nothing. It returns what that process has left behind, nil for a new
// run: it may have gone on since previous was loaded. Of a new run, owed are rows that an earlier
// process has left out which has kept a state only.
func (c *checkpoint) begin(ctx context.Context, previous *resumePoint, source sourceProcess, at BinlogCoordinate, mark logMark, lanes int, tables []*TableSchema, owed map[*TableSchema][]string) (*resumePoint, error) {
	s, err := openWriter(ctx, c.db, c.server)
	if err != nil {
		return nil, err
	}
	defer s.discard()
	tx, err := s.conn.BeginTx(ctx, &sqlorig.TxOptions{Isolation: sqlorig.LevelRepeatableRead}) // all of it as of one moment
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
		if err := c.holdStart(ctx, tx, previous); err != nil {
			return nil, err
		}
		if err := c.forgetInline(ctx, tx); err != nil {
			return nil, err
		}
	}
	sum := placeSum(executedUpTo{BinlogCoordinate: at})
	for lane := range lanes {
		_, err := tx.ExecContext(ctx, "INSERT INTO "+c.table("lanes")+" (run_id, lane, epoch, batch, file, pos, gtid_set, sum, intent_file, intent_pos, intent_gtid_set, intent_sum) VALUES (?,?,?,0,?,?,?,?,?,?,?,?)"+
			" ON DUPLICATE KEY UPDATE epoch=?", c.runID, lane, c.epoch, at.File, at.Pos, at.GTIDSet, sum, at.File, at.Pos, at.GTIDSet, sum, c.epoch)
		if err != nil {
			return nil, err
		}
	}
	c.lanes = lanes
	if previous == nil {
		sum := placeSum(executedUpTo{at, mark})
		if _, err := tx.ExecContext(ctx, "UPDATE "+c.table("lanes")+" SET mark=?, intent_mark=?, sum=?, intent_sum=? WHERE run_id=?", mark.String(), mark.String(), sum, sum, c.runID); err != nil {
			return nil, err
		}
	}
	if err := c.numberTables(ctx, tx, previous, tables); err != nil {
		return nil, err
	}
	if err := c.keepDebts(ctx, tx, previous, owed); err != nil {
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

// holdStart records that the stream begins before the position, if it does: a batch that is
// executed again first deletes rows that the position claims. Who dies then must not leave
// it to the verifier's progress, which moves on by itself, that they are written again.
func (c *checkpoint) holdStart(ctx context.Context, tx *sql.Tx, p *resumePoint) error {
	c.held = p.held
	at := p.startsAt(c.verifier)
	if !at.before(p.position) || p.held != nil && *p.held == at {
		return nil
	}
	c.held = &at
	_, err := tx.ExecContext(ctx, string(c.appendHold(nil, &at)))
	return err
}

// ensureLanes adds the rows of lanes that the run did not have so far. The epoch is the
// condition, as everywhere, and read with a lock, which not every isolation level takes: of a
// process that was fenced out nothing is added.
func (c *checkpoint) ensureLanes(ctx context.Context, lanes int) error {
	if c == nil {
		return nil
	}
	for ; c.lanes < lanes; c.lanes++ {
		_, err := c.db.ExecContext(ctx, "INSERT INTO "+c.table("lanes")+" (run_id, lane, epoch, batch, file, pos, gtid_set, mark, sum, intent_file, intent_pos, intent_gtid_set, intent_mark, intent_sum)"+
			" SELECT * FROM (SELECT run_id, ?, epoch, 0, file, pos, gtid_set, mark, sum, file AS f, pos AS p, gtid_set AS g, mark AS m, sum AS s FROM "+c.table("lanes")+" WHERE run_id=? AND lane=0 AND epoch=?"+c.server.LockingReadSuffix()+") AS first_lane"+
			" ON DUPLICATE KEY UPDATE epoch=?", c.lanes, c.runID, c.epoch, c.epoch)
		if err != nil {
			return fmt.Errorf("adding lane %d to the checkpoint: %w", c.lanes, err)
		}
	}
	return nil
}

// beginNew records a run that nobody has begun. Its first epoch is drawn by lot, so that
// a process of a run that was forgotten meanwhile does not have the same.
func (c *checkpoint) beginNew(ctx context.Context, tx *sql.Tx, source sourceProcess) error {
	c.epoch = 1 + rand.Uint64N(1<<40)
	_, err := tx.ExecContext(ctx, "INSERT INTO "+c.table("runs")+" (run_id, format, epoch, source, source_started) VALUES (?,?,?,?,?)",
		c.runID, checkpointFormat, c.epoch, source.identity, source.started)
	if mysqlerr.Classify(err) == mysqlerr.Duplicate {
		c.epoch = 0 // nothing was begun
		return &RunBegunError{RunID: c.runID}
	}
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
	if err := now.sameOwner(previous.traffic); err != nil {
		c.epoch = 0 // nothing was taken over
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
	var again []string
	if previous != nil {
		for id, t := range previous.tables {
			c.tableNumbers[id] = t.number
			next = max(next, t.number+1)
			if t.again {
				again = append(again, fullTableName(id.SchemaName, id.TableName))
				if err := c.forgetCopy(ctx, tx, id, t.number); err != nil {
					return err
				}
			}
		}
	}
	if err := c.forgetCompared(ctx, tx, again); err != nil {
		return err
	}
	var numbers, definitions [][]byte
	for _, t := range tables {
		id := NewTableIdentifierFromSchemaTable(t)
		number, ok := c.tableNumbers[id]
		if !ok {
			number = next
			next++
			c.tableNumbers[id] = number
			numbers = append(numbers, fmt.Appendf(nil, "(0x%x,%d,0x%x,0x%x,0,%d,0)", c.runID, number, t.Schema, t.Name, tableSum(number, t.Schema, t.Name, false)))
		}
		definitions = append(definitions, fmt.Appendf(nil, "(0x%x,%d,0x%x)", c.runID, number, c.definition(t)))
	}
	if err := insertMany(ctx, tx, "INSERT INTO "+c.table("tables")+" (run_id, number, source_schema, source_table, completed, sum, rows_copied) VALUES ", numbers, ""); err != nil {
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

// sourceProcess is a server and when its present process began.
type sourceProcess struct {
	identity string
	started  int64
}

// replacedBy reports whether another server is in the place of the one that is known.
func (p sourceProcess) replacedBy(identity string) bool {
	return p.identity != "" && p.identity != identity
}

// followsProcess records that rows are read of another process of the source from here on.
func (c *checkpoint) followsProcess(ctx context.Context, source sourceProcess) error {
	return c.owned(ctx, func(ctx context.Context, tx *sql.Tx) error { return c.setSource(ctx, tx, source) })
}

// setSource records which process the run follows; of another server than before the places have
// to go, too (keepSets). With what the run was begun is kept: its id is made of that, and finds it
// again.
func (c *checkpoint) setSource(ctx context.Context, tx *sql.Tx, source sourceProcess) error {
	_, err := tx.ExecContext(ctx, "INSERT INTO "+c.table("origins")+" (run_id, source) SELECT run_id, source FROM "+c.table("runs")+" WHERE run_id=? AND source<>?"+
		" ON DUPLICATE KEY UPDATE run_id="+c.table("origins")+".run_id", c.runID, source.identity)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "UPDATE "+c.table("runs")+" SET source=?, source_started=? WHERE run_id=?", source.identity, source.started, c.runID)
	return err
}

// confirmAll records that of what is recorded as copied nothing was lost by the source, and
// which process of it is read from here on. found is what the process before has left behind.
func (c *checkpoint) confirmAll(ctx context.Context, source sourceProcess, found *resumePoint) error {
	c.recorded.Lock()
	clear(c.recorded.readEnd)
	c.recorded.Unlock()
	return c.owned(ctx, func(ctx context.Context, tx *sql.Tx) error {
		for _, stmt := range []string{"UPDATE " + c.table("chunks") + " SET read_file='', read_pos=0 WHERE run_id=?", "UPDATE " + c.table("tables") + " SET read_file='', read_pos=0 WHERE run_id=?"} {
			if _, err := tx.ExecContext(ctx, stmt, c.runID); err != nil {
				return err
			}
		}
		if found.process().replacedBy(source.identity) {
			if err := c.keepSets(ctx, tx, found); err != nil {
				return err
			}
		}
		return c.setSource(ctx, tx, source)
	})
}

// forgetCopy takes back that rows of a table were copied. That they were compared is taken back in
// the same transaction, or before: see forgetCompared.
func (c *checkpoint) forgetCopy(ctx context.Context, tx execer, id TableIdentifier, number int) error {
	_, err := tx.ExecContext(ctx, "UPDATE "+c.table("tables")+" SET completed=0, sum=?, rows_copied=0 WHERE run_id=? AND number=?",
		tableSum(number, id.SchemaName, id.TableName, false), c.runID, number)
	if err == nil {
		_, err = tx.ExecContext(ctx, "DELETE FROM "+c.table("chunks")+" WHERE run_id=? AND table_number=?", c.runID, number)
	}
	return err
}

// forgetChunk takes back that one chunk of a table was copied; the same holds for it.
func (c *checkpoint) forgetChunk(ctx context.Context, tx execer, table int, chunk uint64) error {
	_, err := tx.ExecContext(ctx, "DELETE FROM "+c.table("chunks")+" WHERE run_id=? AND table_number=? AND number=?", c.runID, table, chunk)
	return err
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
func (c *checkpoint) ownerError(ctx context.Context) error { return c.ownerErrorOn(ctx, c.db) }

// ownerErrorOn asks by a connection that the caller has: a pool may be bounded, and all of its
// connections wait for each other.
func (c *checkpoint) ownerErrorOn(ctx context.Context, on interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sqlorig.Row
}) error {
	var epoch uint64
	err := on.QueryRowContext(ctx, "SELECT epoch FROM "+c.table("runs")+" WHERE run_id=?", c.runID).Scan(&epoch)
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
