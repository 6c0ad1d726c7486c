// Command model searches the model of the engine: every configuration without
// mutants, which must hold all invariants, and every mutant, which must break
// one. It reports on stderr and ends with one JSON line on stdout.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/ghostferry-go/ghostferry/internal/model"
)

// summary is the line on stdout.
type summary struct {
	States      int      `json:"states"`
	Invariants  int      `json:"invariants"`
	NotModelled []string `json:"not_modelled"`
	Mutants     int      `json:"mutants"`
	Caught      int      `json:"caught"`
	Violations  int      `json:"violations"`
}

// job is one search.
type job struct {
	config model.Config
	mutant *model.MutantCase // nil: nothing may be broken
	result model.Result
}

func main() {
	workers := flag.Int("workers", 2, "searches at a time")
	only := flag.String("only", "", "only the configurations and mutants with these words in their names, comma-separated")
	large := flag.Bool("large", false, "the large configurations, too (hours)")
	show := flag.Bool("show", false, "print the schedules of mutants")
	flag.Parse()
	debug.SetGCPercent(50)

	jobs := plan(*only, *large)
	run(jobs, *workers, *show)
	sum, ok := count(jobs)
	line, err := json.Marshal(sum)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		ok = false
	}
	fmt.Println(string(line))
	if !ok {
		os.Exit(1)
	}
}

// plan lists the searches, the longest first.
func plan(only string, large bool) []*job {
	configs := append(model.Medium(), model.Configs()...)
	if large {
		configs = append(model.Large(), configs...)
	}
	var jobs []*job
	for _, c := range configs {
		jobs = append(jobs, &job{config: c})
	}
	for _, fc := range model.FreeCases() {
		jobs = append(jobs, &job{config: fc.Search()})
	}
	for _, mc := range model.MutantCases() {
		sound := mc.Sound()
		sound.Name += ", rule kept"
		jobs = append(jobs, &job{config: mc.Config, mutant: &mc}, &job{config: sound})
	}
	return slices.DeleteFunc(jobs, func(j *job) bool {
		for _, word := range strings.Split(only, ",") {
			if strings.Contains(j.config.Name, word) {
				return false
			}
		}
		return true
	})
}

// run does the jobs and reports each when it is done.
func run(jobs []*job, workers int, show bool) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	queue := make(chan *job)
	for range workers {
		wg.Go(func() {
			for j := range queue {
				j.result = model.Explore(j.config, model.Limits{})
				mu.Lock()
				report(j, show)
				mu.Unlock()
			}
		})
	}
	for _, j := range jobs {
		queue <- j
	}
	close(queue)
	wg.Wait()
}

func report(j *job, show bool) {
	verdict := ""
	switch v := j.result.Violation; {
	case j.mutant == nil && v != nil:
		verdict = "  VIOLATION\n" + v.Schedule(j.result.Config)
	case j.mutant != nil && v == nil:
		verdict = "  SURVIVES: " + j.mutant.Rule
	case j.mutant != nil && show:
		verdict = "\n" + j.mutant.Golden(j.result)
	}
	fmt.Fprintf(os.Stderr, "%s%s\n", j.result.Line(), verdict)
	if j.mutant == nil && verdict == "" {
		fmt.Fprintf(os.Stderr, "    %s\n", j.config.Bounds())
	}
}

// count sums up; ok is false when something broke or a mutant survived.
func count(jobs []*job) (sum summary, ok bool) {
	sum.Invariants = model.Invariants
	sum.NotModelled = model.NotModelled()
	mutants, caught := map[model.Mutant]bool{}, map[model.Mutant]bool{}
	for _, j := range jobs {
		if j.mutant == nil {
			sum.States += j.result.States
			if j.result.Violation != nil {
				sum.Violations++
			}
			continue
		}
		mutants[j.mutant.Mutant] = true
		if j.result.Violation != nil {
			caught[j.mutant.Mutant] = true
		}
	}
	sum.Mutants, sum.Caught = len(mutants), len(caught)
	return sum, sum.Violations == 0 && sum.Caught == sum.Mutants
}
