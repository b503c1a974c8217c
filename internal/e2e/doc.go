// Package e2e holds the tests of the whole product: the real binary, behind a real Envoy that runs the
// shipped configuration, over a real PostgreSQL and over SQLite; and beside
// the rate limit service that it is made for. It has no code of its own.
package e2e
