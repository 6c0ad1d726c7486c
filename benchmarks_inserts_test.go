package ghostferry

import (
	"context"
	"database/sql/driver"
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/server"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// BenchmarkInsertForms writes chunks of 2,000 rows like sysbench's (195 bytes), a transaction
// each, to a real server: by the text that the engine sends, by prepared statements of
// several sizes, and by LOAD DATA. It reports the CPU time of both sides and the time by row
// (docs/decisions/020-text-inserts.md).
// It starts servers, and its figures are those of a machine that does nothing else, so it
// is no part of what is run often:
//
//	GHOSTFERRY_SERVER_BENCHMARKS=1 go test -run '^$' -bench InsertForms -benchtime 20x .
func BenchmarkInsertForms(b *testing.B) {
	if os.Getenv("GHOSTFERRY_SERVER_BENCHMARKS") == "" {
		b.Skip("it starts servers, with GHOSTFERRY_SERVER_BENCHMARKS=1 only")
	}
	const chunkRows = 2000
	forms := []struct {
		name  string
		write func(ctx context.Context, w *tableWriter, s *session, rows *codec.Rows) error
	}{
		{"text", func(ctx context.Context, w *tableWriter, s *session, rows *codec.Rows) error {
			_, err := w.insertAbsent(ctx, s, allRows(rows))
			return err
		}},
		{"prepared-2000", preparedInsert(2000)},
		{"prepared-500", preparedInsert(500)},
		{"prepared-100", preparedInsert(100)},
		{"load-data", func(ctx context.Context, w *tableWriter, s *session, rows *codec.Rows) error {
			_, err := w.loadAbsent(ctx, s, rows)
			return err
		}},
	}
	for _, flavour := range []servers.Flavour{servers.MySQL, servers.MariaDB} {
		for _, form := range forms {
			b.Run(string(flavour)+"/"+form.name, func(b *testing.B) {
				ctx := b.Context()
				running := testServer(b, flavour)
				config := testDatabaseConfig(running)
				require.NoError(b, config.Validate())
				db, err := config.SqlDB(nil)
				require.NoError(b, err)
				defer func() { require.NoError(b, db.Close()) }()
				for _, stmt := range []string{
					"SET GLOBAL local_infile=1", "DROP DATABASE IF EXISTS insert_forms", "CREATE DATABASE insert_forms",
					"CREATE TABLE insert_forms.t (id INT NOT NULL PRIMARY KEY, k INT NOT NULL, c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL, KEY k (k)) DEFAULT CHARSET=utf8mb4",
				} {
					_, err := db.ExecContext(ctx, stmt)
					require.NoError(b, err, stmt)
				}
				srv, err := server.Detect(ctx, db)
				require.NoError(b, err)
				s, err := openWriter(ctx, db, srv)
				require.NoError(b, err)
				defer s.discard()
				require.NoError(b, s.keepWarnings(ctx))
				w := benchWriter(b, "insert_forms", "t", srv.UpsertRowAlias(), srv.MaxAllowedPacket)
				written := 0
				chunk := func() {
					rows := sysbenchRows(written+1, chunkRows)
					require.NoError(b, form.write(ctx, w, s, rows))
					require.NoError(b, s.commit(ctx))
					written += chunkRows
				}
				for range 3 {
					chunk()
				}
				before, moverBefore := serverCPU(b, running), moverCPU(b)
				warm := written
				for b.Loop() {
					chunk()
				}
				rows := float64(written - warm)
				b.ReportMetric((serverCPU(b, running)-before)/rows*1e6, "server-µs/row")
				b.ReportMetric((moverCPU(b)-moverBefore)/rows*1e6, "mover-µs/row")
				b.ReportMetric(b.Elapsed().Seconds()/rows*1e6, "µs/row")
			})
		}
	}
}

func sysbenchRows(from, n int) *codec.Rows {
	rows := codec.NewRows(4, n, 200*n)
	text := []byte(strings.Repeat("83868641912-", 10))
	for i := range n {
		rows.Add([]byte(strconv.Itoa(from + i)))
		rows.Add([]byte(strconv.Itoa((from + i) * 7919 % 1000003)))
		rows.Add(text)
		rows.Add(text[:60])
	}
	return rows
}

// preparedInsert writes by a statement of so many rows, prepared once a session.
func preparedInsert(rowsAtOnce int) func(ctx context.Context, w *tableWriter, s *session, rows *codec.Rows) error {
	var prepared driver.Stmt
	var of *session
	var args []driver.NamedValue
	return func(ctx context.Context, w *tableWriter, s *session, rows *codec.Rows) error {
		return s.conn.Raw(func(dc any) (err error) {
			if of != s {
				text := w.head + strings.TrimSuffix(strings.Repeat("(?,?,?,?),", rowsAtOnce), ",") + w.absent
				preparer, ok := dc.(driver.ConnPrepareContext)
				if !ok {
					return errors.New("the driver does not prepare")
				}
				if prepared, err = preparer.PrepareContext(ctx, text); err != nil {
					return err
				}
				of, args = s, make([]driver.NamedValue, 4*rowsAtOnce)
			}
			execer, ok := prepared.(driver.StmtExecContext)
			if !ok {
				return errors.New("the driver does not execute")
			}
			for from := 0; from < rows.Len(); from += rowsAtOnce {
				for i := range rowsAtOnce {
					for c := range 4 {
						arg := &args[4*i+c]
						arg.Ordinal = 4*i + c + 1
						if v := rows.Value(from+i, c); c < 2 {
							n, err := strconv.ParseInt(string(v), 10, 64)
							if err != nil {
								return err
							}
							arg.Value = n
						} else {
							arg.Value = v
						}
					}
				}
				if _, err := execer.ExecContext(ctx, args); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func serverCPU(b *testing.B, s *servers.Server) float64 {
	b.Helper()
	seconds, err := s.CPUSeconds()
	require.NoError(b, err)
	return seconds
}

func moverCPU(b *testing.B) float64 {
	b.Helper()
	var use syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &use))
	return float64(use.Utime.Nano()+use.Stime.Nano()) / 1e9
}
