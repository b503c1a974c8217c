// Package adversary holds the adversarial suite: hostile tokens, requests, rows, configurations and issuers, each with the
// answer it must get and the reason why it is there. It has no code of its own.
//
// A case is one line of a table in a file ..._cases_test.go:
//
//	{"alg none, no signature", "CVE-2015-9235", deny(401, "token_malformed"), moves{header("alg", "none"), signature("")}},
//
// its name, its basis (an RFC's section, a CVE or GHSA, or "measured": seen with the stock libraries or a real Envoy), the
// verdict, and the moves that lead from a good request with a good token of a configured issuer to the hostile one. The
// good one is allowed, so a case can fail only by its moves. A case that is allowed is a control: it shows that a
// neighbouring denial is not for a wrong reason. Tokens are minted and keys made at run time; no fixture holds one.
//
// The tests run the real binary: over gRPC in both header encodings on both stores, and behind a real Envoy with the
// shipped configuration and with a careless one.
package adversary
