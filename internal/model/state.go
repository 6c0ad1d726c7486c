package model

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// Bounds of the arrays in a state. Configurations use less.
const (
	maxKeys   = 3
	maxLog    = 7
	maxChunks = 2
	maxLanes  = 2
)

// noKey stands for "no key" where a key is packed into two bits.
const noKey = 3

// img is the image of a row: 0 when the row is absent, else its unique value
// (bits 0-1, 0 is NULL), its variant (bit 2), its era (bit 3) and its stamp
// (bits 4-7). The variant is the row's owner under a row filter (set: another
// tenant's) or the spelling of its key under a collation (set: upper case). The
// era is set in rows written after the source lost the end of its log. The
// stamp says who wrote the row: stampInitial, or 2+i for log entry i.
type img uint8

const (
	imgUnique  img = 3
	imgVariant img = 4
	imgEra     img = 8

	stampInitial  = 1
	stampLog      = 2  // entry i of the log has stamp 2+i
	stampPrepared = 12 // of an XA transaction that is prepared
	stampTrigger  = 13
	stampStale    = 14 // left on the target by an earlier run
	stampForeign  = 15 // another tenant's row on the target, not from this source
)

func newImg(unique, stamp uint8) img { return img(unique) | img(stamp<<4) }

func (x img) unique() uint8 { return uint8(x & imgUnique) }
func (x img) stamp() uint8  { return uint8(x >> 4) }
func (x img) variant() bool { return x&imgVariant != 0 }

// event is an entry of the log: one row change, old and new key in bits 0-3 of
// a, flags above, and the new image. A marker (an XA PREPARE) has no keys.
type event struct {
	a uint8
	x img
}

const (
	evEnd    = 1 << 4 // last entry of its transaction
	evXA     = 1 << 5 // row of an XA transaction, placed at its XA COMMIT
	evHidden = 1 << 6 // the streamer does not see it
	evMover  = 1 << 7 // written by the mover: never allowed
)

// Markers are entries without keys.
const (
	markPrepare  img = 1 // XA PREPARE: the rows are in state.xa
	markRollback img = 2 // XA ROLLBACK
)

func newEvent(from, to uint8, x img) event { return event{from | to<<2, x} }

func (e event) old() uint8 { return e.a & 3 }
func (e event) new() uint8 { return e.a >> 2 & 3 }
func (e event) end() bool  { return e.a&evEnd != 0 }

// touches is the set of keys that the change names, as a bit mask.
func (e event) touches() (keys uint8) {
	if k := e.old(); k != noKey {
		keys |= 1 << k
	}
	if k := e.new(); k != noKey {
		keys |= 1 << k
	}
	return keys
}

func (e event) apply(r *rows) {
	if k := e.old(); k != noKey {
		r[k] = 0
	}
	if k := e.new(); k != noKey {
		r[k] = e.x
	}
}

// rows is the content of a table.
type rows [maxKeys]img

// Halves of an element of state.wait.
const (
	waitGates = 0x0f
	waitLeave = 4 // shift
)

// Where a chunk's copier stands.
const (
	chIdle     = iota
	chNoted    // mutant: delivered position noted, gate not yet registered
	chOpen     // gate open, d recorded
	chBarrier  // everything up to d is visible, or the locking read has begun
	chRead     // rows in the buffer
	chExecuted // rows inserted on the target, COMMIT not sent
	chUnknown  // COMMIT sent, connection lost
	chWritten  // COMMIT known to have succeeded
)

// chunk is one chunk and the copier that works on it. All of it is lost when
// the mover dies; what survives is the chunk's mark on the target.
type chunk struct {
	pc    uint8
	d     uint8 // delivered position when the gate opened
	h     uint8 // log end after the read
	locks uint8 // source keys locked by its reading transaction
	todo  uint8 // keys that the locking read has not reached
	lost  uint8 // the reading transaction died, and its locks with it
	buf   rows
}

// Where cutover stands.
const (
	cutRunning = iota
	cutBlocked // the host stopped the writes
	cutE       // stop position read
)

// Why a run is over.
const (
	runs          = iota
	haltDone      // the mover says that both sides are equal
	haltConflict  // a foreign row holds our key or unique value
	haltRefused   // the source lost transactions that we executed
	haltLateWrite // an in-scope change after the stop position
	haltMismatch  // the verifier reported a difference
	haltLedger    // the ledger of debts does not balance
	haltDuplicate // error 1062, or a row missing, where neither may be
)

// txn is a target transaction that has been executed: what it writes when it
// commits, and the locks that it holds until then. A state keeps at most one
// undecided; the others execute and commit in one step.
type txn struct {
	state uint8 // see the txn constants
	op    uint8 // see the op constants
	owner uint8 // lane, or maxLanes + chunk
	epoch uint8
	final uint8 // a lane's: its last of the batch, commits the position
	pos   uint8 // position that it commits, or the log end after a chunk's read
	end   uint8 // a lane's: the end of its batch
	keys  uint8 // keys it was asked to write
	inUpd uint8 // of these, keys to update in place
	wrote uint8 // keys it writes
	skip  uint8 // keys skipped because another row holds their unique value
	lockK uint8 // target keys that it locks
	lockV uint8 // unique values that it locks
	fail  uint8 // the halt that it leads to
	in    rows  // what it was asked to write
	rows  rows  // what it writes, 0 is a delete
}

const (
	txnNone       = iota
	txnOpen       // executed, COMMIT not sent
	txnFlying     // COMMIT sent, connection lost: lands later or is rolled back
	txnOrphan     // the same, and the mover that sent it is dead
	txnCommitted  // landed, its sender does not know yet
	txnRolledBack // gone, its sender does not know yet
	txnStale      // not executed yet: in the hands of a stopped mover or of a slow network
)

// What a target transaction does with its keys.
const (
	opInsert  = iota // insert what is absent, skip what conflicts
	opDelete         // delete
	opUpsert         // make the row so, whatever is there
	opReplace        // delete, then insert what is absent
	opWritten        // already worked out by its sender
)

// durable is what the target keeps.
type durable struct {
	t      rows
	pos    [maxLanes]uint8
	marks  uint8            // chunks finished
	ends   [maxChunks]uint8 // log end after the read of a finished chunk
	fix    uint8            // chunks to be emptied, before anything else is written
	again  uint8            // chunks emptied, to be copied again
	debt   [maxKeys]uint8   // skipped keys: 1 + log end that bounds the pending change
	intent uint8            // highest batch end that any lane has begun
	index  uint8            // unique index, see the index constants
	two    uint8            // the table has gone over to two phases
}

// Where a deferred unique index stands.
const (
	indexAbsent = iota
	indexBuilding
	indexPresent
)

// state is everything. It holds bytes only, so that it can be hashed as memory.
type state struct {
	// source
	init    rows
	log     [maxLog]event
	n       uint8 // length of the log
	vis     uint8 // entries whose transaction is engine-committed
	pre     uint8 // entries that the start position includes
	app     uint8 // transactions written
	src     uint8 // see the src flags
	xa      [2]event
	xaN     uint8 // rows of the XA transaction that is prepared, 0 none
	rolling uint8 // 1 + key locked by a transaction that will be rolled back
	common  uint8 // log length that survived the source's loss

	// streamer (volatile)
	dlv   uint8         // entries delivered
	wait  [maxLog]uint8 // per entry: chunks whose gate it waits for, keys it leaves to the copy
	mutex uint8         // mutant: held by the streamer while the queue is full

	// copiers (volatile)
	ch      [maxChunks]chunk
	planMax uint8 // 1 + highest key that the plan covers

	// applier (volatile)
	from  uint8           // where this mover's stream began
	floor uint8           // what was executed before the last crash reaches to here
	m     uint8           // entries executed as whole batches
	bEnd  uint8           // end of the batch in execution, 0 when none
	upd   uint8           // keys that it updates in place
	lane  [maxLanes]uint8 // see the lane constants
	done  uint8           // entries executed ahead of a held batch

	durable // the target, from here to disk
	epoch   uint8
	disk    durable // what a crash of the target falls back to
	onDisk  uint8   // disk is set

	z txn // the undecided transaction

	ver verifier

	// mover
	up    uint8
	cut   uint8
	e     uint8 // stop position
	halt  uint8
	ghost uint8 // what must never happen, see the ghost flags

	crashes, faults uint8 // spent
}

// verifier compares one key at a time. Volatile.
type verifier struct {
	pc, key uint8
	d       uint8 // delivered position before the source read
	h       uint8 // log end after it
	x, y    img
	claim   [maxKeys]uint8 // 1 + position at which the key was found equal
}

// Flags of state.src.
const (
	srcStarted = 1 << iota // the start position is fixed
	srcPlanned             // the end of the plan is fixed
	srcMoved               // the end of the log was lost, the mover has not noticed
	srcEra                 // it has
	srcXA                  // an XA transaction was prepared once
)

// ready says whether the mover is under way.
func (s *state) ready() bool { return s.src&(srcStarted|srcPlanned) == srcStarted|srcPlanned }

// Where a lane stands in its batch.
const (
	laneNone    = iota
	lanePhase1  // deleted and committed
	laneDone    // written and committed
	laneUnknown // COMMIT sent, connection lost
	laneAt      // mutant: laneAt+i, entries up to i executed one by one
)

// Flags of state.ghost.
const (
	ghostFenced = 1 << iota // a transaction of an old epoch committed
	ghostTwice              // a batch committed twice
	ghostClaim              // the verifier said what is not so
)

// bytes is the state as memory. Every field is made of bytes, so there is no
// padding.
func (s *state) bytes() *[unsafe.Sizeof(state{})]byte {
	return (*[unsafe.Sizeof(state{})]byte)(unsafe.Pointer(s))
}

// hash is a 64-bit fingerprint: multiply and fold, eight bytes at a time.
func (s *state) hash() uint64 {
	const k0, k1 = 0x9e3779b97f4a7c15, 0xd6e8feb86659fd93
	b := s.bytes()[:]
	h := uint64(k1)
	for ; len(b) >= 8; b = b[8:] {
		hi, lo := bits.Mul64(h^binary.LittleEndian.Uint64(b), k0)
		h = hi ^ lo ^ k1
	}
	var tail [8]byte
	copy(tail[:], b)
	hi, lo := bits.Mul64(h^binary.LittleEndian.Uint64(tail[:]), k0)
	hi, lo = bits.Mul64(hi^lo, k1)
	return hi ^ lo
}

// rowsAt is S_p: the source after the first p entries of its log.
func (s *state) rowsAt(p uint8) rows {
	r := s.init
	for i := range p {
		s.log[i].apply(&r)
	}
	return r
}

// visible is what a plain consistent read sees.
func (s *state) visible() rows {
	r := s.init
	for i := range s.n {
		if s.vis>>i&1 != 0 {
			s.log[i].apply(&r)
		}
	}
	return r
}

// txnEnd is the position after the transaction that entry i belongs to.
func (s *state) txnEnd(i uint8) uint8 {
	for i < s.n && !s.log[i].end() {
		i++
	}
	return i + 1
}

// lastEnd is the last transaction end at or before position p.
func (s *state) lastEnd(p uint8) uint8 {
	for p > 0 && !s.log[p-1].end() {
		p--
	}
	return p
}

// p is the durable position: with LanePositions the least of the lanes'.
func (d *durable) p(c *Config) uint8 {
	p := d.pos[0]
	for _, q := range d.pos[1:c.Lanes] {
		if c.on[LanePositions] {
			p = min(p, q)
		}
	}
	return p
}

func span(from, to uint8) uint8 { return 1<<to - 1<<from }
