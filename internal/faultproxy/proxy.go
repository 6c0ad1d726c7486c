package faultproxy

import (
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// Proxy forwards connections to one server.
type Proxy struct {
	listener *net.TCPListener // immutable

	wg sync.WaitGroup // accept loop and pumps

	mu       sync.Mutex
	server   string
	closed   bool
	refusing bool
	count    int
	open     map[*connection]struct{}
	triggers []*Trigger
	faults   []Fault
}

// Fault is one fault that a rule caused.
type Fault struct {
	At         time.Time
	Connection int
	Do         Action
	// Text is the beginning of the packet's text.
	Text string
}

// Start listens on a free port of the loopback interface and forwards to a server's
// host:port. Close ends it.
func Start(server string) (*Proxy, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("faultproxy: %w", err)
	}
	p := &Proxy{server: server, listener: l, open: map[*connection]struct{}{}}
	p.wg.Go(p.accept)
	return p, nil
}

// Addr is where clients connect to, as host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Port is the port of Addr.
func (p *Proxy) Port() int {
	_, port, err := net.SplitHostPort(p.Addr())
	if err != nil {
		return 0
	}
	n, _ := strconv.Atoi(port)
	return n
}

// On adds a rule. Rules are asked in the order in which they were added, and the first
// that takes a packet decides.
func (p *Proxy) On(r Rule) *Trigger {
	t := &Trigger{rule: r, fired: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.triggers = append(p.triggers, t)
	return t
}

// Faults returns what the rules have done so far.
func (p *Proxy) Faults() []Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Fault(nil), p.faults...)
}

// Refuse makes the proxy reset new connections at once, or accept them again.
func (p *Proxy) Refuse(refuse bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusing = refuse
}

// Lead makes the proxy forward to another server from now on, as an address does that is
// moved to a promoted replica. Present connections are reset.
func (p *Proxy) Lead(server string) {
	p.mu.Lock()
	p.server = server
	p.mu.Unlock()
	p.ResetAll()
}

// ResetAll resets every connection, encrypted ones too.
func (p *Proxy) ResetAll() {
	for _, c := range p.connections() {
		c.reset()
	}
}

// Silence makes every present connection half open, encrypted ones too.
func (p *Proxy) Silence() {
	for _, c := range p.connections() {
		c.silent.Store(true)
	}
}

// Close ends the listener and every connection, and returns when nothing of the proxy runs.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.listener.Close()
	p.ResetAll()
	p.wg.Wait()
	return err
}

func (p *Proxy) connections() []*connection {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*connection
	for c := range p.open {
		all = append(all, c)
	}
	return all
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.AcceptTCP()
		if err != nil {
			return // the listener was closed
		}
		p.serve(client)
	}
}

func (p *Proxy) serve(client *net.TCPConn) {
	p.mu.Lock()
	refusing, address := p.refusing || p.closed, p.server
	p.mu.Unlock()
	var server net.Conn
	var err error
	if !refusing {
		server, err = net.DialTimeout("tcp", address, 5*time.Second)
	}
	upstream, ok := server.(*net.TCPConn)
	if refusing || err != nil || !ok {
		resetConn(client)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.count++
	c := newConnection(p, p.count, client, upstream)
	if p.closed {
		c.reset()
		return
	}
	p.open[c] = struct{}{}
	p.wg.Go(c.fromClient)
	p.wg.Go(c.fromServer)
}

// taker returns the rule that takes a packet, nil when it passes.
func (p *Proxy) taker(m Message) *Trigger {
	p.mu.Lock()
	triggers := p.triggers
	p.mu.Unlock()
	for _, t := range triggers {
		if t.takes(m) {
			p.mu.Lock()
			p.faults = append(p.faults, Fault{At: time.Now(), Connection: m.Connection, Do: t.rule.Do, Text: string(m.Text[:min(len(m.Text), 60)])})
			p.mu.Unlock()
			return t
		}
	}
	return nil
}

func (p *Proxy) forget(c *connection) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

// resetConn ends a connection with RST: what was not read on the other side is lost.
func resetConn(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}
