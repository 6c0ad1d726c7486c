// Package webui holds the control server's page: plain files, embedded as they are. Nothing
// of it is generated, and nothing is fetched from elsewhere.
package webui

import "embed"

// Files are index.html and what it needs, under static/.
//
//go:embed static
var Files embed.FS
