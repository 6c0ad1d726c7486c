package main

import (
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/ghostferry-go/ghostferry/test/harness"
)

// TestMain lets the test binary be a mover.
func TestMain(m *testing.M) {
	if config := os.Getenv(moverEnv); config != "" {
		os.Exit(moverProcess(config, os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// A share of the matrix: the kinds of values that two roads most easily take for different
// ones, between two pairs, by every road.
func TestShareOfTheMatrix(t *testing.T) {
	share := regexp.MustCompile(`BIGINT UNSIGNED$|DECIMAL\(65,30\)|FLOAT$|TIME\(6\)$|TIMESTAMP\(6\)|CHARACTER SET (gbk|utf16)|BINARY\(4\)|ENUM\('a'|^JSON|UUID|INET6$|COMPRESSED|VECTOR\(3\)|unicode_ci|back.tick|^keys: none|^keys: FLOAT`)
	for i, p := range []pair{allPairs[0], allPairs[2]} {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			m := &matrix{screen: &console{out: io.Discard, begun: time.Now()}, pairs: []pair{p}}
			var refused, values []*Case
			for _, c := range allCases() {
				switch {
				case strings.HasPrefix(c.String(), "keys: ") && share.MatchString(c.String()):
					refused = append(refused, c)
				case share.MatchString(c.String()):
					values = append(values, c)
				}
			}
			m.cases = append(refused, harness.Share(values, i, 2)...) // half of the values on each
			if err := m.run(t.Context()); err != nil {
				t.Fatal(err)
			}
			s := m.summary()
			if s.Wrong > 0 || s.Refused < 2 || s.Equal < 9*15 {
				t.Errorf("%+v", s)
			}
			for _, c := range m.cells {
				if c.wrong != "" {
					t.Errorf("%s, %s: %s", c.c, c.road, c.wrong)
				}
			}
		})
	}
}
