package envoytest

// HCM returns the settings of the HTTP connection manager in a tree handed to Options.Edit. It panics on a tree of another
// shape than deploy/envoy's, as the other functions here do.
func HCM(tree map[string]any) map[string]any {
	listener := first(child(tree, "static_resources")["listeners"])
	return child(first(first(listener["filter_chains"])["filters"]), "typed_config")
}

// ExtAuthz returns the settings of the ext_authz filter.
func ExtAuthz(tree map[string]any) map[string]any {
	return child(first(HCM(tree)["http_filters"]), "typed_config")
}

// Routes returns the routes in matching order.
func Routes(tree map[string]any) []any {
	return first(child(HCM(tree), "route_config")["virtual_hosts"])["routes"].([]any)
}

// Cluster returns the cluster with this name.
func Cluster(tree map[string]any, name string) map[string]any {
	for _, c := range child(tree, "static_resources")["clusters"].([]any) {
		if c := c.(map[string]any); c["name"] == name {
			return c
		}
	}
	panic("no cluster " + name)
}

func child(node map[string]any, name string) map[string]any { return node[name].(map[string]any) }

func first(list any) map[string]any { return list.([]any)[0].(map[string]any) }
