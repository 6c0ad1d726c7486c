package faultproxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// connection is one client and its connection to the server: two goroutines, one for
// each direction.
type connection struct {
	// immutable
	p          *Proxy
	id         int
	client     *net.TCPConn
	server     *net.TCPConn
	fromRemote *bufio.Reader // of the server; owned by fromServer, by deliver once that has ended
	ended      chan struct{} // closed when fromServer has ended

	raw    atomic.Bool // not parsed any more
	silent atomic.Bool // nothing is forwarded, nothing is closed
	dumps  atomic.Bool // the server streams its log

	mu       sync.Mutex
	answer   Action // what happens to the next thing the server says: LoseAnswer, Cut or none
	bytes    int    // how much of it passes, for Cut
	orphaned bool   // the client is gone and a packet of its is held
}

func newConnection(p *Proxy, id int, client, server *net.TCPConn) *connection {
	return &connection{p: p, id: id, client: client, server: server, fromRemote: bufio.NewReaderSize(server, 64<<10), ended: make(chan struct{})}
}

func (c *connection) reset() {
	resetConn(c.client)
	resetConn(c.server)
}

// fromClient forwards what the client sends.
func (c *connection) fromClient() {
	r := bufio.NewReaderSize(c.client, 64<<10)
	first, continued := true, false
	for {
		if c.raw.Load() {
			c.forwardBytes(c.server, r)
			return
		}
		p, err := readPacket(r)
		if err != nil {
			c.hungUp(c.server)
			return
		}
		if c.silent.Load() {
			continue
		}
		if first {
			first = false
			tls, compressed := leavesProtocol(p)
			c.raw.Store(tls || compressed)
		} else if p.sequence() == 0 && !continued && len(p.payload()) > 0 {
			if !c.command(p) {
				return
			}
			continued = p.continued()
			continue
		}
		continued = continued && p.continued()
		if _, err := c.server.Write(p); err != nil {
			c.reset()
			return
		}
	}
}

// command forwards a command, or does what a rule says. It returns false when nothing
// more comes from this client.
func (c *connection) command(p packet) bool {
	m := Message{Connection: c.id, Command: p.payload()[0], Text: p.payload()[1:]}
	t := c.p.taker(m)
	if BinlogDump(m) {
		c.dumps.Store(true)
	}
	if t != nil {
		switch t.rule.Do {
		case Reset:
			c.reset()
			return false
		case Silence:
			c.silent.Store(true)
			return true
		case Hold:
			c.hold(t, p)
			return false
		case Refuse:
			if _, err := c.client.Write(errorPacket(p.sequence()+1, t.rule.Error)); err != nil {
				c.reset()
				return false
			}
			return true
		case Delay:
			pause(t.rule.Wait, c.ended)
		case LoseAnswer, Cut:
			c.mu.Lock()
			c.answer, c.bytes = t.rule.Do, t.rule.Bytes
			c.mu.Unlock()
		}
	}
	if _, err := c.server.Write(p); err != nil {
		c.reset()
		return false
	}
	return true
}

// hold keeps the packet for Trigger.Deliver; the server does not learn that the client is gone.
func (c *connection) hold(t *Trigger, p packet) {
	c.mu.Lock()
	c.orphaned = true
	c.mu.Unlock()
	t.mu.Lock()
	t.held = append(t.held, &held{packet: p, conn: c})
	t.mu.Unlock()
	resetConn(c.client)
	// Wakes fromServer, which leaves the connection alone.
	_ = c.server.SetReadDeadline(time.Now())
}

// deliver sends a held packet and waits for the answer's first packet.
func (c *connection) deliver(p packet) error {
	defer c.reset()
	defer c.p.forget(c)
	<-c.ended
	if err := c.server.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	if _, err := c.server.Write(p); err != nil {
		return err
	}
	_, err := readPacket(c.fromRemote)
	return err
}

// hungUp passes the end of one side on to the other, unless the link is half open.
func (c *connection) hungUp(other *net.TCPConn) {
	c.mu.Lock()
	orphaned := c.orphaned
	c.mu.Unlock()
	if !c.silent.Load() && !orphaned {
		_ = other.CloseWrite()
	}
}

// fromServer forwards what the server says.
func (c *connection) fromServer() {
	defer close(c.ended)
	w := bufio.NewWriterSize(c.client, 64<<10)
	continued := false
	for {
		// Only when something has come is it known how to read it.
		if _, err := c.fromRemote.Peek(1); err != nil {
			c.close()
			return
		}
		if c.raw.Load() {
			c.forwardBytes(c.client, c.fromRemote)
			c.close()
			return
		}
		p, err := readPacket(c.fromRemote)
		if err != nil {
			c.close()
			return
		}
		if c.silent.Load() {
			continue
		}
		begins := !continued
		continued = p.continued()
		if !c.fromServerPacket(w, p, begins) {
			_ = w.Flush()
			c.reset()
			c.p.forget(c)
			return
		}
		// What is waiting already goes out together.
		if c.fromRemote.Buffered() == 0 && w.Flush() != nil {
			c.reset()
			c.p.forget(c)
			return
		}
	}
}

// fromServerPacket forwards one packet of the server, or does what a rule says; false
// means that the connection ends here.
func (c *connection) fromServerPacket(w *bufio.Writer, p packet, begins bool) bool {
	c.mu.Lock()
	do, left := c.answer, c.bytes
	c.bytes -= len(p)
	c.mu.Unlock()
	if do == Cut && left < len(p) {
		_, _ = w.Write(p[:max(0, left)])
		return false
	}
	if do == LoseAnswer {
		return false
	}
	if t := c.eventRule(p, begins); t != nil {
		switch t.rule.Do {
		case Reset:
			return false
		case Silence:
			_ = w.Flush()
			c.silent.Store(true)
			return true
		case Delay:
			_ = w.Flush()
			pause(t.rule.Wait, nil)
		case Cut:
			_, _ = w.Write(p[:len(p)/2])
			return false
		}
	}
	_, err := w.Write(p)
	return err == nil
}

// eventRule returns the rule that takes a packet of a binary log stream.
func (c *connection) eventRule(p packet, begins bool) *Trigger {
	const typeAt = 1 + 4 // behind the OK byte and the event's timestamp
	if !begins || !c.dumps.Load() || len(p.payload()) <= typeAt || p.payload()[0] != 0 {
		return nil
	}
	return c.p.taker(Message{Connection: c.id, Event: p.payload()[typeAt]})
}

// close ends the connection when the server has nothing more to say, unless the client
// is not to know.
func (c *connection) close() {
	c.mu.Lock()
	orphaned := c.orphaned
	c.mu.Unlock()
	if orphaned {
		return // deliver, or Proxy.Close, ends it
	}
	if !c.silent.Load() {
		_ = c.client.Close()
		_ = c.server.Close()
		c.p.forget(c)
	}
}

// forwardBytes copies without looking.
func (c *connection) forwardBytes(to *net.TCPConn, from io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !c.silent.Load() {
			if _, writeErr := to.Write(buf[:n]); writeErr != nil {
				err = errors.Join(err, writeErr)
			}
		}
		if err != nil {
			c.hungUp(to)
			return
		}
	}
}

// pause waits, or until the connection has ended.
func pause(d time.Duration, ended <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ended:
	}
}
