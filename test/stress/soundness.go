package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-mysql-org/go-mysql/mysql"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

// prefix is the beginning of the source's log up to a place.
type prefix struct {
	mysql.Position
	set *mysql.MysqlGTIDSet // MySQL only; it decides
}

func newPrefix(flavour servers.Flavour, p position) (prefix, error) {
	out := prefix{Position: p.Position}
	if flavour != servers.MySQL {
		return out, nil
	}
	set, err := mysql.ParseMysqlGTIDSet(strings.ReplaceAll(p.set, "\n", ""))
	if err != nil {
		return out, err
	}
	out.set, _ = set.(*mysql.MysqlGTIDSet)
	return out, nil
}

// has reports whether a change is in it.
func (p prefix) has(at place) bool {
	if p.set == nil {
		return at.Compare(p.Position) <= 0
	}
	for _, tags := range *p.set { // the source's only
		for _, intervals := range tags {
			for _, i := range intervals {
				if i.Start <= at.gno && at.gno < i.Stop {
					return true
				}
			}
		}
	}
	return false
}

// durable is what the checkpoint on the target says: the changes since the run began that
// are executed and not executed again by whoever goes on, and what is copied.
type durable struct {
	prefix
	completed map[string]bool // by "schema.table"
	chunks    map[string][]span
}

// span is a range of keys: low < key <= high; "" is an open end.
type span struct{ low, high string }

func (d *durable) covers(table, key string) bool {
	if d.completed[table] {
		return true
	}
	for _, s := range d.chunks[table] {
		if s.low < key && key <= s.high {
			return true
		}
	}
	return false
}

// checkpointSchema is where copydb keeps it.
const checkpointSchema = "_ghostferry"

// checker judges what a kill has left behind.
type checker struct {
	flavour servers.Flavour
	history *history
	keys    *keys
	source  *sql.DB
	target  *sql.DB

	began prefix // where the run's stream began
	// sourceDied: the source was killed since the last check. Rows that a mover had read of it
	// and not confirmed may then be removed from the target, to be copied anew: that changes up
	// to emptied were executed says nothing of such a row any more.
	sourceDied bool
	emptied    mysql.Position

	violations []string
	checked    int // rows judged
}

// check judges the target while nobody writes to the source: every row must be a version
// that the source had at the checkpoint or later; a row that is missing must still be
// copied, or have a change after the checkpoint. (INV-2 of the design.) A mover may be
// at work: the target is read in one snapshot.
func (c *checker) check(ctx context.Context) error {
	if err := c.history.catchUp(ctx, c.source); err != nil {
		return err
	}
	if c.sourceDied {
		c.sourceDied, c.emptied = false, c.history.from
	}
	conn, err := c.target.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, stmt := range []string{"SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT"} {
		if _, err := conn.ExecContext(ctx, stmt); err != nil {
			return err
		}
	}
	d, err := c.load(ctx, conn)
	if err != nil || d == nil { // the run has not begun
		return firstOf(err, endSnapshot(ctx, conn))
	}
	for _, name := range slices.Sorted(maps.Keys(c.keys.tables)) {
		t := c.keys.tables[name]
		onTarget, err := c.keys.versions(ctx, conn, t)
		if err != nil {
			return err
		}
		onSource, err := c.keys.versions(ctx, c.source, t)
		if err != nil {
			return err
		}
		c.judge(d, name, onSource, onTarget)
	}
	return endSnapshot(ctx, conn)
}

func endSnapshot(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "COMMIT")
	return err
}

// judge compares the versions of a table's rows.
func (c *checker) judge(d *durable, name string, onSource, onTarget map[string]uint64) {
	changes := c.history.changes[name]
	c.checked += len(onTarget)
	for key, version := range onTarget {
		if version != onSource[key] && !c.allowed(d, changes[key], version) {
			c.violates("%s, key %s: version %d on the target is older than the checkpoint %s, or never was; the source has %d, changes: %v", name, key, version, d.Position, onSource[key], changes[key])
		}
	}
	for key, version := range onSource {
		if _, there := onTarget[key]; there {
			continue
		}
		var executed, pending bool
		for _, change := range changes[key] {
			has := d.has(change.at)
			executed, pending = executed || has && !c.began.has(change.at) && change.at.Compare(c.emptied) > 0, pending || !has
		}
		if !pending && (executed || d.covers(name, key)) {
			c.violates("%s, key %s: version %d is missing on the target, and no change after the checkpoint %s will bring it; copied: %t, changes: %v", name, key, version, d.Position, d.covers(name, key), changes[key])
		}
	}
}

// allowed reports whether the source had the version at the checkpoint or later.
func (c *checker) allowed(d *durable, changes []change, version uint64) bool {
	for _, change := range changes {
		if !d.has(change.at) && (change.before == version || change.after == version) {
			return true
		}
	}
	return false
}

func (c *checker) violates(format string, args ...any) {
	c.violations = append(c.violations, fmt.Sprintf(format, args...))
}

// load reads the checkpoint, nil when there is none.
func (c *checker) load(ctx context.Context, conn *sql.Conn) (*durable, error) {
	var there int
	if err := conn.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA=? AND TABLE_NAME='chunks'", checkpointSchema).Scan(&there); err != nil || there == 0 {
		return nil, err
	}
	d := &durable{completed: map[string]bool{}, chunks: map[string][]span{}}
	var at position
	const place = "SELECT file, pos, COALESCE(gtid_set, '') FROM " + checkpointSchema
	// While changes are executed again that the position claims, held is where the next goes on.
	err := conn.QueryRowContext(ctx, place+".held").Scan(&at.Name, &at.Pos, &at.set)
	if errors.Is(err, sql.ErrNoRows) {
		err = conn.QueryRowContext(ctx, place+".lanes WHERE lane=0").Scan(&at.Name, &at.Pos, &at.set)
	}
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err == nil {
		d.prefix, err = newPrefix(c.flavour, at)
	}
	if err != nil {
		return nil, err
	}
	rows, err := conn.QueryContext(ctx, "SELECT CONCAT(CONVERT(t.source_schema USING utf8mb4), '.', CONVERT(t.source_table USING utf8mb4)), t.completed, c.low, c.high FROM "+checkpointSchema+
		".tables t LEFT JOIN "+checkpointSchema+".chunks c ON c.run_id=t.run_id AND c.table_number=t.number")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		var completed bool
		var low, high []byte
		if err := rows.Scan(&name, &completed, &low, &high); err != nil {
			return nil, err
		}
		t := c.keys.tables[name]
		if t == nil {
			return nil, fmt.Errorf("the checkpoint knows a table %s", name)
		}
		d.completed[name] = completed
		if high == nil {
			continue
		}
		var s span
		if s.low, err = c.keys.ofCheckpoint(ctx, t, low); err == nil {
			s.high, err = c.keys.ofCheckpoint(ctx, t, high)
		}
		if err != nil {
			return nil, err
		}
		d.chunks[name] = append(d.chunks[name], s)
	}
	return d, rows.Err()
}
