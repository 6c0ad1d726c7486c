package integration

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// The samples that dashboards of older hosts are made of are sent, to the run's own sink;
// and lines of the log say in fields which table, key and place they are about.
func TestSamplesAndFieldsOfARun(t *testing.T) {
	for _, verifier := range []string{ghostferry.VerifierTypeIterative, ghostferry.VerifierTypeInline} {
		t.Run(verifier, func(t *testing.T) {
			p := harness.Shared(t, harness.Settings[0])
			p.Create(t, "samples", "CREATE TABLE t (id INT PRIMARY KEY, v INT)", "CREATE TABLE c (name VARCHAR(20) COLLATE utf8mb4_0900_ai_ci PRIMARY KEY)")
			p.In(t, p.SourceDB, "samples", "INSERT INTO t VALUES (1,1),(2,2),(3,3)", "INSERT INTO c VALUES ('a'),('b')")
			hooks := serveHooks(t, func() error { return nil })
			var said lockedBuffer
			logger := logrus.New()
			logger.SetOutput(&said)
			logger.SetFormatter(&logrus.JSONFormatter{})
			logger.SetLevel(logrus.DebugLevel)
			config := p.Config("samples")
			config.Logger, config.VerifierType = logger, verifier
			config.CutoverLock.URI, config.CutoverUnlock.URI = hooks.URL+"/lock", hooks.URL+"/unlock"
			sink := make(chan any, 10000)
			config.Metrics = &ghostferry.Metrics{Prefix: "test", Sink: sink}
			f := &ghostferry.Ferry{Config: config}
			f.TailGuardSeconds = -1
			mustStart(t, t.Context(), f)
			defer f.Close()
			f.Throttler.SetPaused(true)
			ran := make(chan error, 1)
			go func() { ran <- f.RunContext(context.WithoutCancel(t.Context())) }()
			harness.Await(t, "the run waits for the pause's end", func() bool { return f.Progress().Throttled })
			f.Throttler.SetPaused(false)
			require.NoError(t, f.WaitUntilRowCopyIsCompleteContext(t.Context()))
			p.In(t, p.SourceDB, "samples", "UPDATE t SET v = v + 1 WHERE id < 3")
			_, err := f.Cutover(cutoverContext(t), ghostferry.CutoverHooks{})
			require.NoError(t, err)
			require.NoError(t, <-ran)

			rows, others := map[string]int64{}, map[string]bool{}
			for len(sink) > 0 {
				switch sample := (<-sink).(type) {
				case ghostferry.CountMetric:
					require.Equal(t, "test.RowEvent", sample.Key)
					require.Equal(t, "table", sample.Tags[0].Name)
					require.Equal(t, "source", sample.Tags[1].Name)
					rows[sample.Tags[0].Value+" "+sample.Tags[1].Value] += sample.Value
				case ghostferry.GaugeMetric:
					require.GreaterOrEqual(t, sample.Value, 0.0)
					others[sample.Key] = true
				case ghostferry.TimerMetric:
					others[sample.Key] = true
				}
			}
			require.EqualValues(t, 3, rows["t table"])
			require.EqualValues(t, 2, rows["c table"])
			require.EqualValues(t, 2, rows["t binlog"])
			for _, name := range []string{"BinlogStreamer.Lag", "LoadTables", "VerifyBeforeCutover", "CutoverLock", "CutoverUnlock", "CutoverTime"} {
				require.True(t, others["test."+name], "no sample of %s: %v", name, others)
			}
			if verifier == ghostferry.VerifierTypeIterative {
				require.EqualValues(t, 3, rows["t iterative_verifier_before_cutover"])
				// More than two when one was compared before the target had it.
				require.GreaterOrEqual(t, rows["t reverification_before_cutover"]+rows["t iterative_verifier_during_cutover"], int64(2))
			}

			kinds := map[string]string{}
			places := 0
			for _, line := range strings.Split(strings.TrimSpace(said.String()), "\n") {
				var fields map[string]any
				require.NoError(t, json.Unmarshal([]byte(line), &fields), line)
				if fields["msg"] == "table copied" {
					kinds[fields["table"].(string)] = fields["key"].(string) + " " + fields["key_kind"].(string)
				}
				if fields["coordinate"] != nil {
					places++
				}
			}
			require.Equal(t, map[string]string{"samples.t": "id integer", "samples.c": "name collated"}, kinds)
			require.GreaterOrEqual(t, places, 2)
		})
	}
}
