// Package e2e holds the tests of the whole product: the real binary, behind a real Envoy that runs the
// shipped configuration, over a real PostgreSQL and over SQLite; and between the neighbours that it is made for:
// LiteLLM, OpenID providers, a rate limit service. The build tag keycloak adds the test with a Keycloak. It has no
// code of its own.
package e2e
