package ghostferry

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"
)

type allTables struct{}

func (allTables) ApplicableDatabases(names []string) ([]string, error)           { return names, nil }
func (allTables) ApplicableTables(tables []*TableSchema) ([]*TableSchema, error) { return tables, nil }

func validConfig() *Config {
	return &Config{
		Source:      &DatabaseConfig{Host: "source", Port: 3306, User: "u"},
		Target:      &DatabaseConfig{Host: "target", Port: 3306, User: "u"},
		TableFilter: allTables{},
	}
}

func TestValidateConfigFillsDefaults(t *testing.T) {
	config := validConfig()
	for range 2 { // validating again changes nothing
		require.NoError(t, config.ValidateConfig())

		require.Equal(t, "tcp", config.Source.Net)
		require.Equal(t, "application:ghostferry", config.Target.Marginalia)
		require.Equal(t, map[string]string{
			"time_zone": "'+00:00'",
			"sql_mode":  "'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,NO_AUTO_VALUE_ON_ZERO'",
		}, config.Source.Params)
		require.Equal(t, 5, config.DBWriteRetries)
		require.Equal(t, 60, config.DBReadRetries)
		require.Equal(t, defaultBinlogEventBatchSize, config.BinlogEventBatchSize)
		require.Equal(t, 4, config.BinlogApplyLanes)
		require.Equal(t, 4, config.DataIterationConcurrency)
		require.Zero(t, config.DataIterationChunkBytes, "by what there is to copy")
		require.Equal(t, uint64(0), config.UpdatableConfig.BatchSize(), "0 sizes batches by bytes")
		require.Equal(t, 1, config.MaxCutoverRetries)
		require.Equal(t, 1, config.CutoverRetryWaitSeconds)
		require.Equal(t, 1000, config.ProgressReportFrequency)
		require.Equal(t, "_ghostferry", config.CheckpointSchema)
		require.False(t, config.ControlServerConfig.Enabled)
	}
	require.Empty(t, config.takeNotices())

	config = validConfig()
	config.SkipTargetVerification = true
	require.NoError(t, config.ValidateConfig())
	require.Len(t, config.takeNotices(), 1, "the target's binary log is not watched, and that is said")
	require.Empty(t, config.takeNotices())
}

// What is set and changes nothing is said once, by name; defaults that were filled in are
// not taken for it, however often the configuration is validated.
func TestValidateConfigNotesWhatHasNoEffect(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Config)
		wants  []string
	}{
		{"nothing", func(*Config) {}, nil},
		{"settings of the verifier that is used", func(c *Config) {
			c.VerifierType, c.OnlineVerifierConfig = "Online", OnlineVerifierConfig{Concurrency: 2, MaxExpectedDowntime: "1s", CompareAllDuringCutover: true, Repair: true}
		}, nil},
		{"settings of a verifier that the host may have", func(c *Config) {
			c.InlineVerifierConfig.MaxExpectedDowntime, c.IterativeVerifierConfig.Concurrency, c.OnlineVerifierConfig.Repair = "1s", 2, true
		}, nil},
		{"settings of all verifiers but one", func(c *Config) {
			c.VerifierType = "ChecksumTable"
			c.InlineVerifierConfig.VerifyBinlogEventsInterval, c.IterativeVerifierConfig.IgnoredTables, c.OnlineVerifierConfig.MaxExpectedDowntime = "2s", []string{"a"}, "30s"
		}, []string{
			`IterativeVerifierConfig is set and has no effect: VerifierType is "ChecksumTable"`,
			`InlineVerifierConfig is set and has no effect: VerifierType is "ChecksumTable"`,
			`OnlineVerifierConfig is set and has no effect: VerifierType is "ChecksumTable"`,
		}},
		{"settings of other verifiers that these would not take", func(c *Config) {
			c.VerifierType = "NoVerification"
			c.IterativeVerifierConfig.MaxExpectedDowntime, c.InlineVerifierConfig.VerifyBinlogEventsInterval, c.OnlineVerifierConfig.MaxExpectedDowntime = "x", "soon", "1"
		}, []string{
			"IterativeVerifierConfig is set and has no effect", "InlineVerifierConfig is set and has no effect", "OnlineVerifierConfig is set and has no effect",
			"IterativeVerifierConfig would be invalid if it were used: ", "InlineVerifierConfig would be invalid if it were used: ", "OnlineVerifierConfig would be invalid if it were used: ",
		}},
		{"columns that nobody compares", func(c *Config) {
			c.VerifierType = "NoVerification"
			c.CompressedColumnsForVerification = ColumnCompressionConfig{"s": nil}
			c.IgnoredColumnsForVerification = ColumnIgnoreConfig{"s": nil}
			c.ForceIndexForVerification = ForceIndexConfig{"s": nil}
		}, []string{
			`CompressedColumnsForVerification is set and has no effect: VerifierType is "NoVerification"`,
			`IgnoredColumnsForVerification is set and has no effect: VerifierType is "NoVerification"`,
			`ForceIndexForVerification is set and has no effect: VerifierType is "NoVerification"`,
		}},
		{"tables and columns that are left out", func(c *Config) {
			c.VerifierType, c.IterativeVerifierConfig.IgnoredTables = "Iterative", []string{"u", "t"}
			c.IterativeVerifierConfig.IgnoredColumns = map[string][]string{"v": {"b", "a"}}
		}, []string{
			"tables t, u are not compared: IterativeVerifierConfig.IgnoredTables is set", "columns v.a, v.b are not compared: IterativeVerifierConfig.IgnoredColumns is set",
		}},
		{"columns that are left out", func(c *Config) {
			c.VerifierType, c.IgnoredColumnsForVerification = "Online", ColumnIgnoreConfig{"s": {"t": {"b": {}, "a": {}}}}
		}, []string{"columns s.t.a, s.t.b are not compared: IgnoredColumnsForVerification is set"}},
		{"a lock that nothing takes back", func(c *Config) { c.CutoverLock.URI = "http://localhost/lock" }, []string{"CutoverLock is set without CutoverAbort: "}},
		{"a lock that is taken back", func(c *Config) {
			c.CutoverLock.URI, c.CutoverAbort.URI = "http://localhost/lock", "http://localhost/abort"
		}, nil},
		{"indexes of filtered rows", func(c *Config) { c.DeferSecondaryIndexes, c.CopyFilter = DeferIndexesAll, struct{ CopyFilter }{} },
			[]string{"DeferSecondaryIndexes is set and has no effect: with a CopyFilter"}},
		{"size of tables of which nothing is deferred", func(c *Config) { c.DeferSecondaryIndexesMinBytes = 1 },
			[]string{"DeferSecondaryIndexesMinBytes is set and has no effect: DeferSecondaryIndexes is off"}},
		{"size of tables of which something is deferred", func(c *Config) { c.DeferSecondaryIndexesMinBytes, c.DeferSecondaryIndexes = 1, DeferIndexesAll }, nil},
		{"schema of no checkpoint", func(c *Config) { c.Checkpoint, c.CheckpointSchema = "off", "mine" },
			[]string{"CheckpointSchema is set and has no effect: Checkpoint is off"}},
		{"no checkpoint", func(c *Config) { c.Checkpoint = "off" }, nil},
		{"version of no state", func(c *Config) { c.StrictStateVersion = true },
			[]string{"StrictStateVersion is set and has no effect: there is no StateToResumeFrom"}},
		{"version of a state in a store", func(c *Config) { c.StrictStateVersion, c.CheckpointStore = true, &FileCheckpointStore{} }, nil},
		{"bytes that are always there", func(c *Config) { c.EnableRowBatchSize = true },
			[]string{"EnableRowBatchSize is set and has no effect: the progress always has the bytes"}},
		{"reports to nobody", func(c *Config) { c.ProgressReportFrequency, c.StateReportFrequency = 10, 10 }, []string{
			"ProgressReportFrequency is set and has no effect: ProgressCallback has no URI", "StateReportFrequency is set and has no effect: StateCallback has no URI",
		}},
		{"reports to somebody", func(c *Config) {
			c.ProgressReportFrequency, c.StateReportFrequency = 10, 10
			c.ProgressCallback.URI, c.StateCallback.URI = "http://localhost/progress", "http://localhost/state"
		}, nil},
		{"a control server that is off", func(c *Config) { c.ServerBindAddr = "127.0.0.1:9000" },
			[]string{"ControlServerConfig is set and has no effect: its Enabled is not set"}},
		{"a token of profiles", func(c *Config) {
			c.EnablePProf, c.ControlServerConfig = true, &ControlServerConfig{Token: operateToken}
		}, nil},
		{"a token of nothing", func(c *Config) { c.ControlServerConfig = &ControlServerConfig{Token: operateToken} },
			[]string{"ControlServerConfig is set and has no effect: its Enabled is not set"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := validConfig()
			test.change(config)
			for range 2 {
				require.NoError(t, config.ValidateConfig())
			}
			notices := config.takeNotices()
			require.Len(t, notices, len(test.wants), "%q", notices)
			for i, wants := range test.wants {
				require.Contains(t, notices[i], wants)
			}
			require.Empty(t, config.takeNotices())
		})
	}
}

// Without a VerifierType the verifier that the host has set decides at Start.
func TestSettingsOfTheHostsVerifier(t *testing.T) {
	type mine struct{ Verifier }
	for _, test := range []struct {
		name           string
		verifier       Verifier
		repair         bool
		refused, notes string
	}{
		{name: "none, repair", repair: true, refused: "OnlineVerifierConfig.Repair is set and there is no verifier: no row would be repaired"},
		{name: "none", notes: "InlineVerifierConfig is set and has no effect: there is no verifier"},
		{name: "another one, repair", verifier: &InlineVerifier{}, repair: true, refused: `Ferry.Verifier is of type "Inline"`},
		{name: "another one", verifier: &ChecksumTableVerifier{}, notes: `InlineVerifierConfig is set and has no effect: Ferry.Verifier is of type "ChecksumTable"`},
		{name: "that one", verifier: &InlineVerifier{}},
		{name: "that one, repair", verifier: &OnlineVerifier{}, repair: true, notes: `InlineVerifierConfig is set and has no effect: Ferry.Verifier is of type "Online"`},
		{name: "the host's own", verifier: mine{}, repair: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log bytes.Buffer
			logger := logrus.New()
			logger.SetOutput(&log)
			f := &Ferry{Config: validConfig(), Verifier: test.verifier, logger: logger}
			f.InlineVerifierConfig.MaxExpectedDowntime, f.OnlineVerifierConfig.Repair = "1s", test.repair
			require.NoError(t, f.ValidateConfig())
			err := f.checkVerifierSettings()
			if test.refused != "" {
				require.ErrorContains(t, err, test.refused)
				return
			}
			require.NoError(t, err)
			if test.notes == "" {
				require.Empty(t, log.String())
			} else {
				require.Contains(t, strings.ReplaceAll(log.String(), `\"`, `"`), test.notes)
			}
		})
	}
}

// What the host's throttler replaces is named, and what it does not replace is checked.
func TestSettingsBesideTheHostsThrottler(t *testing.T) {
	var log bytes.Buffer
	logger := logrus.New()
	logger.SetOutput(&log)
	f := &Ferry{Config: validConfig(), Throttler: &PauserThrottler{}, logger: logger}
	f.Throttlers.Load, f.Throttlers.Adaptive = []LoadThrottlerConfig{{}}, &AdaptiveConfig{}
	require.NoError(t, f.besideHostsThrottler())
	require.Contains(t, log.String(), "Throttlers.Load is set and has no effect: the host has set Ferry.Throttler")
	require.Equal(t, 1, strings.Count(log.String(), "has no effect"), log.String())

	f.Throttlers.Adaptive.MinWorkers = -1
	require.ErrorContains(t, f.besideHostsThrottler(), "Throttlers.Adaptive: MinWorkers is -1")
}

// Every fault by itself, with the text that names it.
func TestValidateConfigFaults(t *testing.T) {
	upstreamState := &SerializableState{GhostferryVersion: "other", LastWrittenBinlogPosition: mysql.Position{Name: "a.000001", Pos: 4}}
	for _, test := range []struct {
		name   string
		change func(*Config)
		field  string
		text   string
	}{
		{"log back end", func(c *Config) { c.LogBackend = "zerolog" }, "LogBackend", `LogBackend "zerolog" is not supported`},
		{"log level", func(c *Config) { c.LogLevel = "loud" }, "LogLevel", `LogLevel "loud" is unknown`},
		{"no source", func(c *Config) { c.Source = nil }, "Source", "source: not configured"},
		{"source host", func(c *Config) { c.Source.Host = "" }, "Source.Host", "source: host is empty"},
		{"source port", func(c *Config) { c.Source.Port = 0 }, "Source.Port", "source: port is 0"},
		{"target net", func(c *Config) { c.Target.Net = "udp" }, "Target.Net", `target: unknown net "udp"`},
		{"target user", func(c *Config) { c.Target.User = "" }, "Target.User", "target: user is empty"},
		{"collation", func(c *Config) { c.Target.Collation = "latin1_swedish_ci" }, "Target.Collation", "target: collation"},
		{"time zone", func(c *Config) { c.Source.Params = map[string]string{"time_zone": "'SYSTEM'"} }, "Source.Params.time_zone", "source: time_zone must be '+00:00'"},
		{"sql mode", func(c *Config) { c.Source.Params = map[string]string{"SQL_MODE": "''"} }, "Source.Params.SQL_MODE", "source: sql_mode must be"},
		{"charset", func(c *Config) { c.Source.Params = map[string]string{"charset": "latin1"} }, "Source.Params.charset", "source: charset"},
		{"driver option", func(c *Config) { c.Source.Params = map[string]string{"parseTime": "true"} }, "Source.Params.parseTime", "option of the driver"},
		{"TLS file", func(c *Config) { c.Source.TLS = &TLSConfig{CertPath: "/nonexistent/ca.pem"} }, "Source.TLS", "source: TLS: open /nonexistent/ca.pem"},
		{"table filter", func(c *Config) { c.TableFilter = nil }, "TableFilter", "Table filter function must be provided"},
		{"strict state", func(c *Config) { c.StateToResumeFrom, c.StrictStateVersion = upstreamState, true }, "StateToResumeFrom",
			"StateToResumeFrom version mismatch: resume = other, current = " + BuildVersion()},
		{"strict state of who knows which build", func(c *Config) {
			same := *upstreamState
			same.GhostferryVersion = BuildVersion()
			c.StateToResumeFrom, c.StrictStateVersion = &same, true
		}, "StrictStateVersion", "may be that of several builds"},
		{"newer state", func(c *Config) {
			newer := *upstreamState
			newer.StateFormatVersion = stateFormatVersion + 1
			c.StateToResumeFrom = &newer
		}, "StateToResumeFrom", "StateToResumeFrom version mismatch"},
		{"state without position", func(c *Config) { c.StateToResumeFrom = &SerializableState{} }, "StateToResumeFrom", "no source position"},
		{"unknown verifier", func(c *Config) { c.VerifierType = "Eye" }, "VerifierType", "'Eye' is not a known VerifierType"},
		{"iterative config", func(c *Config) { c.VerifierType = "Iterative"; c.IterativeVerifierConfig.MaxExpectedDowntime = "x" }, "IterativeVerifierConfig", "invalid duration"},
		{"inline config", func(c *Config) { c.VerifierType = "Inline"; c.InlineVerifierConfig.MaxExpectedDowntime = "-1s" }, "InlineVerifierConfig", "is negative"},
		{"online config", func(c *Config) { c.VerifierType = "Online"; c.OnlineVerifierConfig.MaxExpectedDowntime = "1" }, "OnlineVerifierConfig", "missing unit"},
		{"online config of the host's verifier", func(c *Config) { c.OnlineVerifierConfig.Concurrency = -1 }, "OnlineVerifierConfig", "negative"},
		{"repair by another verifier", func(c *Config) { c.VerifierType = "Inline"; c.OnlineVerifierConfig.Repair = true }, "OnlineVerifierConfig.Repair",
			`OnlineVerifierConfig.Repair is set and VerifierType is "Inline": no row would be repaired: set VerifierType to "Online", or remove Repair (copydb: -repair)`},
		{"repair without verification", func(c *Config) { c.VerifierType = "NoVerification"; c.OnlineVerifierConfig.Repair = true }, "OnlineVerifierConfig.Repair", "no row would be repaired"},
		{"last comparison by another verifier", func(c *Config) { c.VerifierType = "Iterative"; c.OnlineVerifierConfig.CompareAllDuringCutover = true }, "OnlineVerifierConfig.CompareAllDuringCutover",
			`VerifierType is "Iterative": the rows would not be compared once more`},
		{"timeout of a control server that is off", func(c *Config) { c.ControlServerConfig = &ControlServerConfig{CustomScriptTimeout: "1"} }, "ControlServerConfig.CustomScriptTimeout", "missing unit"},
		{"repair of filtered rows", func(c *Config) { c.OnlineVerifierConfig.Repair = true; c.CopyFilter = struct{ CopyFilter }{} }, "OnlineVerifierConfig.Repair", "CopyFilter"},
		{"control server", func(c *Config) { c.ControlServerConfig = &ControlServerConfig{Enabled: true} }, "ControlServerConfig.TokenFile", "control_server: "},
		{"old bind address", func(c *Config) {
			c.ControlServerConfig, c.ServerBindAddr = &ControlServerConfig{Enabled: true, Token: operateToken}, "x"
		}, "ControlServerConfig.ServerBindAddr", "not host:port"},
		{"old web dir", func(c *Config) {
			c.ControlServerConfig, c.WebBasedir = &ControlServerConfig{Enabled: true, Token: operateToken}, "/nowhere"
		}, "ControlServerConfig.WebBasedir", "has no page"},
		{"old scripts", func(c *Config) {
			c.ControlServerConfig, c.ControlServerCustomScripts = &ControlServerConfig{Enabled: true, Token: operateToken}, map[string][]string{"a": nil}
		}, "ControlServerConfig.CustomScripts", "no program"},
		{"batch sizes", func(c *Config) {
			c.DataIterationBatchSizePerTableOverride = &DataIterationBatchSizePerTableOverride{MinRowSize: 1, MaxRowSize: 2, ControlPoints: map[int]uint64{1: 1}}
		}, "DataIterationBatchSizePerTableOverride", "DataIterationBatchSizePoints invalid: "},
		{"rewrites", func(c *Config) { c.DatabaseRewrites = map[string]string{"a": "x", "b": "x"} }, "DatabaseRewrites", "duplicate target to source rewrite detected"},
		{"row image", func(c *Config) { c.SkipBinlogRowImageCheck = true }, "SkipBinlogRowImageCheck", "losing data"},
		{"negative", func(c *Config) { c.DBWriteRetries = -1 }, "DBWriteRetries", "must not be negative"},
		{"too much at once", func(c *Config) { c.DataIterationChunkBytes = maxDataIterationChunkBytes + 1 }, "DataIterationChunkBytes", "must not be more than"},
		{"bulk load", func(c *Config) { c.BulkLoad = "on" }, "BulkLoad", "leave it empty for LOAD DATA"},
		{"checkpoint", func(c *Config) { c.Checkpoint = "on" }, "Checkpoint", `leave it empty for on`},
		{"checkpoint schema", func(c *Config) { c.CheckpointSchema = "MySQL" }, "CheckpointSchema", `leave it empty for "_ghostferry"`},
		{"run id", func(c *Config) { c.RunID = strings.Repeat("x", 65) }, "RunID", "at most 64"},
	} {
		t.Run(test.name, func(t *testing.T) {
			config := validConfig()
			test.change(config)
			err := config.ValidateConfig()
			faults := ConfigErrors(err)
			require.Len(t, faults, 1, "%v", err)
			require.Equal(t, test.field, faults[0].Field)
			require.ErrorContains(t, err, test.text)
			require.False(t, Retryable(err))
			require.True(t, Resumable(err))
		})
	}
}

func TestValidateConfigReportsAllFaultsInOrder(t *testing.T) {
	config := &Config{
		LogBackend: "x", LogLevel: "y", Source: &DatabaseConfig{}, VerifierType: "z",
		BulkLoad: "z", DBReadRetries: -1,
	}
	var fields []string
	for _, fault := range ConfigErrors(config.ValidateConfig()) {
		fields = append(fields, fault.Field)
	}
	require.Equal(t, []string{
		"LogBackend", "LogLevel", "Source.Host", "Source.Port", "Source.User", "Target",
		"TableFilter", "VerifierType", "DBReadRetries", "BulkLoad",
	}, fields)
}

func TestValidateConfigAcceptsTheOldBatchSize(t *testing.T) {
	config := validConfig()
	config.DataIterationBatchSize = 50
	config.UpdatableConfig.DataIterationBatchSize = 10
	require.NoError(t, config.ValidateConfig())
	require.Equal(t, uint64(50), config.UpdatableConfig.BatchSize())

	config.Update(UpdatableConfig{})
	require.Equal(t, uint64(50), config.UpdatableConfig.BatchSize())
	config.Update(UpdatableConfig{DataIterationBatchSize: 60})
	require.Equal(t, uint64(60), config.UpdatableConfig.BatchSize())
}

func TestLogLevelDoesNotChangeTheHostsLogger(t *testing.T) {
	var out bytes.Buffer
	host := logrus.New()
	host.SetOutput(&out)
	config := validConfig()
	config.Logger = host.WithField("app", "host")
	config.LogLevel = "DEBUG"
	require.NoError(t, config.ValidateConfig())
	require.NoError(t, config.ValidateConfig())

	config.Logger.Debug("seen")
	host.Debug("not seen")
	require.Contains(t, out.String(), "seen")
	require.Contains(t, out.String(), "app=host")
	require.NotContains(t, out.String(), "not seen")
}

func TestDatabaseConfig(t *testing.T) {
	require.EqualError(t, (&DatabaseConfig{Port: 1, User: "u"}).Validate(),
		"host is empty [Host]: give the server's name or address, or the path of its socket")

	socket := &DatabaseConfig{Host: "/run/mysqld.sock", Port: 3306, Net: "unix", User: "u"}
	require.NoError(t, socket.Validate())
	require.Equal(t, uint16(0), socket.Port)
	config, err := socket.MySQLConfig()
	require.NoError(t, err)
	require.Equal(t, "/run/mysqld.sock", config.Addr)

	database := &DatabaseConfig{
		Host: "::1", Port: 3306, User: "u", Pass: "secret", ReadTimeout: 7,
		Params: map[string]string{
			"charset": "utf8mb4", "wait_timeout": "100", "AutoCommit": "0",
			"sql_mode": "'STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES'", // upstream's value asks for less than it gets
		},
	}
	require.NoError(t, database.Validate())
	config, err = database.MySQLConfig()
	require.NoError(t, err)
	require.Equal(t, "[::1]:3306", config.Addr)
	require.False(t, config.MultiStatements)
	require.False(t, config.ClientFoundRows)
	require.True(t, config.AllowNativePasswords)
	require.Equal(t, 0, config.MaxAllowedPacket)
	require.Equal(t, "7s", config.ReadTimeout.String())
	require.Equal(t, map[string]string{
		"wait_timeout": "100", "time_zone": requiredTimeZone, "sql_mode": requiredSQLMode, "autocommit": "1", "sql_select_limit": "18446744073709551615",
	}, config.Params, "the charset must not be sent as SET charset=…")

	masked := MaskedDSN(config)
	require.Contains(t, masked, "u:<masked>@tcp([::1]:3306)/")
	require.Contains(t, masked, "charset=utf8mb4")
	require.NotContains(t, masked, "secret")
	require.Equal(t, "secret", config.Passwd, "masking leaves the configuration alone")
}

func TestTLSConfig(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	require.NoError(t, os.WriteFile(empty, []byte("no certificate"), 0o600))

	_, err := (&TLSConfig{CertPath: empty}).BuildConfig()
	require.ErrorContains(t, err, "unable to append pem")
	_, err = (&TLSConfig{CertPath: empty + ".missing"}).BuildConfig()
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = (&TLSConfig{MinVersion: "1.1"}).BuildConfig()
	require.ErrorContains(t, err, "unknown TLS version")
	_, err = (&TLSConfig{ClientCertPath: empty}).BuildConfig()
	require.ErrorContains(t, err, "belong together")
	_, err = (&TLSConfig{ClientCertPath: empty, ClientKeyPath: empty}).BuildConfig()
	require.ErrorContains(t, err, "client certificate")

	config := &TLSConfig{ServerName: "db", MinVersion: "1.3"}
	built, err := config.BuildConfig()
	require.NoError(t, err)
	require.Equal(t, "db", built.ServerName)
	again, err := config.BuildConfig()
	require.NoError(t, err)
	require.Same(t, built, again)

	driver, err := (&DatabaseConfig{Host: "h", Port: 1, User: "u", TLS: config}).MySQLConfig()
	require.NoError(t, err)
	require.NotSame(t, built, driver.TLS, "the driver changes its own")
	require.Equal(t, "db", driver.TLS.ServerName)
}

func TestBatchSizesByRowSize(t *testing.T) {
	var none *DataIterationBatchSizePerTableOverride
	require.NoError(t, none.Validate())

	override := &DataIterationBatchSizePerTableOverride{
		MinRowSize: 100, MaxRowSize: 10000,
		ControlPoints: map[int]uint64{100: 2000, 1000: 1500, 10000: 200},
	}
	require.NoError(t, override.Validate())
	for rowSize, batchSize := range map[int]int{0: 2000, 100: 2000, 550: 1750, 1000: 1500, 10000: 200, 1 << 20: 200} {
		require.Equal(t, batchSize, override.CalculateBatchSize(rowSize), "row size %d", rowSize)
	}

	line := &DataIterationBatchSizePerTableOverride{MinRowSize: 100, MaxRowSize: 10000, ControlPoints: map[int]uint64{100: 2000, 10000: 200}}
	require.Equal(t, 1981, line.CalculateBatchSize(200))
}

func TestVerifierConfigs(t *testing.T) {
	inline := &InlineVerifierConfig{}
	require.NoError(t, inline.Validate())
	require.Equal(t, "1s", inline.verifyBinlogEventsInterval.String())
	require.Error(t, (&InlineVerifierConfig{MaxExpectedDowntime: "soon"}).Validate())

	iterative := &IterativeVerifierConfig{MaxExpectedDowntime: "1m"}
	require.NoError(t, iterative.Validate())
	require.Equal(t, 4, iterative.Concurrency)
	require.Error(t, (&IterativeVerifierConfig{MaxExpectedDowntime: "-1s"}).Validate())

	server := &ControlServerConfig{}
	require.NoError(t, server.Validate())
	require.Equal(t, "127.0.0.1:8000", server.ServerBindAddr)
	require.Empty(t, server.WebBasedir, "the built-in page")

	var cascading *CascadingPaginationColumnConfig
	_, found := cascading.PaginationColumnFor("s", "t")
	require.False(t, found)
	_, found = cascading.FallbackPaginationColumnName()
	require.False(t, found)
}

func TestConfigErrorsSeesThroughWrapping(t *testing.T) {
	one, two := &ConfigError{Field: "A"}, &ConfigError{Field: "B"}
	require.Equal(t, []*ConfigError{one, two}, ConfigErrors(errors.Join(one, errors.Join(errors.New("x"), two))))
	require.Empty(t, ConfigErrors(errors.New("x")))
	require.Empty(t, ConfigErrors(nil))
}
