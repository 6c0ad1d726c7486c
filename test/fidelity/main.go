// Command fidelity moves one row of every kind by every road, between every pair of
// servers, and compares what arrived with what was sent: every case of cases_*.go is a
// table of its own whose rows go
//
//   - by the copy alone;
//   - by the copy and an insert, an update of another column, an update of the column and
//     a delete, while the event comes first and the copy later, and the reverse;
//   - and all of that once more through a mover that is killed (kill -9) in the middle of
//     the copy and in the middle of the changes.
//
// The judge asks both servers for HEX(), JSON_TYPE() and exact numbers, and knows nothing
// of the mover. Source, target and mover are in three time zones, and tables are copied in
// several chunks. Cases that a pair cannot carry have to be refused by name.
//
// The table of cases, roads and pairs goes to standard output and, for a whole run, to
// docs/fidelity.md. The last line of standard output is one JSON object; the status is 0
// only if nothing was wrong.
//
// Environment: PAIR names one pair (default: all), CASE is a regular expression for names
// of cases (default: all).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
	_ "time/tzdata" // the mover's zone, wherever this runs
)

// reportPath is where a whole run leaves its table.
const reportPath = "docs/fidelity.md"

func main() {
	if config := os.Getenv(moverEnv); config != "" {
		os.Exit(moverProcess(config, os.Stdin, os.Stdout, os.Stderr))
	}
	if err := command(); err != nil {
		fmt.Fprintln(os.Stderr, "fidelity:", err)
		os.Exit(1)
	}
}

func command() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	screen := &console{out: os.Stderr, begun: time.Now()}
	wanted, err := regexp.Compile(os.Getenv("CASE"))
	if err != nil {
		return fmt.Errorf("CASE: %w", err)
	}
	m := &matrix{screen: screen}
	for _, c := range allCases() {
		if wanted.MatchString(c.Group + "/" + c.Name) {
			m.cases = append(m.cases, c)
		}
	}
	for _, p := range allPairs {
		if name := os.Getenv("PAIR"); name == "" || name == p.Name {
			m.pairs = append(m.pairs, p)
		}
	}
	if len(m.cases) == 0 || len(m.pairs) == 0 {
		return errors.New("no case or no pair has that name")
	}
	err = m.run(ctx)
	table := m.markdown()
	fmt.Fprintln(os.Stdout, table)
	if err == nil && len(m.pairs) == len(allPairs) && len(m.cases) == len(allCases()) {
		err = os.WriteFile(reportPath, []byte(table), 0o644)
	}
	for _, line := range m.refusals() {
		fmt.Fprintln(os.Stdout, line)
	}
	line, encodeErr := json.Marshal(m.summary())
	fmt.Fprintln(os.Stdout, string(line))
	if n := m.summary().Wrong; n > 0 && err == nil {
		err = fmt.Errorf("%d cells are wrong", n)
	}
	return errors.Join(err, encodeErr)
}
