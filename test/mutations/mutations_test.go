package main

import (
	"context"
	"testing"
	"time"

	"github.com/ghostferry-go/ghostferry"
	"github.com/ghostferry-go/ghostferry/test/servers"
)

// A share of what `make mutations` does: some types, and for each verifier one moment and
// side on one of the flavours.
func TestShareOfMutations(t *testing.T) {
	for flavour, chosen := range map[servers.Flavour][]scenario{
		servers.MySQL: {
			{ghostferry.VerifierTypeOnline, atCopy, false, false}, {ghostferry.VerifierTypeIterative, between, true, false},
		},
		servers.MariaDB: {
			{ghostferry.VerifierTypeInline, during, false, true}, {ghostferry.VerifierTypeChecksumTable, during, true, false},
		},
	} {
		t.Run(string(flavour), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			l, err := newLab(ctx, flavour)
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := l.close(); err != nil {
					t.Error(err)
				}
			}()
			all := mutatedTables(flavour)
			var tables []mutatedTable
			for i := 0; i < len(all); i += 6 {
				tables = append(tables, all[i])
			}
			var total counts
			for _, s := range chosen {
				if err := l.run(ctx, s, tables, &total); err != nil {
					t.Fatalf("%s: %v", s, err)
				}
			}
			if total.Mutations < 100 || total.Caught != total.Mutations || total.WrongKeyOrKind+total.FalseAlarms > 0 {
				t.Errorf("%+v", total)
			}
		})
	}
}
