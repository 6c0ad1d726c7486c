package harness

import (
	"hash/fnv"
	"os"
	"testing"
)

// Full says that tests run every case on every setting (`make test-long`). Without it, as
// in `make test`, some run a share of theirs, always the same one. Set by the environment
// variable GHOSTFERRY_FULL_TESTS, to anything.
func Full() bool { return os.Getenv("GHOSTFERRY_FULL_TESTS") != "" }

// SomeSettings are those of a test in which the server's part does not depend on how the
// source's log is followed: MariaDB and one MySQL. Which of the two, the name of the test
// decides, so that half of these tests are on either. All settings when Full.
func SomeSettings(t *testing.T) []Setting {
	t.Helper()
	if Full() {
		return Settings
	}
	return []Setting{Settings[byName(t, 2)], Settings[2]}
}

// OneSetting is that of a test of what the mover does by itself, whatever its servers are;
// which one, the name of the test decides. All settings when Full.
func OneSetting(t *testing.T) []Setting {
	t.Helper()
	if Full() {
		return Settings
	}
	return Settings[byName(t, uint32(len(Settings))):][:1]
}

// OneFlavour is the setting of a test that is long and says little about its servers: MySQL
// or MariaDB, which of the two the name of the test decides. Both when Full.
func OneFlavour(t *testing.T) []Setting {
	t.Helper()
	both := []Setting{Settings[0], Settings[2]}
	if Full() {
		return both
	}
	return both[byName(t, 2):][:1]
}

// byName is a number below n, always the same of a test.
func byName(t *testing.T, n uint32) int {
	name := fnv.New32a()
	_, _ = name.Write([]byte(t.Name()))
	return int(name.Sum32() % n)
}

// Share is the share of n things that a test deals out to its cases: those whose index is
// i modulo cases. Everything when Full.
func Share[T any](things []T, i, cases int) []T {
	if Full() {
		return things
	}
	var out []T
	for j, thing := range things {
		if j%cases == i%cases {
			out = append(out, thing)
		}
	}
	return out
}

// OnSettings runs a test on the shared pair of each setting, at once or in turn.
func OnSettings(t *testing.T, settings []Setting, atOnce bool, f func(t *testing.T, p *Pair)) {
	t.Helper()
	for _, s := range settings {
		t.Run(s.Name, func(t *testing.T) {
			if atOnce {
				t.Parallel()
			}
			f(t, Shared(t, s))
		})
	}
}
