package servers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// program is a server program that was found: how to run it and where its files are.
type program struct {
	flavour Flavour
	argv    []string // the loader and the binary, or the binary alone
	prefix  string   // unpacked tree; empty for a program of the system
	origin  string   // for messages: where it comes from
	version string   // "9.7.4-2"
}

// binaryEnv names the environment variable that overrides the search.
func (f Flavour) binaryEnv() string {
	if f == MariaDB {
		return "GHOSTFERRY_MARIADBD"
	}
	return "GHOSTFERRY_MYSQLD"
}

// binary is the file name of the flavour's server.
func (f Flavour) binary() string {
	if f == MariaDB {
		return "mariadbd"
	}
	return "mysqld"
}

// findProgram looks for the flavour's server in the order of the package comment.
func findProgram(ctx context.Context, o Options) (*program, error) {
	if path := os.Getenv(o.Flavour.binaryEnv()); path != "" {
		if !filepath.IsAbs(path) {
			return nil, fmt.Errorf("servers: %s=%s must be an absolute path", o.Flavour.binaryEnv(), path)
		}
		return newProgram(ctx, o.Flavour, []string{path}, "", "named by "+o.Flavour.binaryEnv())
	}
	prefix, err := serverPackages(o.Flavour).ensure(ctx, o)
	if err == nil {
		return prefixProgram(ctx, o.Flavour, prefix)
	}
	path, pathErr := exec.LookPath(o.Flavour.binary())
	if pathErr != nil {
		return nil, fmt.Errorf("servers: no %s server: it can be had neither from Debian's packages (%w) nor from PATH: "+
			"install it, set %s to the absolute path of its binary, or use compose.yaml (see CONTRIBUTING.md)",
			o.Flavour, err, o.Flavour.binaryEnv())
	}
	o.logf("%s cannot be unpacked (%v): using %s of PATH", o.Flavour, err, path)
	return newProgram(ctx, o.Flavour, []string{path}, "", "found on PATH")
}

// prefixProgram is the server inside an unpacked tree.
func prefixProgram(ctx context.Context, f Flavour, prefix string) (*program, error) {
	argv, err := prefixCommand(prefix, filepath.Join("usr/sbin", f.binary()))
	if err != nil {
		return nil, err
	}
	return newProgram(ctx, f, argv, prefix, "unpacked in "+prefix)
}

// newProgram asks the program for its version and refuses the other flavour.
func newProgram(ctx context.Context, f Flavour, argv []string, prefix, origin string) (*program, error) {
	p := &program{flavour: f, argv: argv, prefix: prefix, origin: origin}
	out, err := output(p.command(ctx, []string{"--no-defaults", "--version"}))
	if err != nil {
		return nil, fmt.Errorf("servers: %s --version (%s): %w", argv[len(argv)-1], origin, err)
	}
	text := strings.TrimSpace(string(out))
	_, rest, ok := strings.Cut(text, "Ver ")
	fields := strings.Fields(rest)
	if !ok || len(fields) == 0 {
		return nil, fmt.Errorf("servers: %s (%s) does not tell its version, it says %q", argv[len(argv)-1], origin, text)
	}
	p.version = fields[0]
	return p, checkVersion(f, text, p.version)
}

// command is the program with these arguments; it is killed when ctx ends.
func (p *program) command(ctx context.Context, args []string) *exec.Cmd {
	return exec.CommandContext(ctx, p.argv[0], slices.Concat(p.argv[1:], args)...)
}

// checkVersion refuses the other flavour and versions older than those supported.
// text is anything that names MariaDB if it is MariaDB, version begins with the number.
func checkVersion(f Flavour, text, version string) error {
	isMariaDB := strings.Contains(text, "MariaDB")
	if isMariaDB != (f == MariaDB) {
		return fmt.Errorf("servers: wanted %s but the server says %q: name the right binary with %s", f, text, f.binaryEnv())
	}
	var major, minor int
	if _, err := fmt.Sscanf(version, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("servers: version %q of %s: %w", version, f, err)
	}
	atLeast := func(a, b int) bool { return major > a || major == a && minor >= b }
	if f == MySQL && !atLeast(8, 0) || f == MariaDB && !atLeast(10, 11) {
		return fmt.Errorf("servers: %s %s is too old: MySQL 8.0 and MariaDB 10.11 are the oldest supported", f, version)
	}
	return nil
}

// dirFlags are the flags that tell an unpacked server where its own files are.
func (p *program) dirFlags() []string {
	if p.prefix == "" {
		return nil
	}
	share := filepath.Join(p.prefix, "usr/share/mysql")
	return []string{
		"--lc-messages-dir=" + share,
		"--character-sets-dir=" + filepath.Join(share, "charsets"),
		"--plugin-dir=" + filepath.Join(p.prefix, "usr/lib/mysql/plugin"),
	}
}

// prefixCommand returns the command that runs a binary of an unpacked tree with the
// tree's own loader and libraries, so that it needs nothing of the system.
func prefixCommand(prefix, binary string) ([]string, error) {
	var loader string
	for _, pattern := range []string{"usr/lib/*-linux-gnu*/ld-linux*.so.*", "lib/*-linux-gnu*/ld-linux*.so.*"} {
		if found, _ := filepath.Glob(filepath.Join(prefix, pattern)); len(found) > 0 {
			loader = found[0]
		}
	}
	if loader == "" {
		return nil, fmt.Errorf("servers: no dynamic loader in %s: remove the directory to unpack it again", prefix)
	}
	var libs []string
	for _, pattern := range []string{"usr/lib/*-linux-gnu*", "lib/*-linux-gnu*", "usr/lib/mysql/private", "usr/lib/mysql/plugin"} {
		found, _ := filepath.Glob(filepath.Join(prefix, pattern))
		libs = append(libs, found...)
	}
	path := filepath.Join(prefix, binary)
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("servers: %w: remove %s to unpack it again", err, prefix)
	}
	return []string{loader, "--library-path", strings.Join(libs, ":"), path}, nil
}
