package integration

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

const outageAccount = "outage"

// outages make a server unusable: what begins it returns what ends it.
var outages = []struct {
	name  string
	begin func(t *testing.T, p *harness.Pair) (end func())
	says  string // the remedy, in the log once and in the error when the outage lasts
}{
	{"target read-only", func(t *testing.T, p *harness.Pair) func() {
		harness.Exec(t, p.TargetDB, "SET GLOBAL read_only=ON")
		return func() { harness.Exec(t, p.TargetDB, "SET GLOBAL read_only=OFF") }
	}, "read_only to OFF"},
	{"target out of connections", func(t *testing.T, p *harness.Pair) func() {
		harness.Exec(t, p.TargetDB, "ALTER USER '"+outageAccount+"'@'%' WITH MAX_USER_CONNECTIONS 1")
		held := holdConnection(t, p)
		return func() {
			harness.Exec(t, p.TargetDB, "ALTER USER '"+outageAccount+"'@'%' WITH MAX_USER_CONNECTIONS 0")
			held()
		}
	}, "the target cannot be used"}, // its connections were lost first
	{"target restarts", func(t *testing.T, p *harness.Pair) func() {
		require.NoError(t, p.Target.Kill())
		return func() { require.NoError(t, p.Target.Restart(t.Context())) }
	}, "server runs"},
	{"source restarts", func(t *testing.T, p *harness.Pair) func() {
		require.NoError(t, p.Source.Kill())
		return func() { require.NoError(t, p.Source.Restart(t.Context())) }
	}, "server runs"},
	{"a row is locked on the target", func(t *testing.T, p *harness.Pair) func() {
		tx, err := p.TargetDB.Begin()
		require.NoError(t, err)
		_, err = tx.Exec("SELECT * FROM outages.t FOR UPDATE")
		require.NoError(t, err)
		return func() { require.NoError(t, tx.Rollback()) }
	}, "collided"},
}

// holdConnection takes the one connection that the account may have, from whoever has it.
func holdConnection(t *testing.T, p *harness.Pair) (release func()) {
	t.Helper()
	c := &ghostferry.DatabaseConfig{Host: p.Target.Host, Port: uint16(p.Target.Port), User: outageAccount, Pass: "outage secret"}
	db, err := c.SqlDB(nil)
	require.NoError(t, err)
	db.SetMaxOpenConns(1)
	harness.Await(t, "the account's connection is taken", func() bool {
		p.KillConnections(t, p.TargetDB, outageAccount)
		return db.Ping() == nil
	})
	return func() { _ = db.Close() }
}

// A server that cannot be used for a while is waited for with one message; then the run
// goes on. The changes made meanwhile arrive.
func TestOutagesPass(t *testing.T) {
	t.Parallel() // with servers of its own
	for _, s := range harness.OneFlavour(t) {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			p := harness.New(t, s)
			for _, o := range outages {
				t.Run(o.name, func(t *testing.T) {
					log := &recordingLogger{}
					f, ran := startOutage(t, p, log, 60)
					end := o.begin(t, p)
					if o.name == "source restarts" { // nothing can be written to it meanwhile
						harness.Await(t, "the run waits", func() bool { return log.count(o.says) > 0 })
						end()
						end = func() {}
					}
					p.In(t, p.SourceDB, "outages", "UPDATE t SET v=v+1", "INSERT INTO t (id, v) VALUES (100,1)")
					if o.name != "source restarts" {
						harness.Await(t, "the run waits", func() bool { return log.count(o.says) > 0 })
					}
					end()
					f.AllowCutover()
					require.NoError(t, <-ran)
					require.NoError(t, f.Close())
					p.MustEqual(t, "outages")
					require.LessOrEqual(t, log.count(o.says), 2, "%v", log.messages())
				})
			}
		})
	}
}

// One that lasts ends the run with an error that names the remedy; the same
// configuration goes on when it is over.
func TestOutageThatLasts(t *testing.T) {
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		log := &recordingLogger{}
		f, ran := startOutage(t, p, log, 1)
		end := outages[0].begin(t, p)
		t.Cleanup(end)
		p.In(t, p.SourceDB, "outages", "UPDATE t SET v=v+1")
		err := <-ran
		var lasting *ghostferry.OutageError
		require.ErrorAs(t, err, &lasting)
		require.Equal(t, "target", lasting.Server)
		require.ErrorContains(t, err, "read_only to OFF")
		require.True(t, ghostferry.Resumable(err))
		require.NoError(t, f.Close())

		end()
		f = outageFerry(p, &recordingLogger{}, 60)
		require.NoError(t, harness.Move(t.Context(), f, func() error { return nil }))
		require.NoError(t, f.Close())
		p.MustEqual(t, "outages")
	})
}

// A target without room: the server says so, and the run waits until there is some.
// (MariaDB says it by the same number, but cannot drop a table then to make room.)
func TestTargetDiskFull(t *testing.T) {
	options := servers.Options{Flavour: servers.MySQL, GTID: true}
	full := options
	// All tables in one file that must not grow past its limit.
	full.Flags = []string{"--innodb-file-per-table=OFF", "--innodb-data-file-path=ibdata1:12M:autoextend:max:24M"}
	source, target, err := servers.StartPair(t.Context(), options, full)
	require.NoError(t, err)
	p := &harness.Pair{Setting: harness.Setting{Flavour: servers.MySQL, GTID: true}, Source: source, Target: target}
	t.Cleanup(func() { _ = source.Stop(); _ = target.Stop() })
	p.SourceDB, err = source.DB(t.Context())
	require.NoError(t, err)
	p.TargetDB, err = target.DB(t.Context())
	require.NoError(t, err)
	p.Create(t, "filler", "CREATE TABLE f (id INT AUTO_INCREMENT PRIMARY KEY, v LONGBLOB)")
	log := &recordingLogger{}
	f, ran := startOutage(t, p, log, 60)
	for err == nil {
		_, err = p.TargetDB.Exec("INSERT INTO filler.f (v) VALUES (REPEAT('x', 100000))")
	}
	require.ErrorContains(t, err, "is full")
	p.In(t, p.SourceDB, "outages", "UPDATE t SET s=REPEAT('y', 60000)")
	harness.Await(t, "the run waits", func() bool { return log.count("make room") > 0 })
	harness.Exec(t, p.TargetDB, "DROP TABLE filler.f")
	f.AllowCutover()
	require.NoError(t, <-ran)
	require.NoError(t, f.Close())
	require.Equal(t, 1, log.count("make room"))
}

// startOutage starts a move of a small table, and returns when its rows are copied.
func startOutage(t *testing.T, p *harness.Pair, log *recordingLogger, seconds int) (*ghostferry.Ferry, <-chan error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	p.Create(t, "outages", "CREATE TABLE t (id INT PRIMARY KEY, v INT, s LONGTEXT)")
	p.In(t, p.SourceDB, "outages", "INSERT INTO t (id, v) WITH RECURSIVE n AS (SELECT 1 AS id UNION ALL SELECT id+1 FROM n WHERE id<20) SELECT id, 1 FROM n")
	f := outageFerry(p, log, seconds)
	f.Config.AutomaticCutover = false
	mustStart(t, ctx, f)
	ran := make(chan error, 1)
	go func() { ran <- harness.RunStarted(ctx, f, func() error { return nil }) }()
	awaitRows(t, p.TargetDB, "outages.t", 20, f)
	return f, ran
}

func outageFerry(p *harness.Pair, log *recordingLogger, seconds int) *ghostferry.Ferry {
	config := p.Config("outages")
	config.Logger, config.MaxOutageSeconds = log.logger(), seconds
	config.Target.User, config.Target.Pass = outageAccount, "outage secret"
	_ = p.TryIn(context.Background(), p.TargetDB, "", "DROP USER IF EXISTS '"+outageAccount+"'@'%'")
	_ = p.TryIn(context.Background(), p.TargetDB, "", "CREATE USER '"+outageAccount+"'@'%' IDENTIFIED BY 'outage secret'",
		"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, TRIGGER, REFERENCES, INDEX, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO '"+outageAccount+"'@'%'")
	return &ghostferry.Ferry{Config: config}
}

// count says how many messages hold a text.
func (r *recordingLogger) count(text string) (n int) {
	for _, message := range r.messages() {
		if strings.Contains(message, text) {
			n++
		}
	}
	return n
}
