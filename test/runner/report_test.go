package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// module writes a throwaway module of test packages and returns its directory.
func module(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files["go.mod"] = "module m\n\ngo 1.26\n"
	for name, text := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
	}
	return dir
}

// runModule runs the module's tests through the report.
func runModule(t *testing.T, files map[string]string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "test", "-json", "-vet=off", "./...")
	cmd.Dir = module(t, files)
	var out bytes.Buffer
	err := runTests(&out, []*exec.Cmd{cmd})
	return out.String(), err
}

const header = "package p\nimport \"testing\"\n"

func TestEveryKindOfEndIsCounted(t *testing.T) {
	out, err := runModule(t, map[string]string{
		"good/p_test.go": header + `
func TestA(t *testing.T) {}
func TestParent(t *testing.T) { for _, n := range []string{"x", "y"} { t.Run(n, func(t *testing.T) {}) } }`,
		"bad/p_test.go": header + `
func TestFine(t *testing.T) { t.Log("fine says nothing") }
func TestSub(t *testing.T) { t.Run("one", func(t *testing.T) { t.Error("one is wrong") }); t.Run("two", func(t *testing.T) {}) }
func TestOwn(t *testing.T) { t.Run("three", func(t *testing.T) {}); t.Error("the parent is wrong") }
func TestSkipped(t *testing.T) { t.Skip() }`,
		"panics/p_test.go":  header + `func TestBoom(t *testing.T) { panic("boom") }`,
		"nobuild/p_test.go": header + `func TestX(t *testing.T) { undefined() }`,
		"none/p.go":         "package p\n",
	})
	require.Error(t, err)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	// passed: A, x, y, Fine, two, three; failed: one, Own, Boom, the package nobuild
	require.Equal(t, "6 passed, 4 failed", lines[len(lines)-1], out)
	require.Contains(t, out, "one is wrong")
	require.Contains(t, out, "the parent is wrong")
	require.Contains(t, out, "panic: boom")
	require.Contains(t, out, "undefined: undefined")
	require.Contains(t, out, "1 skipped")
	require.Contains(t, out, "ok   m/good")
	require.NotContains(t, out, "fine says nothing")
}

func TestAllGood(t *testing.T) {
	out, err := runModule(t, map[string]string{"good/p_test.go": header + "func TestA(t *testing.T) {}"})
	require.NoError(t, err, out)
	require.True(t, strings.HasSuffix(out, "\n1 passed, 0 failed\n"), out)
}

func TestNoTestIsAFailure(t *testing.T) {
	out, err := runModule(t, map[string]string{"none/p.go": "package p\n"})
	require.ErrorContains(t, err, "no test ran")
	require.Equal(t, "0 passed, 0 failed\n", out)
}

func TestProgressNamesWhatRuns(t *testing.T) {
	var out bytes.Buffer
	r := newReport(&out)
	for _, e := range []event{
		{Action: "run", Package: "m/p", Test: "TestA"},
		{Action: "pass", Package: "m/p", Test: "TestA"},
		{Action: "run", Package: "m/p", Test: "TestB"},
		{Action: "run", Package: "m/p", Test: "TestB/sub"},
	} {
		r.handle(e)
	}
	r.progress(false, time.Now())
	require.Equal(t, "1 passed, 0 failed so far; running: p TestB/sub (0 s)\n", out.String())
}

// A test binary that is killed says nothing of its end; what failed before, and what ran, is told.
func TestAPackageThatEndsWithoutAWord(t *testing.T) {
	var out bytes.Buffer
	r := newReport(&out)
	for _, e := range []event{
		{Action: "run", Package: "m/p", Test: "TestA"},
		{Action: "output", Package: "m/p", Test: "TestA", Output: "a is wrong\n"},
		{Action: "fail", Package: "m/p", Test: "TestA"},
		{Action: "run", Package: "m/p", Test: "TestB"},
	} {
		r.handle(e)
	}
	require.Error(t, r.close(errors.New("signal: killed")))
	require.Contains(t, out.String(), "a is wrong")
	require.True(t, strings.HasSuffix(out.String(), "0 passed, 2 failed: TestA, TestB\n0 passed, 2 failed\n"), out.String())
}

func TestSlowOnesAreNamedInOrder(t *testing.T) {
	var out bytes.Buffer
	r := newReport(&out)
	for _, e := range []event{
		{Action: "pass", Package: "m/p", Test: "TestSlow", Elapsed: 6},
		{Action: "pass", Package: "m/p", Test: "TestQuick", Elapsed: 0.1},
		{Action: "pass", Package: "m/q", Test: "TestSlower", Elapsed: 60},
		{Action: "pass", Package: "m/p"},
		{Action: "pass", Package: "m/q"},
	} {
		r.handle(e)
	}
	require.NoError(t, r.close(nil))
	require.Equal(t, "ok   m/p  0.0 s, 2 passed\nok   m/q  0.0 s, 1 passed\nslow   60.0 s  q TestSlower\nslow    6.0 s  p TestSlow\n3 passed, 0 failed\n", out.String())
}

// A package that is split is tested after the others, in several processes, and counted with
// them; what waits most of the time has a process of its own.
func TestAPackageInParts(t *testing.T) {
	dir := module(t, map[string]string{
		"a/a_test.go": header + "func TestA(t *testing.T) {}\n",
		"b/b_test.go": header + "func TestB(t *testing.T) {}\nfunc TestC(t *testing.T) { t.Error(\"no\") }\nfunc TestBC(t *testing.T) {}\nfunc TestW(t *testing.T) {\n\tt.Parallel() // it waits\n}\n",
		"c/c_test.go": header + "func TestD(t *testing.T) {}\n",
	})
	t.Chdir(dir)
	var out bytes.Buffer
	err := command(t.Context(), []string{"-race=false", "-p", "2", "-split", "./b", "./..."}, &out)
	require.Error(t, err)
	require.True(t, strings.HasSuffix(out.String(), "\n5 passed, 1 failed\n"), out.String())
	require.Less(t, strings.Index(out.String(), "ok   m/c"), strings.Index(out.String(), "FAIL m/b (part 2)"))
	require.Contains(t, out.String(), "ok   m/b (part 1)")
	require.Regexp(t, `ok   m/b \(part 3\)  .* s, 1 passed`, out.String())
}

// With the race detector a test binary ends at once, and what else is asked of the detector holds.
func TestTheRaceDetectorDoesNotLinger(t *testing.T) {
	t.Setenv("GORACE", "halt_on_error=1")
	env, flags := raceDetector(t.Context(), io.Discard)
	if len(flags) == 0 {
		require.NotContains(t, env, "GORACE=atexit_sleep_ms=0 halt_on_error=1")
		return
	}
	require.Equal(t, "GORACE=atexit_sleep_ms=0 halt_on_error=1", env[len(env)-1])
}
