package ghostferry

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"

	sqlorig "database/sql"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
	"github.com/ghostferry-go/ghostferry/internal/codec"
)

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

// execer is a connection or a transaction.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sqlorig.Result, error)
}

// recordedRun is what the checkpoint's schema says of any run.
type recordedRun struct {
	id       string
	begun    string // the source with which it was begun
	follows  string // the source that it followed last
	finished bool
}

// recordedRuns returns all runs in the schema.
func (c *checkpoint) recordedRuns(ctx context.Context) ([]recordedRun, error) {
	existing, err := c.existingTables(ctx, c.db)
	if err != nil || !existing["runs"] {
		return nil, err
	}
	query := "SELECT run_id, source, source, finished FROM " + c.table("runs")
	if existing["origins"] { // one of an early version has none
		query = "SELECT r.run_id, COALESCE(o.source, r.source), r.source, r.finished FROM " + c.table("runs") + " AS r LEFT JOIN " + c.table("origins") + " AS o ON o.run_id=r.run_id"
	}
	rows, err := c.db.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	var runs []recordedRun
	for rows.Next() {
		var r recordedRun
		if err := rows.Scan(&r.id, &r.begun, &r.follows, &r.finished); err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	return runs, rows.Err()
}

// loadFrom reads the checkpoint. With a DamagedCheckpointError comes what is known of its
// tables, for who removes what the run has written.
func (c *checkpoint) loadFrom(ctx context.Context, db queryer) (*resumePoint, error) {
	p := &resumePoint{tables: map[TableIdentifier]*resumeTable{}}
	var format int
	// The format first: what other formats have beside it is not known.
	err := db.QueryRowContext(ctx, "SELECT format FROM "+c.table("runs")+" WHERE run_id=?", c.runID).Scan(&format)
	if errors.Is(err, sqlorig.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if format != checkpointFormat {
		return nil, fmt.Errorf("the checkpoint of run %s in schema %s has format %d, this version reads format %d: finish the run with the version that began it, or start afresh: empty the target tables and drop the schema", c.runID, c.schema, format, checkpointFormat)
	}
	err = db.QueryRowContext(ctx, "SELECT epoch, source, source_started, finished FROM "+c.table("runs")+" WHERE run_id=?", c.runID).
		Scan(&p.epoch, &p.source, &p.started, &p.finished)
	if err != nil {
		return nil, err
	}
	existing, err := c.existingTables(ctx, db)
	if err != nil {
		return p, err
	}
	// A checkpoint begun by an early version lacks some of the tables.
	var trafficErr error
	if existing["traffic"] { // first: it is to be known whatever else is damaged
		trafficErr = c.loadTraffic(ctx, db, p)
	}
	if err := c.loadTables(ctx, db, p); err != nil {
		return p, err
	}
	if err := c.loadLanes(ctx, db, p); err != nil {
		return p, err
	}
	err = trafficErr
	if err == nil && existing["held"] {
		err = c.loadHeld(ctx, db, p)
	}
	if err == nil && existing["definitions"] {
		err = c.loadDefinitions(ctx, db, p)
	}
	if err == nil && existing[collisionsTable] {
		p.collisions, err = c.loadKeys(ctx, db, collisionsTable, "a row that waits for another move", p)
	}
	if err == nil && existing[debtsTable] {
		err = c.loadDebts(ctx, db, p)
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
	var sum uint32
	err := db.QueryRowContext(ctx, "SELECT file, pos, COALESCE(gtid_set,''), sum FROM "+c.table("held")+" WHERE run_id=?", c.runID).Scan(&at.File, &at.Pos, &at.GTIDSet, &sum)
	if errors.Is(err, sqlorig.ErrNoRows) {
		return nil
	}
	if err == nil && sum != placeSum(executedUpTo{BinlogCoordinate: at}) {
		err = c.damaged("the place that it holds in the source's binary log does not fit its checksum")
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
	rows, err := db.QueryContext(ctx, "SELECT lane, batch, file, pos, COALESCE(gtid_set,''), mark, sum, intent_file, intent_pos, COALESCE(intent_gtid_set,''), intent_mark, intent_sum FROM "+c.table("lanes")+" WHERE run_id=? ORDER BY lane", c.runID)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var lane int
		var batch uint64
		var at BinlogCoordinate
		var intent executedUpTo
		var mark, intentMark string
		var sum, intentSum uint32
		if err := rows.Scan(&lane, &batch, &at.File, &at.Pos, &at.GTIDSet, &mark, &sum, &intent.File, &intent.Pos, &intent.GTIDSet, &intentMark, &intentSum); err != nil {
			return err
		}
		if rowSum(at.File, strconv.FormatUint(at.Pos, 10), at.GTIDSet, mark) != sum {
			return c.damaged(fmt.Sprintf("the position of lane %d, %s, does not fit its checksum", lane, at))
		}
		if rowSum(intent.File, strconv.FormatUint(intent.Pos, 10), intent.GTIDSet, intentMark) != intentSum {
			return c.damaged(fmt.Sprintf("the intent of lane %d, %s, does not fit its checksum", lane, intent.BinlogCoordinate))
		}
		if lane == 0 {
			p.position, p.batch = at, batch
			if p.mark, err = parseLogMark(mark); err != nil {
				return c.damaged(err.Error())
			}
		}
		if intent.mark, err = parseLogMark(intentMark); err != nil {
			return c.damaged(err.Error())
		}
		if !intent.IsZero() {
			p.furthest = append(p.furthest, intent)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return c.judgePlaces(p)
}

// damaged is what a checkpoint is refused with that no version of ours has written.
func (c *checkpoint) damaged(what string) error {
	return &DamagedCheckpointError{RunID: c.runID, Schema: c.schema, What: what}
}

// judgePlaces refuses positions that cannot be ones.
func (c *checkpoint) judgePlaces(p *resumePoint) error {
	if p.position.IsZero() {
		return c.damaged("it has no position in the source's binary log")
	}
	places := []BinlogCoordinate{p.position}
	for _, intent := range p.furthest {
		places = append(places, intent.BinlogCoordinate)
	}
	for _, at := range places {
		_, err := binlog.ParseGTIDSet(at.GTIDSet, false)
		if err != nil {
			_, err = binlog.ParseGTIDSet(at.GTIDSet, true)
		}
		if err != nil {
			return c.damaged(err.Error())
		}
		if _, ok := fileNumber(at.File); !ok && at.File != "" {
			return c.damaged(fmt.Sprintf("%q is no file of a binary log", at.File))
		}
	}
	return nil
}

func (c *checkpoint) loadTables(ctx context.Context, db queryer, p *resumePoint) error {
	rows, err := db.QueryContext(ctx, "SELECT number, source_schema, source_table, completed, sum, rows_copied, read_file, read_pos FROM "+c.table("tables")+" WHERE run_id=?", c.runID)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	byNumber := map[int]*resumeTable{}
	var damaged error
	for rows.Next() {
		var id TableIdentifier
		t := &resumeTable{next: 1}
		var completed int
		var sum uint32
		if err := rows.Scan(&t.number, &id.SchemaName, &id.TableName, &completed, &sum, &t.rows, &t.readEnd.File, &t.readEnd.Pos); err != nil {
			return err
		}
		t.completed = completed == 1
		if completed&^1 != 0 || tableSum(t.number, id.SchemaName, id.TableName, t.completed) != sum {
			damaged = c.damaged(fmt.Sprintf("its row of table number %d (%q.%q) does not fit its checksum", t.number, id.SchemaName, id.TableName))
		}
		p.tables[id], byNumber[t.number] = t, t
	}
	if err := cmp.Or(rows.Err(), damaged); err != nil {
		return err
	}
	chunks, err := db.QueryContext(ctx, "SELECT table_number, number, low, high, rows_copied, debts, sum, read_file, read_pos FROM "+c.table("chunks")+" WHERE run_id=? ORDER BY table_number, number", c.runID)
	if err != nil {
		return err
	}
	defer func() { _ = chunks.Close() }()
	for chunks.Next() {
		var table int
		var low, high, debts []byte
		var ch resumeChunk
		var sum uint32
		if err := chunks.Scan(&table, &ch.number, &low, &high, &ch.rows, &debts, &sum, &ch.readEnd.File, &ch.readEnd.Pos); err != nil {
			return err
		}
		if chunkSum(table, ch.number, low, high, debts) != sum {
			return c.damaged(fmt.Sprintf("chunk %d of table number %d does not fit its checksum", ch.number, table))
		}
		t := byNumber[table]
		if t == nil {
			return c.damaged(fmt.Sprintf("it has a chunk of table number %d, which it does not know", table))
		}
		if ch.low, ch.high, ch.debts, err = decodeChunk(low, high, debts); err != nil {
			return c.damaged(fmt.Sprintf("chunk %d of table number %d: %v", ch.number, table, err))
		}
		t.chunks = append(t.chunks, ch)
		t.next = max(t.next, ch.number+1)
	}
	return chunks.Err()
}

// decodeChunk reads what a chunk's row says; nothing of it may be cut off or changed.
func decodeChunk(low, high, debts []byte) (from, to keyTuple, keys []string, err error) {
	if len(high) == 0 {
		return nil, nil, nil, errors.New("it has no end")
	}
	from, to, keys = decodeTuple(low), decodeTuple(high), decodeDebts(debts)
	whole := from.encode() == string(low) || low == nil
	if !whole || to.encode() != string(high) || from != nil && len(from) != len(to) {
		return nil, nil, nil, errors.New("its keys cannot be read")
	}
	var list []byte
	for _, key := range keys {
		list = codec.AppendKeyPart(list, []byte(key))
	}
	if !bytes.Equal(list, debts) {
		return nil, nil, nil, errors.New("its skipped keys cannot be read")
	}
	return from, to, keys, nil
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
