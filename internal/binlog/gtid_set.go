package binlog

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
)

// GTIDSet is a set of transactions of one flavour. Adding the next transaction of a
// source costs a binary search and no allocation, also when the set has many holes. It
// is not safe for concurrent use. The zero value is empty.
type GTIDSet struct {
	sources []gtidSource
}

// gtidSource are the transactions of one source (and tag), or of one MariaDB domain,
// of which only the last counts.
type gtidSource struct {
	sid    uuid.UUID
	tag    string
	ranges []gtidRange // sorted, disjoint, not adjacent

	mariaDB        bool
	domain, server uint32
}

type gtidRange struct{ first, last int64 }

// ParseGTIDSet reads the text form: uuid:1-5:7,uuid:tag:1 on MySQL, 0-1-5,1-2-9 on MariaDB.
func ParseGTIDSet(text string, mariaDB bool) (*GTIDSet, error) {
	s := &GTIDSet{}
	for _, part := range strings.Split(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		var err error
		if mariaDB {
			err = s.parseDomain(part)
		} else {
			err = s.parseSource(part)
		}
		if err != nil {
			return nil, fmt.Errorf("GTID set %q: %w", text, err)
		}
	}
	return s, nil
}

func (s *GTIDSet) parseDomain(part string) error {
	fields := strings.Split(part, "-")
	if len(fields) != 3 {
		return fmt.Errorf("%q is not domain-server-sequence", part)
	}
	var numbers [3]uint64
	for i, bits := range []int{32, 32, 63} {
		var err error
		if numbers[i], err = strconv.ParseUint(fields[i], 10, bits); err != nil {
			return fmt.Errorf("%q is not domain-server-sequence: %w", part, err)
		}
	}
	s.Add(GTID{MariaDB: true, Domain: uint32(numbers[0]), Server: uint32(numbers[1]), Number: int64(numbers[2])})
	return nil
}

func (s *GTIDSet) parseSource(part string) error {
	fields := strings.Split(part, ":")
	sid, err := uuid.Parse(strings.TrimSpace(fields[0]))
	if err != nil {
		return err
	}
	tag := ""
	for _, field := range fields[1:] {
		field = strings.TrimSpace(field)
		if field == "" {
			return fmt.Errorf("%q has an empty interval", part)
		}
		if field[0] < '0' || field[0] > '9' {
			if tag = strings.ToLower(field); !isTag(tag) {
				return fmt.Errorf("%q is not a tag", field)
			}
			continue
		}
		from, to, isRange := strings.Cut(field, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.ParseInt(strings.TrimSpace(from), 10, 64)
		if err != nil {
			return err
		}
		last, err := strconv.ParseInt(strings.TrimSpace(to), 10, 64)
		if err != nil {
			return err
		}
		// The server's greatest number is one below the greatest integer.
		if first < 1 || last < first || last == math.MaxInt64 {
			return fmt.Errorf("%q is not an interval", field)
		}
		s.source(sid, tag).add(first, last)
	}
	return nil
}

func (s *GTIDSet) source(sid uuid.UUID, tag string) *gtidSource {
	for i := range s.sources {
		if s.sources[i].sid == sid && s.sources[i].tag == tag {
			return &s.sources[i]
		}
	}
	s.sources = append(s.sources, gtidSource{sid: sid, tag: tag})
	return &s.sources[len(s.sources)-1]
}

// Add adds one transaction. An anonymous one is left out.
func (s *GTIDSet) Add(g GTID) {
	switch {
	case g.IsZero():
	case g.MariaDB:
		for i := range s.sources {
			if s.sources[i].domain == g.Domain {
				s.sources[i].server = g.Server
				s.sources[i].ranges[0] = gtidRange{g.Number, g.Number}
				return
			}
		}
		s.sources = append(s.sources, gtidSource{mariaDB: true, domain: g.Domain, server: g.Server, ranges: []gtidRange{{g.Number, g.Number}}})
	default:
		s.source(g.SID, g.Tag).add(g.Number, g.Number)
	}
}

// add adds an interval, joining those that it touches.
func (s *gtidSource) add(first, last int64) {
	// i is the first range that the interval touches or that lies behind it.
	i, _ := slices.BinarySearchFunc(s.ranges, first-1, func(r gtidRange, at int64) int {
		if r.last < at {
			return -1
		}
		return 1
	})
	j := i
	for j < len(s.ranges) && s.ranges[j].first <= last+1 {
		first, last = min(first, s.ranges[j].first), max(last, s.ranges[j].last)
		j++
	}
	if j == i {
		s.ranges = slices.Insert(s.ranges, i, gtidRange{first, last})
		return
	}
	s.ranges[i] = gtidRange{first, last}
	s.ranges = slices.Delete(s.ranges, i+1, j)
}

// Empty reports whether the set has no transaction.
func (s *GTIDSet) Empty() bool { return s == nil || len(s.sources) == 0 }

// Clear empties the set.
func (s *GTIDSet) Clear() { s.sources = s.sources[:0] }

// Clone returns a copy.
func (s *GTIDSet) Clone() *GTIDSet {
	c := &GTIDSet{sources: slices.Clone(s.sources)}
	for i := range c.sources {
		c.sources[i].ranges = slices.Clone(c.sources[i].ranges)
	}
	return c
}

// With returns the text of the set with one more transaction.
func (s *GTIDSet) With(g GTID) string {
	more := s.Clone()
	more.Add(g)
	return more.String()
}

// AddSet adds every transaction of another set.
func (s *GTIDSet) AddSet(other *GTIDSet) {
	for i := range other.sources {
		o := &other.sources[i]
		if o.mariaDB {
			s.Add(GTID{MariaDB: true, Domain: o.domain, Server: o.server, Number: o.ranges[0].last})
			continue
		}
		source := s.source(o.sid, o.tag)
		for _, r := range o.ranges {
			source.add(r.first, r.last)
		}
	}
}

// Contains reports whether every transaction of another set is in this one. For MySQL's
// sets only.
func (s *GTIDSet) Contains(other *GTIDSet) bool {
	both := s.Clone()
	both.AddSet(other)
	return both.String() == s.String()
}

// Intersect returns the transactions that both sets have. For MySQL's sets only.
func (s *GTIDSet) Intersect(other *GTIDSet) *GTIDSet {
	both := &GTIDSet{}
	for i := range s.sources {
		mine := &s.sources[i]
		for j := range other.sources {
			if theirs := &other.sources[j]; mine.sid == theirs.sid && mine.tag == theirs.tag {
				both.addCommon(mine, theirs)
			}
		}
	}
	return both
}

func (s *GTIDSet) addCommon(a, b *gtidSource) {
	for _, r := range a.ranges {
		for _, q := range b.ranges {
			if first, last := max(r.first, q.first), min(r.last, q.last); first <= last {
				s.source(a.sid, a.tag).add(first, last)
			}
		}
	}
}

// String returns the text form, in the order in which sources were added.
func (s *GTIDSet) String() string {
	if s.Empty() {
		return ""
	}
	var b []byte
	for i := range s.sources {
		source := &s.sources[i]
		if i > 0 {
			b = append(b, ',')
		}
		if source.mariaDB {
			b = fmt.Appendf(b, "%d-%d-%d", source.domain, source.server, source.ranges[0].last)
			continue
		}
		b = append(b, source.sid.String()...)
		if source.tag != "" {
			b = append(append(b, ':'), source.tag...)
		}
		for _, r := range source.ranges {
			b = strconv.AppendInt(append(b, ':'), r.first, 10)
			if r.last > r.first {
				b = strconv.AppendInt(append(b, '-'), r.last, 10)
			}
		}
	}
	return string(b)
}
