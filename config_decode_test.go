package ghostferry

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// embeddingConfig stands for the configuration of a program around the library.
type embeddingConfig struct {
	*Config
	Databases struct{ Whitelist []string }
	Joined    map[string][]struct{ TableName string }
}

func TestDecodeConfigFillsAnEmbeddingStruct(t *testing.T) {
	var config embeddingConfig
	require.NoError(t, DecodeConfig(strings.NewReader(`{
		"Source": {"Host": "db1", "Port": 3306, "User": "u", "Pass": "p", "TLS": {"CertPath": "ca.pem"}, "Params": {"wait_timeout": "100"}},
		"target": {"Host": "db2"},
		"Databases": {"Whitelist": ["a", "b"]},
		"Joined": {"x": [{"TableName": "y"}]},
		"DataIterationBatchSizePerTableOverride": {"MinRowSize": 1, "ControlPoints": {"1": 10, "100": 5}},
		"StateToResumeFrom": {"LastSuccessfulPaginationKeys": {"s.t": {"type": "uint64", "value": 18446744073709551615}}},
		"TableFilter": null,
		"CutoverLock": {"URI": "http://localhost/lock", "Payload": "x"},
		"DataIterationChunkBytes": 4096
	}`), &config))

	require.Equal(t, "db1", config.Source.Host)
	require.Equal(t, uint16(3306), config.Source.Port)
	require.Equal(t, "ca.pem", config.Source.TLS.CertPath)
	require.Equal(t, map[string]string{"wait_timeout": "100"}, config.Source.Params)
	require.Equal(t, "db2", config.Target.Host, "names are matched regardless of case, as encoding/json does")
	require.Equal(t, []string{"a", "b"}, config.Databases.Whitelist)
	require.Equal(t, "y", config.Joined["x"][0].TableName)
	require.Equal(t, map[int]uint64{1: 10, 100: 5}, config.DataIterationBatchSizePerTableOverride.ControlPoints)
	require.Equal(t, NewUint64Key(18446744073709551615), config.StateToResumeFrom.LastSuccessfulPaginationKeys["s.t"])
	require.Equal(t, "http://localhost/lock", config.CutoverLock.URI)
	require.Equal(t, uint64(4096), config.DataIterationChunkBytes)
}

func TestDecodeConfigReadsWhatEncodingJSONWrites(t *testing.T) {
	original := Config{
		Source:           &DatabaseConfig{Host: "h", Port: 1, User: "u"},
		DatabaseRewrites: map[string]string{"a": "b"},
		UpdatableConfig:  UpdatableConfig{DataIterationBatchSize: 7},
		IgnoredColumnsForVerification: ColumnIgnoreConfig{
			"s": {"t": {"c": struct{}{}}},
		},
	}
	text, err := json.Marshal(&original)
	require.NoError(t, err)

	var decoded Config
	require.NoError(t, DecodeConfig(strings.NewReader(string(text)), &decoded))
	require.Equal(t, original, decoded)
}

func TestDecodeConfigReportsEveryFault(t *testing.T) {
	var config embeddingConfig
	err := DecodeConfig(strings.NewReader(`{
		"Sourse": {},
		"Target": {"Host": "kept", "Port": 70000, "Pass": 12345, "Usr": "u", "User": ["geheim"]},
		"ControlServer": {},
		"TableFilter": "all",
		"Databases": {"Whitelist": "a"},
		"DBReadRetries": 1.5, "dbreadretries": 2,
		"Xyzzyplugh": 1,
		"StateToResumeFrom": {"LastSuccessfulPaginationKeys": {"s.t": {"type": "float", "value": 1}}}
	}`), &config)

	var texts []string
	for _, fault := range ConfigErrors(err) {
		texts = append(texts, fault.Field+" | "+fault.Error())
	}
	require.Equal(t, []string{
		`Sourse | Sourse is not a known setting: did you mean "Source"?`,
		`Target.Port | Target.Port is 70000, it must be an integer between 0 and 65535`,
		`Target.Pass | Target.Pass is not a text, it must be a text in quotes`,
		`Target.Usr | Target.Usr is not a known setting: did you mean "User"?`,
		`Target.User | Target.User is a list, it must be a text in quotes`,
		`ControlServer | ControlServer is not a known setting: did you mean "ControlServerConfig"?`,
		`TableFilter | TableFilter cannot be set in JSON: set it in code`,
		`Databases.Whitelist | Databases.Whitelist is a text, it must be a list`,
		`DBReadRetries | DBReadRetries is 1.5, it must be an integer`,
		`dbreadretries | dbreadretries is set twice: remove one of the two`,
		`Xyzzyplugh | Xyzzyplugh is not a known setting: remove it`,
		`StateToResumeFrom | StateToResumeFrom: state: key of table s.t: unknown key type: float`,
	}, texts)
	require.Equal(t, "kept", config.Target.Host)
	require.NotContains(t, err.Error(), "12345")
	require.NotContains(t, err.Error(), "geheim")
}

func TestDecodeConfigNamesTheLineOfASyntaxError(t *testing.T) {
	var config Config
	err := DecodeConfig(strings.NewReader("{\n\"Source\": {},\n oops }"), &config)
	require.ErrorContains(t, err, "line 3")

	require.ErrorContains(t, DecodeConfig(strings.NewReader(`{} {}`), &config), "not valid JSON")
	require.ErrorContains(t, DecodeConfig(strings.NewReader(`[]`), &config), "must be an object")
	require.ErrorContains(t, DecodeConfig(strings.NewReader(``), &config), "not valid JSON")
	require.ErrorContains(t, DecodeConfig(strings.NewReader(`{}`), config), "pointer")
}
