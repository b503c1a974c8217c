// Package differential holds a test alone: it judges thousands of mutated tokens with extauthz's verifier and with two
// strict libraries of other ecosystems, joserfc (Python) and jose (Node). A token that both refuse and the verifier
// accepts is a bug; where it is the verifier alone that refuses, the test names why.
package differential
