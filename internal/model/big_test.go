package model

import (
	"os"
	"testing"
)

func TestBig(t *testing.T) {
	if os.Getenv("BIG") == "" {
		return
	}
	c := Config{Name: "3k4e", Keys: 3, Values: 2, Events: 4, TxnMax: 2, Coarse: true, Changes: SetU | MoveKey | Delete | Insert, Inits: []string{"a b -"}, Chunks: []uint8{1, 6}, Workers: 2, Lanes: 2, Crashes: 0, Features: []Feature{}}
	r := Explore(c, Limits{States: 40e6})
	t.Log(r.Line())
	if r.Violation != nil {
		t.Log("\n" + r.Violation.Schedule(r.Config))
	}
}
