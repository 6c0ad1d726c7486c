package ghostferry

import (
	"fmt"
	"time"
)

const (
	defaultVerifyBinlogEventsInterval   = "1s"
	defaultIterativeVerifierConcurrency = 4
)

// InlineVerifierConfig belongs to VerifierTypeInline.
type InlineVerifierConfig struct {
	// MaxExpectedDowntime is a duration like "30s"; empty means no limit.
	MaxExpectedDowntime string
	// VerifyBinlogEventsInterval is a duration. Default "1s".
	VerifyBinlogEventsInterval string

	maxExpectedDowntime        time.Duration
	verifyBinlogEventsInterval time.Duration
}

// Validate parses both durations and fills the default.
func (c *InlineVerifierConfig) Validate() (err error) {
	if c.MaxExpectedDowntime != "" {
		if c.maxExpectedDowntime, err = parseDuration("MaxExpectedDowntime", c.MaxExpectedDowntime); err != nil {
			return err
		}
	}
	if c.VerifyBinlogEventsInterval == "" {
		c.VerifyBinlogEventsInterval = defaultVerifyBinlogEventsInterval
	}
	c.verifyBinlogEventsInterval, err = parseDuration("VerifyBinlogEventsInterval", c.VerifyBinlogEventsInterval)
	return err
}

// OnlineVerifierConfig belongs to VerifierTypeOnline.
type OnlineVerifierConfig struct {
	// Concurrency is the number of workers. 0 means DataIterationConcurrency.
	Concurrency int
	// MaxExpectedDowntime is a duration like "30s": how long the rows that change
	// meanwhile may take to compare before the cutover. Empty means no limit.
	MaxExpectedDowntime string
	// CompareAllDuringCutover compares every row once more while the writers are
	// stopped, for as long as that takes: it finds changes that no binary log has.
	CompareAllDuringCutover bool
	// Repair makes rows that differ equal to the source's, and compares them again.
	// Every row repaired is in the report. It does not go with a CopyFilter.
	Repair bool

	maxExpectedDowntime time.Duration
}

// Validate parses the duration.
func (c *OnlineVerifierConfig) Validate() (err error) {
	if c.Concurrency < 0 {
		return fmt.Errorf("a Concurrency of %d is negative", c.Concurrency)
	}
	if c.MaxExpectedDowntime != "" {
		c.maxExpectedDowntime, err = parseDuration("MaxExpectedDowntime", c.MaxExpectedDowntime)
	}
	return err
}

func (c *OnlineVerifierConfig) concurrency(config *Config) int {
	if c.Concurrency > 0 {
		return c.Concurrency
	}
	return config.DataIterationConcurrency
}

// TableColumnCompressionConfig is table → column → algorithm.
type TableColumnCompressionConfig map[string]map[string]string

// IterativeVerifierConfig belongs to VerifierTypeIterative.
type IterativeVerifierConfig struct {
	// IgnoredTables are table names without schema.
	IgnoredTables []string
	// IgnoredColumns is table → columns left out.
	IgnoredColumns map[string][]string
	// Concurrency is the number of workers. Default 4.
	Concurrency int
	// MaxExpectedDowntime is a duration like "30s"; empty means no limit.
	MaxExpectedDowntime string
	// TableColumnCompression are columns compared after decompression.
	TableColumnCompression TableColumnCompressionConfig

	maxExpectedDowntime time.Duration
}

// Validate parses the duration and fills the default.
func (c *IterativeVerifierConfig) Validate() (err error) {
	if c.MaxExpectedDowntime != "" {
		if c.maxExpectedDowntime, err = parseDuration("MaxExpectedDowntime", c.MaxExpectedDowntime); err != nil {
			return err
		}
	}
	if c.Concurrency == 0 {
		c.Concurrency = defaultIterativeVerifierConcurrency
	}
	return nil
}

func parseDuration(setting, text string) (time.Duration, error) {
	duration, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", setting, err)
	}
	if duration < 0 {
		return 0, fmt.Errorf("%s: duration %q is negative", setting, text)
	}
	return duration, nil
}

// ColumnCompressionConfig is schema → table → column → algorithm.
type ColumnCompressionConfig map[string]map[string]map[string]string

// CompressedColumnsFor returns a table's column → algorithm, or nil.
func (c ColumnCompressionConfig) CompressedColumnsFor(schemaName, tableName string) map[string]string {
	return c[schemaName][tableName]
}

// ColumnIgnoreConfig is schema → table → set of columns.
type ColumnIgnoreConfig map[string]map[string]map[string]struct{}

// IgnoredColumnsFor returns a table's set of columns, or nil.
func (c ColumnIgnoreConfig) IgnoredColumnsFor(schemaName, tableName string) map[string]struct{} {
	return c[schemaName][tableName]
}

// ForceIndexConfig is schema → table → index.
type ForceIndexConfig map[string]map[string]string

// IndexFor returns a table's index, or an empty string.
func (c ForceIndexConfig) IndexFor(schemaName, tableName string) string {
	return c[schemaName][tableName]
}
