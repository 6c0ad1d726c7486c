package shop

import (
	"fmt"
	"maps"
	"math"
	"time"
)

// Stats counts what a writer did.
type Stats struct {
	// Committed transactions, RolledBack ones (on purpose), those given up for a
	// lock or because an operator killed the statement (LockConflicts), and
	// attempts refused by a read-only server (Fenced).
	Committed, RolledBack, LockConflicts, Fenced int
	// Kinds counts the committed transactions by what they did.
	Kinds map[string]int
	// Started is when the writer started, LastCommit when it last committed.
	Started, LastCommit time.Time
	// LongestGap is the longest time in which no connection committed anything,
	// and LongestGapAt its beginning.
	LongestGap   time.Duration
	LongestGapAt time.Time
	// SwitchGap is the time from the last commit before SwitchTo to the first
	// commit after it: the outage as the application saw it. Zero until then.
	SwitchGap time.Duration
	// Slowest is the longest time that one transaction took.
	Slowest time.Duration

	latencies      [latencyBuckets]int
	awaitingSwitch bool
}

type outcome int

const (
	committed outcome = iota
	rolledBack
	lockConflict
	fencedOff
	failed
)

// Rate is the average number of committed transactions a second from the start
// to the last commit.
func (s Stats) Rate() float64 {
	if s.Committed == 0 {
		return 0
	}
	return float64(s.Committed) / s.LastCommit.Sub(s.Started).Seconds()
}

// Latency returns how long the given fraction (0 to 1) of the transactions took
// at most, to within a fifth.
func (s Stats) Latency(fraction float64) time.Duration {
	total := 0
	for _, n := range s.latencies {
		total += n
	}
	rest := int(math.Ceil(float64(total) * fraction))
	for i, n := range s.latencies {
		if rest -= n; rest <= 0 {
			return latencyOf(i)
		}
	}
	return s.Slowest
}

// String is one line for people.
func (s Stats) String() string {
	return fmt.Sprintf("%d transactions committed (%.0f/s), %d rolled back, %d lock conflicts, half of them within %v, 99%% within %v, slowest %v, longest gap between commits %v",
		s.Committed, s.Rate(), s.RolledBack, s.LockConflicts, round(s.Latency(.5)), round(s.Latency(.99)), round(s.Slowest), round(s.LongestGap))
}

func round(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}

func (s *Stats) begin(now time.Time) { s.Started, s.LastCommit = now, now }

func (s *Stats) switched() { s.awaitingSwitch = true }

func (s *Stats) count(o outcome, kind string, begun, ended time.Time) {
	switch o {
	case rolledBack:
		s.RolledBack++
	case lockConflict:
		s.LockConflicts++
	case fencedOff:
		s.Fenced++
	case committed:
		s.Committed++
		s.Kinds[kind]++
		s.commit(begun, ended)
	}
}

func (s *Stats) commit(begun, ended time.Time) {
	took := ended.Sub(begun)
	s.Slowest = max(s.Slowest, took)
	s.latencies[latencyBucket(took)]++
	gap := ended.Sub(s.LastCommit)
	if gap > s.LongestGap {
		s.LongestGap, s.LongestGapAt = gap, s.LastCommit
	}
	if s.awaitingSwitch {
		s.awaitingSwitch = false
		s.SwitchGap = gap
	}
	if ended.After(s.LastCommit) {
		s.LastCommit = ended
	}
}

func (s Stats) clone() Stats {
	s.Kinds = maps.Clone(s.Kinds)
	return s
}

// Latencies are counted in buckets four to the doubling, from 1 µs.
const latencyBuckets = 128

func latencyBucket(d time.Duration) int {
	if d < time.Microsecond {
		return 0
	}
	return min(int(4*math.Log2(float64(d)/float64(time.Microsecond))), latencyBuckets-1)
}

func latencyOf(bucket int) time.Duration {
	return time.Duration(math.Exp2(float64(bucket+1)/4) * float64(time.Microsecond))
}
