package servers_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/test/servers"
)

const orphanEnv = "GHOSTFERRY_TEST_ORPHAN"

// TestMain lets the test binary play a program that starts a server and is killed.
func TestMain(m *testing.M) {
	if os.Getenv(orphanEnv) != "" {
		os.Exit(startAndHang())
	}
	os.Exit(m.Run())
}

func startAndHang() int {
	s, err := servers.Start(context.Background(), servers.Options{Flavour: servers.MariaDB, Name: "orphan"})
	if err != nil {
		fmt.Println("error", err)
		return 1
	}
	fmt.Println(s.PID(), s.DataDir, s.Socket)
	// The parent's end of the pipe never says anything: this waits to be killed.
	_, _ = os.Stdin.Read(make([]byte, 1))
	return 0
}

// A server dies with the process that started it, even by SIGKILL, and the next
// start removes what it left on the disk.
func TestKilledProcessLeavesNoServer(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), orphanEnv+"=1")
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	words := strings.Fields(line)
	require.Len(t, words, 3, line)
	pid, dataDir, socket := words[0], words[1], words[2]
	_, err = strconv.Atoi(pid)
	require.NoError(t, err, line)
	require.DirExists(t, dataDir)

	require.NoError(t, cmd.Process.Kill())
	require.Error(t, cmd.Wait())
	require.Eventually(t, func() bool { return !running(pid) }, 30*time.Second, 20*time.Millisecond)
	start(t, servers.Options{Flavour: servers.MariaDB})
	require.NoDirExists(t, filepath.Dir(dataDir))
	require.NoDirExists(t, filepath.Dir(socket))
}

// running tells whether the process exists and is more than an unreaped zombie.
func running(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}
