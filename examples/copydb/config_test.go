package copydb

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-mysql-org/go-mysql/schema"
	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
)

const servers = `"Source": {"Host": "a", "Port": 1, "User": "u"}, "Target": {"Host": "b", "Port": 2, "User": "u"}`

func read(t *testing.T, settings string) *Config {
	t.Helper()
	config, err := ReadConfig(strings.NewReader("{" + servers + settings + "}"))
	require.NoError(t, err)
	return config
}

func TestConfigOfOneObject(t *testing.T) {
	config := read(t, `,
		"Databases": {"Whitelist": ["shop"], "Rewrites": {"shop": "store"}},
		"Tables": {"Blacklist": ["tmp"], "Rewrites": {"orders": "purchases"}},
		"TablesToBeCreatedFirst": ["shop.customers"],
		"AllowExistingTargetTable": true, "AutomaticCutover": true,
		"CutoverLock": {"URI": "http://localhost/lock", "Payload": "x"}`)
	require.NoError(t, config.InitializeAndValidateConfig())
	require.NoError(t, config.InitializeAndValidateConfig(), "it may be called again")

	require.Equal(t, map[string]string{"shop": "store"}, config.DatabaseRewrites)
	require.Equal(t, map[string]string{"orders": "purchases"}, config.TableRewrites)
	require.Equal(t, &StaticTableFilter{Dbs: []string{"shop"}, Tables: []string{"tmp"}, TablesIsBlacklist: true}, config.TableFilter)
	require.Equal(t, []string{"shop.customers"}, config.TablesToBeCreatedFirst)
	require.Equal(t, ghostferry.VerifierTypeOnline, config.VerifierType)
	require.True(t, config.AllowExistingTargetTable && config.AutomaticCutover)
	require.Equal(t, ghostferry.HTTPCallback{URI: "http://localhost/lock", Payload: "x"}, config.CutoverLock)
	require.Equal(t, "a", config.Source.Host)
}

func TestUnknownSettingsAreNamed(t *testing.T) {
	_, err := ReadConfig(strings.NewReader(`{"Databases": {"Whitlist": ["shop"]}, "ControlServer": {}, "AutomaticCutOvr": true}`))
	var fields []string
	for _, fault := range ghostferry.ConfigErrors(err) {
		fields = append(fields, fault.Field)
	}
	require.Equal(t, []string{"Databases.Whitlist", "ControlServer", "AutomaticCutOvr"}, fields)
	require.ErrorContains(t, err, `did you mean "Whitelist"`)
	require.ErrorContains(t, err, `did you mean "AutomaticCutover"`)
}

func TestConfigReportsEveryFault(t *testing.T) {
	config, err := ReadConfig(strings.NewReader(`{
		"Databases": {"Whitelist": ["a"], "Blacklist": ["b"]}, "Tables": {"Whitelist": ["a"], "Blacklist": ["b"], "Rewrites": {"x": "y"}},
		"TableRewrites": {"x": "z"}, "RunFerryFromReplica": true, "WaitForReplicationTimeout": "1",
		"Source": {"Host": "a", "Port": 1}, "VerifierType": "Nonsense"}`))
	require.NoError(t, err)
	var fields []string
	for _, fault := range ghostferry.ConfigErrors(config.InitializeAndValidateConfig()) {
		fields = append(fields, fault.Field)
	}
	require.Equal(t, []string{"Databases", "Tables", "WaitForReplicationTimeout", "SourceReplicationMaster", "ReplicatedMasterPositionQuery", "TableRewrites", "Source.User", "Target", "VerifierType"}, fields)
}

func TestReplicaSettingsBelongTogether(t *testing.T) {
	require.ErrorContains(t, read(t, `, "ReplicatedMasterPositionQuery": "SELECT 1"`).InitializeAndValidateConfig(),
		"ReplicatedMasterPositionQuery is set without RunFerryFromReplica")
	complete := read(t, `, "RunFerryFromReplica": true, "ReplicatedMasterPositionQuery": "SELECT 1", "WaitForReplicationTimeout": "90s",
		"SourceReplicationMaster": {"Host": "c", "Port": 3, "User": "u"}`)
	require.NoError(t, complete.InitializeAndValidateConfig())
	require.Equal(t, "application:ghostferry", complete.SourceReplicationMaster.Marginalia, "defaults are filled in")
}

// A fence closes where applications write, unless the configuration names another account.
func TestFenceOfAReplicasPrimary(t *testing.T) {
	const replica = `, "RunFerryFromReplica": true, "ReplicatedMasterPositionQuery": "SELECT 1", "SourceReplicationMaster": {"Host": "c", "Port": 3, "User": "u"}`
	for _, c := range []struct{ settings, user string }{
		{replica + `, "CutoverFence": {"Kind": "lock_tables"}`, "u"},
		{replica + `, "CutoverFence": {"Kind": "lock_tables", "Connection": {"Host": "c", "Port": 3, "User": "admin"}}`, "admin"},
		{`, "CutoverFence": {"Kind": "lock_tables"}`, ""},
	} {
		config := read(t, c.settings)
		require.NoError(t, config.InitializeAndValidateConfig())
		require.NoError(t, config.InitializeAndValidateConfig())
		if c.user == "" {
			require.Nil(t, config.CutoverFence.Connection)
			continue
		}
		require.Equal(t, "c:3 "+c.user, fmt.Sprintf("%s:%d %s", config.CutoverFence.Connection.Host, config.CutoverFence.Connection.Port, config.CutoverFence.Connection.User))
	}
}

// copydb defers the indexes of large tables when the configuration says nothing. What it says
// counts; and without a checkpoint nothing is deferred, which would be refused.
func TestIndexesAreDeferredByDefault(t *testing.T) {
	for _, c := range []struct {
		settings, mode string
		minBytes       uint64
	}{
		{"", ghostferry.DeferIndexesAll, 32 << 20},
		{`, "DeferSecondaryIndexesMinBytes": 1000`, ghostferry.DeferIndexesAll, 1000},
		{`, "DeferSecondaryIndexes": "off"`, ghostferry.DeferIndexesOff, 0},
		{`, "DeferSecondaryIndexes": "non-unique"`, ghostferry.DeferIndexesNonUnique, 0},
		{`, "DeferSecondaryIndexes": "all"`, ghostferry.DeferIndexesAll, 0},
		{`, "DeferSecondaryIndexes": "all", "DeferSecondaryIndexesMinBytes": 1000`, ghostferry.DeferIndexesAll, 1000},
		{`, "Checkpoint": "off"`, "", 0},
		{`, "Checkpoint": "off", "DeferSecondaryIndexesMinBytes": 1000`, "", 1000},
		{`, "Checkpoint": "off", "DeferSecondaryIndexes": "off"`, ghostferry.DeferIndexesOff, 0},
	} {
		config := read(t, c.settings)
		for range 2 { // it may be called again
			require.NoError(t, config.InitializeAndValidateConfig(), c.settings)
			require.Equal(t, c.mode, config.DeferSecondaryIndexes, c.settings)
			require.Equal(t, c.minBytes, config.DeferSecondaryIndexesMinBytes, c.settings)
		}
	}
	require.ErrorContains(t, read(t, `, "Checkpoint": "off", "DeferSecondaryIndexes": "all"`).InitializeAndValidateConfig(), "Checkpoint is off")
}

func TestWhatWouldNotBeDoneIsRefused(t *testing.T) {
	report := `, "VerificationReport": ["report.html"], "VerifierType": `
	require.ErrorContains(t, read(t, report+`"NoVerification"`).InitializeAndValidateConfig(),
		`VerificationReport names "report.html" and VerifierType is "NoVerification": there would be nothing to report`)
	require.NoError(t, read(t, report+`"ChecksumTable"`).InitializeAndValidateConfig())
	require.NoFileExists(t, "report.html")

	old := filepath.Join(t.TempDir(), "old.md")
	require.NoError(t, os.WriteFile(old, []byte("as it was"), 0o600))
	require.NoError(t, read(t, fmt.Sprintf(`, "VerificationReport": [%q]`, old)).InitializeAndValidateConfig())
	kept, err := os.ReadFile(old)
	require.NoError(t, err)
	require.Equal(t, "as it was", string(kept))
	nowhere := filepath.Join(old, "report.json")
	require.ErrorContains(t, read(t, fmt.Sprintf(`, "VerificationReport": [%q]`, nowhere)).InitializeAndValidateConfig(), "cannot be written")

	repair := `, "OnlineVerifierConfig": {"Repair": true}`
	require.ErrorContains(t, read(t, repair+`, "VerifierType": "Inline"`).InitializeAndValidateConfig(), "no row would be repaired")
	require.NoError(t, read(t, repair).InitializeAndValidateConfig())
}

func TestHostsFilterStays(t *testing.T) {
	config := read(t, "")
	own := &StaticTableFilter{Dbs: []string{"mine"}}
	config.TableFilter = own
	config.VerifierType = ghostferry.VerifierTypeNoVerification
	require.NoError(t, config.InitializeAndValidateConfig())
	require.Same(t, own, config.TableFilter)
	require.Equal(t, ghostferry.VerifierTypeNoVerification, config.VerifierType)
}

func TestSameRewritesTwiceAreNoFault(t *testing.T) {
	config := read(t, `, "DatabaseRewrites": {"a": "b"}, "Databases": {"Rewrites": {"a": "b"}}`)
	require.NoError(t, config.InitializeAndValidateConfig())
	require.Equal(t, map[string]string{"a": "b"}, config.DatabaseRewrites)
}

func TestStaticTableFilter(t *testing.T) {
	names := []string{"c", "a", "b", "A"}
	var tables []*ghostferry.TableSchema
	for _, name := range names {
		tables = append(tables, &ghostferry.TableSchema{Table: &schema.Table{Schema: "s", Name: name}})
	}
	for _, c := range []struct {
		filter FilterAndRewriteConfigs
		wants  []string
	}{
		{FilterAndRewriteConfigs{}, names},
		{FilterAndRewriteConfigs{Whitelist: []string{"a", "c", "x"}}, []string{"c", "a"}},
		{FilterAndRewriteConfigs{Blacklist: []string{"a", "x"}}, []string{"c", "b", "A"}},
		{FilterAndRewriteConfigs{Whitelist: []string{"x"}}, []string{}},
	} {
		filter := NewStaticTableFilter(c.filter, c.filter)
		dbs, err := filter.ApplicableDatabases(names)
		require.NoError(t, err)
		require.Equal(t, c.wants, dbs)
		applicable, err := filter.ApplicableTables(tables)
		require.NoError(t, err)
		require.NotNil(t, applicable)
		chosen := []string{}
		for _, table := range applicable {
			chosen = append(chosen, table.Name)
		}
		require.Equal(t, c.wants, chosen)
	}
}

// What tells the runs of several configurations apart does not depend on the order of names, nor on
// whether the configuration was validated.
func TestSelection(t *testing.T) {
	read := func(text string) *Config {
		config, err := ReadConfig(strings.NewReader(text))
		require.NoError(t, err)
		return config
	}
	seen := map[string]string{}
	for _, text := range []string{
		`{}`, `{"RunID": "one"}`, `{"Databases": {"Whitelist": ["a", "b"]}}`, `{"Databases": {"Blacklist": ["a", "b"]}}`,
		`{"Databases": {"Whitelist": ["a"]}}`, `{"Tables": {"Whitelist": ["a"]}}`, `{"Tables": {"Rewrites": {"a": "b"}}}`, `{"Databases": {"Rewrites": {"a": "b"}}}`,
	} {
		config := read(text)
		selection := config.Selection()
		require.Empty(t, seen[selection], text)
		seen[selection] = text
		require.Error(t, config.InitializeAndValidateConfig(), "it has no servers")
		require.Equal(t, selection, config.Selection(), text)
	}
	require.Equal(t, `{"Databases": {"Whitelist": ["a", "b"]}}`, seen[read(`{"Databases": {"Whitelist": ["b", "a"]}, "DataIterationBatchSize": 7}`).Selection()])
	require.Equal(t, `{"Tables": {"Rewrites": {"a": "b"}}}`, seen[read(`{"TableRewrites": {"a": "b"}}`).Selection()])
}
