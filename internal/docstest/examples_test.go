package docstest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"github.com/extauthz/extauthz/internal/config"
	"github.com/extauthz/extauthz/internal/envoyproc"
	"github.com/extauthz/extauthz/internal/extauthztest/envoytest"
	"github.com/extauthz/extauthz/internal/resource"
)

// Nothing is left out by a slip: a block is of a kind that some test runs, or says that it is not run.
func TestEveryBlockHasAKind(t *testing.T) {
	kinds := map[string][]string{
		`yaml config`: nil, `yaml resources`: nil, `json`: nil,
		`yaml config=.*|yaml resources=.*|sh file=.*|python file=.*|sql`: {quickstart},
		`console`:                         {quickstart, operations},
		`yaml litellm`:                    {policy},
		`yaml envoy-(filter|cluster|hcm)`: {readme}, `text`: {readme},
		`sh`: {readme, quickstart},
	}
	for _, page := range pages(t) {
		if page == "docs/configuration.md" {
			continue
		}
		for _, b := range blocks(t, page) {
			known := false
			for kind, where := range kinds {
				known = known || regexp.MustCompile(`^(`+kind+`)$`).MatchString(b.info) && (where == nil || slices.Contains(where, page))
			}
			if !known {
				t.Errorf("%s:%d: no test runs a block %q here", page, b.line, b.info)
			}
		}
	}
}

func TestConfigurationsAndResourcesLoad(t *testing.T) {
	environment := func(name string) (string, bool) { return "https://idp.example.com", name == "ISSUER" }
	for _, page := range pages(t) {
		for _, b := range blocks(t, page) {
			name := fmt.Sprintf("%s:%d", page, b.line)
			var err error
			switch kind, _, _ := strings.Cut(b.info, "="); kind {
			case "yaml config":
				_, err = config.Parse(name, []byte(b.text), environment)
			case "yaml resources":
				_, _, err = resource.Parse(name, []byte(b.text))
			}
			if err != nil {
				t.Error(err)
			}
		}
	}
}

func TestMakeTargetsExist(t *testing.T) {
	makefile := read(t, "Makefile")
	target := regexp.MustCompile(`^[a-z-]+$`)
	for _, page := range pages(t) {
		for _, b := range blocks(t, page) {
			for line := range strings.Lines(b.text) {
				words := strings.Fields(line)
				if b.info != "sh" || len(words) == 0 || words[0] != "make" {
					continue
				}
				for _, word := range words[1:] {
					if target.MatchString(word) && !strings.Contains(makefile, "\n"+word+":") {
						t.Errorf("%s:%d: there is no target %s", page, b.line, word)
					}
				}
			}
		}
	}
}

// The parts in the README are those of the file that the integration tests run.
func TestEnvoyPartsAreTheShippedOnes(t *testing.T) {
	shipped := tree(t, read(t, envoytest.TCP))
	if got, want := tree(t, only(t, readme, "yaml envoy-filter").text), envoytest.HCM(shipped)["http_filters"].([]any)[0]; !reflect.DeepEqual(got, want) {
		t.Errorf("the filter in %s is not the one in %s", readme, envoytest.TCP)
	}
	if got, want := tree(t, only(t, readme, "yaml envoy-cluster").text), envoytest.Cluster(shipped, "extauthz"); !reflect.DeepEqual(got, want) {
		t.Errorf("the cluster in %s is not the one in %s", readme, envoytest.TCP)
	}
	for setting, value := range tree(t, only(t, readme, "yaml envoy-hcm").text) {
		if !reflect.DeepEqual(value, envoytest.HCM(shipped)[setting]) {
			t.Errorf("%s in %s is not what %s has", setting, readme, envoytest.TCP)
		}
	}
}

// minimal is a configuration to add the parts to.
const minimal = `
static_resources:
  listeners:
  - address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: mine
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
          route_config:
            virtual_hosts:
            - name: mine
              domains: ["*"]
              routes: [{match: {prefix: /}, route: {cluster: mine}}]
  clusters:
  - name: mine
    load_assignment:
      cluster_name: mine
      endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 8080}}}}]}]
`

// Added to somebody's configuration, the parts make one that Envoy accepts.
func TestEnvoyAcceptsTheParts(t *testing.T) {
	binary, err := envoyproc.FindBinary(envoytest.ModuleRoot(t))
	if err != nil {
		t.Fatal(err)
	}
	mine := tree(t, minimal)
	hcm := envoytest.HCM(mine)
	hcm["http_filters"] = append([]any{tree(t, only(t, readme, "yaml envoy-filter").text)}, hcm["http_filters"].([]any)...)
	for setting, value := range tree(t, only(t, readme, "yaml envoy-hcm").text) {
		hcm[setting] = value
	}
	resources := mine["static_resources"].(map[string]any)
	resources["clusters"] = append(resources["clusters"].([]any), tree(t, only(t, readme, "yaml envoy-cluster").text))
	text, err := yaml.Marshal(mine)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "envoy.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), binary, "--mode", "validate", "-c", file, "-l", "error").CombinedOutput(); err != nil {
		t.Fatalf("envoy --mode validate: %v\n%s", err, out)
	}
}

func tree(t *testing.T, text string) map[string]any {
	t.Helper()
	node := make(map[string]any)
	if err := yaml.Unmarshal([]byte(text), &node); err != nil {
		t.Fatal(err)
	}
	return node
}
