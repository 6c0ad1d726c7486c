package ghostferry

import (
	"runtime/debug"
	"strings"
)

const (
	modulePath     = "github.com/ghostferry-go/ghostferry"
	unknownVersion = "?.?.?+??????????????+???????"
)

// VersionString identifies the build: release, UTC time and commit, set by the
// linker (-ldflags "-X …VersionString=…"). It is part of every state dump.
var VersionString = unknownVersion

// BuildVersion is VersionString or, where the linker has set none, the version of this
// module that Go has written into the program: a release, or time and commit of a checkout.
func BuildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if VersionString != unknownVersion || !ok {
		return VersionString
	}
	for _, module := range append(info.Deps, &info.Main) {
		if module.Path == modulePath && module.Version != "" {
			return module.Version
		}
	}
	return VersionString
}

// tellsBuildsApart reports whether no other build has this version.
func tellsBuildsApart(version string) bool {
	return version != unknownVersion && version != "(devel)" && !strings.HasSuffix(version, "+dirty")
}

// WebUiBasedir is set by the linker in packages and wins over any configured WebBasedir.
var WebUiBasedir string
