package config

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/extauthz/extauthz/internal/config/yamlfile"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// checker finds what the rules in the schema cannot say: forms of values, and combinations that contradict each other.
type checker struct {
	file   *yamlfile.File
	config *configv1.Config
}

// stated checks what only the file can tell, before the defaults hide what was left out, and what needs better words
// than the schema's rules have: of two faults at one place, the one that was noted first counts.
func (c *checker) stated() {
	c.notEmpty("policy.admin.routes", len(c.config.GetPolicy().GetAdmin().GetRoutes()))
	c.notEmpty("credentials.headers", len(c.config.GetCredentials().GetHeaders()))
	for _, l := range listeners(c.config) {
		c.notEmpty(l.path+".allowed_clients", len(l.tls.GetAllowedClients()))
	}
	for i, issuer := range c.config.GetIssuers() {
		path := yamlfile.Element("issuers", i)
		c.notEmpty(path+".algorithms", len(issuer.GetAlgorithms()))
		c.notEmpty(path+".types", len(issuer.GetTypes()))
		for j, algorithm := range issuer.GetAlgorithms() {
			c.algorithm(yamlfile.Element(path+".algorithms", j), algorithm)
		}
	}
	if c.file.Has("store.url") && c.file.Has("store.url_file") {
		c.file.Report("store.url_file", "is set together with store.url", "one of the two")
	}
}

// notEmpty refuses an empty list where the default is not empty: it would silently mean the default.
func (c *checker) notEmpty(path string, entries int) {
	if entries == 0 && c.file.Has(path) {
		c.file.Report(path, "has no entries", "at least one entry, or leave the key out for the default")
	}
}

// meaning checks the whole configuration, defaults included.
func (c *checker) meaning() {
	c.server()
	c.store()
	c.issuers()
	c.mapping()
	c.policies()
	c.profiles()
	c.headers()
}

const unixPrefix = "unix://"

func (c *checker) server() {
	address := c.config.GetServer().GetAddress()
	path, isUnix := strings.CutPrefix(address, unixPrefix)
	switch {
	case isUnix && !strings.HasPrefix(path, "/"):
		c.file.Refuse("server.address", "is not an absolute path", "")
	case !isUnix && !isHostPort(address):
		c.file.Refuse("server.address", "is not an address", "")
	}
	if !isUnix && c.file.Has("server.socket_mode") {
		c.file.Report("server.socket_mode", "is set, but server.address is not a Unix socket", "only with unix:///absolute/path")
	}
	if isUnix && c.config.GetServer().GetTls() != nil {
		c.file.Report("server.tls", "is set, but server.address is a Unix socket", "only with host:port; server.socket_mode says who may connect to a socket")
	}
	c.clients()
	c.telemetry(address)
}

func (c *checker) telemetry(server string) {
	address := c.config.GetTelemetry().GetAddress()
	switch {
	case !isHostPort(address):
		c.file.Refuse("telemetry.address", "is not an address", "")
	case address == server && !strings.HasSuffix(address, ":0"):
		c.file.Refuse(c.file.First("telemetry.address", "server.address"), "is the address of both server and telemetry", "two addresses")
	}
}

func isHostPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == port
}

func (c *checker) store() {
	store := c.config.GetStore()
	if store.Url != nil && !isStoreURL(store.GetUrl()) {
		path := c.file.First("store.url", "store.url_file")
		c.file.Report(path, "is not the URL of a store", allowedStore)
	}
	timeout, limit := store.GetTimeout().AsDuration(), c.config.GetServer().GetCheckTimeout().AsDuration()
	if timeout >= limit {
		c.file.Report(c.file.First("store.timeout", "server.check_timeout"),
			fmt.Sprintf("store.timeout (%s) must be shorter than server.check_timeout (%s)",
				yamlfile.DurationText(timeout), yamlfile.DurationText(limit)),
			"a store call that ends before the check does")
	}
}

// allowedStore is the schema's text for store.url, for a URL that came from a file.
const allowedStore = "sqlite:PATH, postgres://…, postgresql://…, none"

// isStoreURL reports whether some store takes the URL. The caller must not repeat it: it may hold a password.
func isStoreURL(text string) bool {
	if path, ok := strings.CutPrefix(text, "sqlite:"); ok {
		return path != ""
	}
	if text == "none" {
		return true
	}
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "postgres" || u.Scheme == "postgresql") && u.Opaque == ""
}
