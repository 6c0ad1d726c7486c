package ghostferry

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/ghostferry-go/ghostferry/internal/server"
)

const (
	// maxIdentifierLength is what servers allow, in characters.
	maxIdentifierLength = 64
	// maxRunIDLength is what the checkpoint's tables hold, in bytes.
	maxRunIDLength = 64
)

// ValidateConfig checks the whole configuration and fills in the defaults. It reports
// every fault at once: the error joins one [*ConfigError] a fault, in the order log,
// source, target, table filter, state, verifier, control server, updatable settings,
// batch sizes, the rest. It may be called again.
func (c *Config) ValidateConfig() error {
	var faults []error
	add := addFaultTo(&faults)
	c.notices = nil

	c.validateLog(add)
	faults = append(faults, validateServer(c.Source, "Source", "source: ")...)
	faults = append(faults, validateServer(c.Target, "Target", "target: ")...)
	if c.CallbackTLS != nil {
		if _, err := c.CallbackTLS.BuildConfig(); err != nil {
			faults = append(faults, &ConfigError{Field: "CallbackTLS", Problem: "CallbackTLS: " + err.Error(), Err: err})
		}
	}
	if c.TableFilter == nil {
		add("TableFilter", "Table filter function must be provided", "set Config.TableFilter in code")
	}
	c.validateState(add)
	c.validateVerifier(add)
	faults = append(faults, c.validateControlServer()...)
	c.validateUpdatable(add)
	if err := c.DataIterationBatchSizePerTableOverride.Validate(); err != nil {
		faults = append(faults, &ConfigError{
			Field: "DataIterationBatchSizePerTableOverride", Problem: "DataIterationBatchSizePoints invalid: " + err.Error(), Err: err,
		})
	}
	if _, err := TargetToSourceRewrites(c.DatabaseRewrites); err != nil {
		faults = append(faults, &ConfigError{Field: "DatabaseRewrites", Problem: err.Error(), Err: err})
	}
	c.validateUnsupported(add)
	c.validateNumbers(add)
	c.fillUpdatable()
	c.validateFence(add)
	c.validateBulkLoad(add)
	c.validateCheckpoint(add)
	c.validateDeferredIndexes(add)
	c.noteUnused()
	return joinErrors(faults)
}

type addFault func(field, problem, remedy string)

func addFaultTo(faults *[]error) addFault {
	return func(field, problem, remedy string) {
		*faults = append(*faults, &ConfigError{Field: field, Problem: problem, Remedy: remedy})
	}
}

func (c *Config) validateLog(add addFault) {
	if c.LogBackend != "" && c.LogBackend != logBackendLogrus {
		add("LogBackend", fmt.Sprintf("LogBackend %q is not supported", c.LogBackend),
			`remove it or set it to "logrus", the only one there is; other loggers can be attached by a logrus hook`)
	}
	if c.LogLevel == "" {
		return
	}
	level, ok := ParseLogLevel(c.LogLevel)
	if !ok {
		add("LogLevel", fmt.Sprintf("LogLevel %q is unknown", c.LogLevel), "it is debug, info, warn or error")
		return
	}
	logger, err := loggerAtLevel(c.Logger, level)
	if err != nil {
		add("LogLevel", "LogLevel cannot be applied: "+err.Error(), "remove LogLevel and set the level where the Logger is made")
		return
	}
	c.Logger = logger
}

func validateServer(server *DatabaseConfig, path, prefix string) []error {
	if server == nil {
		return []error{&ConfigError{Field: path, Problem: prefix + "not configured", Remedy: "set " + path + " with Host, Port, User and Pass"}}
	}
	return server.validate(path, prefix)
}

func (c *Config) validateState(add addFault) {
	state := c.StateToResumeFrom
	if state == nil {
		return
	}
	build := BuildVersion()
	mismatch := fmt.Sprintf("StateToResumeFrom version mismatch: resume = %s, current = %s", state.GhostferryVersion, build)
	switch {
	case c.StrictStateVersion && state.GhostferryVersion != build:
		add("StateToResumeFrom", mismatch, "resume with the build that wrote the state, or clear StrictStateVersion")
	case c.StrictStateVersion && !tellsBuildsApart(build):
		add("StrictStateVersion", fmt.Sprintf("StrictStateVersion is set, and version %s, which wrote the state, may be that of several builds", build),
			`link builds with -ldflags "-X `+modulePath+`.VersionString=…", or clear StrictStateVersion`)
	case state.StateFormatVersion > stateFormatVersion:
		add("StateToResumeFrom", fmt.Sprintf("%s; the state has format %d, this build reads up to %d", mismatch, state.StateFormatVersion, stateFormatVersion),
			"resume with the build that wrote the state, or a newer one")
	}
	if state.MinSourceBinlogPosition().Name == "" {
		add("StateToResumeFrom", "StateToResumeFrom has no source position to go on from", "start a fresh run with empty target tables")
	}
}

func (c *Config) validateVerifier(add addFault) {
	switch c.VerifierType {
	case "": // see checkVerifierSettings
	case VerifierTypeOnline, VerifierTypeNoVerification, VerifierTypeInline, VerifierTypeIterative, VerifierTypeChecksumTable:
		c.notices = append(c.notices, c.unusedByVerifier(c.VerifierType, c.verifierIs(), add)...)
	default:
		add("VerifierType", fmt.Sprintf("'%s' is not a known VerifierType", c.VerifierType),
			fmt.Sprintf("it is %q, %q, %q, %q or %q", VerifierTypeOnline, VerifierTypeInline, VerifierTypeIterative, VerifierTypeChecksumTable, VerifierTypeNoVerification))
	}
	for _, settings := range c.verifierSettings() {
		err := settings.validate()
		switch {
		case err == nil:
		case c.VerifierType == "" || c.VerifierType == settings.verifier:
			add(settings.field, settings.field+" invalid: "+err.Error(), `a duration is a text like "30s", and no number is negative`)
		default: // its writer shall not find out when it is used
			c.notices = append(c.notices, settings.field+" would be invalid if it were used: "+err.Error())
		}
	}
	c.noteNotCompared()
	if c.OnlineVerifierConfig.Repair && c.CopyFilter != nil {
		add("OnlineVerifierConfig.Repair", "OnlineVerifierConfig.Repair does not go with a CopyFilter: rows of others could be written", "remove it")
	}
}

// validateControlServer takes the settings' old places over, and checks them.
func (c *Config) validateControlServer() []error {
	if c.ControlServerConfig == nil {
		c.ControlServerConfig = &ControlServerConfig{}
	}
	to := c.ControlServerConfig
	moved := func(name string) {
		taggedLogger(c.Logger, "config").Warnf("%s is deprecated, use ControlServerConfig.%s", name, strings.TrimPrefix(name, "ControlServer"))
	}
	if c.ServerBindAddr != "" {
		to.ServerBindAddr, c.ServerBindAddr = c.ServerBindAddr, ""
		moved("ServerBindAddr")
	}
	if c.WebBasedir != "" {
		to.WebBasedir, c.WebBasedir = c.WebBasedir, ""
		moved("WebBasedir")
	}
	if len(c.ControlServerCustomScripts) > 0 {
		to.CustomScripts, c.ControlServerCustomScripts = c.ControlServerCustomScripts, nil
		moved("ControlServerCustomScripts")
	}
	if err := to.Validate(); err != nil {
		return []error{err}
	}
	if c.EnablePProf && !to.Enabled {
		if err := to.validateForPProf(); err != nil {
			return []error{err}
		}
	}
	return nil
}

func (c *Config) validateUpdatable(add addFault) {
	if c.DataIterationBatchSize != 0 {
		c.UpdatableConfig.DataIterationBatchSize = c.DataIterationBatchSize
		c.DataIterationBatchSize = 0
		taggedLogger(c.Logger, "config").Warn("DataIterationBatchSize is deprecated, use UpdatableConfig.DataIterationBatchSize")
	}
	if err := c.UpdatableConfig.Validate(); err != nil {
		add("UpdatableConfig", "updatable config: "+err.Error(), "")
	}
}

// validateUnsupported refuses what there is not, and notes a protection that is switched off.
func (c *Config) validateUnsupported(add addFault) {
	if c.SkipBinlogRowImageCheck {
		add("SkipBinlogRowImageCheck", "SkipBinlogRowImageCheck is not supported: changes with partial row images cannot be applied without losing data",
			"remove it and set binlog_row_image=FULL on the source")
	}
	if c.SkipTargetVerification {
		c.notices = append(c.notices, "what others write to the target is not noticed: SkipTargetVerification is set")
	}
	if c.CutoverLock.URI != "" && c.CutoverAbort.URI == "" {
		c.notices = append(c.notices, "CutoverLock is set without CutoverAbort: after a cutover that fails behind the lock the source's writers stay stopped until somebody lets them go on; set CutoverAbort")
	}
}

func (c *Config) validateNumbers(add addFault) {
	c.workersByDefault = c.DataIterationConcurrency == 0 || c.workersByDefault && c.DataIterationConcurrency == defaultDataIterationConcurrent
	for _, number := range []struct {
		name     string
		value    *int
		byItself int
	}{
		{"DBWriteRetries", &c.DBWriteRetries, defaultDBWriteRetries},
		{"DBReadRetries", &c.DBReadRetries, defaultDBReadRetries},
		{"MaxOutageSeconds", &c.MaxOutageSeconds, defaultMaxOutageSeconds},
		{"BinlogEventBatchSize", &c.BinlogEventBatchSize, defaultBinlogEventBatchSize},
		{"BinlogApplyLanes", &c.BinlogApplyLanes, defaultBinlogApplyLanes},
		{"DataIterationConcurrency", &c.DataIterationConcurrency, defaultDataIterationConcurrent},
		{"MaxCutoverRetries", &c.MaxCutoverRetries, defaultMaxCutoverRetries},
		{"CutoverRetryWaitSeconds", &c.CutoverRetryWaitSeconds, defaultCutoverRetryWaitSeconds},
		{"ProgressReportFrequency", &c.ProgressReportFrequency, defaultReportFrequency},
		{"StateReportFrequency", &c.StateReportFrequency, defaultReportFrequency},
	} {
		if *number.value < 0 {
			add(number.name, fmt.Sprintf("%s is %d, it must not be negative", number.name, *number.value), fmt.Sprintf("remove it for the default, %d", number.byItself))
		}
		if *number.value == 0 {
			*number.value = number.byItself
		}
	}
	if c.TailGuardSeconds == 0 {
		c.TailGuardSeconds = defaultTailGuardSeconds
	}
	if c.DataIterationChunkBytes > maxDataIterationChunkBytes {
		add("DataIterationChunkBytes", fmt.Sprintf("DataIterationChunkBytes is %d, it must not be more than %d", c.DataIterationChunkBytes, maxDataIterationChunkBytes), "remove it for the default, 1 to 4 MiB by what there is to copy")
	}
}

func (c *Config) validateFence(add addFault) {
	f := c.CutoverFence
	if f == nil {
		return
	}
	if c.CutoverLock.URI != "" {
		add("CutoverFence", "CutoverFence and CutoverLock exclude each other", "keep the one that stops the writers")
	}
	switch f.Kind {
	case FenceReadOnly, FenceLockTables:
		if len(f.Accounts) > 0 {
			add("CutoverFence.Accounts", fmt.Sprintf("a fence of kind %q takes no accounts", f.Kind), fmt.Sprintf("remove them, or use %q", FenceAccounts))
		}
	case FenceAccounts:
		if len(f.Accounts) == 0 {
			add("CutoverFence.Accounts", "the fence has no accounts to lock", `name those of the application, like "app@%"`)
		}
		for _, text := range f.Accounts {
			if _, err := server.ParseAccount(text); err != nil {
				add("CutoverFence.Accounts", err.Error(), "")
			}
		}
	default:
		add("CutoverFence.Kind", fmt.Sprintf("there is no fence of kind %q", f.Kind), fmt.Sprintf("it is %q, %q or %q", FenceReadOnly, FenceAccounts, FenceLockTables))
	}
}

func (c *Config) validateBulkLoad(add addFault) {
	if c.BulkLoad != "" && c.BulkLoad != bulkLoadOff {
		add("BulkLoad", fmt.Sprintf("BulkLoad is %q", c.BulkLoad), `leave it empty for LOAD DATA where it fits, or set it to "off"`)
	}
}

func (c *Config) validateDeferredIndexes(add addFault) {
	switch c.DeferSecondaryIndexes {
	case "", DeferIndexesOff:
	case DeferIndexesNonUnique, DeferIndexesAll:
		if c.Checkpoint == checkpointOff {
			add("DeferSecondaryIndexes", fmt.Sprintf("DeferSecondaryIndexes is %q and Checkpoint is off: after a crash nobody would know which indexes are missing", c.DeferSecondaryIndexes),
				`keep the checkpoint, or set DeferSecondaryIndexes to "off"`)
		}
	default:
		add("DeferSecondaryIndexes", fmt.Sprintf("DeferSecondaryIndexes is %q", c.DeferSecondaryIndexes), fmt.Sprintf("it is %q, %q or %q", DeferIndexesOff, DeferIndexesNonUnique, DeferIndexesAll))
	}
}

func (c *Config) validateCheckpoint(add addFault) {
	if c.Checkpoint != checkpointOn && c.Checkpoint != checkpointOff {
		add("Checkpoint", fmt.Sprintf("Checkpoint is %q", c.Checkpoint), `leave it empty for on, or set it to "off"`)
	}
	if c.CheckpointSchema == "" {
		c.CheckpointSchema = defaultCheckpointSchema
	}
	if utf8.RuneCountInString(c.CheckpointSchema) > maxIdentifierLength || systemSchemas[strings.ToLower(c.CheckpointSchema)] {
		add("CheckpointSchema", fmt.Sprintf("CheckpointSchema %q cannot be a schema of our own", c.CheckpointSchema),
			fmt.Sprintf("leave it empty for %q", defaultCheckpointSchema))
	}
	if len(c.RunID) > maxRunIDLength {
		add("RunID", fmt.Sprintf("RunID has %d bytes", len(c.RunID)), fmt.Sprintf("use at most %d", maxRunIDLength))
	}
}
