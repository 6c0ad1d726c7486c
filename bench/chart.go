package main

import (
	"fmt"
	"strings"
)

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
		if strings.Contains(s, ghostferrySystem) {
			fill = "#2563a8"
		}
		fmt.Fprintf(&b, `<text x="8" y="%d">%s</text><rect x="%d" y="%d" width="%.0f" height="18" fill="%s"/><text x="%.0f" y="%d">%.2f</text>`+"\n",
			y+14, svgText.Replace(s), left, y, length, fill, left+length+6, y+14, seconds)
	}
	return b.String() + "</svg>\n"
}

// lineChart is a number over the time of the samples, from 0 up, in SVG.
func lineChart(title string, samples []sample, of func(sample) float64) string {
	const left, width, top, height = 60, 640, 34, 200
	last := samples[len(samples)-1].At
	most := 0.0
	for _, s := range samples {
		most = max(most, of(s))
	}
	points := make([]string, len(samples))
	for i, s := range samples {
		points[i] = fmt.Sprintf("%.1f,%.1f", left+s.At/max(last, 1)*width, top+height*(1-of(s)/max(most, 1e-9)))
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="13">`+"\n", left+width+20, top+height+30)
	fmt.Fprintf(&b, `<rect width="100%%" height="100%%" fill="white"/><text x="8" y="20" font-weight="bold">%s</text>`+"\n", svgText.Replace(title))
	fmt.Fprintf(&b, `<text x="8" y="%d">%.2f</text><text x="8" y="%d">0</text><text x="%d" y="%d">%.0f s</text>`+"\n", top+12, most, top+height, left+width-50, top+height+20, last)
	fmt.Fprintf(&b, `<polyline fill="none" stroke="#2563a8" points="%s"/>`+"\n", strings.Join(points, " "))
	return b.String() + "</svg>\n"
}
