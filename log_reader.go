package ghostferry

import (
	"context"
	"fmt"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

// newLogReader returns a stream that does not run: it looks up places in a server's log.
func (f *Ferry) newLogReader(ctx context.Context, db *sql.DB, config *DatabaseConfig, srv *server.Server, tag string) (*BinlogStreamer, error) {
	s := f.newStreamer(db, config, tag)
	s.srv = srv
	var err error
	if s.MyServerId == 0 {
		s.MyServerId, err = s.unusedServerID(ctx)
	}
	return s, err
}

// withGTIDs adds to a place in the source's log the set of the transactions before it, where the
// source has GTIDs and whoever kept the place had only file and offset: an upstream state, or the
// place of an inline verifier. Without it the run would know a part of the set, the transactions
// that come from here on, and a later process would ask for all the others again.
func (f *Ferry) withGTIDs(ctx context.Context, at BinlogCoordinate) (BinlogCoordinate, error) {
	if at.File == "" || at.GTIDSet != "" || !f.sourceServer.IsMariaDB() && !f.sourceServer.GTIDMode {
		return at, nil
	}
	s, err := f.newLogReader(ctx, f.SourceDB, f.Source, f.sourceServer, "source_log_gtids")
	if err == nil {
		at.GTIDSet, err = s.gtidsUpTo(ctx, at)
	}
	if err != nil {
		err = fmt.Errorf("finding the GTIDs of the transactions before %s: %w", at, err)
	}
	return at, err
}

// gtidsUpTo returns the set of the transactions before a place outside of any.
func (s *BinlogStreamer) gtidsUpTo(ctx context.Context, at BinlogCoordinate) (string, error) {
	if s.srv.IsMariaDB() {
		return s.srv.GTIDsAt(ctx, s.DB, at.File, at.Pos)
	}
	// What is purged now lies before the place, whose file is read afterwards. As a rule the file
	// has it among the transactions before it, but gtid_purged can be added to.
	purged, err := s.srv.PurgedGTIDSet(ctx, s.DB)
	if err != nil {
		return "", err
	}
	before, err := s.srv.GTIDSetBefore(ctx, s.DB, at.File)
	if err != nil {
		return "", err
	}
	set, err := binlog.ParseGTIDSet(purged+","+before, false)
	if err != nil {
		return "", err
	}
	if err := s.addGTIDsInFile(ctx, at, set); err != nil {
		return "", err
	}
	return set.String(), nil
}

// addGTIDsInFile adds the transactions of one file (MySQL) that end at or before a place.
func (s *BinlogStreamer) addGTIDsInFile(ctx context.Context, at BinlogCoordinate, set *binlog.GTIDSet) error {
	link := &streamLink{}
	defer link.end()
	defer context.AfterFunc(ctx, link.end)()
	d, err := s.openDump(ctx, link, BinlogCoordinate{File: at.File, Pos: fileHeader})
	if err != nil {
		return err
	}
	for {
		ev, err := d.next()
		if err != nil {
			return err
		}
		if !isLogged(ev, fileHeader) {
			if endsFile(ev, at.File) {
				return &LostTransactionsError{Missing: "its log does not reach to " + at.String()}
			}
			continue
		}
		end := uint64(ev.Header.LogPos)
		// Upstream's places may be behind the event with the GTID: its transaction is still to come.
		if end < at.Pos {
			if err := addGTID(ev, set); err != nil {
				return fmt.Errorf("transaction id at %s:%d: %w", at.File, end, err)
			}
		}
		if end >= at.Pos {
			return nil
		}
	}
}

// endsFile reports whether a made-up event says that nothing more comes of a file.
func endsFile(ev *replication.BinlogEvent, file string) bool {
	if rotate, ok := ev.Event.(*replication.RotateEvent); ok {
		return string(rotate.NextLogName) != file
	}
	kind := ev.Header.EventType
	return kind == replication.HEARTBEAT_EVENT || kind == replication.HEARTBEAT_LOG_EVENT_V2
}

// addGTID adds the transaction that an event begins.
func addGTID(ev *replication.BinlogEvent, set *binlog.GTIDSet) error {
	parse := binlog.ParseGTID
	switch ev.Header.EventType {
	case replication.GTID_EVENT:
	case replication.GTID_TAGGED_LOG_EVENT:
		parse = binlog.ParseTaggedGTID
	default:
		return nil
	}
	generic, ok := ev.Event.(*replication.GenericEvent)
	if !ok {
		return fmt.Errorf("the event is a %T", ev.Event)
	}
	gtid, err := parse(generic.Data)
	if err == nil {
		set.Add(gtid)
	}
	return err
}
