package model

import "testing"

func small() Config {
	return Config{
		Name: "small", Keys: 2, Values: 1, Events: 3, TxnMax: 2, Changes: AllChanges,
		Inits: []string{"a -"}, Chunks: []uint8{3}, Lanes: 2, Crashes: 1,
	}
}

func TestSmall(t *testing.T) {
	r := Explore(small(), Limits{})
	t.Log(r.Line())
	if r.Violation != nil {
		t.Fatal(r.Violation.Schedule(r.Config))
	}
}
