package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// Phases of a move, as kills are counted.
const (
	inCopy    = "copy"
	inApply   = "apply"
	inCutover = "cutover"
)

// result is the last line on standard output.
type result struct {
	Result               string         `json:"result"` // "equal", "different" or "unsound"
	Server               string         `json:"server"`
	Kills                int            `json:"kills"`
	KillsByPhase         map[string]int `json:"kills_by_phase"`
	RowsCompared         int64          `json:"rows_compared"`
	RowsRecopied         int            `json:"rows_recopied"`
	CheckpointViolations int            `json:"checkpoint_violations"`
}

// run is one stress.
type run struct {
	*world
	rng     *rand.Rand
	kills   int // how many there will be
	rows    int // about how many are to be copied
	done    map[string]int
	victims map[string]int
	mover   *mover // nil when none runs
	// excused: a server was killed under the present mover, which therefore may fail.
	excused bool
	victim  string // "" for any
	lossy   bool   // the target loses what it acknowledged: more is copied again
}

func stress(ctx context.Context, o options, screen *console) (r *result, err error) {
	screen.printf("SEED=%d SERVER=%s KILLS=%d", o.seed, o.flavour, o.kills)
	rows := max(6000, 150*o.kills)
	w, err := newWorld(ctx, screen, o.flavour, rows, o.seed, 80)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	s := &run{
		world: w, rng: rand.New(rand.NewPCG(o.seed, 0)), kills: o.kills, rows: rows + 3*slots/2,
		done: map[string]int{}, victims: map[string]int{},
	}
	defer func() {
		if s.mover != nil {
			s.mover.kill()
		}
	}()
	for _, phase := range s.plan() {
		if err := s.killOnce(ctx, phase); err != nil {
			return nil, err
		}
	}
	return s.arrive(ctx)
}

// plan says in which phase each kill is to be: half in the copy, some in the cutover.
func (s *run) plan() []string {
	cutover := min(max(10, s.kills/8), max(1, s.kills/3))
	copying := (s.kills - cutover + 1) / 2
	phases := make([]string, s.kills)
	for i := range phases {
		switch {
		case i < copying:
			phases[i] = inCopy
		case i < s.kills-cutover:
			phases[i] = inApply
		default:
			phases[i] = inCutover
		}
	}
	return phases
}

// killOnce brings a mover to an instant of a phase, kills somebody, and judges what is left.
func (s *run) killOnce(ctx context.Context, phase string) error {
	for {
		there, err := s.reach(ctx, phase)
		if err != nil {
			return err
		}
		if there {
			break
		}
	}
	if phase == inCopy && s.mover.hasCopied() {
		phase = inApply // it was too fast
	}
	if err := s.remember(s.mover); err != nil {
		return err
	}
	victim := s.chooseVictim()
	s.done[phase]++
	s.victims[victim]++
	if err := s.kill(ctx, victim); err != nil {
		return err
	}
	if phase == inCutover && s.mover != nil {
		// It was told to cut over and either arrives in spite of all, or gives up.
		if err := s.finished(s.mover.wait(ctx)); err != nil {
			return err
		}
	}
	before := s.checker.checked
	if err := s.check(ctx); err != nil {
		return err
	}
	s.printf("kill %d of %d: the %s in %s; %d rows judged, %d changes known", s.total(), s.kills, victim, phase, s.checker.checked-before, s.checker.history.count)
	return nil
}

func (s *run) total() (n int) {
	for _, kills := range s.done {
		n += kills
	}
	return n
}

func (s *run) chooseVictim() string {
	if s.victim != "" {
		return s.victim
	}
	switch n := s.rng.IntN(20); {
	case n < 3:
		return "source"
	case n < 6:
		return "target"
	}
	return "mover"
}

// reach brings a mover to an instant of the phase. It returns false when the mover ended
// before, as it may after a server's death.
func (s *run) reach(ctx context.Context, phase string) (bool, error) {
	if s.mover == nil {
		s.apps.resume()
		m, err := s.start()
		if err != nil {
			return false, err
		}
		s.mover, s.excused = m, false
	}
	m := s.mover
	var there bool
	var err error
	later := time.Duration(s.rng.IntN(30)) * time.Millisecond
	switch phase {
	case inCopy:
		there, err = m.until(ctx, s.afterReads())
	case inApply:
		later = time.Duration(s.rng.IntN(1200)) * time.Millisecond
		there, err = m.until(ctx, func() bool { return m.state.copied })
	case inCutover:
		later = time.Duration(s.rng.IntN(150)) * time.Millisecond
		if there, err = m.until(ctx, func() bool { return m.state.copied }); there {
			drain(s.hooks.locked)
			m.cutover()
			there, err = s.untilLocked(ctx)
		}
	}
	if err != nil {
		return false, err
	}
	if there {
		select {
		case <-time.After(later):
		case <-m.ended:
			there = phase == inCutover && m.cmd.ProcessState.Success() // arrived just now
		}
	}
	if !m.alive() {
		return false, s.finished(m.failure())
	}
	return there, nil
}

// afterReads holds when the mover has been about to write so many more batches that the
// copy lasts for all the kills that are meant for it, or when everything is copied.
func (s *run) afterReads() func() bool {
	distinct, _ := s.rowsRead()
	left := max(1, (s.kills*7/16)-s.done[inCopy])
	batches := max(1, 2*(s.rows-distinct)/chunkRows/(left+2))
	s.mover.state.Lock()
	until := s.mover.state.reads + s.rng.IntN(batches)
	s.mover.state.Unlock()
	return func() bool { return s.mover.state.copied || s.mover.state.reads >= until }
}

func (s *run) untilLocked(ctx context.Context) (bool, error) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-s.hooks.locked:
		return true, nil
	case <-s.mover.ended:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	case <-timer.C:
		return false, s.mover.stuck()
	}
}

// finished forgets the mover, which has ended: well, or because a server was killed.
func (s *run) finished(err error) error {
	if rememberErr := s.remember(s.mover); rememberErr != nil {
		return rememberErr
	}
	s.mover = nil
	s.apps.resume()
	var failed *moverError
	if errors.As(err, &failed) && failed.resumable && failed.status != differentStatus && s.excused {
		s.printf("the mover gave up after a server's death: %.300s", failed.text)
		return nil
	}
	return err
}

// differentStatus is copydb's exit status when source and target differ.
const differentStatus = 4

// kill kills the victim, and brings a server back.
func (s *run) kill(ctx context.Context, victim string) error {
	if victim == "mover" {
		s.mover.kill()
		s.mover = nil
		return nil
	}
	s.excused = true
	server := s.target
	if victim == "source" {
		server = s.source
	}
	if err := server.Kill(); err != nil {
		return err
	}
	if victim == "source" {
		s.checker.sourceDied = true
		s.apps.lostServer()
	}
	select {
	case <-time.After(time.Duration(s.rng.IntN(600)) * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := server.Restart(ctx); err != nil {
		return err
	}
	if victim == "source" {
		return s.apps.comeBack(ctx)
	}
	return nil
}

// arrive lets the move end, and compares.
func (s *run) arrive(ctx context.Context) (*result, error) {
	for attempt := 1; ; attempt++ {
		there, err := s.reach(ctx, inCutover)
		if err != nil {
			return nil, err
		}
		if !there {
			continue
		}
		m := s.mover
		s.mover = nil
		if err := m.wait(ctx); err != nil {
			return nil, err
		}
		break
	}
	if err := s.apps.pause(ctx); err != nil { // the lock did already
		return nil, err
	}
	report, err := s.compare(ctx)
	if err != nil {
		return nil, err
	}
	_, again := s.rowsRead()
	r := &result{
		Result: "equal", Server: fmt.Sprintf("%s %s", s.flavour, s.source.Version), Kills: s.total(), KillsByPhase: s.done,
		RowsCompared: report.Rows(), RowsRecopied: again, CheckpointViolations: len(s.checker.violations),
	}
	s.printf("killed: %v; %d rows judged", s.victims, s.checker.checked)
	switch {
	case !report.Equal():
		r.Result = "different"
		return r, fmt.Errorf("source and target differ in %d places", report.DifferenceCount)
	case len(s.checker.violations) > 0:
		r.Result = "unsound"
		return r, fmt.Errorf("%d rows did not fit the checkpoint after a kill", len(s.checker.violations))
	}
	return r, s.enough(r)
}

// enough checks that the kills were where they should be, and made little work again.
func (s *run) enough(r *result) error {
	if limit := r.Kills * workers * chunkRows; r.RowsRecopied > limit && !s.lossy {
		return fmt.Errorf("%d rows were copied again: no more than %d were under way at the kills", r.RowsRecopied, limit)
	}
	if r.Kills >= 30 && (10*s.done[inCopy] < 3*r.Kills || 10*s.done[inApply] < 3*r.Kills || s.done[inCutover] < 10) {
		return fmt.Errorf("the kills are not spread well: %v", s.done)
	}
	return nil
}
