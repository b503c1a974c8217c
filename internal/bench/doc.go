// Package bench measures what a check costs: extauthz beside a server that decides nothing, in one run.
//
// It holds tests only. The bursts of a round rotate through the servers, with the no-op server before and after
// each, and what is reported is the ratio to its two neighbours: a busy machine slows all alike. `make bench` runs it in full;
// `go test` runs one short round, which shows that it works and that each answer is the right one.
package bench
