package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
)

// Flavour says whose server it is.
type Flavour string

// The flavours that Start knows.
const (
	MySQL   Flavour = "mysql"   // 8.0 or newer
	MariaDB Flavour = "mariadb" // 10.11 or newer
)

// Options describe one server. The zero value of everything but Flavour is usable.
type Options struct {
	// Flavour is required.
	Flavour Flavour
	// Name is used in messages and directory names, e.g. "source". Default: the flavour.
	Name string
	// GTID switches gtid_mode and enforce_gtid_consistency of MySQL ON; they are OFF
	// otherwise. MariaDB always has GTIDs and ignores it.
	GTID bool
	// Flags are further server flags such as "--max-binlog-size=1M". They come last
	// on the command line, so they win over the defaults of this package.
	Flags []string
	// BufferPoolMB is the InnoDB buffer pool in MiB. Default 64.
	BufferPoolMB int
	// RedoLogMB is the capacity of the InnoDB redo log in MiB. Default 32.
	RedoLogMB int
	// LocalInfile allows LOAD DATA LOCAL INFILE.
	LocalInfile bool
	// SemiSync makes the semi-synchronous source plugin available, switched off.
	SemiSync bool
	// LowerCaseTables stores names of schemas and tables in lower case and compares them
	// without regard to case (lower_case_table_names=1).
	LowerCaseTables bool
	// NoRowsQueryEvents leaves the statement before its row events out of the log:
	// Rows_query events of MySQL, Annotate_rows events of MariaDB.
	NoRowsQueryEvents bool
	// Flushes makes the server wait for its disk, as one does whose rows shall survive the
	// machine, for measurements. Without it, what it has written survives its own death.
	Flushes bool
	// Log receives one line for every step worth telling: which program was chosen,
	// downloads, the address of the server. Default: os.Stderr. It is written to by
	// one goroutine at a time.
	Log io.Writer
}

// withDefaults returns a checked copy of o with its defaults filled in.
func (o Options) withDefaults() (Options, error) {
	if o.Flavour != MySQL && o.Flavour != MariaDB {
		return o, fmt.Errorf("servers: unknown flavour %q: use %q or %q", o.Flavour, MySQL, MariaDB)
	}
	if o.Name == "" {
		o.Name = string(o.Flavour)
	}
	if strings.ContainsAny(o.Name, "/\\ ") {
		return o, fmt.Errorf("servers: name %q: it becomes a directory, so no blanks and no slashes", o.Name)
	}
	if o.BufferPoolMB <= 0 {
		o.BufferPoolMB = 64
	}
	if o.RedoLogMB <= 0 {
		o.RedoLogMB = 32
	}
	if o.Log == nil {
		o.Log = os.Stderr
	}
	return o, nil
}

// logf writes one line to the log of these options.
func (o Options) logf(format string, args ...any) {
	fmt.Fprintf(o.Log, "servers: "+format+"\n", args...)
}

// lowerCaseFlag has to be the same from a data directory's first day on.
const lowerCaseFlag = "--lower-case-table-names=1"

// flags returns the server's flags except those that say where its files are.
func (o Options) flags(port int) []string {
	onOff := func(b bool) string {
		if b {
			return "ON"
		}
		return "OFF"
	}
	flags := []string{
		"--bind-address=127.0.0.1",
		"--port=" + strconv.Itoa(port),
		// A port is unique on this machine, hence the id is among our servers.
		"--server-id=" + strconv.Itoa(port),
		"--skip-name-resolve",
		"--log-bin=binlog",
		"--binlog-row-image=FULL",
		"--sync-binlog=0",
		"--innodb-flush-log-at-trx-commit=2",
		"--innodb-buffer-pool-size=" + strconv.Itoa(o.BufferPoolMB) + "M",
		"--performance-schema=OFF",
		"--character-set-server=utf8mb4",
		"--local-infile=" + onOff(o.LocalInfile),
		"--secure-file-priv=",
	}
	if os.Geteuid() == 0 {
		flags = append(flags, "--user=root")
	}
	if o.LowerCaseTables {
		flags = append(flags, lowerCaseFlag)
	}
	if !o.Flushes {
		flags = append(flags, "--innodb-flush-method=nosync", "--innodb-doublewrite=OFF")
	}
	switch o.Flavour {
	case MySQL:
		if !o.Flushes { // threads of the log that spin until there is something to write
			flags = append(flags, "--innodb-log-writer-threads=OFF")
		}
		flags = append(flags,
			"--gtid-mode="+onOff(o.GTID),
			"--enforce-gtid-consistency="+onOff(o.GTID),
			"--innodb-redo-log-capacity="+strconv.Itoa(o.RedoLogMB)+"M",
			"--binlog-rows-query-log-events="+onOff(!o.NoRowsQueryEvents),
			"--mysqlx=OFF",
		)
		if o.SemiSync {
			flags = append(flags, "--plugin-load-add=rpl_semi_sync_source=semisync_source.so")
		}
	case MariaDB:
		flags = append(flags,
			"--binlog-format=ROW",
			"--innodb-log-file-size="+strconv.Itoa(o.RedoLogMB)+"M",
			"--binlog-annotate-row-events="+onOff(!o.NoRowsQueryEvents),
			"--log-slave-updates=ON",
		)
	}
	return append(flags, o.Flags...)
}

// StartPair starts two servers at once. When one fails the other is stopped.
func StartPair(ctx context.Context, source, target Options) (*Server, *Server, error) {
	if source.Name == "" {
		source.Name = "source"
	}
	if target.Name == "" {
		target.Name = "target"
	}
	source.Log, target.Log = sharedLog(source.Log, target.Log)
	var (
		pair [2]*Server
		errs [2]error
		wg   sync.WaitGroup
	)
	for i, o := range []Options{source, target} {
		wg.Go(func() { pair[i], errs[i] = Start(ctx, o) })
	}
	wg.Wait()
	err := errors.Join(errs[0], errs[1])
	if err == nil {
		return pair[0], pair[1], nil
	}
	for _, s := range pair {
		if s != nil {
			err = errors.Join(err, s.Stop())
		}
	}
	return nil, nil, err
}

// sharedLog makes two logs safe for two goroutines, also when both are the same.
func sharedLog(a, b io.Writer) (io.Writer, io.Writer) {
	if a == nil {
		a = os.Stderr
	}
	if b == nil {
		b = os.Stderr
	}
	mu := new(sync.Mutex)
	return &lockedWriter{mu: mu, w: a}, &lockedWriter{mu: mu, w: b}
}

// lockedWriter serialises writes.
type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer // guarded by mu
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
