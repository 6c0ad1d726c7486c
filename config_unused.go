package ghostferry

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// noteUnused notes what is set and has no effect beside the other settings, a line for
// each: it is harmless, and hosts set such fields, but nobody should believe in it.
// Defaults that ValidateConfig itself fills in do not count as set. What would leave
// undone what somebody relies on is a fault instead, see validateVerifier.
func (c *Config) noteUnused() { // after the defaults are filled in
	for _, setting := range []struct {
		unused    bool
		name, why string
	}{
		{c.comparesNothing() && len(c.CompressedColumnsForVerification) > 0, "CompressedColumnsForVerification", c.verifierIs()},
		{c.comparesNothing() && len(c.IgnoredColumnsForVerification) > 0, "IgnoredColumnsForVerification", c.verifierIs()},
		{c.comparesNothing() && len(c.ForceIndexForVerification) > 0, "ForceIndexForVerification", c.verifierIs()},
		{c.defersIndexes() && c.CopyFilter != nil, "DeferSecondaryIndexes", "with a CopyFilter the target's tables keep their indexes"},
		{!c.defersIndexes() && c.DeferSecondaryIndexesMinBytes > 0, "DeferSecondaryIndexesMinBytes", "DeferSecondaryIndexes is off"},
		{c.Checkpoint == checkpointOff && c.CheckpointSchema != defaultCheckpointSchema, "CheckpointSchema", "Checkpoint is off, so that there is no checkpoint to hold"},
		{
			c.StrictStateVersion && c.StateToResumeFrom == nil && c.CheckpointStore == nil, "StrictStateVersion",
			"there is no StateToResumeFrom to compare; a checkpoint on the target is judged by its format",
		},
		{c.EnableRowBatchSize, "EnableRowBatchSize", "the progress always has the bytes"},
		{c.ProgressCallback.URI == "" && c.ProgressReportFrequency != defaultReportFrequency, "ProgressReportFrequency", "ProgressCallback has no URI"},
		{
			c.StateCallback.URI == "" && c.CheckpointStore == nil && c.StateReportFrequency != defaultReportFrequency, "StateReportFrequency",
			"StateCallback has no URI, and there is no CheckpointStore",
		},
		{!c.ControlServerConfig.Enabled && c.ControlServerConfig.configured(c.EnablePProf), "ControlServerConfig", "its Enabled is not set, so that there is no control server"},
	} {
		if setting.unused {
			c.notices = append(c.notices, noEffect(setting.name, setting.why))
		}
	}
}

// noteNotCompared tells what is left out of the comparison although the run may end as equal.
func (c *Config) noteNotCompared() {
	note := func(what, setting string, names []string) {
		if len(names) > 0 {
			slices.Sort(names)
			c.notices = append(c.notices, fmt.Sprintf("%s %s are not compared: %s is set", what, strings.Join(names, ", "), setting))
		}
	}
	var columns []string
	if c.VerifierType == VerifierTypeIterative {
		for table, names := range c.IterativeVerifierConfig.IgnoredColumns {
			for _, name := range names {
				columns = append(columns, table+"."+name)
			}
		}
		note("tables", "IterativeVerifierConfig.IgnoredTables", slices.Clone(c.IterativeVerifierConfig.IgnoredTables))
		note("columns", "IterativeVerifierConfig.IgnoredColumns", columns)
		return
	}
	for schema, tables := range c.IgnoredColumnsForVerification {
		for table, names := range tables {
			for name := range names {
				columns = append(columns, schema+"."+table+"."+name)
			}
		}
	}
	if !c.comparesNothing() {
		note("columns", "IgnoredColumnsForVerification", columns)
	}
}

func noEffect(name, why string) string {
	return fmt.Sprintf("%s is set and has no effect: %s", name, why)
}

// comparesNothing is not true without a VerifierType: the host may have a verifier.
func (c *Config) comparesNothing() bool { return c.VerifierType == VerifierTypeNoVerification }

func (c *Config) verifierIs() string { return fmt.Sprintf("VerifierType is %q", c.VerifierType) }

func (c *Config) defersIndexes() bool {
	return c.DeferSecondaryIndexes != "" && c.DeferSecondaryIndexes != DeferIndexesOff
}

// verifierSettings are the settings of one verifier each.
func (c *Config) verifierSettings() []verifierSettings {
	inline, iterative, online := c.InlineVerifierConfig, c.IterativeVerifierConfig, c.OnlineVerifierConfig
	if inline.VerifyBinlogEventsInterval == defaultVerifyBinlogEventsInterval {
		inline.VerifyBinlogEventsInterval = ""
	}
	if iterative.Concurrency == defaultIterativeVerifierConcurrency {
		iterative.Concurrency = 0
	}
	inline.maxExpectedDowntime, inline.verifyBinlogEventsInterval = 0, 0
	iterative.maxExpectedDowntime, online.maxExpectedDowntime = 0, 0
	return []verifierSettings{
		{"IterativeVerifierConfig", VerifierTypeIterative, !reflect.ValueOf(iterative).IsZero(), c.IterativeVerifierConfig.Validate},
		{"InlineVerifierConfig", VerifierTypeInline, !reflect.ValueOf(inline).IsZero(), c.InlineVerifierConfig.Validate},
		{"OnlineVerifierConfig", VerifierTypeOnline, !reflect.ValueOf(online).IsZero(), c.OnlineVerifierConfig.Validate},
	}
}

type verifierSettings struct {
	field, verifier string
	set             bool // to something else than the defaults
	validate        func() error
}

// unusedByVerifier tells what is set for another verifier than the one of the given type:
// as faults what somebody relies on who does not see that it is not done, as notices the
// rest.
func (c *Config) unusedByVerifier(used, why string, add addFault) (notices []string) {
	for _, settings := range c.verifierSettings() {
		switch {
		case settings.verifier == used || !settings.set:
		case settings.verifier == VerifierTypeOnline && c.OnlineVerifierConfig.undone(why, add):
		default:
			notices = append(notices, noEffect(settings.field, why))
		}
	}
	return notices
}

// undone refuses what the verifier was told to do and no other one does, if it was.
func (c *OnlineVerifierConfig) undone(why string, add addFault) (refused bool) {
	for _, order := range []struct {
		set                  bool
		name, undone, remedy string
	}{
		{c.Repair, "Repair", "no row would be repaired", " (copydb: -repair)"},
		{c.CompareAllDuringCutover, "CompareAllDuringCutover", "the rows would not be compared once more", ""},
	} {
		if order.set {
			refused = true
			field := "OnlineVerifierConfig." + order.name
			add(field, fmt.Sprintf("%s is set and %s: %s", field, why, order.undone),
				fmt.Sprintf("set VerifierType to %q, or remove %s%s", VerifierTypeOnline, order.name, order.remedy))
		}
	}
	return refused
}

// checkVerifierSettings is what ValidateConfig could not know without a VerifierType: which
// verifier the host has set, if any. Settings of one that is not ours are its own matter.
func (f *Ferry) checkVerifierSettings() error {
	if f.VerifierType != "" {
		return nil
	}
	used, why := "", "there is no verifier"
	switch f.Verifier.(type) {
	case nil:
	case *OnlineVerifier:
		used = VerifierTypeOnline
	case *InlineVerifier:
		used = VerifierTypeInline
	case *IterativeVerifier:
		used = VerifierTypeIterative
	case *ChecksumTableVerifier:
		used = VerifierTypeChecksumTable
	default:
		return nil
	}
	if used != "" {
		why = fmt.Sprintf("Ferry.Verifier is of type %q", used)
	}
	var faults []error
	for _, notice := range f.unusedByVerifier(used, why, addFaultTo(&faults)) {
		f.logger.Info(notice)
	}
	return joinErrors(faults)
}
