// Package architecture holds the test that keeps our packages' imports going one way. It has no code of
// its own.
package architecture
