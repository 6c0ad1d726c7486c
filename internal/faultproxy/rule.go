package faultproxy

import (
	"regexp"
	"sync"
	"time"
)

// Match chooses packets. It is given what a client sends, or what a server sends while
// it streams its binary log.
type Match func(Message) bool

// Message is a packet as rules see it.
type Message struct {
	// Connection numbers the proxy's connections from 1.
	Connection int
	// Command is the first byte of a client's command; 0 for a packet of the server.
	Command byte
	// Text is what follows it: the statement of a query.
	Text []byte
	// Event is the type of a binary log event from the server; 0 for a client's packet.
	Event byte
}

// Query matches the statements whose text has a match of the regular expression. The
// case of letters does not matter, and ^ stands behind a comment in front. Only the first
// kilobyte is looked at.
func Query(expression string) Match {
	re := regexp.MustCompile("(?is)" + expression)
	return func(m Message) bool {
		if m.Command != comQuery {
			return false
		}
		return re.Match(withoutComment(m.Text[:min(len(m.Text), 1024)]))
	}
}

var leadingComment = regexp.MustCompile(`^\s*(/\*.*?\*/\s*)*`)

func withoutComment(text []byte) []byte {
	return text[len(leadingComment.Find(text)):]
}

// BinlogDump matches the command that starts a binary log stream.
func BinlogDump(m Message) bool { return m.Command == comBinlogDump || m.Command == comBinlogDumpGTID }

// RowsEvent matches row events that a server streams.
func RowsEvent(m Message) bool {
	switch m.Event {
	case 23, 24, 25, 30, 31, 32, 166, 167, 168, 169, 170, 171:
		return true
	}
	return false
}

// Action is what happens to a packet that a rule takes.
type Action int

// The actions. Those that concern an answer are for packets of clients.
const (
	// Reset ends the connection on both sides with RST; the packet is lost.
	Reset Action = iota + 1
	// Silence swallows the packet and everything after it, in both directions, without
	// ending the connection: a link that is half open.
	Silence
	// Delay forwards the packet after Rule.Wait, and nothing of its direction meanwhile.
	Delay
	// Hold keeps the packet and resets the client's side; Trigger.Deliver sends it to the
	// server later, from beyond the grave.
	Hold
	// LoseAnswer forwards the packet, waits for the answer, and resets the connection
	// instead of forwarding that.
	LoseAnswer
	// Cut forwards the packet and resets the connection in the middle of the answer, after
	// Rule.Bytes of it; of a packet from the server it forwards the first half.
	Cut
	// Refuse answers in the server's place with Rule.Error; the server does not see the packet.
	Refuse
)

// Rule says what to do with which packet.
type Rule struct {
	// Match is required.
	Match Match
	// Skip is how many matching packets pass before.
	Skip int
	// Times is how many packets the rule takes then; 0 means one.
	Times int
	// Do is required.
	Do Action
	// Wait belongs to Delay.
	Wait time.Duration
	// Bytes belongs to Cut.
	Bytes int
	// Error belongs to Refuse: the error's number.
	Error uint16
}

// Trigger is a rule at work.
type Trigger struct {
	rule Rule

	mu    sync.Mutex
	seen  int
	taken int
	held  []*held
	fired chan struct{} // closed when the first packet was taken
}

// Fired is closed when the rule has taken its first packet.
func (t *Trigger) Fired() <-chan struct{} { return t.fired }

// Taken is how many packets the rule has taken.
func (t *Trigger) Taken() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.taken
}

// takes decides about one packet.
func (t *Trigger) takes(m Message) bool {
	if !t.rule.Match(m) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen++
	if t.seen <= t.rule.Skip || t.taken >= max(1, t.rule.Times) {
		return false
	}
	t.taken++
	if t.taken == 1 {
		close(t.fired)
	}
	return true
}

// held is a packet whose client is gone.
type held struct {
	packet packet
	conn   *connection
}

// Deliver sends the packets held to the server, each on its old connection, returns when
// the server has answered them, and closes these connections. The answers go nowhere.
func (t *Trigger) Deliver() error {
	t.mu.Lock()
	all := t.held
	t.held = nil
	t.mu.Unlock()
	for _, h := range all {
		if err := h.conn.deliver(h.packet); err != nil {
			return err
		}
	}
	return nil
}
