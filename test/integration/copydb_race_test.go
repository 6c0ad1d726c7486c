//go:build race

package integration

// raceDetector says that the tests look for data races, so that programs that they
// build do too.
const raceDetector = true
