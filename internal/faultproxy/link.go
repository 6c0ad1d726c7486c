package faultproxy

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// Link is a slow line to a server: connections through it share a bandwidth, each
// direction by itself, and everything arrives later. Nothing is parsed or lost.
type Link struct {
	// immutable
	server   string
	listener net.Listener
	latency  time.Duration

	wg       sync.WaitGroup
	up, down lane
	open     struct {
		sync.Mutex
		closed bool
		conns  map[net.Conn]struct{}
	}
}

// lane is one direction of a link.
type lane struct {
	perByte time.Duration

	mu    sync.Mutex
	free  time.Time // when what was sent so far has left
	bytes int64
}

// linkBuffer is what a link holds of one connection and direction: a part of what it reads at
// once, times the parts that are under way.
const (
	linkPart  = 16 << 10
	linkParts = 32
)

// StartLink listens on a free port of the loopback interface and forwards to a server's
// host:port at a bandwidth in bits a second; roundTrip is the time for there and back.
func StartLink(server string, bitsPerSecond int, roundTrip time.Duration) (*Link, error) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("faultproxy: %w", err)
	}
	l := &Link{server: server, listener: listener, latency: roundTrip / 2}
	l.up.perByte = 8 * time.Second / time.Duration(bitsPerSecond)
	l.down.perByte = l.up.perByte
	l.open.conns = map[net.Conn]struct{}{}
	l.wg.Go(l.accept)
	return l, nil
}

// Addr is where clients connect to, as host:port.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// Bytes is how much was carried to the server and from it.
func (l *Link) Bytes() (up, down int64) { return l.up.carried(), l.down.carried() }

// Close ends the listener and every connection, and returns when nothing of the link runs.
func (l *Link) Close() error {
	err := l.listener.Close()
	l.open.Lock()
	l.open.closed = true
	for c := range l.open.conns {
		_ = c.Close()
	}
	l.open.Unlock()
	l.wg.Wait()
	return err
}

func (l *Link) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return // the listener was closed
		}
		server, err := net.DialTimeout("tcp", l.server, 5*time.Second)
		if err != nil {
			_ = client.Close()
			continue
		}
		if !l.track(client, server) {
			return
		}
		l.wg.Go(func() { l.carry(client, server, &l.up) })
		l.wg.Go(func() { l.carry(server, client, &l.down) })
	}
}

// track keeps two connections for Close, which may have come before.
func (l *Link) track(conns ...net.Conn) bool {
	l.open.Lock()
	defer l.open.Unlock()
	for _, c := range conns {
		if l.open.closed {
			_ = c.Close()
			continue
		}
		l.open.conns[c] = struct{}{}
	}
	return !l.open.closed
}

// part is some bytes and when they arrive.
type part struct {
	data []byte
	due  time.Time
}

// carry forwards one direction and then closes both connections: a client of a database
// has nothing to say to a server that has hung up, nor the reverse.
func (l *Link) carry(from, to net.Conn, via *lane) {
	parts := make(chan part, linkParts)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for p := range parts {
			pause(time.Until(p.due), nil)
			if _, err := to.Write(p.data); err != nil {
				_ = from.Close()
				break
			}
		}
		for range parts { // the reader ends by itself
		}
	}()
	for {
		data := make([]byte, linkPart)
		n, err := from.Read(data)
		if n > 0 {
			parts <- part{data[:n], via.send(n).Add(l.latency)}
		}
		if err != nil {
			break
		}
	}
	close(parts)
	<-done
	_ = from.Close()
	_ = to.Close()
	l.open.Lock()
	defer l.open.Unlock()
	delete(l.open.conns, from)
}

// send queues bytes behind those of all connections and returns when the last has left.
func (v *lane) send(n int) time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	if now := time.Now(); v.free.Before(now) {
		v.free = now
	}
	v.free = v.free.Add(time.Duration(n) * v.perByte)
	v.bytes += int64(n)
	return v.free
}

func (v *lane) carried() int64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.bytes
}
