package integration

import (
	"context"
	"testing"
	"time"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// A shop that is written all along arrives whole, and is told to be equal because it
// was compared.
func TestMoveUnderWrites(t *testing.T) {
	onSomeSettings(t, func(t *testing.T, p *harness.Pair) {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		o := p.Shop(t, "move_under_writes", 20000)
		writer := p.Write(t, o, 150)
		f := &ghostferry.Ferry{Config: p.Config(o.Database)}
		f.UpdatableConfig.DataIterationBatchSize = 500
		err := harness.Move(ctx, f, harness.StopWriter(writer))
		if err != nil {
			t.Fatal(err)
		}
		p.MustEqual(t, o.Database)
		if got := f.Progress(); got.BinlogRowsApplied == 0 || got.RowsCopied == 0 {
			t.Fatalf("nothing was copied or applied: %+v", got)
		}
	})
}
