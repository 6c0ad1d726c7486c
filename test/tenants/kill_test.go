package tenants

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/test/harness"
)

// killedAt are the failpoints at which a tenant's move dies, in the order of a run. After
// those with cancelled the move is given up, and begins anew.
var killedAt = []struct {
	name      string
	cancelled bool
}{
	{"copy.opened", false},
	{"copy.recorded", false},
	{"copy.before_commit", false},
	{"copy.after_commit", true},
	{"copy.after_commit", false},
	{"copy.completing", false},
	{"apply.intent", false},
	{"apply.deleted", false},
	{"apply.before_delete_commit", false},
	{"apply.after_delete_commit", true},
	{"apply.after_delete_commit", false},
	{"apply.written", false},
	{"apply.before_images_commit", false},
	{"apply.before_position_commit", false},
	{"apply.after_position_commit", true},
	{"apply.advanced", false},
	{"cutover.copied", false},
	{"cutover.entered", false},
	{"cutover.drained", true},
	{"cutover.drained", false},
	{whileLocking, false},
	{"cutover.unlock", false},
	{"cutover.unlocked", false},
}

// whileLocking is no failpoint: the process is killed by its host while CutoverLock waits for
// its answer.
const whileLocking = "while locking"

// killedTenant is a tenant that moves by processes that die.
type killedTenant struct {
	*testing.T
	pair    *harness.Pair
	program string
	config  []byte
	whole   map[string]any      // the target before the move
	others  map[string][]string // rows of others before the move

	mu      sync.Mutex
	churn   *harness.Churn // nil while nobody writes
	process *os.Process    // killed by the lock callback; nil is not

	mayBeUnlocked bool // the process before has died at CutoverUnlock
}

// A tenant's move that is killed at any step, while all tenants write, goes on with the same
// command and arrives, or is given up and leaves the target as it was. Rows of others stay
// as they are at every moment.
func TestKilledUnderAFilter(t *testing.T) {
	program := buildMover(t)
	withGTIDs(t, func(t *testing.T, p *harness.Pair) {
		i := slices.Index(namingTransactions(), p.Setting) // each kill on one of the flavours
		k := &killedTenant{T: t, pair: p, program: program}
		k.prepare()
		for _, at := range harness.Share(killedAt, i, 2) {
			k.kill(at.name)
			if at.cancelled {
				k.cancel()
			}
		}
		k.arrive()
	})
}

// buildMover builds the program that dies at failpoints.
func buildMover(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "mover")
	output, err := exec.CommandContext(t.Context(), "go", "build", "-tags", "failpoint", "-o", program, "./mover").CombinedOutput()
	require.NoError(t, err, string(output))
	return program
}

func (k *killedTenant) prepare() {
	k.Helper()
	fillShard(k.T, k.pair)
	k.others = shardRows(k.T, k.pair, true, false)
	k.whole = map[string]any{"ours": shardRows(k.T, k.pair, true, true), "theirs": k.others}
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if err := errors.Join(k.quiet(), k.killProcess()); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	k.Cleanup(hook.Close)
	server := func(host string, port int, user, password string) map[string]any {
		return map[string]any{"Host": host, "Port": port, "User": user, "Pass": password}
	}
	source, target := k.pair.Source, k.pair.Target
	var err error
	k.config, err = json.Marshal(map[string]any{
		"Source":   server(source.Host, source.Port, source.User(), source.Password()),
		"Target":   server(target.Host, target.Port, target.User(), target.Password()),
		"SourceDB": shard, "TargetDB": shard, "ShardingKey": "tenant", "ShardingKeyValue": "acme", "PrimaryKeyTables": []string{"tenants"},
		"JoinedTables":         map[string]any{"photos": []any{map[string]string{"TableName": "orders", "JoinColumn": "photo"}, map[string]string{"TableName": "labels", "JoinColumn": "photo"}}},
		"UpdatableConfig":      map[string]any{"DataIterationBatchSize": 40},
		"InlineVerifierConfig": map[string]string{"MaxExpectedDowntime": "60s"},
		"CutoverLock":          map[string]string{"URI": hook.URL},
	})
	require.NoError(k, err)
}

// quiet ends the writes, if there are any.
func (k *killedTenant) quiet() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.churn == nil {
		return nil
	}
	err := k.churn.Stop()
	k.churn = nil
	return err
}

func (k *killedTenant) killProcess() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.process == nil {
		return nil
	}
	return k.process.Kill()
}

// run is one process, with all tenants writing until it locks them out or ends. What no
// process follows, the tenant's own row, changes before.
func (k *killedTenant) run(failpoint string, arguments ...string) (string, error) {
	k.Helper()
	k.pair.In(k.T, k.pair.SourceDB, shard, "UPDATE tenants SET v=v+1 WHERE name='acme'")
	if k.mayBeUnlocked { // the writers go on here, and an operator says so
		arguments, k.mayBeUnlocked = append(arguments, "-application-on-source"), false
	}
	cmd := exec.CommandContext(k.Context(), k.program, arguments...)
	cmd.Stdin = bytes.NewReader(k.config)
	cmd.Env = append(os.Environ(), "GHOSTFERRY_TENANTS_FAILPOINT="+failpoint)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	k.mu.Lock()
	k.churn, k.process = changeShard(k.T, k.pair), nil
	err := cmd.Start()
	if err == nil && failpoint == whileLocking {
		k.process = cmd.Process
	}
	k.mu.Unlock()
	require.NoError(k, err)
	err = cmd.Wait()
	require.NoError(k, k.quiet())
	return output.String(), err
}

// mustBeKilled says that a process died as it was told to.
func mustBeKilled(t *testing.T, err error, at, output string) {
	t.Helper()
	var ended *exec.ExitError
	require.True(t, errors.As(err, &ended), "the mover was to die at %s: %v %s", at, err, output)
	status, ok := ended.Sys().(syscall.WaitStatus)
	require.True(t, ok && status.Signaled() && status.Signal() == syscall.SIGKILL, "at %s: %v %s", at, err, output)
}

func (k *killedTenant) kill(failpoint string) {
	k.Helper()
	output, err := k.run(failpoint)
	mustBeKilled(k.T, err, failpoint, output)
	k.mayBeUnlocked = strings.HasPrefix(failpoint, "cutover.unlock")
	k.mustKeepOthers(failpoint)
}

func (k *killedTenant) mustKeepOthers(when string) {
	k.Helper()
	now := shardRows(k.T, k.pair, true, false)
	for _, table := range []string{"orders", "labels", "tenants", "settings"} {
		require.Equal(k, k.others[table], now[table], "%s after %s", table, when)
	}
	for _, photo := range k.others["photos"][1:] { // the first is shared with ours
		require.Contains(k, now["photos"], photo, "after %s", when)
	}
}

func (k *killedTenant) cancel() {
	k.Helper()
	output, err := k.run("", "-cancel")
	require.NoError(k, err, output)
	require.Equal(k, k.whole, map[string]any{"ours": shardRows(k.T, k.pair, true, true), "theirs": shardRows(k.T, k.pair, true, false)})
}

func (k *killedTenant) arrive() {
	k.Helper()
	output, err := k.run("")
	require.NoError(k, err, output)
	require.Equal(k, shardRows(k.T, k.pair, false, true), shardRows(k.T, k.pair, true, true))
	require.NotEmpty(k, shardRows(k.T, k.pair, true, true)["orders"])
	k.mustKeepOthers("the end")
}
