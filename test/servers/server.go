package servers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	startTimeout = 90 * time.Second // when the caller's context has no deadline
	portAttempts = 5
)

// Server is a running throwaway server. Its methods may be called from any goroutine.
type Server struct {
	// Set by Start, never changed.
	Flavour Flavour
	Name    string
	Version string // as the server says it: "9.7.4-2", "10.11.18-MariaDB-0+deb12u1-log"
	Host    string // always 127.0.0.1
	Port    int    // the same after Restart
	Socket  string // path of the Unix socket
	DataDir string // removed by Stop
	// A server named by the environment has no Socket and no DataDir, and its Host is
	// what was named.

	// Immutable.
	options  Options
	user     string
	password string
	lease    *lease // of a server that others started; nil for our own, which have all below
	program  *program
	home     string // parent of DataDir: data, error log, owner's lock
	run      string // short directory of the socket

	mu    sync.Mutex // guards all below; held during Start, Stop, Kill and Restart
	proc  *process
	owner *fileLock // held while the server exists: a free one marks a leftover
	pools []*sql.DB
	gone  bool // Stop has been called
}

// Start starts one server and waits until it answers. ctx bounds the start only (90 s
// when it has no deadline): the server lives until Stop, or until this process dies.
func Start(ctx context.Context, o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if dsns := namedServers(o.Flavour); len(dsns) > 0 {
		return leaseServer(ctx, o, dsns)
	}
	began := time.Now()
	p, err := findProgram(ctx, o)
	if err != nil {
		return nil, err
	}
	t, err := ensureTemplate(ctx, o, p)
	if err != nil {
		return nil, err
	}
	// Somebody may take the port between our choice and the server's bind.
	for attempt := 1; ; attempt++ {
		s, err := startOnce(ctx, o, p, t)
		if err == nil {
			o.logf("%s: %s %s on %s:%d (%s), ready after %.1f s",
				s.Name, s.Flavour, s.Version, s.Host, s.Port, p.origin, time.Since(began).Seconds())
			return s, nil
		}
		if attempt == portAttempts || !errors.Is(err, errPortTaken) {
			return nil, err
		}
	}
}

var errPortTaken = errors.New("the port is taken")

// startOnce makes a data directory, chooses a port and launches. With an error there
// is no server and nothing is left.
func startOnce(ctx context.Context, o Options, p *program, t *template) (_ *Server, err error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	s := &Server{
		Flavour: o.Flavour, Name: o.Name, Host: "127.0.0.1", Port: port,
		options: o, program: p, user: "root", password: t.password,
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.remove())
		}
	}()
	if s.home, s.run, s.owner, err = newHome(o.Name); err != nil {
		return nil, err
	}
	s.DataDir = filepath.Join(s.home, "data")
	s.Socket = filepath.Join(s.run, "s")
	if err = os.CopyFS(s.DataDir, os.DirFS(filepath.Join(t.dir, templateData))); err != nil { // shares blocks where it can
		return nil, fmt.Errorf("servers: copy the template: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err = s.launch(ctx)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// newHome makes the directories of one server: home below the cache, and run with a
// short name, because a Unix socket's path is limited to about 100 bytes. It removes
// those whose owner died without Stop. What it returns with an error is to be removed.
func newHome(name string) (home, run string, owner *fileLock, err error) {
	cache, err := cacheDir()
	if err != nil {
		return "", "", nil, err
	}
	base := filepath.Join(cache, "run")
	if err := os.MkdirAll(base, 0o755); err != nil {
		return "", "", nil, fmt.Errorf("servers: %w", err)
	}
	sweep(base)
	if home, err = os.MkdirTemp(base, name+"-"); err != nil {
		return "", "", nil, fmt.Errorf("servers: %w", err)
	}
	if run, err = os.MkdirTemp("", runPrefix); err != nil {
		return home, "", nil, fmt.Errorf("servers: %w", err)
	}
	owner, err = tryLock(filepath.Join(home, ownerFile))
	if err == nil && owner == nil {
		err = fmt.Errorf("servers: %s was locked by another process", home)
	}
	if err == nil {
		_, err = owner.f.WriteString(run)
	}
	return home, run, owner, err
}

const (
	// ownerFile is locked as long as the server's owner lives; it names the run directory.
	ownerFile = "owner"
	runPrefix = "gf-"
)

// sweep removes the leftovers of killed processes. Directories that it cannot judge
// or remove (another user's, or one that is just being made) it leaves alone.
func sweep(base string) {
	entries, err := os.ReadDir(base)
	if err != nil {
		return
	}
	for _, e := range entries {
		home := filepath.Join(base, e.Name())
		run, err := os.ReadFile(filepath.Join(home, ownerFile))
		if err != nil || len(run) == 0 {
			continue
		}
		lock, err := tryLock(filepath.Join(home, ownerFile))
		if err != nil || lock == nil {
			continue
		}
		if strings.HasPrefix(filepath.Base(string(run)), runPrefix) {
			_ = os.RemoveAll(string(run))
		}
		_ = os.RemoveAll(home)
		_ = lock.unlock()
	}
}

// freePort returns a loopback port nobody listens on. It lies below the range that
// the kernel gives to outgoing connections, or one of those could take the port
// while a killed server is being restarted.
func freePort(ctx context.Context) (int, error) {
	const low, high = 15000, 32000
	var (
		lastErr error
		config  net.ListenConfig
	)
	for range 100 {
		port := low + rand.IntN(high-low)
		l, err := config.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
		lastErr = err
	}
	return 0, fmt.Errorf("servers: no free loopback port: %w", lastErr)
}

// noNativeAIO makes InnoDB do without the kernel's asynchronous I/O.
const noNativeAIO = "--innodb-use-native-aio=0"

// launch starts the program on the existing data directory and waits until it
// answers. The caller holds s.mu.
func (s *Server) launch(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startTimeout)
		defer cancel()
	}
	log := filepath.Join(s.home, "error.log")
	// The server outlives the ctx of its start.
	cmd := s.program.command(context.WithoutCancel(ctx), slices.Concat([]string{
		"--no-defaults", "--datadir=" + s.DataDir, "--tmpdir=" + s.run, "--socket=" + s.Socket,
		"--pid-file=" + filepath.Join(s.run, "pid"), "--log-error=" + log,
	}, s.program.dirFlags(), s.options.flags(s.Port)))
	cmd.Dir = s.home
	proc, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("servers: start %s: %w", s.Name, err)
	}
	s.proc = proc
	if err := s.waitUntilReady(ctx, proc); err != nil {
		proc.end(syscall.SIGKILL)
		text, _ := os.ReadFile(log)
		switch {
		case strings.Contains(string(text), "Address already in use"):
			err = errors.Join(errPortTaken, err)
		case strings.Contains(string(text), "io_setup() failed") && !slices.Contains(s.options.Flags, noNativeAIO):
			// The kernel's limit (fs.aio-max-nr) is the machine's, and others use it, too.
			s.options.Flags = append(slices.Clone(s.options.Flags), noNativeAIO)
			return s.launch(ctx)
		}
		return fmt.Errorf("servers: start %s (%s %s): %w: %s", s.Name, s.Flavour, s.program.version, err, lastLines(string(text), 8))
	}
	return nil
}

// waitUntilReady polls until the server answers, and asserts that it is ours.
func (s *Server) waitUntilReady(ctx context.Context, proc *process) error {
	db, err := sql.Open("mysql", s.DSN(""))
	if err != nil {
		return err
	}
	defer db.Close()
	for {
		var version, comment, dataDir string
		err := db.QueryRowContext(ctx, "SELECT @@version, @@version_comment, @@datadir").Scan(&version, &comment, &dataDir)
		if err == nil {
			if filepath.Clean(dataDir) != s.DataDir {
				return fmt.Errorf("%w: a server with data directory %s answers on %d", errPortTaken, dataDir, s.Port)
			}
			s.Version = version
			return checkVersion(s.Flavour, version+" "+comment, version)
		}
		var answer *mysql.MySQLError
		if errors.As(err, &answer) {
			return err // it runs and refuses us
		}
		select {
		case <-proc.exited:
			return fmt.Errorf("the server ended at once: %w", proc.err)
		default:
		}
		if pauseErr := pause(ctx, 25*time.Millisecond); pauseErr != nil {
			return fmt.Errorf("%w (last answer: %w)", pauseErr, err)
		}
	}
}

// User is the account of DSN and DB.
func (s *Server) User() string { return s.user }

// Password is the throwaway password of User.
func (s *Server) Password() string { return s.password }

// PID is the process id of the running server, 0 when it does not run.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil || !s.proc.alive() {
		return 0
	}
	return s.proc.pid
}

// DSN returns a go-sql-driver data source name for root over TCP with utf8mb4;
// schema may be empty.
func (s *Server) DSN(schema string) string {
	c := mysql.NewConfig()
	c.User, c.Passwd = s.user, s.password
	c.Net, c.Addr = "tcp", net.JoinHostPort(s.Host, strconv.Itoa(s.Port))
	c.DBName = schema
	c.Timeout = 10 * time.Second
	// No error is possible: the option only stores the name.
	_ = c.Apply(mysql.Charset("utf8mb4", ""))
	return c.FormatDSN()
}

// DB opens a pool of root connections without a default schema and checks that the
// server answers. Each call returns a new pool; Stop closes them all.
func (s *Server) DB(ctx context.Context) (*sql.DB, error) {
	db, err := sql.Open("mysql", s.DSN(""))
	if err != nil {
		return nil, fmt.Errorf("servers: %s: %w", s.Name, err)
	}
	if err := db.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("servers: connect to %s: %w", s.Name, err), db.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pools = append(s.pools, db)
	return db, nil
}

// Stop closes the pools of DB, kills the server and removes its directories: nothing of
// its data is kept, so it need not be written, for which MySQL would take seconds. A
// server named by the environment keeps running and loses all schemas and accounts made
// meanwhile. Calling Stop again does nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return nil
	}
	s.gone = true
	var errs []error
	for _, db := range s.pools {
		errs = append(errs, db.Close())
	}
	if s.lease != nil {
		return errors.Join(append(errs, s.lease.end())...)
	}
	if !s.proc.end(syscall.SIGKILL) {
		errs = append(errs, s.survived())
	}
	return errors.Join(append(errs, s.remove())...)
}

// remove deletes the directories and releases the ownership.
func (s *Server) remove() error {
	// Removing "" does nothing: a start that failed early has no directories yet.
	err := errors.Join(os.RemoveAll(s.home), os.RemoveAll(s.run))
	if s.owner != nil {
		err = errors.Join(err, s.owner.unlock())
	}
	return err
}

// Kill ends the server with SIGKILL and waits until it is gone. The data directory
// stays for Restart.
func (s *Server) Kill() error {
	if s.lease != nil {
		return s.notOurs("kill")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return fmt.Errorf("servers: kill %s: it was stopped", s.Name)
	}
	if !s.proc.end(syscall.SIGKILL) {
		return s.survived()
	}
	return nil
}

func (s *Server) survived() error {
	return fmt.Errorf("servers: %s (process %d) survived SIGKILL for %s", s.Name, s.proc.pid, stopTimeout)
}

// Restart starts the server again on its port and data directory, after Kill, a
// crash, or, when it still runs, a shutdown in order. ctx bounds it as in Start.
func (s *Server) Restart(ctx context.Context) error {
	if s.lease != nil {
		return s.notOurs("restart")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		return fmt.Errorf("servers: restart %s: it was stopped", s.Name)
	}
	if s.proc.alive() && !s.proc.end(syscall.SIGTERM) {
		return fmt.Errorf("servers: restart %s: it did not stop within %s", s.Name, stopTimeout)
	}
	return s.launch(ctx)
}

// CPUSeconds returns the CPU time that the running server has used, user and system,
// in seconds. Linux only.
func (s *Server) CPUSeconds() (float64, error) {
	if s.lease != nil {
		return 0, s.notOurs("CPU time of")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc.cpuSeconds()
}
