package main

import (
	"fmt"
	"os"
	"strings"
)

// systemsOf are the systems of a part in the order in which they were first measured.
func (r *report) systemsOf(bench string) (systems []string) {
	seen := map[string]bool{}
	for _, m := range r.all {
		if m.Bench == bench && !seen[m.System] {
			seen[m.System] = true
			systems = append(systems, m.System)
		}
	}
	return systems
}

// writeMarkdown writes the medians as a Markdown file with a chart beside the results.
func (r *report) writeMarkdown(c conditions) error {
	base := strings.TrimSuffix(r.path, ".jsonl")
	var b strings.Builder
	fmt.Fprintf(&b, "# Benchmark\n\n%s, %d processors, %s; %d rows, %d updates, medians of %d runs. What is measured: bench/README.md.\n", c.Server, c.Processors, c.Go, c.Rows, c.Updates, c.Runs)
	for _, part := range parts {
		systems := r.systemsOf(part.name)
		if len(systems) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n| system | rows | seconds | CPU s source / target / mover | others | peak RSS MB |\n|---|---|---|---|---|---|\n", part.name)
		for _, s := range systems {
			number := func(of func(measurement) float64) float64 { return median(r.values(part.name, s, of)) }
			fmt.Fprintf(&b, "| %s | %.0f | %.2f | %.1f / %.1f / %.1f | %.1f | %.0f |\n", strings.ReplaceAll(s, "|", "\\|"),
				number(func(m measurement) float64 { return float64(m.Rows) }), r.seconds(part.name, s),
				number(func(m measurement) float64 { return m.SourceCPU }), number(func(m measurement) float64 { return m.TargetCPU }),
				number(func(m measurement) float64 { return m.MoverCPU }), number(func(m measurement) float64 { return m.OtherCPU }),
				number(func(m measurement) float64 { return m.PeakRSSMB }))
		}
		chart := base + "-" + part.name + ".svg"
		if err := os.WriteFile(chart, []byte(r.chart(part.name, systems)), 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&b, "\n![seconds](%s)\n", chart[strings.LastIndexByte(chart, '/')+1:])
	}
	return os.WriteFile(base+".md", []byte(b.String()), 0o644)
}

var svgText = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// chart is a bar a system, as long as its seconds, in SVG.
func (r *report) chart(bench string, systems []string) string {
	const row, left, width, top = 26, 230, 420, 34
	most := 0.0
	for _, s := range systems {
		most = max(most, r.seconds(bench, s))
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="13">`+"\n", left+width+90, top+row*len(systems)+10)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="8" y="20" font-weight="bold">%s: seconds, less is better</text>`+"\n", bench)
	for i, s := range systems {
		seconds, y := r.seconds(bench, s), top+row*i
		length := 1.0
		if most > 0 {
			length = max(1, seconds/most*width)
		}
		fill := "#9aa7b5"
		if strings.HasPrefix(s, ghostferrySystem) {
			fill = "#2563a8"
		}
		fmt.Fprintf(&b, `<text x="8" y="%d">%s</text><rect x="%d" y="%d" width="%.0f" height="18" fill="%s"/><text x="%.0f" y="%d">%.2f</text>`+"\n",
			y+14, svgText.Replace(s), left, y, length, fill, left+length+6, y+14, seconds)
	}
	return b.String() + "</svg>\n"
}
