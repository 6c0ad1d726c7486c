package model

import (
	"fmt"
	"strings"
)

// base is two keys in two chunks, copied by two workers while the mover may die
// once and keys may change.
func base(features ...Feature) Config {
	return tiny(3, features...).twoChunks().txns(2).coarse().crashing(1).changing(SetU | MoveKey | Delete)
}

// Configs are the configurations of the engine as it is, without mutants: every
// feature is on in one that also has a crash and changes of the key.
func Configs() []Config {
	return []Config{
		base(Parts).sized(2).named("small"),
		base().fine().changing(AllChanges).sized(2).named("single-steps"),
		base(Parts).starting("a N").named("parts"),
		base(LanePositions, SplitWrite).named("lane-positions"),
		base(Replans, SmallQueue).failing(1).named("replans"),
		base(Start, Replans).failing(1).changing(AllChanges).sized(2).named("start"),
		base(Start, LockingRead, Rollbacks).failing(1).changing(AllChanges).sized(2).named("start-locking"),
		base(Start, CommitsInOrder).changing(AllChanges).txns(1).named("start-snapshot"),
		base(LostCommits).failing(1).named("lost-commits"),
		base(LostCommits, SplitWrite).failing(2).sized(2).named("lost-commits-twice"),
		base(LostCommits, Serial).oneLane().failing(1).named("lost-commits-serial"),
		base(OnePhase, Parts).valued(0).starting("N N").changing(AllChanges).named("one-phase"),
		base(OnePhase, DropAhead).valued(0).starting("N -").changing(AllChanges).named("one-phase-drop-ahead"),
		base(Serial, Collated).oneLane().starting("A -").changing(AllChanges | Respell).sized(2).named("serial-collated"),
		base(InPlace).changing(Update | SetU | MoveKey).named("in-place"),
		base(InPlaceGuarded).changing(Update | SetU | MoveKey).named("in-place-guarded"),
		base(Pass).starting("a N").named("pass-held"),
		base(DeferredIndex).changing(Update | SetU | MoveKey).named("deferred-index"),
		base(Watermark).named("watermark"),
		base(LockingRead, LockedCopy, SplitWrite, LostLocks).failing(1).named("locked-copy"),
		base(LockingRead, LockedCopy, SplitWrite, LostLocks, LostCommits).failing(2).sized(2).named("locked-copy-lost"),
		base(Filter).changing(AllChanges|Reown).starting("a B").hostile("- B", "").sized(2).txns(1).named("filter"),
		base(Filter, LockingRead).changing(MoveKey | Reown).starting("a B").named("filter-locking"),
		base(XA).named("xa"),
		base(Start, XA).named("start-xa"),
		base(Failover).failing(1).sized(2).named("failover"),
		base(TargetCrash).sized(2).named("target-crash"),
		base(SecondMover).txns(1).named("second-mover"),
		base(Cutover, Leak).failing(1).sized(2).named("cutover"),
		base(Cutover, Verify).sized(2).named("verify"),
	}
}

// Medium are the configurations that make model adds: all changes, three keys,
// four transactions.
func Medium() []Config {
	return []Config{
		base(Parts).changing(AllChanges).named("medium"),
		base().threeKeys("a b -").txns(1).named("medium-keys"),
		base().threeKeys("a N -").crashing(0).sized(4).changing(SetU | MoveKey).txns(1).named("medium-four-transactions"),
		base(LostCommits).threeKeys("a N -").failing(1).sized(2).named("medium-lost-commits"),
		base().starting("a b").crashing(2).named("medium-two-crashes"),
	}
}

// Large are configurations for a night.
func Large() []Config {
	return []Config{
		base(Parts, LostCommits).threeKeys("a b -").failing(1).named("large"),
		base(Parts).threeKeys("a b -").changing(AllChanges).sized(4).named("large-changes"),
		base(Failover).failing(1).changing(SetU | MoveKey).txns(1).named("large-failover"),
	}
}

// threeKeys has key 1 in one chunk, 2 and 3 in the other.
func (c Config) threeKeys(init string) Config {
	c.Keys, c.Chunks, c.Inits = 3, []uint8{1, 6}, []string{init}
	return c
}

func (c Config) named(name string) Config { c.Name = name; return c }
func (c Config) sized(events int) Config  { c.Events = events; return c }
func (c Config) fine() Config             { c.Coarse = false; return c }

// Bounds tells what the configuration has.
func (c Config) Bounds() string {
	features := "no feature"
	if len(c.Features) > 0 {
		var names []string
		for _, f := range c.Features {
			names = append(names, f.String())
		}
		features = strings.Join(names, ", ")
	}
	per := "single changes"
	if c.TxnMax > 1 {
		per = fmt.Sprintf("up to %d a transaction", c.TxnMax)
	}
	return fmt.Sprintf("%d keys, %d unique values and NULL, %d changes, %s, %d chunks, %d copiers, %d lanes, %d crashes, %d faults; %s",
		c.Keys, c.Values, c.Events, per, len(c.Chunks), max(1, c.Workers), c.Lanes, c.Crashes, c.Faults, features)
}
