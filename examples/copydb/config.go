package copydb

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ghostferry-go/ghostferry"
)

// FilterAndRewriteConfigs chooses names and renames them. Names match exactly.
type FilterAndRewriteConfigs struct {
	// Whitelist are the names to take; empty means all but those of the Blacklist.
	// Every one of them has to exist on the source, as those of the other two have.
	Whitelist []string
	// Blacklist are the names to leave out; it excludes a Whitelist.
	Blacklist []string
	// Rewrites is name on the source → name on the target.
	Rewrites map[string]string
}

// Validate refuses a Whitelist together with a Blacklist.
func (c FilterAndRewriteConfigs) Validate() error {
	if len(c.Whitelist) > 0 && len(c.Blacklist) > 0 {
		return errors.New("a Whitelist and a Blacklist exclude each other: keep one of them")
	}
	return nil
}

// choice says for a message what is chosen.
func (c FilterAndRewriteConfigs) choice() string {
	switch {
	case len(c.Whitelist) > 0:
		return fmt.Sprintf("only %q", c.Whitelist)
	case len(c.Blacklist) > 0:
		return fmt.Sprintf("all but %q", c.Blacklist)
	}
	return "all"
}

// Config is everything that can be set about a move: the library's settings and
// copydb's own, in one JSON object.
type Config struct {
	*ghostferry.Config

	// Databases chooses and renames schemas.
	Databases FilterAndRewriteConfigs
	// Tables chooses and renames tables by their bare names, in every schema.
	Tables FilterAndRewriteConfigs

	// TablesToBeCreatedFirst are "schema.table" names of the source, created before
	// all others and in this order. The log warns of names that are not moved.
	TablesToBeCreatedFirst []string

	// RunFerryFromReplica says that Source is a replica of SourceReplicationMaster;
	// the two settings after it belong to it.
	RunFerryFromReplica bool
	// SourceReplicationMaster is the server that applications write to.
	SourceReplicationMaster *ghostferry.DatabaseConfig
	// ReplicatedMasterPositionQuery, run on the replica, returns one row: file and
	// offset of the primary's binary log up to which the replica has everything.
	ReplicatedMasterPositionQuery string
	// WaitForReplicationTimeout bounds the wait for the replica during the cutover, a
	// duration like "30s"; empty means no bound.
	WaitForReplicationTimeout string

	// AllowExistingTargetTable takes tables that exist on the target, if they are
	// empty and fit the source's. Without it an existing table is refused.
	AllowExistingTargetTable bool

	// VerificationReport are files to write the verifier's report to, in the form that
	// their names' ends say: ".json", ".md" or ".html". Without a verification, and where one cannot
	// be written, it is refused.
	VerificationReport []string

	tokenFile string // see TokenFile
}

// ReadConfig reads a configuration from JSON. Unknown and misspelt settings are
// errors that name them. It does not validate.
func ReadConfig(r io.Reader) (*Config, error) {
	config := &Config{Config: &ghostferry.Config{}}
	if err := ghostferry.DecodeConfig(r, config); err != nil {
		return nil, err
	}
	return config, nil
}

// InitializeAndValidateConfig sets table filter and rewrites from Databases and
// Tables, chooses the online verifier if none is named, creates the secondary indexes of
// tables from 32 MiB on when their rows are copied if DeferSecondaryIndexes does not say
// otherwise, has a CutoverFence without Connection close on SourceReplicationMaster where
// RunFerryFromReplica is set, and validates everything. It
// reports all faults at once, see [ghostferry.ConfigErrors]. A table filter that is
// set already stays. It may be called again.
func (c *Config) InitializeAndValidateConfig() error {
	if c.Config == nil {
		c.Config = &ghostferry.Config{}
	}
	var faults []error
	add := func(field, problem, remedy string) {
		faults = append(faults, &ghostferry.ConfigError{Field: field, Problem: problem, Remedy: remedy})
	}

	if err := c.Databases.Validate(); err != nil {
		add("Databases", "Databases: "+err.Error(), "")
	}
	if err := c.Tables.Validate(); err != nil {
		add("Tables", "Tables: "+err.Error(), "")
	}
	c.validateReplica(add)
	for _, name := range c.VerificationReport {
		if !slices.Contains([]string{".json", ".md", ".html"}, strings.ToLower(filepath.Ext(name))) {
			add("VerificationReport", fmt.Sprintf("VerificationReport names %q", name), "its end must be .json, .md or .html")
		} else if err := writable(name); err != nil {
			add("VerificationReport", fmt.Sprintf("VerificationReport names %q, which cannot be written: %v", name, err), "name a file in a directory that this account may write to (-report)")
		}
	}
	if len(c.VerificationReport) > 0 && c.VerifierType == ghostferry.VerifierTypeNoVerification {
		add("VerificationReport", fmt.Sprintf("VerificationReport names %q and VerifierType is %q: there would be nothing to report", c.VerificationReport[0], c.VerifierType),
			fmt.Sprintf("remove VerifierType for %q, or remove VerificationReport (-report)", ghostferry.VerifierTypeOnline))
	}

	if c.TableFilter == nil {
		c.TableFilter = NewStaticTableFilter(c.Databases, c.Tables)
	}
	c.DatabaseRewrites = oneRewrites(c.DatabaseRewrites, c.Databases.Rewrites, "Database", add)
	c.TableRewrites = oneRewrites(c.TableRewrites, c.Tables.Rewrites, "Table", add)
	if c.VerifierType == "" {
		c.VerifierType = ghostferry.VerifierTypeOnline
	}

	c.deferIndexes()
	c.fencePrimary()

	name, err := c.ensureToken()
	if err != nil {
		add("ControlServerConfig.TokenFile", "the control server's token: "+err.Error(), "name a file of your own in ControlServerConfig.TokenFile")
	}
	if name != "" {
		c.tokenFile = name
	}
	if c.ControlServerConfig != nil {
		c.ControlServerConfig.Selection = c.Selection()
	}
	if err := c.ValidateConfig(); err != nil {
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// largeTable is from how many bytes of rows on copydb creates a table's secondary indexes
// when the rows are there. Below, an ALTER at either end costs what it saves.
const largeTable = 32 << 20

// deferIndexes decides about secondary indexes where the configuration does not, by the
// tables' sizes; unique ones are among them. Without a checkpoint, and with a CopyFilter, all stay.
func (c *Config) deferIndexes() {
	if c.DeferSecondaryIndexes != "" || c.Checkpoint != "" || c.CopyFilter != nil {
		return
	}
	c.DeferSecondaryIndexes = ghostferry.DeferIndexesAll
	if c.DeferSecondaryIndexesMinBytes == 0 {
		c.DeferSecondaryIndexesMinBytes = largeTable
	}
}

// fencePrimary has the fence close on the server that applications write to.
func (c *Config) fencePrimary() {
	if !c.RunFerryFromReplica || c.CutoverFence == nil || c.CutoverFence.Connection != nil {
		return
	}
	fence := *c.CutoverFence
	fence.Connection = c.SourceReplicationMaster
	c.CutoverFence = &fence
}

// writable makes sure, before hours are spent on what is to be reported, that a file can be
// written. It stays as it is.
func writable(name string) error {
	_, err := os.Lstat(name)
	absent := errors.Is(err, os.ErrNotExist)
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	err = file.Close()
	if absent {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// validateReplica checks the settings of a source that is a replica, and refuses those
// that would be without effect.
func (c *Config) validateReplica(add func(field, problem, remedy string)) {
	timeout, err := c.replicationTimeout()
	if err != nil || timeout < 0 {
		add("WaitForReplicationTimeout", fmt.Sprintf("WaitForReplicationTimeout is %q", c.WaitForReplicationTimeout), `it must be a duration like "30s"`)
	}
	for _, setting := range []struct {
		name          string
		set, required bool
	}{
		{"SourceReplicationMaster", c.SourceReplicationMaster != nil, true},
		{"ReplicatedMasterPositionQuery", c.ReplicatedMasterPositionQuery != "", true},
		{"WaitForReplicationTimeout", c.WaitForReplicationTimeout != "", false},
	} {
		switch {
		case c.RunFerryFromReplica && setting.required && !setting.set:
			add(setting.name, setting.name+" is not set", "RunFerryFromReplica needs it")
		case !c.RunFerryFromReplica && setting.set:
			add(setting.name, setting.name+" is set without RunFerryFromReplica", "set RunFerryFromReplica, or remove it")
		}
	}
	if c.RunFerryFromReplica && c.SourceReplicationMaster != nil {
		if err := c.SourceReplicationMaster.Validate(); err != nil {
			add("SourceReplicationMaster", "SourceReplicationMaster: "+err.Error(), "")
		}
	}
}

// replicationTimeout is WaitForReplicationTimeout; 0 means no bound.
func (c *Config) replicationTimeout() (time.Duration, error) {
	if c.WaitForReplicationTimeout == "" {
		return 0, nil
	}
	return time.ParseDuration(c.WaitForReplicationTimeout)
}

// oneRewrites takes the library's setting or copydb's; both with different contents
// are a fault, because one of them would be ignored.
func oneRewrites(library, ours map[string]string, kind string, add func(field, problem, remedy string)) map[string]string {
	switch {
	case len(ours) == 0:
		return library
	case len(library) == 0 || maps.Equal(library, ours):
		return ours
	}
	add(kind+"Rewrites", fmt.Sprintf("%sRewrites and %ss.Rewrites are both set and differ", kind, kind), "keep one of them")
	return ours
}
