package ghostferry

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

type openAPISchema struct {
	Ref        string                   `json:"$ref"`
	Type       string                   `json:"type"`
	Nullable   bool                     `json:"nullable"`
	Properties map[string]openAPISchema `json:"properties"`
	Required   []string                 `json:"required"`
	Items      *openAPISchema           `json:"items"`
	Enum       []string                 `json:"enum"`
}

type openAPI struct {
	Paths map[string]map[string]struct {
		Security  *[]any `json:"security"`
		Responses map[string]struct {
			Content map[string]struct{ Schema openAPISchema }
		}
	}
	Components struct{ Schemas map[string]openAPISchema }
}

// check compares a decoded document with a schema; members that no schema names are
// faults unless open is set.
func (o *openAPI) check(at string, s openAPISchema, value any, open bool) (faults []string) {
	if s.Ref != "" {
		s = o.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")]
	}
	kind := map[bool]string{true: "null"}[value == nil]
	switch v := value.(type) {
	case bool:
		kind = "boolean"
	case float64:
		kind = "number"
		if s.Type == "integer" && v == float64(int64(v)) {
			kind = "integer"
		}
	case string:
		kind = "string"
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) {
			return []string{fmt.Sprintf("%s is %q", at, v)}
		}
	case []any:
		kind = "array"
		for i, item := range v {
			if s.Items != nil {
				faults = append(faults, o.check(fmt.Sprintf("%s[%d]", at, i), *s.Items, item, false)...)
			}
		}
	case map[string]any:
		kind = "object"
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				faults = append(faults, at+"."+name+" is missing")
			}
		}
		for name, member := range v {
			if p, ok := s.Properties[name]; ok {
				faults = append(faults, o.check(at+"."+name, p, member, false)...)
			} else if len(s.Properties) > 0 && !open {
				faults = append(faults, at+"."+name+" is not described")
			}
		}
	}
	if s.Type != "" && kind != s.Type && (kind != "null" || !s.Nullable) {
		faults = append(faults, fmt.Sprintf("%s is %s, not %s", at, kind, s.Type))
	}
	return faults
}

// docs/openapi.json has every address of the server and no other, and every document that
// is answered has the members that it says.
func TestOpenAPIDescribesTheServer(t *testing.T) {
	text, err := os.ReadFile("docs/openapi.json")
	require.NoError(t, err)
	var doc openAPI
	require.NoError(t, json.Unmarshal(text, &doc))

	s := testControlServer(t, func(c *ControlServerConfig) { c.CustomScripts = map[string][]string{"x": {"true"}} })
	s.F.RunLogger().WithField("table", "a.b").Info("a line")
	s.F.Throttler.SetPaused(true)
	var described, served []string
	for path, methods := range doc.Paths {
		for method := range methods {
			described = append(described, strings.ToUpper(method)+" "+path)
		}
	}
	for _, route := range s.routes() {
		path := strings.TrimSuffix(route.path, "{$}")
		served = append(served, route.method+" "+path)
		operation := doc.Paths[path][strings.ToLower(route.method)]
		require.Equal(t, route.needs == roleNone, operation.Security != nil, "%s: who may", path)
		content, ok := operation.Responses["200"].Content["application/json"]
		if route.method != "GET" || !ok || path == "/api/chunks" {
			continue
		}
		status, body, _ := send(t, s.request(t, "GET", path, ""))
		require.Equal(t, 200, status, path)
		var document any
		require.NoError(t, json.Unmarshal([]byte(body), &document), path)
		require.Empty(t, doc.check(path, content.Schema, document, path == "/api/status"))
	}
	slices.Sort(described)
	slices.Sort(served)
	require.Equal(t, served, described)

	for name, document := range map[string]any{
		"Table": ControlServerTable{}, "Chunks": ControlServerChunks{Copied: []int{1}, Copying: []int{}}, "Script": CustomScriptStatus{}, "Mismatch": OnlineVerifierMismatch{},
		"HistoryPoint": HistoryPoint{}, "Settings": UpdatableConfig{DataIterationConcurrency: 1, BinlogApplyLanes: 1, MaxWriteBlock: 1, MaxLag: 1, MaxThreadsRunning: 1, MaxHistoryListLength: 1, LogLevel: "info"},
	} {
		data, err := json.Marshal(document)
		require.NoError(t, err)
		var decoded any
		require.NoError(t, json.Unmarshal(data, &decoded))
		require.Empty(t, doc.check(name, openAPISchema{Ref: name}, decoded, false))
	}
	require.NotEmpty(t, doc.check("", openAPISchema{Ref: "Table"}, map[string]any{"Name": 1.0}, false), "the check itself")
	require.Subset(t, slices.Collect(maps.Keys(doc.Components.Schemas)), []string{"Overview", "Table"})
}
