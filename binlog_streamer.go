package ghostferry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/ghostferry-go/ghostferry/internal/binlog"
	"github.com/ghostferry-go/ghostferry/internal/codec"
	"github.com/ghostferry-go/ghostferry/internal/mysqlerr"
	"github.com/ghostferry-go/ghostferry/internal/retry"
	"github.com/ghostferry-go/ghostferry/internal/server"
	sql "github.com/ghostferry-go/ghostferry/sqlwrapper"
)

const (
	// defaultHeartbeatPeriod leaves a server that stalls for some seconds its stream.
	defaultHeartbeatPeriod = 5 * time.Second
	// caughtUpLag is the age of the newest event below which a stream counts as caught up.
	caughtUpLag = 10 * time.Second
)

// BinlogEventState is the bookkeeping of one event that custom handlers are given.
type BinlogEventState struct {
	end BinlogCoordinate
}

// BinlogStreamer follows a server's binary log as a replica and turns the row events of
// known tables into DMLEvents for its listeners, in log order. Events that it neither
// understands nor can prove irrelevant end the stream with their coordinate.
//
// Connect… fixes where it starts, Run follows the log, FlushAndStop ends it at the
// log's end of that moment. A literal with DB and DBConfig works by itself.
type BinlogStreamer struct {
	// DB is a pool on the same server.
	DB *sql.DB
	// DBConfig says how to connect for replication.
	DBConfig *DatabaseConfig
	// MyServerId is the replica id; 0 is replaced by a random one that is not in use.
	MyServerId uint32
	// ErrorHandler gets what Run cannot return; without one it is logged.
	ErrorHandler ErrorHandler
	// Filter decides which row changes belong to the move; nil takes all.
	Filter CopyFilter
	// TableSchema are the tables of interest.
	TableSchema TableSchemaCache
	// LogTag names the stream in the log; "binlog_streamer" when empty.
	LogTag string
	// DatabaseRewrites and TableRewrites map streamed names to those of TableSchema.
	DatabaseRewrites map[string]string
	TableRewrites    map[string]string
	// HeartbeatPeriod is how often an idle source says that it is alive and where its log
	// stands; 0 means 5 s. A link that is silent for two periods is taken for dead and
	// made anew. Set it before Run.
	HeartbeatPeriod time.Duration

	// own, when set, tells which statements are ours: rows that they changed are passed
	// over without decoding, and what they define is no surprise.
	own func(statement []byte) bool
	// ownWords is up to where what a server logs in its own words may be ours, too.
	ownWords BinlogCoordinate
	// statements asks for the statements of rows, of which listeners of the host's may want the
	// comment: a TargetVerifier that was made as a literal does.
	statements bool
	// exempt, when set, tells which tables may be changed by anybody up to a place.
	exempt func(table *TableSchema, at BinlogCoordinate) bool

	shared *SharedStreamer // nil: connections of its own only
	tap    *SharedStreamer // told of every event: this is its stream

	patience    *patience
	unconfirmed *unconfirmedReads // what was read of the server; nil: nothing
	// restarted is told when the server was found restarted, with everything; may be nil.
	restarted func(ctx context.Context, source sourceProcess) error
	logger    Logger
	metrics   *Metrics
	srv       *server.Server
	listeners []func([]DMLEvent) error
	// onEnd is told where transactions end; the Ferry's writer.
	onEnd    []func(transactionEnd)
	handlers map[replication.EventType]func(*replication.BinlogEvent, []byte, *BinlogEventState) ([]byte, error)

	// owned by the goroutine that handles events
	ctx        context.Context          // ends with the connection
	raw        rawEvent                 // the event that is being handled, unless it is inside another
	packet     *replication.BinlogEvent // that event, when nobody else has it
	arena      codec.Arena              // memory of decoded rows
	txn        *sourceTxn               // nil outside a transaction
	explicit   bool                     // BEGIN was seen: only COMMIT, ROLLBACK or XID ends it
	held       *heldEnd                 // of the compressed transaction being read; nil outside of one
	xa         xaState
	reach      statementReach
	rowEvents  int            // row events of our tables in the transaction
	handed     bool           // listeners were given rows of it
	savepoints map[string]int // rowEvents at each savepoint; nil without any
	query      []byte         // statement of the row events that follow: its leading comment, or all of it for custom handlers
	tableIDs   map[uint64]*streamedTable
	failure    error       // what handling an event failed with
	seat       *sharedSeat // asked for or taken; nil: none
	joined     time.Time   // when a seat was asked for last
	lagTold    time.Time   // when the lag was sent as a metric last
	memo       *sharedRows // of the shared event being handled; nil: it is unwrapped, or nobody shares it
	// watched has the tables of which rows of somebody else were seen, where own is set.
	watched map[*TableSchema]*watchedColumns
	// byName has TableSchema by the names on the streamed server, folded where it folds them; made when first asked.
	byName map[TableIdentifier]*TableSchema

	stamped uint32 // time of the last event; owned by the goroutine that handles events
	clock   serverClock

	mu       sync.Mutex
	start    BinlogCoordinate  // where to connect: the end of the last whole transaction, or the head of a file that came after it
	executed *binlog.GTIDSet   // the same as a set; nil without GTIDs
	decided  *binlog.GTIDSet   // executed without undecided XA PREPAREs (MySQL); nil: there are none
	hold     *BinlogCoordinate // the end before the first undecided XA PREPARE; nil: start
	file     string            // file being streamed
	pos      uint64            // end of the last event in it
	mark     logMark           // of the last transaction's end, zero when none is known
	broken   logMark           // of one behind it that was not delivered whole before its connection broke; zero: there is none
	streamed BinlogCoordinate  // last transaction end or heartbeat
	stopAt   BinlogCoordinate
	inTxn    bool
	stopped  chan struct{}              // closed when stopAt is reached
	waiting  *PreparedTransactionsError // undecided XA transactions that changed our tables; nil: none
	process  sourceProcess              // that is followed
	eventAt  time.Time                  // time by the source's clock of the last event, or of a heartbeat
	started  bool
}

// streamedTable is a table id of the stream: which table it is, nil when not ours.
type streamedTable struct {
	raw    []byte
	mapped *codec.TableMap
	table  *TableSchema
	layout *tableLayout
	// columns are its rows' in the log, order where those of the layout stand among them; nil: one to one.
	columns []codec.Column
	order   []int
}

// AddEventListener appends a listener for the row events of one binary log event.
// Listeners are called in registration order on the streaming goroutine; an error
// ends the stream.
func (s *BinlogStreamer) AddEventListener(listener func([]DMLEvent) error) {
	s.listeners = append(s.listeners, listener)
}

// AddBinlogEventHandler replaces the handling of one type of event, before Run. The
// handler gets the event, the current statement's text and its state, and returns the
// statement's text from then on. An unknown type is an error.
func (s *BinlogStreamer) AddBinlogEventHandler(evType replication.EventType, eh func(*replication.BinlogEvent, []byte, *BinlogEventState) ([]byte, error)) error {
	if evType.String() == "UnknownEvent" {
		return fmt.Errorf("there is no binary log event of type %d", evType)
	}
	if s.handlers == nil {
		s.handlers = map[replication.EventType]func(*replication.BinlogEvent, []byte, *BinlogEventState) ([]byte, error){}
	}
	s.handlers[evType] = eh
	return nil
}

// ConnectBinlogStreamerToMysql makes the stream start at what is committed now.
func (s *BinlogStreamer) ConnectBinlogStreamerToMysql() (mysql.Position, error) {
	at, err := s.connect(context.Background(), BinlogCoordinate{})
	return at.Position(), err
}

// ConnectBinlogStreamerToMysqlFrom makes the stream start at a position, which must be
// the end of a transaction.
func (s *BinlogStreamer) ConnectBinlogStreamerToMysqlFrom(startFromBinlogPosition mysql.Position) (mysql.Position, error) {
	at, err := s.connect(context.Background(), coordinateFromPosition(startFromBinlogPosition))
	return at.Position(), err
}

// connect fixes the start, reading it from the server when at is zero.
func (s *BinlogStreamer) connect(ctx context.Context, at BinlogCoordinate) (BinlogCoordinate, error) {
	s.initialize()
	var err error
	if s.srv == nil { // a literal
		s.statements = true
		if s.srv, err = server.Detect(ctx, s.DB); err != nil {
			return at, err
		}
	}
	if s.MyServerId == 0 {
		if s.MyServerId, err = s.unusedServerID(ctx); err != nil {
			return at, err
		}
	}
	s.releaseSeat() // of another beginning
	now := at.IsZero()
	if now && s.shared != nil {
		if s.seat, err = s.shared.begin(ctx, s); err != nil {
			return at, fmt.Errorf("beginning at the shared stream: %w", err)
		}
		if s.seat != nil {
			s.seat.first, at = true, s.seat.at
		}
	}
	if at.IsZero() {
		if at, err = committedCoordinate(ctx, s.DB, s.srv); err != nil {
			return at, fmt.Errorf("reading where the binary log stands: %w", err)
		}
	}
	var executed *binlog.GTIDSet
	if at.GTIDSet != "" || now && s.srv.GTIDMode && !s.srv.IsMariaDB() { // that of a new server is empty
		if executed, err = binlog.ParseGTIDSet(at.GTIDSet, s.srv.IsMariaDB()); err != nil {
			return at, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.start, s.executed, s.file = at, executed, at.File
	if at.GTIDSet == "" || s.srv.IsMariaDB() {
		s.streamed = at // MySQL's set decides alone, and the first event tells the place
	}
	s.started = true
	s.logger.WithField(fieldCoordinate, at.String()).Info("the stream starts here")
	return at, nil
}

// committedCoordinate returns a place in the log up to which everything is committed
// and visible: the end of the log would contain transactions that reads do not see yet.
func committedCoordinate(ctx context.Context, db *sql.DB, srv *server.Server) (BinlogCoordinate, error) {
	if srv.IsMariaDB() {
		s, err := openSession(ctx, db, srv, server.SourceSnapshot)
		if err != nil {
			return BinlogCoordinate{}, err
		}
		defer s.discard()
		at, err := srv.ConsistentSnapshot(ctx, s.conn)
		return BinlogCoordinate{File: at.File, Pos: at.Pos, GTIDSet: at.GTIDSet}, err
	}
	end, err := srv.LogEnd(ctx, db)
	at := BinlogCoordinate{File: end.File, Pos: end.Pos}
	if err != nil || !srv.GTIDMode {
		return at, err
	}
	at.GTIDSet, err = srv.ExecutedGTIDSet(ctx, db)
	if at.GTIDSet == "" {
		// A new server. A place with an empty set is a file and an offset to whoever goes on from
		// it, so it has to stand before what is in the log and still committing. All of that is in
		// the file that was the last one: a server begins another when the commits are done.
		at.Pos = fileHeader
	}
	return at, err
}

func (s *BinlogStreamer) initialize() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.LogTag == "" {
		s.LogTag = "binlog_streamer"
	}
	if s.logger == nil {
		s.logger = LogWithField("tag", s.LogTag)
	}
	if s.stopped == nil {
		s.stopped = make(chan struct{})
	}
	if s.tableIDs == nil {
		s.tableIDs = map[uint64]*streamedTable{}
	}
}

func (s *BinlogStreamer) unusedServerID(ctx context.Context) (uint32, error) {
	used, err := s.srv.ReplicaServerIDs(ctx, s.DB)
	if mysqlerr.Classify(err) == mysqlerr.AccessDenied {
		// A privilege that following the log does not need: a clash of random ids is
		// noticed by the server, which ends one of the two streams.
		s.logger.Debug("the account may not list the server's replicas; the replica id is random")
		used, err = nil, nil
	}
	if err != nil {
		return 0, fmt.Errorf("listing the server's replicas to choose a replica id: %w", err)
	}
	taken := map[uint32]bool{0: true, s.srv.ServerID: true}
	for _, id := range used {
		taken[id] = true
	}
	for {
		if id := rand.Uint32(); !taken[id] {
			return id, nil
		}
	}
}

// Run follows the log until FlushAndStop's position is reached; failures go to the
// ErrorHandler.
func (s *BinlogStreamer) Run() {
	if err := s.RunContext(context.Background()); err != nil {
		fatal(s.ErrorHandler, s.logger, "binlog_streamer", err)
	}
}

// RunContext follows the log until FlushAndStop's position is reached or the context
// ends. A broken connection is made anew at the end of the last whole transaction.
func (s *BinlogStreamer) RunContext(ctx context.Context) error {
	defer s.releaseSeat()
	s.initialize()
	if s.srv == nil || !s.started {
		if _, err := s.connect(ctx, BinlogCoordinate{}); err != nil {
			return err
		}
	}
	var broken time.Time // since when no connection has brought an event
	for failures := 0; ; {
		before := s.lastEvent()
		var err error
		// A source may have been restarted since Start, or while a shared stream was followed.
		if failures > 0 || s.unconfirmed != nil {
			err = s.checkServer(ctx)
		}
		if err == nil {
			err = s.stream(ctx)
		}
		var left *leftSharedError
		switch {
		case err == nil:
			s.unconfirmed.follows(sourceProcess{}) // nobody will look after it any more
			return s.undecidedError()
		case errors.Is(err, errJoinsShared):
			failures = 0
			continue
		case errors.As(err, &left) && ctx.Err() == nil:
			s.logger.WithError(err).Warn("the stream goes on with a connection of its own")
			s.joined = time.Now()
			continue
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !s.brokenStream(err):
			return fmt.Errorf("streaming the binary log: %w", s.cannotWatch(err))
		}
		if failures++; failures == 1 || s.lastEvent().After(before) {
			failures, broken = 1, time.Now()
		}
		if lasted := time.Since(broken); lasted >= s.patience.maximum() {
			return &OutageError{Server: s.patience.name(), Lasted: lasted, Err: fmt.Errorf("the binary log stream broke %d times without a new event: %w", failures, err)}
		}
		wait := min(100*time.Millisecond<<min(failures-1, 6), 5*time.Second)
		at := s.resumeFrom().String()
		line := s.logger.WithField(fieldCoordinate, at).WithError(err)
		log := line.Debugf
		if failures == 1 {
			log = line.Warnf
		}
		log("the binary log stream broke after %s; connecting again in %s", at, wait)
		connected := waitingFor(ctx, s.patience.outage())
		err = retry.Sleep(ctx, wait)
		connected()
		if err != nil {
			return context.Cause(ctx)
		}
	}
}

// resumeFrom returns where a new connection begins.
func (s *BinlogStreamer) resumeFrom() BinlogCoordinate {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.start
	from.GTIDSet = s.executed.String()
	return from
}

// laterFrom returns where a later process, which does not have what is prepared, begins.
func (s *BinlogStreamer) laterFrom() BinlogCoordinate {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, set := s.start, s.executed
	if s.hold != nil {
		from = *s.hold
		if !s.holes() {
			return from
		}
	}
	if s.decided != nil {
		set = s.decided
	}
	from.GTIDSet = set.String()
	return from
}

// holes reports whether sets of transactions can leave out one before others.
func (s *BinlogStreamer) holes() bool { return s.executed != nil && !s.srv.IsMariaDB() }

func (s *BinlogStreamer) lastEvent() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.eventAt
}

// GetLastStreamedBinlogPosition returns the end of the last transaction streamed, which
// is not necessarily applied.
func (s *BinlogStreamer) GetLastStreamedBinlogPosition() mysql.Position {
	return s.lastStreamed().Position()
}

func (s *BinlogStreamer) lastStreamed() BinlogCoordinate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streamed
}

// IsAlmostCaughtUp reports whether the newest event, or the last heartbeat of an idle
// server, is less than ten seconds old. Silence is not being caught up.
func (s *BinlogStreamer) IsAlmostCaughtUp() bool { return s.lag() < caughtUpLag }

// lag is the age of what was streamed last; very long before the first event.
func (s *BinlogStreamer) lag() time.Duration {
	at := s.lastEvent()
	if at.IsZero() {
		return 1<<63 - 1
	}
	return s.clock.age(at)
}
