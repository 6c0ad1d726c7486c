// Package browser tests the control server's page in a real Chromium, on real runs between
// real servers: make test-browser. Screenshots are left in out/.
package browser
