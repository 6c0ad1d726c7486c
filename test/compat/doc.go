// Package compat keeps what applications written for Shopify's Ghostferry 1.3.1 rely on:
// testdata/contract.txt lists its exported vocabulary, and the tests compare that list with
// what the packages of this module export, and with the table in docs/from-ghostferry.md.
package compat
