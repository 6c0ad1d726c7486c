package servers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// browserEnv names the environment variable that overrides the search for Chromium.
const browserEnv = "GHOSTFERRY_CHROMIUM"

// browserPackages are Chromium with a font. It runs on the machine's own C library: it
// starts itself again, which a program behind another loader cannot.
func browserPackages() packageSet {
	return packageSet{name: "chromium", suites: []string{"bookworm", "stable"}, main: "chromium", more: []string{"fonts-dejavu-core"},
		without: []string{"libc6", "libc-bin"}}
}

// BrowserCommand returns the path of a Chromium and what has to be added to its
// environment: the one that GHOSTFERRY_CHROMIUM names, else one on PATH, else Debian's,
// unpacked beside the servers (fetched the first time, with a line on stderr).
func BrowserCommand(ctx context.Context) (path string, env []string, err error) {
	if path := os.Getenv(browserEnv); path != "" {
		return path, nil, nil
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil, nil
		}
	}
	o, err := Options{Flavour: MySQL}.withDefaults()
	if err != nil {
		return "", nil, err
	}
	prefix, err := browserPackages().ensure(ctx, o)
	if err != nil {
		return "", nil, fmt.Errorf("servers: no Chromium on PATH, and none can be unpacked: %w: install one, or set %s to its path", err, browserEnv)
	}
	var libraries []string
	for _, pattern := range []string{"usr/lib/*-linux-gnu", "lib/*-linux-gnu", "usr/lib/*-linux-gnu/*"} {
		found, _ := filepath.Glob(filepath.Join(prefix, pattern))
		for _, dir := range found {
			if shared, _ := filepath.Glob(filepath.Join(dir, "*.so*")); len(shared) > 0 {
				libraries = append(libraries, dir)
			}
		}
	}
	fonts, err := fontSettings(prefix)
	if err != nil {
		return "", nil, err
	}
	env = []string{"LD_LIBRARY_PATH=" + strings.Join(libraries, ":"), "FONTCONFIG_FILE=" + fonts}
	return filepath.Join(prefix, "usr/lib/chromium/chromium"), env, nil
}

// fontSettings tells the font library where the unpacked fonts are.
func fontSettings(prefix string) (string, error) {
	file := filepath.Join(prefix, "fonts.conf")
	text := `<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig><dir>` + filepath.Join(prefix, "usr/share/fonts") +
		`</dir><cachedir>` + filepath.Join(prefix, "fontcache") + `</cachedir></fontconfig>` + "\n"
	if old, err := os.ReadFile(file); err == nil && string(old) == text {
		return file, nil
	}
	return file, os.WriteFile(file, []byte(text), 0o644)
}
