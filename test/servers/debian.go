package servers

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// packageSet is a set of Debian packages that is unpacked into one tree.
type packageSet struct {
	name   string   // of the tree: .servers/<name>-<version of main>
	suites []string // tried in this order
	main   string   // the package that gives the tree its version
	more   []string // further packages

	without []string // packages that are not unpacked although apt adds them
}

// serverPackages is what a flavour's server needs; apt adds the libraries.
func serverPackages(f Flavour) packageSet {
	if f == MariaDB {
		return packageSet{name: "mariadb", suites: []string{"bookworm", "stable"}, main: "mariadb-server-core"}
	}
	return packageSet{name: "mysql", suites: []string{"sid"}, main: "mysql-server-core", more: []string{"mysql-client-core"}}
}

// toolPackages are the client programs, of the suite whose versions people compare with.
func toolPackages() packageSet {
	return packageSet{name: "tools", suites: []string{"bookworm", "stable"}, main: "mariadb-client",
		more: []string{"mydumper", "sysbench", "libmariadb3"}}
}

// ensure returns the unpacked tree of the set, fetching it once if there is none.
func (s packageSet) ensure(ctx context.Context, o Options) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	if prefix := s.cached(cache); prefix != "" {
		return prefix, nil
	}
	lock, err := lockFile(ctx, o, cache, s.name+".lock")
	if err != nil {
		return "", err
	}
	prefix := s.cached(cache) // another process may have been faster
	if prefix == "" {
		prefix, err = s.fetch(ctx, o, cache)
	}
	return prefix, errors.Join(err, lock.unlock())
}

// cached returns the newest complete tree of the set, or "". A tree gets its name
// by a rename at the very end, so a tree with that name is complete.
func (s packageSet) cached(cache string) string {
	found, _ := filepath.Glob(filepath.Join(cache, s.name+"-[0-9]*"))
	if len(found) == 0 {
		return ""
	}
	return slices.MaxFunc(found, compareVersions)
}

var versionParts = regexp.MustCompile(`[0-9]+|[^0-9]+`)

// compareVersions orders names by their parts, digits as numbers: 9.7 is before 9.10.
func compareVersions(a, b string) int {
	return slices.CompareFunc(versionParts.FindAllString(a, -1), versionParts.FindAllString(b, -1), func(a, b string) int {
		x, errA := strconv.ParseUint(a, 10, 64)
		y, errB := strconv.ParseUint(b, 10, 64)
		if errA != nil || errB != nil {
			return strings.Compare(a, b)
		}
		return cmp.Compare(x, y)
	})
}

// fetch downloads the set with its libraries and unpacks it.
func (s packageSet) fetch(ctx context.Context, o Options, cache string) (string, error) {
	for _, tool := range []string{"apt-get", "dpkg-deb"} {
		if _, err := exec.LookPath(tool); err != nil {
			return "", fmt.Errorf("fetch %s: this is not Debian: %w", s.main, err)
		}
	}
	work, err := os.MkdirTemp(cache, "fetch-"+s.name+"-")
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", s.main, err)
	}
	defer os.RemoveAll(work)
	root := aptRoot{dir: work}
	mirror, err := root.mirror(ctx)
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", s.main, err)
	}
	var errs []error
	for _, suite := range s.suites {
		o.logf("fetching %s with its libraries from Debian %s (once, into %s)", s.main, suite, cache)
		if err := root.download(ctx, mirror, suite, append([]string{s.main}, s.more...)); err != nil {
			errs = append(errs, fmt.Errorf("fetch %s from Debian %s: %w", s.main, suite, err))
			continue
		}
		return s.unpack(ctx, o, cache, root)
	}
	return "", errors.Join(errs...)
}

// unpack makes the tree of the downloaded packages.
func (s packageSet) unpack(ctx context.Context, o Options, cache string, root aptRoot) (string, error) {
	debs, err := filepath.Glob(filepath.Join(root.archives(), "*.deb"))
	if err != nil {
		return "", err
	}
	tree := filepath.Join(root.dir, "tree")
	if err := os.Mkdir(tree, 0o755); err != nil {
		return "", err
	}
	version := ""
	for _, deb := range debs {
		name, rest, _ := strings.Cut(filepath.Base(deb), "_")
		if name == s.main {
			version, _, _ = strings.Cut(rest, "_")
		}
		if isPerl(name) || slices.Contains(s.without, name) {
			continue // only the servers' helper scripts need perl
		}
		if _, err := output(exec.CommandContext(ctx, "dpkg-deb", "-x", deb, tree)); err != nil {
			return "", fmt.Errorf("unpack %s: %w", filepath.Base(deb), err)
		}
	}
	if version == "" {
		return "", fmt.Errorf("apt did not download %s", s.main)
	}
	if _, after, ok := strings.Cut(version, "%3a"); ok { // the epoch
		version = after
	}
	prefix := filepath.Join(cache, s.name+"-"+version)
	if err := os.Rename(tree, prefix); err != nil {
		return "", err
	}
	o.logf("unpacked %s %s", s.main, version)
	return prefix, nil
}

func isPerl(pkg string) bool {
	return strings.HasPrefix(pkg, "perl") || strings.HasPrefix(pkg, "libperl") || strings.HasSuffix(pkg, "-perl")
}

// aptRoot is a private apt: its own lists, cache, state and settings, so that
// neither root nor a change of the system is needed.
type aptRoot struct{ dir string }

func (a aptRoot) archives() string { return filepath.Join(a.dir, "archives") }

// releaseURI matches the address of a Debian release file as apt prints it.
var releaseURI = regexp.MustCompile(
	`'(\S+)/dists/(?:old)?(?:stable|testing|unstable|sid|bullseye|bookworm|trixie|forky|duke)/InRelease'`)

// mirror returns the address of the Debian mirror that this machine's apt uses.
func (a aptRoot) mirror(ctx context.Context) (string, error) {
	lists := filepath.Join(a.dir, "no-lists")
	if err := os.MkdirAll(filepath.Join(lists, "partial"), 0o755); err != nil {
		return "", err
	}
	// With empty lists this prints what an update would fetch, and fetches nothing.
	out, err := output(exec.CommandContext(ctx, "apt-get", "-o", "Dir::State::Lists="+lists, "update", "--print-uris"))
	if err != nil {
		return "", fmt.Errorf("read the apt configuration of this machine: %w", err)
	}
	match := releaseURI.FindSubmatch(out)
	if match == nil {
		return "", errors.New("the apt configuration of this machine names no Debian mirror")
	}
	return string(match[1]), nil
}

// download fetches the packages and everything they depend on, libc included.
func (a aptRoot) download(ctx context.Context, mirror, suite string, packages []string) error {
	if err := a.configure(ctx, mirror, suite); err != nil {
		return err
	}
	if _, err := output(a.command(ctx, "update")); err != nil {
		return err
	}
	_, err := output(a.command(ctx, append([]string{"install", "--yes", "--no-install-recommends", "--download-only"}, packages...)...))
	return err
}

// configure writes the private settings. Of the machine's own only those that say
// how to reach the network are kept: hooks and pins of the system are not for us.
func (a aptRoot) configure(ctx context.Context, mirror, suite string) error {
	for _, dir := range []string{"lists/partial", "archives/partial", "state", "cache", "log"} {
		if err := os.MkdirAll(filepath.Join(a.dir, dir), 0o755); err != nil {
			return err
		}
	}
	dump, err := output(exec.CommandContext(ctx, "apt-config", "dump"))
	if err != nil {
		return err
	}
	var conf strings.Builder
	for line := range strings.Lines(string(dump)) {
		if strings.HasPrefix(line, "Acquire::") && !strings.HasPrefix(line, "Acquire::IndexTargets") &&
			!strings.HasPrefix(line, "Acquire::Languages") {
			conf.WriteString(line)
		}
	}
	for _, setting := range [][2]string{
		{"Acquire::Languages", "none"},
		{"APT::Default-Release", suite},
		{"APT::Update::Error-Mode", "any"}, // an unreachable mirror is a warning otherwise
		{"APT::Sandbox::User", "root"},     // as root: the private directories are not _apt's
		{"Dir::Etc::main", "/dev/null"},
		{"Dir::Etc::parts", "/dev/null"},
		{"Dir::Etc::preferences", "/dev/null"},
		{"Dir::Etc::preferencesparts", "/dev/null"},
		{"Dir::Etc::sourceparts", "/dev/null"},
		{"Dir::Etc::sourcelist", filepath.Join(a.dir, "sources.list")},
		{"Dir::State", filepath.Join(a.dir, "state")},
		{"Dir::State::lists", filepath.Join(a.dir, "lists")},
		{"Dir::State::status", filepath.Join(a.dir, "status")},
		{"Dir::Cache", filepath.Join(a.dir, "cache")},
		{"Dir::Cache::archives", a.archives()},
		{"Dir::Log", filepath.Join(a.dir, "log")},
	} {
		fmt.Fprintf(&conf, "%s %q;\n", setting[0], setting[1])
	}
	signedBy := ""
	const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	if _, err := os.Stat(keyring); err == nil {
		signedBy = "[signed-by=" + keyring + "] "
	}
	return errors.Join(
		os.WriteFile(filepath.Join(a.dir, "apt.conf"), []byte(conf.String()), 0o644),
		os.WriteFile(filepath.Join(a.dir, "sources.list"), fmt.Appendf(nil, "deb %s%s %s main\n", signedBy, mirror, suite), 0o644),
		os.WriteFile(filepath.Join(a.dir, "status"), nil, 0o644),
	)
}

func (a aptRoot) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "apt-get", append([]string{"-q"}, args...)...)
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"), "DEBIAN_FRONTEND=noninteractive")
	return cmd
}

// output runs the command in the C locale; a failure carries the end of its stderr.
func output(cmd *exec.Cmd) ([]byte, error) {
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, lastLines(stderr.String(), 5))
	}
	return out, nil
}

// lastLines returns the last n lines of text on one line.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}
