package ghostferry

// VersionString identifies the build: release, UTC time and commit, set by the
// linker (-ldflags "-X …VersionString=…"). It is part of every state dump.
var VersionString = "?.?.?+??????????????+???????"

// WebUiBasedir, set by the linker in packages, wins over any configured WebBasedir.
var WebUiBasedir string
