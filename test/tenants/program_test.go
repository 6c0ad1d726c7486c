package tenants

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry/test/harness"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// settings are a configuration as a person writes it.
type settings = map[string]any

func serverSettings(s *servers.Server) settings {
	return settings{"Host": s.Host, "Port": s.Port, "User": s.User(), "Pass": s.Password()}
}

// shardSettings are those of shardConfig.
func shardSettings(p *harness.Pair) settings {
	return settings{
		"Source": serverSettings(p.Source), "Target": serverSettings(p.Target),
		"SourceDB": shard, "TargetDB": shard, "ShardingKey": "tenant", "ShardingKeyValue": "acme", "PrimaryKeyTables": []string{"tenants"},
		"JoinedTables":         settings{"photos": []any{settings{"TableName": "orders", "JoinColumn": "photo"}, settings{"TableName": "labels", "JoinColumn": "photo"}}},
		"InlineVerifierConfig": settings{"MaxExpectedDowntime": "60s"},
	}
}

// buildProgram builds the sharding program.
func buildProgram(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "sharding")
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../examples/sharding/cmd").CombinedOutput()
	require.NoError(t, err, string(output))
	return program
}

// runProgram runs it with a configuration on standard input, or in a file, and returns its
// status and what it said.
func runProgram(t *testing.T, program string, config settings, arguments ...string) (status int, said string) {
	t.Helper()
	text, err := json.Marshal(config)
	require.NoError(t, err)
	cmd := exec.CommandContext(minutes(t), program, arguments...)
	cmd.Stdin = bytes.NewReader(text)
	output, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(output)
}

// statsd is a server that keeps what it is sent.
type statsd struct {
	conn net.PacketConn
	mu   sync.Mutex
	seen map[string]string // the last sample of each name
}

func startStatsD(t *testing.T) *statsd {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &statsd{conn: conn, seen: map[string]string{}}
	read := make(chan struct{})
	go func() {
		defer close(read)
		packet := make([]byte, 1<<16)
		for {
			n, _, err := conn.ReadFrom(packet)
			if err != nil {
				return
			}
			name, _, _ := strings.Cut(string(packet[:n]), ":")
			s.mu.Lock()
			s.seen[name] = string(packet[:n])
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-read
	})
	return s
}

func (s *statsd) last(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[name]
}

// The program moves a tenant by a configuration on standard input: from a replica while its
// primary is written, not before a lag has shrunk, telling a statsd server. It says what a
// second run of a finished move finds, and takes the tenant back.
func TestShardingProgram(t *testing.T) {
	program := buildProgram(t)
	onOneFlavour(t, func(t *testing.T, p *harness.Pair) {
		replica, replicaDB := p.StartReplica(t)
		fillShard(t, p)
		whole := map[string]any{"ours": shardRows(t, p, true, true), "theirs": shardRows(t, p, true, false)}
		position := p.Heartbeat(t, "shard_heartbeat", replicaDB)
		p.Create(t, "lag", "CREATE TABLE seconds (behind INT)")
		p.In(t, p.TargetDB, "lag", "INSERT INTO seconds VALUES (60)")

		churn := changeShard(t, p)
		hooks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/lock" {
				if err := churn.Stop(); err != nil {
					http.Error(w, err.Error(), http.StatusInternalServerError)
				}
			}
		}))
		defer hooks.Close()
		metrics := startStatsD(t)
		config := shardSettings(p)
		maps.Copy(config, settings{
			"Source": serverSettings(replica), "RunFerryFromReplica": true, "SourceReplicationMaster": serverSettings(p.Source), "ReplicatedMasterPositionQuery": position,
			"IgnoredTables": []string{"^settings$"}, "StatsDAddress": metrics.conn.LocalAddr().String(),
			"CutoverLock": settings{"URI": hooks.URL + "/lock"}, "CutoverUnlock": settings{"URI": hooks.URL + "/unlock"},
			"Throttle": settings{"Connection": serverSettings(p.Target), "MaxLag": 5, "Query": "SELECT behind FROM lag.seconds", "UpdateInterval": "50ms"},
		})
		ctx, caughtUp := context.WithCancel(minutes(t))
		defer caughtUp()
		watched := make(chan int, 1)
		go func() { // lets the lag shrink when a change has arrived, and tells whether rows were copied before
			defer caughtUp()
			look := time.NewTicker(10 * time.Millisecond)
			defer look.Stop()
			for changed := 0; ctx.Err() == nil && changed < 1; <-look.C {
				_ = p.TargetDB.QueryRowContext(ctx, "SELECT COUNT(*) FROM shard.orders WHERE tenant='acme'").Scan(&changed)
			}
			copied := -1
			_ = p.TargetDB.QueryRowContext(ctx, "SELECT COUNT(*) FROM shard.orders WHERE id=900").Scan(&copied) // which nobody changes
			_, _ = p.TargetDB.ExecContext(ctx, "UPDATE lag.seconds SET behind=0")
			watched <- copied
		}()
		status, said := runProgram(t, program, config)
		require.Zero(t, status, said)
		require.Zero(t, <-watched, "rows that were copied while the lag was too great")
		require.Regexp(t, `(?m)^equal at \S+:\d+.*$`, said)
		require.NotContains(t, said, "not fenced")
		require.Equal(t, shardRows(t, p, false, true), shardRows(t, p, true, true))
		require.NotEmpty(t, shardRows(t, p, true, true)["photos"])
		for _, name := range []string{"sharding.VerifyCutover", "sharding.deltaCopyJoinedTables", "sharding.CopyPrimaryKeyTables"} {
			// What the program has sent before its end is read a moment later.
			harness.Await(t, name+" is sampled", func() bool { return metrics.last(name) != "" })
			require.Regexp(t, "^"+name+`:[0-9.e+-]+\|ms\|#SourceDB:shard,TargetDB:shard`, metrics.last(name))
		}

		file := filepath.Join(t.TempDir(), "tenant.json")
		text, err := json.Marshal(config)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(file, text, 0o600))
		status, said = runProgram(t, program, nil, "-config-path", file)
		require.Equal(t, 1, status, said)
		require.Contains(t, said, "already moved")
		require.Contains(t, said, "-cancel -even-if-finished")
		status, said = runProgram(t, program, config, "-cancel")
		require.Equal(t, 1, status, said)
		require.Contains(t, said, "has finished")
		status, said = runProgram(t, program, config, "-cancel", "-even-if-finished")
		require.Zero(t, status, said)
		require.Contains(t, said, "rows removed from the target")
		require.Equal(t, whole, map[string]any{"ours": shardRows(t, p, true, true), "theirs": shardRows(t, p, true, false)})
	})
}

// What the program does not understand it refuses, before it reads a configuration.
func TestShardingCommandLine(t *testing.T) {
	program := buildProgram(t)
	status, said := runProgram(t, program, nil, "-version")
	require.Zero(t, status)
	require.Regexp(t, "^\\S+\n$", said)
	for says, arguments := range map[string][]string{
		"tenant.json":                         {"tenant.json"},
		"-even-if-finished goes with -cancel": {"-even-if-finished"},
		"-application-on-source does not go":  {"-cancel", "-application-on-source"},
		"flag provided but not defined":       {"-verbose"},
	} {
		status, said := runProgram(t, program, nil, arguments...)
		require.Equal(t, 1, status, said)
		require.Contains(t, said, says)
	}
}

// What is wrong with the configuration is said before anything is written.
func TestShardingProgramRefuses(t *testing.T) {
	program := buildProgram(t)
	p := harness.Shared(t, harness.Settings[0]) // nothing here depends on the server
	fillShard(t, p)
	before := map[string]any{"ours": shardRows(t, p, true, true), "theirs": shardRows(t, p, true, false)}
	for _, refused := range []struct {
		set  settings
		says []string
	}{
		{settings{"ShardingKee": "x"}, []string{"ShardingKee"}},
		{settings{"MyServerId": 7}, []string{"MyServerId", "remove it"}},
		{settings{"ShardingKey": ""}, []string{"ShardingKey is not set"}},
		{settings{"StatsDAddress": "nowhere"}, []string{"StatsDAddress", "host:port"}},
		{settings{"IgnoredTables": []string{"("}}, []string{"IgnoredTables", "regular expression"}},
		{settings{"PrimaryKeyTables": []string{"absent"}}, []string{"absent"}},
		{settings{"Throttle": settings{"Connection": serverSettings(p.Target)}}, []string{"throttler", "query is empty"}},
		{settings{"RunFerryFromReplica": true}, []string{"SourceReplicationMaster"}},
		{settings{"ShardingKey": "owner"}, []string{"owner"}},
		{settings{"AutomaticCutover": false}, []string{"AutomaticCutover", "remove it"}},
		{settings{"CutoverFence": settings{"Kind": "read_only"}}, []string{"CutoverFence", "every tenant", "CutoverLock"}},
		{settings{"ShardingKeyValue": "amce"}, []string{"tenant amce has no row on the source, in schema shard: labels, orders, tenants", "check ShardingKeyValue", "AllowEmptyTenant"}},
		{settings{"ReplicatedMasterPositionQuery": "SELECT 1"}, []string{"ReplicatedMasterPositionQuery is set without RunFerryFromReplica"}},
	} {
		config := shardSettings(p)
		maps.Copy(config, refused.set)
		status, said := runProgram(t, program, config)
		require.Equal(t, 1, status, said)
		for _, words := range refused.says {
			require.Contains(t, said, words)
		}
	}
	file := filepath.Join(t.TempDir(), "config.json")
	require.NoError(t, os.WriteFile(file, []byte("{"), 0o600))
	status, said := runProgram(t, program, nil, "-config-path", file)
	require.Equal(t, 1, status, said)
	status, said = runProgram(t, program, nil, "-config-path", file+".absent")
	require.Equal(t, 1, status, said)
	require.Contains(t, said, "config.json.absent")
	require.Equal(t, before, map[string]any{"ours": shardRows(t, p, true, true), "theirs": shardRows(t, p, true, false)})

	// A tenant without a row moves when that is meant, and one moves that has nothing but its own row.
	p.In(t, p.SourceDB, shard, "INSERT INTO tenants VALUES ('own row',3)")
	for tenant, allowed := range map[string]bool{"nobody": true, "own row": false} {
		config := shardSettings(p)
		maps.Copy(config, settings{"ShardingKeyValue": tenant, "AllowEmptyTenant": allowed})
		status, said := runProgram(t, program, config)
		require.Zero(t, status, said)
	}
	require.Equal(t, 1, harness.Count(t, p.TargetDB, "shard.tenants WHERE name='own row' AND v=3"))
}
