package main

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

// place is the end of a transaction in the source's log: file and offset and, with MySQL,
// the transaction's number in the source's only sequence of GTIDs.
type place struct {
	mysql.Position
	gno int64
}

// change is a row that got another version. A version is the stamp that a trigger of the
// source gives to every image of a row; 0 is no row.
type change struct {
	at            place
	before, after uint64
}

// history is every change of the moved tables since the beginning, read from the
// source's log by go-mysql alone.
type history struct {
	flavour servers.Flavour
	server  *servers.Server
	keys    *keys

	from    mysql.Position
	changes map[string]map[string][]change // by "schema.table" and key
	count   int
}

// entry is a change whose transaction is still being read.
type entry struct {
	table, key    string
	before, after uint64
}

// catchUp reads the log up to its present end. Nobody writes meanwhile.
func (h *history) catchUp(ctx context.Context, db *sql.DB) error {
	end, err := logEnd(ctx, db, h.flavour)
	if err != nil || h.from.Compare(end) >= 0 {
		return err
	}
	syncer := replication.NewBinlogSyncer(replication.BinlogSyncerConfig{
		ServerID: 77_000_001, Flavor: string(h.flavour), Host: h.server.Host, Port: uint16(h.server.Port),
		User: h.server.User(), Password: h.server.Password(), DisableRetrySync: true, Logger: slog.New(slog.DiscardHandler),
	})
	defer syncer.Close()
	stream, err := syncer.StartSync(h.from)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var (
		gno     int64
		pending []entry
	)
	for h.from.Compare(end) < 0 {
		ev, err := stream.GetEvent(ctx)
		if err != nil {
			return fmt.Errorf("reading the source's log after %s up to %s: %w", h.from, end, err)
		}
		switch e := ev.Event.(type) {
		case *replication.RotateEvent:
			h.from = mysql.Position{Name: string(e.NextLogName), Pos: uint32(e.Position)}
			continue
		case *replication.GTIDEvent:
			gno = e.GNO
			continue
		case *replication.RowsEvent:
			if pending, err = h.rows(ctx, pending, e); err != nil {
				return err
			}
			continue
		case *replication.QueryEvent:
			if string(e.Query) == "BEGIN" {
				continue
			}
		case *replication.XIDEvent:
		case *replication.FormatDescriptionEvent, *replication.PreviousGTIDsEvent, *replication.MariadbGTIDListEvent, *replication.MariadbBinlogCheckPointEvent:
			if len(pending) > 0 || ev.Header.LogPos == 0 {
				continue
			}
		default:
			if ev.Header.EventType != replication.STOP_EVENT {
				continue
			}
		}
		if ev.Header.LogPos > 0 {
			h.from.Pos = ev.Header.LogPos
		}
		h.end(place{h.from, gno}, pending)
		pending = pending[:0]
	}
	return nil
}

// end gives the changes of a transaction their place.
func (h *history) end(at place, pending []entry) {
	for _, e := range pending {
		if h.changes[e.table] == nil {
			h.changes[e.table] = map[string][]change{}
		}
		h.changes[e.table][e.key] = append(h.changes[e.table][e.key], change{at, e.before, e.after})
		h.count++
	}
}

// rows appends the changes of one event.
func (h *history) rows(ctx context.Context, pending []entry, e *replication.RowsEvent) ([]entry, error) {
	name := string(e.Table.Schema) + "." + string(e.Table.Table)
	t := h.keys.tables[name]
	if t == nil {
		return pending, nil
	}
	kind := e.Type()
	for i := 0; i < len(e.Rows); i++ {
		row := e.Rows[i]
		key, err := h.keys.ofEvent(ctx, t, row)
		if err != nil {
			return nil, err
		}
		switch kind {
		case replication.EnumRowsEventTypeInsert:
			pending = append(pending, entry{name, key, 0, stampOf(row)})
		case replication.EnumRowsEventTypeDelete:
			pending = append(pending, entry{name, key, stampOf(row), 0})
		default:
			i++
			image := e.Rows[i]
			changed, err := h.keys.ofEvent(ctx, t, image)
			if err != nil {
				return nil, err
			}
			if changed == key {
				pending = append(pending, entry{name, key, stampOf(row), stampOf(image)})
				continue
			}
			pending = append(pending, entry{name, key, stampOf(row), 0}, entry{name, changed, 0, stampOf(image)})
		}
	}
	return pending, nil
}

// stampOf is the version of a row of the log: its last column.
func stampOf(row []any) uint64 {
	switch v := row[len(row)-1].(type) {
	case int64:
		return uint64(v)
	case uint64:
		return v
	}
	return 0
}

// logEnd is the end of the source's log.
func logEnd(ctx context.Context, db *sql.DB, flavour servers.Flavour) (mysql.Position, error) {
	query := "SHOW BINARY LOG STATUS"
	if flavour == servers.MariaDB {
		query = "SHOW MASTER STATUS"
	}
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		return mysql.Position{}, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return mysql.Position{}, err
	}
	var at mysql.Position
	values := []any{&at.Name, &at.Pos}
	for range names[2:] {
		values = append(values, new(sql.RawBytes))
	}
	if rows.Next() {
		err = rows.Scan(values...)
	}
	return at, firstOf(err, rows.Err())
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
