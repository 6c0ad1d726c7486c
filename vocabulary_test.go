package ghostferry_test

import (
	"testing"

	"github.com/go-mysql-org/go-mysql/schema"

	"github.com/ghostferry-go/ghostferry"
)

type hostEmbedding struct{ *ghostferry.Config }

// Literals without field names, comparisons and literals without constructors.
func TestVocabularyLiterals(t *testing.T) {
	_ = ghostferry.MetricTag{"name", "value"}
	_ = map[ghostferry.TableIdentifier]bool{{"schema", "table"}: true}
	_ = ghostferry.VerificationResult{true, "", nil}
	_ = map[interface{}]bool{ghostferry.NewUint64Key(1): true, ghostferry.HTTPCallback{}: true}
	_ = &ghostferry.TableSchema{Table: &schema.Table{Schema: "s", Name: "t"}}
	_ = &ghostferry.WorkerPool{Concurrency: 1, Process: func(int) (interface{}, error) { return nil, nil }}
	_ = hostEmbedding{Config: &ghostferry.Config{MyServerId: 1, VerifierType: ghostferry.VerifierTypeInline}}

	(&ghostferry.PauserThrottler{}).SetPaused(true)
	(&ghostferry.Metrics{}).Count("key", 1, []ghostferry.MetricTag{{"a", "b"}}, 1.0)
	new(ghostferry.AtomicBoolean).Set(true)
}
