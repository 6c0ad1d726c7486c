package integration

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/harness"
)

// Every verifier agrees that a moved shop, which was written all along, is equal.
func TestEveryVerifierOnALiveShop(t *testing.T) {
	for _, s := range harness.Settings {
		t.Run(s.Name, func(t *testing.T) {
			p := harness.Shared(t, s)
			for _, verifier := range []string{
				ghostferry.VerifierTypeOnline, ghostferry.VerifierTypeInline, ghostferry.VerifierTypeIterative, ghostferry.VerifierTypeChecksumTable,
			} {
				t.Run(verifier, func(t *testing.T) {
					o := p.Shop(t, "verified_shop", 3000)
					w := p.Write(t, o, 200)
					config := p.Config("verified_shop")
					config.VerifierType = verifier
					f := &ghostferry.Ferry{Config: config}
					require.NoError(t, harness.Move(context.Background(), f, harness.StopWriter(w)))
					p.MustEqual(t, "verified_shop")
					require.NoError(t, f.Close())
				})
			}
		})
	}
}
