package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/internal/sqlesc"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// packetLimit is max_allowed_packet of the servers.
const packetLimit = 1 << 20

// pair is what source and target are.
type pair struct {
	Name           string
	Source, Target servers.Flavour
	GTID           bool
}

var allPairs = []pair{
	{"MySQL, GTIDs", servers.MySQL, servers.MySQL, true},
	{"MySQL, file positions", servers.MySQL, servers.MySQL, false},
	{"MariaDB", servers.MariaDB, servers.MariaDB, true},
	{"MySQL to MariaDB", servers.MySQL, servers.MariaDB, true},
	{"MariaDB to MySQL", servers.MariaDB, servers.MySQL, true},
}

// defaultSchema holds the tables of cases that do not name another one, refusedSchema
// those that have to be refused.
const (
	defaultSchema = "fidelity"
	refusedSchema = "refused"
)

// world is a running pair with the cases that it carries and those that it refuses.
type world struct {
	pair
	screen         *console
	source, target *servers.Server
	sourceDB       *sql.DB
	targetDB       *sql.DB
	carried        []*table
	refused        []*table
}

// table is a case's table.
type table struct {
	*Case
	schema, name string
}

func startWorld(ctx context.Context, p pair, cases []*Case, screen *console) (*world, error) {
	options := func(name string, flavour servers.Flavour, zone string) servers.Options {
		flags := []string{fmt.Sprintf("--max-allowed-packet=%d", packetLimit), "--default-time-zone=" + zone}
		if p.GTID {
			flags = append(flags, "--binlog-row-metadata=FULL") // rows name their columns, which have to be ours
		}
		return servers.Options{Flavour: flavour, Name: name, GTID: p.GTID, LocalInfile: p.GTID, Log: screen, Flags: flags}
	}
	w := &world{pair: p, screen: screen}
	var err error
	if w.source, w.target, err = servers.StartPair(ctx, options("source", p.Source, "+05:30"), options("target", p.Target, "-08:00")); err != nil {
		return nil, err
	}
	if w.sourceDB, err = w.source.DB(ctx); err == nil {
		w.targetDB, err = w.target.DB(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, w.stop())
	}
	for i, c := range cases {
		t := &table{Case: c, schema: c.Schema, name: c.Table}
		if t.schema == "" {
			t.schema = defaultSchema
		}
		if t.name == "" {
			t.name = fmt.Sprintf("t%03d", i)
		}
		switch {
		case !c.has(p.Source), c.Unheld != "" && !c.has(p.Target):
		case c.Refused != "" || !c.takes(p.Target):
			t.schema = refusedSchema
			w.refused = append(w.refused, t)
		default:
			w.carried = append(w.carried, t)
		}
	}
	return w, nil
}

func (w *world) stop() error { return errors.Join(w.source.Stop(), w.target.Stop()) }

func (w *world) schemas() []string {
	out := []string{defaultSchema}
	for _, t := range w.carried {
		if !slices.Contains(out, t.schema) {
			out = append(out, t.schema)
		}
	}
	return out
}

// create makes the tables anew on both sides, with the first rows on the source.
func (w *world) create(ctx context.Context) error {
	if err := run(ctx, w.targetDB, "DROP DATABASE IF EXISTS _ghostferry"); err != nil {
		return err
	}
	flavours := map[*sql.DB]servers.Flavour{w.sourceDB: w.Source, w.targetDB: w.Target}
	for _, db := range []*sql.DB{w.sourceDB, w.targetDB} {
		for _, schema := range w.schemas() {
			name := sqlesc.Ident(schema)
			if err := run(ctx, db, "DROP DATABASE IF EXISTS "+name,
				"CREATE DATABASE "+name+" DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"); err != nil {
				return err
			}
		}
		if err := run(ctx, db, "CREATE TABLE `"+defaultSchema+"`.`"+heldTable+"` (r INT PRIMARY KEY)"); err != nil {
			return err
		}
		if err := w.each(func(t *table) error { return t.run(ctx, db, t.createTable(t.name, flavours[db])) }); err != nil {
			return err
		}
	}
	if err := run(ctx, w.sourceDB, "INSERT INTO `"+defaultSchema+"`.`"+heldTable+"` VALUES (1)"); err != nil {
		return err
	}
	if err := w.each(func(t *table) error { return t.run(ctx, w.sourceDB, t.seed(t.name)...) }); err != nil {
		return err
	}
	return nil
}

// each calls f for all tables and returns all errors.
func (w *world) each(f func(t *table) error) error {
	var errs []error
	for _, t := range w.carried {
		errs = append(errs, f(t))
	}
	return errors.Join(errs...)
}

// change runs the changes of a phase on the source.
func (w *world) change(ctx context.Context, phase int) error {
	return w.each(func(t *table) error { return t.run(ctx, w.sourceDB, t.changes(t.name, phase)...) })
}

// run runs statements in a session as the case wants it.
func (t *table) run(ctx context.Context, db *sql.DB, statements ...string) error {
	session := append([]string{"USE " + sqlesc.Ident(t.schema)}, t.Session...)
	if err := run(ctx, db, append(session, statements...)...); err != nil {
		return fmt.Errorf("%s: %w", t.Case, err)
	}
	return nil
}

// run runs statements on one connection of its own. Nothing is refused that a server can store.
func run(ctx context.Context, db *sql.DB, statements ...string) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
		_ = conn.Close()
	}()
	statements = append([]string{"SET SESSION sql_mode='NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES', time_zone='+00:00'"}, statements...)
	for _, stmt := range statements {
		if _, err := conn.ExecContext(ctx, stmt); err != nil {
			return fmt.Errorf("%.300s: %w", stmt, err)
		}
	}
	return nil
}

func (w *world) config(schemas []string, hold bool) moverConfig {
	database := func(s *servers.Server) *ghostferry.DatabaseConfig {
		return &ghostferry.DatabaseConfig{Host: s.Host, Port: uint16(s.Port), User: s.User(), Pass: s.Password()}
	}
	return moverConfig{Source: database(w.source), Target: database(w.target), Schemas: schemas, ChunkRows: w.chunkRows(), Hold: hold}
}

// chunkRows are so few that every key is walked in several chunks.
func (w *world) chunkRows() map[string]map[string]uint64 {
	out := map[string]map[string]uint64{}
	for _, t := range w.carried {
		if out[t.schema] == nil {
			out[t.schema] = map[string]uint64{}
		}
		rows := 0
		for n := range roads {
			rows += len(t.rowsOf(n))
		}
		out[t.schema][t.name] = uint64(rows+2) / 3
	}
	return out
}

// move moves all tables while every road is gone. killed: the mover is killed once in the
// middle of the copy and once while the last changes are applied.
func (w *world) move(ctx context.Context, killed bool) error {
	begun := time.Now()
	if err := w.create(ctx); err != nil {
		return fmt.Errorf("tables: %w", err)
	}
	m, err := startMover(ctx, w.config(w.schemas(), true))
	if err != nil {
		return err
	}
	defer func() { m.kill() }()
	again := func() error {
		m.kill()
		m, err = startMover(ctx, w.config(w.schemas(), false))
		return err
	}
	steps := []func() error{
		func() error { return m.await("holding", 1) },
		func() error { return w.change(ctx, 1) },
		func() error { return m.say("apply") },
		func() error { return m.await("applied", 1) },
		func() error { return m.say("go") },
	}
	if killed {
		steps = append(steps, func() error { return m.await("table", 1+len(w.carried)/2) }, again)
	}
	steps = append(steps, func() error { return m.await("copied", 1) }, func() error { return w.change(ctx, 2) })
	if killed {
		steps = append(steps, func() error { return m.await("event", 1) }, again)
	}
	steps = append(steps, func() error { return m.say("cutover") }, func() error { return m.end() })
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	w.screen.printf("%s: %d tables moved, killed %t, %.1f s", w.Name, len(w.carried), killed, time.Since(begun).Seconds())
	return nil
}

// refusals checks that every table which cannot be carried is refused by name, and
// returns the findings by table.
func (w *world) refusals(ctx context.Context) (map[*table]string, error) {
	if len(w.refused) == 0 {
		return nil, nil
	}
	for _, db := range []*sql.DB{w.sourceDB, w.targetDB} {
		if err := run(ctx, db, "DROP DATABASE IF EXISTS "+refusedSchema, "CREATE DATABASE "+refusedSchema+" DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"); err != nil {
			return nil, err
		}
	}
	for _, t := range w.refused {
		if err := t.run(ctx, w.sourceDB, t.createTable(t.name, w.Source)); err != nil {
			return nil, err
		}
	}
	f := newFerry(w.config([]string{refusedSchema}, false), w.screen)
	report, err := f.Preflight(ctx)
	if err != nil {
		return nil, fmt.Errorf("preflight of what cannot be carried: %w", err)
	}
	found := map[*table]string{}
	for _, t := range w.refused {
		for _, finding := range report.Findings {
			named := finding.Subject == t.schema+"."+t.name || strings.HasPrefix(finding.Subject, t.schema+"."+t.name+" ")
			if finding.Severity == ghostferry.PreflightError && named && found[t] == "" && strings.HasPrefix(finding.Code, t.Refused) {
				found[t] = finding.Code + ": " + finding.What
			}
		}
	}
	return found, nil
}
