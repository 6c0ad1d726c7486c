package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/shop"
)

// screen keeps what the demo and copydb tell, and calls a function at the first line that
// contains a text, before whoever told it goes on.
type screen struct {
	at   string
	call func() error

	mu     sync.Mutex
	text   bytes.Buffer
	called bool
	err    error
}

func (s *screen) Write(line []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(line)
	if s.call != nil && !s.called && bytes.Contains(line, []byte(s.at)) {
		s.called, s.err = true, s.call()
	}
	return len(line), nil
}

// TestDemo runs small demos, each on one flavour, which its name decides: few rows, and an
// application that leaves the processors to other tests.
func TestDemo(t *testing.T) {
	copydb := &mover{path: filepath.Join(t.TempDir(), "copydb")}
	for name, run := range map[string]func(t *testing.T, d *demo, s *screen){"equal": endsEqual, "different": findsWhatDiffers} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, setting := range harness.OneFlavour(t) {
				t.Run(string(setting.Flavour), func(t *testing.T) {
					t.Parallel()
					s := &screen{}
					d := &demo{console: &console{out: s, begun: time.Now()}, flavour: setting.Flavour, rows: 20_000, rate: 120, copydb: copydb}
					defer func() {
						if t.Failed() {
							t.Log(s.text.String())
						}
					}()
					run(t, d, s)
				})
			}
		})
	}
}

// The writer is stopped on the source and goes on on the target, and every row of every
// table is equal.
func endsEqual(t *testing.T, d *demo, s *screen) {
	r, err := d.run(t.Context())
	require.NoError(t, err)
	require.Equal(t, "equal", r.Result)
	require.Equal(t, len(shop.Tables()), r.Tables)
	require.GreaterOrEqual(t, r.Rows, int64(d.rows))
	require.Positive(t, r.BinlogRowsApplied)
	require.Positive(t, r.WriterTxPerS)
	require.True(t, strings.HasPrefix(r.Server, string(d.flavour)+" "), r.Server)

	require.True(t, d.fence.closed())
	require.True(t, d.fence.opened())
	require.Positive(t, r.WriteBlockMS)
	for _, told := range []string{"lock: the source is read-only", "unlock: the application goes on on the target", "all equal", "the shop is open on the target"} {
		require.Equal(t, 1, strings.Count(s.text.String(), told), told)
	}
}

// The comparison at the end is worth something: a row of the target that is changed past
// the binary log after copydb has compared it is found and named.
func findsWhatDiffers(t *testing.T, d *demo, s *screen) {
	var id int64
	s.at, s.call = "unlock: ", func() (err error) {
		id, err = d.changeBehind(t.Context())
		return err
	}
	r, err := d.run(t.Context())
	require.ErrorContains(t, err, "source and target differ in 1 places")
	require.True(t, s.called)
	require.NoError(t, s.err)
	require.NotNil(t, r)
	require.Equal(t, "different", r.Result)
	require.Equal(t, len(shop.Tables()), r.Tables)
	require.Contains(t, s.text.String(), fmt.Sprintf("DIFFERENT  shop.customers (id=%d): differs in remark: ", id))
	require.Contains(t, s.text.String(), "NOT EQUAL")
	require.NotContains(t, s.text.String(), "the shop is open on the target")
}

// changeBehind changes a row of the target without a word in its binary log.
func (d *demo) changeBehind(ctx context.Context) (id int64, err error) {
	conn, err := d.targetRoot.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	if err := conn.QueryRowContext(ctx, "SELECT MIN(id) FROM "+database+".customers").Scan(&id); err != nil {
		return 0, err
	}
	for _, statement := range []string{
		"SET SESSION sql_log_bin = 0",
		fmt.Sprintf("UPDATE %s.customers SET remark = 'changed behind the demo' WHERE id = %d", database, id),
		"SET SESSION sql_log_bin = 1",
	} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return 0, err
		}
	}
	return id, nil
}

// A writer that was too slow fails the demo as people run it, and no smaller one.
func TestDemoNeedsAWriterThatKeepsUp(t *testing.T) {
	require.NoError(t, tooSlow(defaultRows, minimumRate))
	require.ErrorContains(t, tooSlow(defaultRows, minimumRate-1), "299 transactions a second on average, 300 are wanted")
	require.NoError(t, tooSlow(20_000, minimumRate-1))
}
