package ghostferry

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/ghostferry-go/ghostferry/internal/codec"
)

// sharedEvent is one event for several subscribers. Immutable.
type sharedEvent struct {
	ev     *replication.BinlogEvent
	memo   *sharedRows
	bytes  int
	begins bool // no event: a connection has begun
}

// sharedRows keeps the rows that one subscriber has decoded of a row event for the others. Row
// events inside of a compressed transaction are none of its: each subscriber unwraps that for
// itself, piece by piece, and keeps no more of it than a stream of its own does.
type sharedRows struct {
	decoded *atomic.Uint64 // counts

	mu struct {
		sync.Mutex
		done []decodedRows
	}
}

// decodedRows are the rows of the event for tables of the same columns.
type decodedRows struct {
	columns []codec.Column
	rows    *codec.Rows
}

// rows returns the decoded rows of the event, decoding them at the first call.
func (m *sharedRows) rows(columns []codec.Column, decode func() (*codec.Rows, error)) (*codec.Rows, error) {
	if m == nil {
		return decode()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range m.mu.done {
		if slices.EqualFunc(d.columns, columns, decodedAlike) {
			return d.rows, nil
		}
	}
	rows, err := decode()
	if err == nil {
		m.decoded.Add(1)
		m.mu.done = append(m.mu.done, decodedRows{columns, rows})
	}
	return rows, err
}

// decodedAlike reports whether row events have the same values for two columns. What each move
// knows of the types in a JSON column is of its reads alone: events have them.
func decodedAlike(a, b codec.Column) bool {
	a.Leaves, b.Leaves = nil, nil
	return a == b
}

// sharedSeat is one subscriber's place at a shared stream: everything after at waits in
// its queue.
type sharedSeat struct {
	stream *SharedStreamer
	taken  chan struct{} // closed when at is set, or when it never will be
	more   chan struct{} // capacity 1: something was added, or it is over
	room   chan struct{} // capacity 1: something was taken

	// set before taken is closed
	at    BinlogCoordinate // outside of any transaction
	place BinlogCoordinate // where the next event begins
	first bool             // the move begins at it; owned by the subscriber

	// owned by the goroutine that streams
	credit time.Duration
	waited time.Time

	mu struct {
		sync.Mutex
		queue []*sharedEvent
		bytes int
		err   error // why it is over
	}
}

// push adds an event, unless the queue is full.
func (q *sharedSeat) push(item *sharedEvent) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.err != nil {
		return true
	}
	if q.mu.bytes > 0 && q.mu.bytes+item.bytes > sharedQueueBytes {
		return false
	}
	q.mu.queue = append(q.mu.queue, item)
	q.mu.bytes += item.bytes
	notify(q.more)
	return true
}

// starves reports whether the subscriber has little left to do.
func (q *sharedSeat) starves() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.err == nil && q.mu.bytes < sharedQueueBytes/4
}

// leave ends the seat; what waits in its queue is dropped, the subscriber has its own
// position.
func (q *sharedSeat) leave(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.mu.err == nil {
		q.mu.err, q.mu.queue, q.mu.bytes = err, nil, 0
	}
	select {
	case <-q.taken:
	default:
		close(q.taken)
	}
	notify(q.more)
}

// usable reports whether the seat is taken and not over: only then at and place are set.
func (q *sharedSeat) usable() bool {
	select {
	case <-q.taken:
		return !q.over()
	default:
		return false
	}
}

func (q *sharedSeat) over() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.mu.err != nil
}

// next returns the next event, nil when stopped is closed.
func (q *sharedSeat) next(ctx context.Context, stopped <-chan struct{}) (*sharedEvent, error) {
	for {
		select {
		case <-stopped:
			return nil, nil
		default:
		}
		q.mu.Lock()
		if q.mu.err != nil {
			err := q.mu.err
			q.mu.Unlock()
			return nil, &leftSharedError{err}
		}
		if len(q.mu.queue) > 0 {
			item := q.mu.queue[0]
			q.mu.queue[0] = nil
			q.mu.queue = q.mu.queue[1:]
			q.mu.bytes -= item.bytes
			q.mu.Unlock()
			notify(q.room)
			return item, nil
		}
		q.mu.Unlock()
		select {
		case <-q.more:
		case <-stopped:
			return nil, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
