package sharding

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strings"

	"github.com/ghostferry-go/ghostferry"
)

// noShardingValue is a ShardingValue that is not set.
const noShardingValue = -1

// Config is everything that can be set about a tenant's move: the library's settings and
// the application's own, in one JSON object.
type Config struct {
	*ghostferry.Config

	// ShardingKey is the column that tells tenants apart. Required.
	ShardingKey string
	// ShardingValue is the tenant, where tenants are numbers below 2^63; -1 is none.
	ShardingValue int64
	// ShardingKeyValue is the tenant, whatever the column's type: a number, or text, such
	// as that of a UUID. It wins over ShardingValue.
	ShardingKeyValue any
	// AllowEmptyTenant moves a tenant that has no row on the source. Without it such a tenant is
	// refused before anything is written: its value may be mistyped.
	AllowEmptyTenant bool
	// SourceDB and TargetDB are the names of the schema on the two servers. Required.
	SourceDB string
	TargetDB string

	// RunFerryFromReplica says that Source is a replica of SourceReplicationMaster;
	// ReplicatedMasterPositionQuery returns file and offset of what it has.
	RunFerryFromReplica           bool
	SourceReplicationMaster       *ghostferry.DatabaseConfig
	ReplicatedMasterPositionQuery string

	// StatsDAddress is host:port of a statsd server for metrics. InitializeMetrics sends none
	// where it is empty; the program then sends them to 127.0.0.1:8125, where often nobody listens.
	StatsDAddress string

	// JoinedTables maps tables without the sharding key to the tables whose rows of the
	// tenant point to their keys.
	JoinedTables map[string][]JoinTable
	// IgnoredTables and IncludedTables are regular expressions for bare table names; one of
	// the two may be set.
	IgnoredTables  []string
	IncludedTables []string
	// PrimaryKeyTables are tables whose key is the sharding value. They are moved last,
	// when the source's writers have stopped.
	PrimaryKeyTables []string

	// Throttle pauses the move while a lag is too great; nil does not.
	Throttle *ghostferry.LagThrottlerConfig
	// ShardedCopyFilterConfig chooses indexes; nil has the defaults.
	ShardedCopyFilterConfig *ShardedCopyFilterConfig
}

// JoinTable says how rows of a joined table belong to a tenant.
type JoinTable struct {
	// TableName is a table with the sharding key.
	TableName string
	// JoinColumn is its column that holds keys of the joined table.
	JoinColumn string
}

// ShardedCopyFilterConfig chooses the indexes of the host's queries
// ([ShardedCopyFilter.BuildSelect]).
type ShardedCopyFilterConfig struct {
	// IndexHint is "none", "use" or "force", in any case. Default "use".
	IndexHint string
	// IndexHintingPerTable maps schema and table to what is different there.
	IndexHintingPerTable map[string]map[string]IndexConfigPerTable
}

// IndexConfigPerTable is the choice for one table.
type IndexConfigPerTable struct {
	// IndexHint as in ShardedCopyFilterConfig; empty inherits.
	IndexHint string
	// IndexName is the index to use, if the table has it.
	IndexName string
}

// IndexConfigForTables returns the choices for the tables of a schema, nil for none.
func (c *ShardedCopyFilterConfig) IndexConfigForTables(schemaName string) map[string]IndexConfigPerTable {
	return c.IndexHintingPerTable[schemaName]
}

// Validate refuses unknown hints.
func (c *ShardedCopyFilterConfig) Validate() error {
	check := func(where, hint string) error {
		switch strings.ToLower(hint) {
		case "", "none", "use", "force":
			return nil
		}
		return &ghostferry.ConfigError{Field: "ShardedCopyFilterConfig." + where, Problem: fmt.Sprintf("IndexHint %q is not known", hint), Remedy: `it is "none", "use" or "force"`}
	}
	faults := []error{check("IndexHint", c.IndexHint)}
	for schema, tables := range c.IndexHintingPerTable {
		for table, choice := range tables {
			faults = append(faults, check("IndexHintingPerTable."+schema+"."+table, choice.IndexHint))
		}
	}
	return errors.Join(faults...)
}

// ReadConfig reads a configuration from JSON. Unknown settings are errors that name them.
// A ShardingValue that is not there is -1. It does not validate.
func ReadConfig(r io.Reader) (*Config, error) {
	config := &Config{Config: &ghostferry.Config{AutomaticCutover: true}, ShardingValue: noShardingValue}
	if err := ghostferry.DecodeConfig(r, config); err != nil {
		return nil, err
	}
	return config, nil
}

// ValidateConfig checks everything, the library's settings last, and reports all faults.
func (c *Config) ValidateConfig() error {
	var faults []error
	add := func(field, problem, remedy string) {
		faults = append(faults, &ghostferry.ConfigError{Field: field, Problem: problem, Remedy: remedy})
	}
	for _, required := range []struct{ field, value string }{{"ShardingKey", c.ShardingKey}, {"SourceDB", c.SourceDB}, {"TargetDB", c.TargetDB}} {
		if required.value == "" {
			add(required.field, required.field+" is not set", "it is required")
		}
	}
	if c.ShardingKeyValue == nil && c.ShardingValue == noShardingValue {
		add("ShardingValue", "neither ShardingValue nor ShardingKeyValue is set", "name the tenant")
	}
	if len(c.IgnoredTables) > 0 && len(c.IncludedTables) > 0 {
		add("IgnoredTables", "IgnoredTables and IncludedTables exclude each other", "keep one of them")
	}
	for field, expressions := range map[string][]string{"IgnoredTables": c.IgnoredTables, "IncludedTables": c.IncludedTables} {
		if _, err := compiled(expressions); err != nil {
			add(field, fmt.Sprintf("%s: %v", field, err), "it must be a regular expression as package regexp reads it")
		}
	}
	if !c.RunFerryFromReplica {
		for _, setting := range []struct {
			field string
			set   bool
		}{{"SourceReplicationMaster", c.SourceReplicationMaster != nil}, {"ReplicatedMasterPositionQuery", c.ReplicatedMasterPositionQuery != ""}} {
			if setting.set {
				add(setting.field, setting.field+" is set without RunFerryFromReplica", "set RunFerryFromReplica, or remove it")
			}
		}
	} else {
		if c.SourceReplicationMaster == nil {
			add("SourceReplicationMaster", "SourceReplicationMaster is not set", "RunFerryFromReplica needs it")
		} else if err := c.SourceReplicationMaster.Validate(); err != nil {
			add("SourceReplicationMaster", "SourceReplicationMaster: "+err.Error(), "")
		}
		if c.ReplicatedMasterPositionQuery == "" {
			add("ReplicatedMasterPositionQuery", "ReplicatedMasterPositionQuery is not set", "RunFerryFromReplica needs it")
		}
	}
	if c.ShardedCopyFilterConfig != nil {
		if err := c.ShardedCopyFilterConfig.Validate(); err != nil {
			faults = append(faults, err)
		}
	}
	if c.Config != nil && c.CutoverFence != nil {
		add("CutoverFence", "CutoverFence would stop the writers of every tenant, and is not closed here", "remove it; stop the tenant's writers by CutoverLock")
	}
	if c.Config == nil {
		add("Config", "the library's settings are missing", "")
	} else if err := c.Config.ValidateConfig(); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// overruled tells which of the library's settings NewFerry decides itself, or has no use for.
func (c *Config) overruled() (notices []string) {
	for _, setting := range []struct {
		set       bool
		name, why string
	}{
		{c.VerifierType != "" && c.VerifierType != ghostferry.VerifierTypeInline, "VerifierType", "a tenant's rows are compared by the inline verifier"},
		{
			len(c.DatabaseRewrites) > 0 && !maps.Equal(c.DatabaseRewrites, map[string]string{c.SourceDB: c.TargetDB}),
			"DatabaseRewrites", "SourceDB and TargetDB say it",
		},
		{c.Updatable().MaxWriteBlock > 0, "MaxWriteBlock", "the writers wait for as long as the cutover takes"},
		{c.TailGuardSeconds > 0, "TailGuardSeconds", "the log is looked at once more before CutoverUnlock, and not after it"},
	} {
		if setting.set {
			notices = append(notices, fmt.Sprintf("%s is set and has no effect: %s", setting.name, setting.why))
		}
	}
	return notices
}

// value is the tenant.
func (c *Config) value() any {
	if c.ShardingKeyValue != nil {
		return c.ShardingKeyValue
	}
	return c.ShardingValue
}

func compiled(expressions []string) ([]*regexp.Regexp, error) {
	var all []*regexp.Regexp
	for _, expression := range expressions {
		r, err := regexp.Compile(expression)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}
