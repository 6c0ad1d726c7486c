package ghostferry

import (
	"context"
	"sync"
	"time"
)

// AllowCutover lets the cutover begin once the rows are copied, as AutomaticCutover does
// from the start. It may be called at any time, from any goroutine.
func (f *Ferry) AllowCutover() { f.permission.allowFromNow() }

// DenyCutover takes AllowCutover and AutomaticCutover back. It reports whether that came in
// time: then Cutover and StartCutover wait before they stop the writers, also between two
// attempts, until AllowCutover is called. Once the writers are being stopped it changes
// nothing. A host that stops its writers by itself calls StartCutover before, with or without a
// CutoverLock: nothing else tells it to wait. It may be called at any time, from any goroutine.
func (f *Ferry) DenyCutover() bool { return f.permission.holdBack() }

// CutoverAllowed tells whether the cutover may begin once the rows are copied.
func (f *Ferry) CutoverAllowed() bool { return f.permission.allowed(f.AutomaticCutover) }

// cutoverPermission is what the host or the operator has said last about the cutover;
// before that AutomaticCutover counts. Its zero value is ready.
type cutoverPermission struct {
	mu      sync.Mutex
	said    bool
	allow   bool
	taken   bool          // an attempt is at work: too late to hold it back
	changed chan struct{} // closed and replaced by the next word; nil until somebody waits
}

func (p *cutoverPermission) allowFromNow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.say(true)
}

// holdBack reports whether no attempt is at work; otherwise it does nothing.
func (p *cutoverPermission) holdBack() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.taken {
		p.say(false)
	}
	return !p.taken
}

func (p *cutoverPermission) say(allow bool) {
	p.said, p.allow = true, allow
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
}

func (p *cutoverPermission) allowed(automatic bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said && p.allow || !p.said && automatic
}

// take begins an attempt, unless the cutover is held back. It stays taken until giveBack.
func (p *cutoverPermission) take() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken = !p.said || p.allow
	return p.taken
}

// begun says that an attempt is at work that has not asked.
func (p *cutoverPermission) begun() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken = true
}

// giveBack ends an attempt that was given up.
func (p *cutoverPermission) giveBack() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken = false
}

// wait returns a channel that the next word closes.
func (p *cutoverPermission) wait() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed == nil {
		p.changed = make(chan struct{})
	}
	return p.changed
}

// permissionPoll is how soon a host that sets AutomaticCutover while the run waits, as it
// could upstream, is noticed.
const permissionPoll = time.Second

// waitForCutoverAllowed waits until the cutover is allowed.
func (f *Ferry) waitForCutoverAllowed(ctx context.Context) error {
	if f.CutoverAllowed() {
		return nil
	}
	defer waitingFor(ctx, waitPermission)()
	ticker := time.NewTicker(permissionPoll)
	defer ticker.Stop()
	for {
		changed := f.permission.wait()
		if f.CutoverAllowed() {
			return nil
		}
		select {
		case <-changed:
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// takePermission begins an attempt at the cutover that is ready. While it is held back it
// waits, and makes it ready again.
func (f *Ferry) takePermission(ctx context.Context, ready func(ctx context.Context) error) error {
	for {
		if err := ready(ctx); err != nil {
			return err
		}
		if f.permission.take() {
			return nil
		}
		if err := f.whileHeldBack(ctx); err != nil {
			return err
		}
	}
}

// whileHeldBack waits, interruptibly, until the cutover is allowed again.
func (f *Ferry) whileHeldBack(ctx context.Context) error {
	f.logger.Info("the cutover is held back")
	f.cut.heldBack.Store(true)
	defer f.cut.heldBack.Store(false)
	if err := f.waitForCutoverAllowed(ctx); err != nil {
		return causeOf(ctx, err)
	}
	return nil
}
