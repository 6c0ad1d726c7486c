package ghostferry

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync/atomic"

	"github.com/go-sql-driver/mysql"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/server"
)

// maxWarnings is the most that a server keeps of a statement's warnings
// (max_error_count), and so the most rows that one LOAD DATA may have: each row left
// out is a warning, and all are looked at.
const maxWarnings = 65535

// keepWarnings has the server keep as many of a statement's warnings as it can, which
// MySQL allows to privileged accounts only: with fewer, rows of which some are there
// already go by INSERT.
func (s *session) keepWarnings(ctx context.Context) error {
	_, err := s.execText(ctx, "SET max_error_count="+strconv.Itoa(maxWarnings))
	if err != nil && mysqlerr.Classify(err) != mysqlerr.AccessDenied {
		return err
	}
	return s.query(ctx, append(s.statement(), "SELECT @@SESSION.max_error_count"...), func(values []driver.Value) error {
		var err error
		s.warnings, err = strconv.Atoi(warningText(values[0]))
		return err
	})
}

// maxLoadBytes bounds one LOAD DATA: a chunk is one, though it may be somewhat larger than
// planned. Its lines are made in pieces while they are sent.
const maxLoadBytes = 2 * loadedChunkBytes

// errBulkInexact says that LOAD DATA did not leave on the target what it was given. Its
// transaction must be rolled back; INSERT then carries the rows, or says what is wrong
// with them.
var errBulkInexact = errors.New("LOAD DATA did not take the rows as they are")

// bulkReaders numbers the readers that are registered with the driver, whose names are
// the process's.
var bulkReaders atomic.Uint64

// bulk reports whether LOAD DATA carries all columns of the table exactly.
func (l *tableLayout) bulk() bool {
	for _, c := range l.writable {
		if !l.columns[c].Bulk() {
			return false
		}
	}
	return true
}

// bulkLoads reports whether rows are copied to a server by LOAD DATA, with Config.BulkLoad as
// given, where the table allows it.
func bulkLoads(srv *server.Server, setting string) bool {
	return srv.LocalInfile && setting != bulkLoadOff
}

// loads reports whether the table's rows are copied by LOAD DATA.
func (l *tableLayout) loads(srv *server.Server, setting string) bool {
	return bulkLoads(srv, setting) && l.bulk() && l.scope == nil
}

// loadAbsent is insertAbsent by LOAD DATA LOCAL. LOCAL makes every error a warning and
// skips the row or bends the value, so nothing is believed: the rows taken and the
// duplicates left out must add up to the rows given, with no other warning.
func (w *tableWriter) loadAbsent(ctx context.Context, s *session, rows *codec.Rows) (skipped []string, err error) {
	var inserted int64
	for from := 0; from < rows.Len(); {
		row, size := from, 0
		for ; row < rows.Len() && row-from < maxWarnings && size < maxLoadBytes; row++ {
			size += rows.RowBytes(row)
		}
		lines := codec.NewBulkReader(rows, from, row, w.layout.writable, s.data)
		n, err := w.load(ctx, s, lines)
		s.data = lines.Memory()
		if err != nil {
			return nil, err
		}
		if err := w.reconcile(ctx, s, row-from, int(n)); err != nil {
			return nil, err
		}
		inserted += n
		from = row
	}
	if inserted == int64(rows.Len()) || !w.layout.secondaryUnique {
		return nil, nil
	}
	return w.missing(ctx, s, allRows(rows))
}

// load sends lines and returns how many rows the server stored.
func (w *tableWriter) load(ctx context.Context, s *session, lines io.Reader) (int64, error) {
	name := "ghostferry-" + strconv.FormatUint(bulkReaders.Add(1), 10)
	mysql.RegisterReaderHandler(name, func() io.Reader { return lines })
	defer mysql.DeregisterReaderHandler(name)
	stmt := append(s.statement(), "LOAD DATA LOCAL INFILE 'Reader::"...)
	stmt = append(append(stmt, name...), "' INTO TABLE "...)
	stmt = append(append(stmt, w.quoted...), codec.BulkFormat...)
	stmt = append(append(append(stmt, " ("...), w.layout.columnNames...), ')')
	n, err := s.exec(ctx, stmt)
	if slices.Contains(localRefused, mysqlerr.Number(err)) || mysqlerr.Classify(err) == mysqlerr.PacketTooBig {
		return 0, fmt.Errorf("%w: %w", errBulkInexact, err)
	}
	return n, err
}

// localRefused are a server's errors when it, or something before it, does not take
// LOCAL after all: ER_NOT_ALLOWED_COMMAND, ER_CLIENT_LOCAL_FILES_DISABLED, MariaDB's
// ER_LOAD_INFILE_CAPABILITY_DISABLED, and what proxies answer that do not know the command:
// ER_UNKNOWN_COM_ERROR, ER_NOT_SUPPORTED_YET.
var localRefused = []uint16{1148, 3948, 4166, 1047, 1235}

// duplicateEntry is the number of the warning for a row left out, as text.
const duplicateEntry = "1062"

// reconcile compares what the last LOAD DATA says it did with what it was given.
func (w *tableWriter) reconcile(ctx context.Context, s *session, given, stored int) error {
	duplicates, listed, other := 0, 0, ""
	err := s.query(ctx, append(s.statement(), "SHOW WARNINGS"...), func(values []driver.Value) error {
		listed++
		if code := warningText(values[1]); code == duplicateEntry {
			duplicates++
		} else if other == "" {
			other = code + " " + mysqlerr.Redact(warningText(values[2]))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return loadVerdict(given, stored, duplicates, listed, s.warnings, other)
}

// loadVerdict is nil when the rows given were stored or left out as duplicates, each of
// them, and nothing else was done to any. listed are the warnings looked at and kept how
// many of a statement the server keeps; other describes one that is of no duplicate.
func loadVerdict(given, stored, duplicates, listed, kept int, other string) error {
	switch {
	case other != "":
		return fmt.Errorf("%w: %s", errBulkInexact, other)
	case listed >= kept && listed < given: // there may be more
		return fmt.Errorf("%w: %d warnings are listed, which is as many as the server keeps", errBulkInexact, listed)
	case stored+duplicates != given:
		return fmt.Errorf("%w: %d rows given, %d stored, %d duplicates", errBulkInexact, given, stored, duplicates)
	}
	return nil
}

func warningText(v driver.Value) string {
	switch x := v.(type) {
	case []byte:
		return string(x)
	default:
		return fmt.Sprint(x)
	}
}
