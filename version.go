package ghostferry

// VersionString identifies the build: release, UTC time and commit, set by the
// linker (-ldflags "-X …VersionString=…"). It is part of every state dump.
var VersionString = "?.?.?+??????????????+???????"

// WebUiBasedir is set by the linker in packages and wins over any configured WebBasedir.
var WebUiBasedir string
