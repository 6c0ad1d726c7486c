package ghostferry

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// answerLimit is how long a server may take to answer a question that costs it nothing. One
// whose process is stopped, or hangs, acknowledges what is sent to it for ever.
const answerLimit = 15 * time.Second

// answered asks a server such a question; no answer within answerLimit is an outage.
func answered(ctx context.Context, ask func(ctx context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	err := ask(bounded)
	if err != nil && bounded.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("the server is there and has not answered within %s: %w", answerLimit, os.ErrDeadlineExceeded)
	}
	return err
}

// silenceLimited is a connection of a stream, whose reads fail when nothing came for a
// while. The deadline is moved a few times in that while: moving it for every packet costs a
// fifth of the stream's processor time (measured).
type silenceLimited struct {
	net.Conn
	limit time.Duration
	moved time.Time
}

func (c *silenceLimited) Read(p []byte) (int, error) {
	if now := time.Now(); now.Sub(c.moved) > c.limit/10 {
		c.moved = now
		if err := c.Conn.SetReadDeadline(now.Add(c.limit)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Read(p)
}

// streamLink is one connection of a stream, which may be ended at any time, also before it
// is there.
type streamLink struct {
	dial  func(ctx context.Context, network, address string) (net.Conn, error)
	login login

	mu struct {
		sync.Mutex
		conn   net.Conn
		closed bool
	}
}

// connect makes the connection.
func (l *streamLink) connect(ctx context.Context, network, address string) (net.Conn, error) {
	l.mu.Lock()
	closed := l.mu.closed
	l.mu.Unlock()
	if closed {
		return nil, net.ErrClosed
	}
	conn, err := l.dial(context.WithValue(ctx, loginKey{}, &l.login), network, address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	l.mu.conn = conn
	return conn, nil
}

// end closes the connection, which ends a read that waits. It may be called more than once.
func (l *streamLink) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.closed = true
	if l.mu.conn != nil {
		_ = l.mu.conn.Close()
	}
}
