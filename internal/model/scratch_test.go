package model

import (
	"os"
	"strings"
	"testing"
)

func with(c Config, f ...func(*Config)) Config {
	for _, g := range f {
		g(&c)
	}
	return c
}
func TestScratch(t *testing.T) {
	feat := func(fs ...Feature) func(*Config) {
		return func(c *Config) { c.Features = append(append([]Feature{}, c.Features...), fs...) }
	}
	mut := func(ms ...Mutant) func(*Config) { return func(c *Config) { c.Mutants = ms; c.Name += "!" } }
	name := func(s string) func(*Config) { return func(c *Config) { c.Name = s } }
	s := small()
	all := []Config{
		with(s, name("two-inits"), func(c *Config) { c.Values = 2; c.Inits = []string{"a b"} }),
		with(s, name("parts"), feat(Parts)),
		with(s, name("serial"), feat(Serial), func(c *Config) { c.Lanes = 1 }),
		with(s, name("onephase"), feat(OnePhase), func(c *Config) { c.Values = 0; c.Inits = []string{"N -"} }),
		with(s, name("start"), feat(Start)),
		with(s, name("start2chunks"), feat(Start, CommitsInOrder), func(c *Config) { c.Chunks = []uint8{1, 2} }),
		with(s, name("locking"), feat(LockingRead)),
		with(s, name("lockingstart"), feat(LockingRead, Start)),
		with(s, name("lost"), feat(LostCommits), func(c *Config) { c.Faults = 1; c.Events = 2; c.Chunks = []uint8{1, 2}; c.Workers = 2 }),
		with(s, name("split"), feat(SplitWrite)),
		with(s, name("cutover"), feat(Cutover)),
		with(s, name("3keys"), func(c *Config) {
			c.Keys = 3
			c.Values = 1
			c.Inits = []string{"a - -"}
			c.Chunks = []uint8{1, 6}
			c.TxnMax = 1
			c.Crashes = 0
		}),
		with(s, name("nogate"), mut(NoGate)),
		with(s, name("nobarrier"), mut(NoBarrier)),
		with(s, name("racy"), mut(RacyOpen)),
		with(s, name("oldsnap"), mut(OldSnapshot)),
		with(s, name("newkeyonly"), mut(GateNewKeyOnly)),
		with(s, name("gatesbetween"), mut(GatesBetweenPhases)),
		with(s, name("partsdonotcount"), feat(Parts), mut(PartsDoNotCount)),
		with(s, name("nomeeting"), mut(NoMeeting), func(c *Config) { c.Inits = []string{"a b"}; c.Values = 2 }),
		with(s, name("startatend"), feat(Start), mut(StartAtLogEnd)),
		with(s, name("planbefore"), feat(Start), func(c *Config) { c.Chunks = []uint8{1, 2} }, mut(PlanBeforeStart)),
		with(s, name("plainmax"), feat(Start, LockingRead), mut(PlainMax), func(c *Config) { c.Chunks = []uint8{1, 2} }),
		with(s, name("nofence"), feat(LostCommits), func(c *Config) { c.Faults = 1 }, mut(NoFence)),
		with(s, name("stopbefore"), feat(Cutover), mut(StopBeforeBlock)),
	}
	for _, c := range all {
		c.Coarse = os.Getenv("COARSE") != ""
		if f := os.Getenv("ONLY"); f != "" && !strings.Contains(c.Name, f) {
			continue
		}
		r := Explore(c, Limits{States: 8e6})
		t.Log(r.Line())
		if r.Violation != nil && (len(c.Mutants) == 0 || os.Getenv("SHOW") != "") {
			t.Log("\n" + r.Violation.Schedule(r.Config))
		}
	}
}
