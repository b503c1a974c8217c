package envoyproc

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// The addresses in deploy/envoy. They are replaced wherever they stand as an `address`, so a configuration must hold each of
// them; the authorization service is at one of two.
const (
	listenerAddressInFile = "127.0.0.1:10000"
	adminAddressInFile    = "127.0.0.1:9901"
	upstreamAddressInFile = "127.0.0.1:8080"
	authzAddressInFile    = "127.0.0.1:9001"
	authzSocketInFile     = "unix:///run/extauthz/extauthz.sock"

	anyPort    = "127.0.0.1:0"
	unixScheme = "unix://"
)

// render returns the configuration with cfg's addresses and cfg.Edit applied.
func render(cfg Config) ([]byte, error) {
	tree := make(map[string]any)
	if err := yaml.Unmarshal(cfg.YAML, &tree); err != nil {
		return nil, fmt.Errorf("read the envoy configuration: %w", err)
	}
	listen := cfg.Listen
	if listen == "" {
		listen = anyPort
	}
	moved := addressMover{to: map[string]string{
		listenerAddressInFile: listen,
		adminAddressInFile:    anyPort,
		upstreamAddressInFile: cfg.Upstream,
		authzAddressInFile:    cfg.Authz,
		authzSocketInFile:     cfg.Authz,
	}, found: make(map[string]bool)}
	moved.walk(tree)
	if err := moved.check(); err != nil {
		return nil, err
	}
	if cfg.Edit != nil {
		cfg.Edit(tree)
	}
	return yaml.Marshal(tree)
}

// addressMover replaces addresses in a configuration tree and remembers which ones it met.
type addressMover struct {
	to    map[string]string
	found map[string]bool
	err   error
}

// walk descends to every map entry named "address" that holds an Envoy address.
func (m *addressMover) walk(node any) {
	switch node := node.(type) {
	case map[string]any:
		for key, value := range node {
			if from := addressText(value); key == "address" && from != "" {
				node[key] = m.move(from, value)
				continue
			}
			m.walk(value)
		}
	case []any:
		for _, value := range node {
			m.walk(value)
		}
	}
}

func (m *addressMover) move(from string, unchanged any) any {
	to, known := m.to[from]
	if !known {
		return unchanged
	}
	m.found[from] = true
	moved, err := addressTree(to)
	m.err = errors.Join(m.err, err)
	return moved
}

// check fails if an address was missing: the test would otherwise talk to whatever listens at the one in the file.
func (m *addressMover) check() error {
	if m.err != nil {
		return m.err
	}
	for _, address := range []string{listenerAddressInFile, adminAddressInFile, upstreamAddressInFile} {
		if !m.found[address] {
			return fmt.Errorf("the envoy configuration has no address %s", address)
		}
	}
	if !m.found[authzAddressInFile] && !m.found[authzSocketInFile] {
		return fmt.Errorf("the envoy configuration has no address %s or %s", authzAddressInFile, authzSocketInFile)
	}
	return nil
}

// addressText returns the address in the form of Config, or "" if value is no Envoy address.
func addressText(value any) string {
	address, _ := value.(map[string]any)
	if socket, ok := address["socket_address"].(map[string]any); ok {
		return fmt.Sprintf("%v:%v", socket["address"], socket["port_value"])
	}
	if pipe, ok := address["pipe"].(map[string]any); ok {
		return fmt.Sprintf("%s%v", unixScheme, pipe["path"])
	}
	return ""
}

// addressTree is the inverse of addressText.
func addressTree(text string) (map[string]any, error) {
	if path, ok := strings.CutPrefix(text, unixScheme); ok {
		return map[string]any{"pipe": map[string]any{"path": path}}, nil
	}
	host, portText, err := net.SplitHostPort(text)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port of %s: %w", text, err)
	}
	return map[string]any{"socket_address": map[string]any{"address": host, "port_value": port}}, nil
}
