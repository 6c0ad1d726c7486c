package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const modulePath = "github.com/ghostferry-go/ghostferry"

// cacheDir returns the directory of unpacked programs, data-directory templates and
// running servers' data, and creates it: GHOSTFERRY_SERVERS_DIR, else .servers of the
// repository's main checkout, else a directory of the user's when that one cannot be
// written or the caller runs outside the repository.
func cacheDir() (string, error) {
	var candidates []string
	if dir := os.Getenv("GHOSTFERRY_SERVERS_DIR"); dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return "", fmt.Errorf("servers: GHOSTFERRY_SERVERS_DIR: %w", err)
		}
		candidates = []string{abs}
	} else {
		if root, ok := checkoutRoot(); ok {
			candidates = append(candidates, filepath.Join(root, ".servers"))
		}
		if dir, err := os.UserCacheDir(); err == nil {
			candidates = append(candidates, filepath.Join(dir, "ghostferry-servers"))
		}
		candidates = append(candidates, filepath.Join(os.TempDir(), fmt.Sprintf("ghostferry-servers-%d", os.Getuid())))
	}
	var errs []error
	for _, dir := range candidates {
		err := writable(dir)
		if err == nil {
			return dir, nil
		}
		errs = append(errs, err)
	}
	return "", fmt.Errorf("servers: no writable directory for the servers: %w: set GHOSTFERRY_SERVERS_DIR", errors.Join(errs...))
}

// writable creates dir if needed and proves that files can be made in it by this user.
func writable(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".write-test-")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// checkoutRoot finds this repository from the working directory upwards. In a linked
// git worktree it is the main checkout, so that all worktrees share one cache.
func checkoutRoot() (string, bool) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		mod, readErr := os.ReadFile(filepath.Join(dir, "go.mod"))
		if readErr == nil && strings.HasPrefix(string(mod), "module "+modulePath+"\n") {
			break
		}
		if dir == filepath.Dir(dir) {
			return "", false
		}
	}
	if err != nil {
		return "", false
	}
	// In a linked worktree .git is a file "gitdir: <main>/.git/worktrees/<name>",
	// and the file commondir in that directory leads to <main>/.git.
	pointer, err := os.ReadFile(filepath.Join(dir, ".git"))
	if err != nil {
		return dir, true
	}
	gitDir := strings.TrimSpace(strings.TrimPrefix(string(pointer), "gitdir:"))
	common, err := os.ReadFile(filepath.Join(gitDir, "commondir"))
	if err != nil {
		return dir, true
	}
	shared := strings.TrimSpace(string(common))
	if !filepath.IsAbs(shared) {
		shared = filepath.Join(gitDir, shared)
	}
	if filepath.Base(shared) != ".git" {
		return dir, true
	}
	return filepath.Dir(shared), true
}

// fileLock is an advisory lock between processes; the kernel drops it when its
// holder dies.
type fileLock struct{ f *os.File }

// lockFile waits for the lock of that name in dir, telling the log when it has to.
func lockFile(ctx context.Context, o Options, dir, name string) (*fileLock, error) {
	told := false
	for {
		l, err := tryLock(filepath.Join(dir, name))
		if err != nil || l != nil {
			return l, err
		}
		if !told {
			o.logf("waiting for another process that holds %s", filepath.Join(dir, name))
			told = true
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, fmt.Errorf("servers: waiting for the lock %s: %w", filepath.Join(dir, name), err)
		}
	}
}

// tryLock returns the lock, or nil when somebody else holds it.
func tryLock(path string) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("servers: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return &fileLock{f: f}, nil
	}
	closeErr := f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
		return nil, closeErr
	}
	return nil, fmt.Errorf("servers: lock %s: %w", path, err)
}

func (l *fileLock) unlock() error { return l.f.Close() }

// pause waits for d or for the end of ctx, whose cause it returns.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
