package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	soakPart     = "soak"
	soakShortest = 10 * time.Second // some samples each third
	soakTick     = time.Second
	// soakPurge is how often the servers' logs of the time before are removed, for the disk.
	soakPurge = 30 * time.Second
)

// sample is a line of the results: the mover's memory and the greatest lag since the sample
// before, at a time after the copy.
type sample struct {
	Bench string  `json:"bench"`
	Run   int     `json:"run"`
	At    float64 `json:"at_s"`
	RSSMB float64 `json:"rss_mb"`
	Lag   float64 `json:"lag_s"`
}

// benchSoak follows a source that is written at full speed for a long time. What must not
// grow is compared between the last third of that time and the first.
func benchSoak(ctx context.Context, l *lab, o options, r *report) error {
	m := measurement{Bench: soakPart, System: ghostferrySystem, Run: 1, Rows: o.rows}
	progress("soak: a copy, and then %s of writers at full speed", o.duration)
	var samples []sample
	err := l.measureLag(ctx, o, &m, func(ctx context.Context, mover *os.Process, w *lagWatch) (err error) {
		samples, err = l.soak(ctx, o.duration, mover, w)
		return err
	})
	for _, s := range samples {
		err = errors.Join(err, r.write(s))
	}
	if err != nil {
		return err
	}
	r.samples = samples
	m.RSSGrowth = growth(samples, func(s sample) float64 { return s.RSSMB })
	m.LagGrowth = growth(samples, func(s sample) float64 { return s.Lag })
	return r.add(m)
}

// soak takes samples until the time is over.
func (l *lab) soak(ctx context.Context, duration time.Duration, mover *os.Process, w *lagWatch) ([]sample, error) {
	var samples []sample
	begun, purged := time.Now(), time.Now()
	over, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	err := every(over, soakTick, func() error {
		rss, err := residentMB(mover.Pid)
		if err != nil {
			return err
		}
		at := time.Since(begun)
		samples = append(samples, sample{Bench: soakPart, Run: 1, At: round(at.Seconds()), RSSMB: round(rss), Lag: round(w.sinceLast())})
		if time.Since(purged) < soakPurge {
			return nil
		}
		purged = time.Now()
		s := samples[len(samples)-1]
		progress("soak: %s of %s: %.0f MB, lag %.2f s", at.Round(time.Second), duration, s.RSSMB, s.Lag)
		return l.purgeLogs(ctx)
	})
	return samples, err
}

// purgeLogs removes files of both servers' logs that were full some time ago.
func (l *lab) purgeLogs(ctx context.Context) error {
	for _, db := range []execer{l.sourceDB, l.targetDB} {
		if _, err := db.ExecContext(ctx, "PURGE BINARY LOGS BEFORE NOW() - INTERVAL 2 MINUTE"); err != nil {
			return fmt.Errorf("purging logs: %w", err)
		}
	}
	return nil
}

// growth is the median of the last third of the samples / that of the first third; 0 when
// there is none.
func growth(samples []sample, of func(sample) float64) float64 {
	third := len(samples) / 3
	if third == 0 {
		return 0
	}
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	first := median(values[:third])
	if first == 0 {
		return 0
	}
	return round(median(values[len(values)-third:]) / first)
}

// residentMB is the resident memory of a process now, in MiB.
func residentMB(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	var size, resident float64 // in pages (proc_pid_statm(5))
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0, fmt.Errorf("/proc/%d/statm: %w", pid, err)
	}
	return resident * float64(os.Getpagesize()) / (1 << 20), nil
}
