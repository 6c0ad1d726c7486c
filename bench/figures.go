package main

import (
	"math"
	"runtime"
	"slices"
	"strings"
)

// headline is what standard output says: always these keys, in this order, and null for
// what was not measured.
type headline struct {
	CopyVsMysqldump *float64 `json:"copy_vs_mysqldump"`
	CopyVsMyloader  *float64 `json:"copy_vs_myloader"`
	// CopyVsLimit is of our verified copy; 1 is what the target can take.
	CopyVsLimit    *float64 `json:"copy_vs_limit"`
	CopyCPUPerRow  *float64 `json:"copy_cpu_us_per_row"`
	PeakRSSMB      *float64 `json:"peak_rss_mb"`
	DrainRowsPerS  *float64 `json:"drain_rows_per_s"`
	DrainVsReplica *float64 `json:"drain_vs_replica"`
	DrainVsDecode  *float64 `json:"drain_vs_decode"`
}

// figures is the last line of the results: the headline, and more. A number of these that
// was not measured is left out.
type figures struct {
	headline
	// Of a table with five secondary indexes.
	DeferredVsKept float64 `json:"deferred_vs_kept,omitempty"`
	// Of many tables; 1 of the limit is what the target can take.
	TablesVsMyloader float64 `json:"tables_vs_myloader,omitempty"`
	TablesVsLimit    float64 `json:"tables_vs_limit,omitempty"`
	// Over a slow link.
	CompressedVsPlain float64 `json:"compressed_vs_plain,omitempty"`
	// The same for our copy by INSERT.
	InsertVsMysqldump float64 `json:"copy_insert_vs_mysqldump,omitempty"`
	InsertVsMyloader  float64 `json:"copy_insert_vs_myloader,omitempty"`
	// The same with the index there all along.
	KeptVsMysqldump float64 `json:"copy_kept_vs_mysqldump,omitempty"`
	KeptVsMyloader  float64 `json:"copy_kept_vs_myloader,omitempty"`
	// DrainVsLimit of 1 is what the target can take.
	DrainVsLimit   float64 `json:"drain_vs_limit,omitempty"`
	DrainPeakRSSMB float64 `json:"drain_peak_rss_mb,omitempty"`
	// CPU time of the target and of our mover for each update that is drained.
	DrainTargetCPU float64 `json:"drain_target_cpu_us_per_row,omitempty"`
	DrainMoverCPU  float64 `json:"drain_mover_cpu_us_per_row,omitempty"`
	// The same drain where few rows are updated often.
	HotRowsPerS float64 `json:"hot_rows_per_s,omitempty"`
	HotVsDrain  float64 `json:"hot_vs_drain,omitempty"`
	// How old the target's changes are while the source is written at full speed.
	LagCopyMax float64 `json:"lag_copy_max_s,omitempty"`
	LagMax     float64 `json:"lag_max_s,omitempty"`
	LagFinal   float64 `json:"lag_final_s,omitempty"`
	// What verification takes, as parts of other times: below 1 it takes less.
	VerifyVsCopy        float64 `json:"verify_vs_copy,omitempty"`
	VerifyVsDigestQuery float64 `json:"verify_vs_digest_query,omitempty"`
	InlineVsCopy        float64 `json:"inline_copy_vs_copy,omitempty"`
	// What checkpoints cost: the part of the time with them that is theirs.
	CheckpointCostCopy  *float64 `json:"checkpoint_cost_copy,omitempty"`
	CheckpointCostDrain *float64 `json:"checkpoint_cost_drain,omitempty"`
	// A tenant of a hundredth of the rows: its part of the time of the whole table; and what
	// moves of eight tenants take of the CPU when each reads the log itself, and of the
	// source's connections when they share one.
	TenantVsWhole    float64 `json:"tenant_vs_whole,omitempty"`
	OwnVsSharedCPU   float64 `json:"own_vs_shared_mover_cpu,omitempty"`
	SharedDumps      float64 `json:"shared_dump_threads,omitempty"`
	SharedEventsOnce float64 `json:"shared_decoded_vs_written,omitempty"`
	// Rows of 20 KB beside one thread of LOAD DATA.
	WideJSONVsLoad float64 `json:"wide_json_vs_load,omitempty"`
	WideBlobVsLoad float64 `json:"wide_blob_vs_load,omitempty"`
	WideJSONMBPerS float64 `json:"wide_json_mb_per_s,omitempty"`
	WideBlobMBPerS float64 `json:"wide_blob_mb_per_s,omitempty"`
	// ScaleTimes is how many times as long a table of ten times as many rows takes, the small
	// step first, ScaleLimitTimes the same of the target's limit, and ScaleBusy the least busy processor's share of the largest copy.
	ScaleTimes      []float64 `json:"scale_times,omitempty"`
	ScaleLimitTimes []float64 `json:"scale_limit_times,omitempty"`
	ScaleBusy       float64   `json:"scale_busy,omitempty"`
	// MemoryVsAllowed is the worst part of what the memory may be; above 1 it is too much.
	MemoryVsAllowed float64            `json:"memory_vs_allowed,omitempty"`
	MemoryPeak      map[string]float64 `json:"memory_peak_rss_mb,omitempty"`
	TablesLoad      float64            `json:"memory_tables_load_s,omitempty"`
	// A long time with writers at full speed; growth is of the last third over the first.
	SoakRSSGrowth float64 `json:"soak_rss_last_vs_first,omitempty"`
	SoakLagGrowth float64 `json:"soak_lag_last_vs_first,omitempty"`
	SoakLagMax    float64 `json:"soak_lag_max_s,omitempty"`
	SoakPeak      float64 `json:"soak_peak_rss_mb,omitempty"`
	// CopyVs has the systems of -mover.
	CopyVs map[string]float64 `json:"copy_vs,omitempty"`
}

// some is nil for what was not measured.
func some(v float64) *float64 {
	if v == 0 {
		return nil
	}
	return &v
}

func (r *report) headline() headline {
	return headline{
		CopyVsMysqldump: some(r.timesAsFast("copy", verifiedSystem, mysqldumpSystem)),
		CopyVsMyloader:  some(r.timesAsFast("copy", verifiedSystem, mydumperSystem)),
		CopyVsLimit:     some(r.timesAsFast("copy", verifiedSystem, limitSystem)),
		CopyCPUPerRow:   some(r.cpuPerRow("copy", func(m measurement) float64 { return m.MoverCPU })),
		PeakRSSMB:       some(r.highest("copy")),
		DrainRowsPerS:   some(math.Round(r.rowsPerS("drain"))),
		DrainVsReplica:  some(r.timesAsFast("drain", ghostferrySystem, replicaSystem)),
		DrainVsDecode:   some(r.timesAsFast("drain", ghostferrySystem, decodeSystem)),
	}
}

// figures are of medians, except the peaks, which are the highest of all runs.
func (r *report) figures() figures {
	out := figures{
		headline:          r.headline(),
		DeferredVsKept:    r.timesAsFast("indexes", "deferred", "kept"),
		TablesVsMyloader:  r.timesAsFast("tables", ghostferrySystem, mydumperSystem),
		TablesVsLimit:     r.timesAsFast("tables", ghostferrySystem, limitSystem),
		CompressedVsPlain: r.timesAsFast("link", "compressed", "plain"),
		InsertVsMysqldump: r.timesAsFast("copy", insertSystem, mysqldumpSystem),
		InsertVsMyloader:  r.timesAsFast("copy", insertSystem, mydumperSystem),
		KeptVsMysqldump:   r.timesAsFast("copy", keptSystem, mysqldumpSystem),
		KeptVsMyloader:    r.timesAsFast("copy", keptSystem, mydumperSystem),
		DrainVsLimit:      r.timesAsFast("drain", ghostferrySystem, updateLimitSystem),
		DrainTargetCPU:    r.cpuPerRow("drain", func(m measurement) float64 { return m.TargetCPU }),
		DrainMoverCPU:     r.cpuPerRow("drain", func(m measurement) float64 { return m.MoverCPU }),
		HotRowsPerS:       math.Round(r.rowsPerS("hot")),
		DrainPeakRSSMB:    r.peak("drain"),

		VerifyVsCopy:        r.timesAsFast("verify", plainCopySystem, onlineSystem),
		VerifyVsDigestQuery: r.timesAsFast("verify", digestQuerySystem, onlineSystem),
		InlineVsCopy:        r.timesAsFast("verify", plainCopySystem, inlineCopySystem),

		TenantVsWhole: r.part("tenants", oneTenantSystem, wholeSystem),

		CheckpointCostCopy:  r.checkpointCost(checkpointCopy),
		CheckpointCostDrain: r.checkpointCost(checkpointDrain),
	}
	r.tenantFigures(&out)
	r.lagFigures(&out)
	r.wideFigures(&out)
	r.scaleFigures(&out)
	r.memoryFigures(&out)
	if drain := r.rowsPerS("drain"); drain > 0 {
		out.HotVsDrain = round(r.rowsPerS("hot") / drain)
	}
	for _, m := range r.all {
		if m.Bench == "copy" && !slices.Contains(copySystems, m.System) {
			if out.CopyVs == nil {
				out.CopyVs = map[string]float64{}
			}
			out.CopyVs[m.System] = r.timesAsFast("copy", ghostferrySystem, m.System)
		}
	}
	return out
}

func (r *report) tenantFigures(out *figures) {
	of := func(system string, value func(measurement) float64) float64 {
		return round(median(r.values("tenants", system, value)))
	}
	cpu := func(m measurement) float64 { return m.MoverCPU }
	if shared := of(sharedStreamSystem, cpu); shared > 0 {
		out.OwnVsSharedCPU = round(of(ownStreamsSystem, cpu) / shared)
		out.SharedDumps = of(sharedStreamSystem, func(m measurement) float64 { return float64(m.DumpThreads) })
		out.SharedEventsOnce = of(sharedStreamSystem, func(m measurement) float64 { return float64(m.RowEventsDecoded) / float64(m.Rows) })
	}
}

// lagFigures are of the part lag and of soak, which is measured likewise.
func (r *report) lagFigures(out *figures) {
	of := func(bench string, value func(measurement) float64) float64 {
		return round(median(r.values(bench, ghostferrySystem, value)))
	}
	out.LagCopyMax = of("lag", func(m measurement) float64 { return m.LagCopyMax })
	out.LagMax = of("lag", func(m measurement) float64 { return m.LagMax })
	out.LagFinal = of("lag", func(m measurement) float64 { return m.LagFinal })
	out.SoakRSSGrowth = of(soakPart, func(m measurement) float64 { return m.RSSGrowth })
	out.SoakLagGrowth = of(soakPart, func(m measurement) float64 { return m.LagGrowth })
	out.SoakLagMax = of(soakPart, func(m measurement) float64 { return max(m.LagCopyMax, m.LagMax) })
	out.SoakPeak = r.highest(soakPart)
}

func (r *report) wideFigures(out *figures) {
	rate := func(k wideKind) float64 {
		return math.Round(median(r.values("wide", k.ours(), func(m measurement) float64 { return m.DataMB / m.Seconds })))
	}
	json, blob := wideKinds[0], wideKinds[1]
	out.WideJSONVsLoad, out.WideJSONMBPerS = r.timesAsFast("wide", json.ours(), json.limit()), rate(json)
	out.WideBlobVsLoad, out.WideBlobMBPerS = r.timesAsFast("wide", blob.ours(), blob.limit()), rate(blob)
}

func (r *report) scaleFigures(out *figures) {
	limit := func(system string) bool { return strings.HasSuffix(system, limitSystem) }
	out.ScaleLimitTimes = r.growth(slices.DeleteFunc(r.systemsOf("scale"), func(s string) bool { return !limit(s) }))
	systems := slices.DeleteFunc(r.systemsOf("scale"), limit)
	out.ScaleTimes = r.growth(systems)
	if len(systems) > 0 {
		out.ScaleBusy = round(median(r.values("scale", systems[len(systems)-1], func(m measurement) float64 { return slices.Min(append(m.Busy, 1)) })))
	}
}

// growth is how many times as long each system of the part scale takes as the one before.
func (r *report) growth(systems []string) (times []float64) {
	for i := 1; i < len(systems); i++ {
		times = append(times, r.timesAsFast("scale", systems[i-1], systems[i]))
	}
	return times
}

func (r *report) memoryFigures(out *figures) {
	for _, m := range r.all {
		if m.Bench != "memory" {
			continue
		}
		if out.MemoryPeak == nil {
			out.MemoryPeak = map[string]float64{}
		}
		out.MemoryPeak[m.System] = round(m.PeakRSSMB)
		out.MemoryVsAllowed = max(out.MemoryVsAllowed, round(m.PeakRSSMB/m.AllowedRSSMB))
		if strings.HasSuffix(m.System, tablesSuffix) {
			out.TablesLoad = round(m.LoadSeconds) // the larger number comes later
		}
	}
}

// checkpointCost is nil when it was not measured; 0.05 is 5 %, and noise may make it negative.
func (r *report) checkpointCost(system string) *float64 {
	with, without := r.seconds("checkpoint", system), r.seconds("checkpoint", system+withoutOne)
	if with == 0 || without == 0 {
		return nil
	}
	cost := math.Round(1000*(1-without/with)) / 1000
	return &cost
}

// copySystems are those that every copy measures; others come from -mover.
var copySystems = []string{ghostferrySystem, insertSystem, keptSystem, verifiedSystem, limitSystem, insertSelectSystem, mysqldumpSystem, mydumperSystem}

// highest is the highest memory of our mover in any measurement of a part.
func (r *report) highest(bench string) float64 {
	most := 0.0
	for _, m := range r.all {
		if m.Bench == bench {
			most = max(most, m.PeakRSSMB)
		}
	}
	return round(most)
}

// rowsPerS is how many rows a second ours moves.
func (r *report) rowsPerS(bench string) float64 {
	return median(r.values(bench, ghostferrySystem, func(m measurement) float64 { return float64(m.Rows) / m.Seconds }))
}

// cpuPerRow is a CPU time of ours in microseconds a row.
func (r *report) cpuPerRow(bench string, of func(measurement) float64) float64 {
	const microseconds = 1e6
	return round(microseconds * median(r.values(bench, ghostferrySystem, func(m measurement) float64 { return of(m) / float64(m.Rows) })))
}

// peak is the highest memory of our mover in any run.
func (r *report) peak(bench string) float64 {
	return round(slices.Max(append(r.values(bench, ghostferrySystem, func(m measurement) float64 { return m.PeakRSSMB }), 0)))
}

// timesAsFast is how many times as fast as another system one is; 0 when one of them
// was not measured.
func (r *report) timesAsFast(bench, system, other string) float64 {
	seconds := r.seconds(bench, system)
	if seconds == 0 {
		return 0
	}
	return round(r.seconds(bench, other) / seconds)
}

// part is what part of another system's time one takes; 0 when one was not measured.
func (r *report) part(bench, system, other string) float64 {
	whole := r.seconds(bench, other)
	if whole == 0 {
		return 0
	}
	return math.Round(1000*r.seconds(bench, system)/whole) / 1000
}

func round(v float64) float64 { return math.Round(v*100) / 100 }

// conditions is the first line of the results.
type conditions struct {
	Server     string `json:"server"`
	Parts      string `json:"parts"`
	Processors int    `json:"processors"`
	Go         string `json:"go"`
	Rows       int    `json:"rows"`
	Updates    int    `json:"updates"`
	Runs       int    `json:"runs"`
	Ours       string `json:"ours,omitempty"` // flags of our mover
}

func conditionsOf(l *lab, o options) conditions {
	return conditions{
		Server: l.source.Version, Parts: strings.Join(o.parts, ","), Processors: runtime.NumCPU(), Go: runtime.Version(),
		Rows: o.rows, Updates: o.updates, Runs: o.runs, Ours: strings.Join(o.ours, " "),
	}
}
