package main

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// The page has a row for each case and none for others: who adds a case runs the whole matrix.
func TestPageHasEveryCase(t *testing.T) {
	page, err := os.ReadFile("../../" + reportPath)
	if err != nil {
		t.Fatal(err)
	}
	var listed, there []string
	for line := range strings.Lines(string(page)) {
		if rest, ok := strings.CutPrefix(line, "| "); ok && !strings.HasPrefix(line, "| case |") {
			name, _, _ := strings.Cut(rest, " | ")
			listed = append(listed, name)
		}
	}
	for _, c := range allCases() {
		there = append(there, markdownText(c.String()))
	}
	for _, name := range there {
		if !slices.Contains(listed, name) {
			t.Errorf("%s is not on the page: run make fidelity", name)
		}
	}
	for _, name := range listed {
		if !slices.Contains(there, name) {
			t.Errorf("the page has %s, which is no case: run make fidelity", name)
		}
	}
	if len(listed) != len(there) {
		t.Errorf("the page has %d rows, there are %d cases", len(listed), len(there))
	}
	if strings.Contains(string(page), "| WRONG") || !strings.Contains(string(page), " 0 wrong.") {
		t.Error("the page tells of values that arrived wrong")
	}
}
