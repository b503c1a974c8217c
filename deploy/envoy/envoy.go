// Package envoy carries the Envoy configurations of this directory for programs that start an Envoy of their own: the demo
// and the integration tests. What they run is what ships.
package envoy

import _ "embed"

// TCP is envoy.yaml: extauthz is reached at 127.0.0.1:9001.
//
//go:embed envoy.yaml
var TCP []byte

// Sidecar is envoy-sidecar.yaml: extauthz is reached at unix:///run/extauthz/extauthz.sock.
//
//go:embed envoy-sidecar.yaml
var Sidecar []byte
