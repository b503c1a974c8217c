package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/extauthz/extauthz/internal/config/yamlfile"
	"github.com/extauthz/extauthz/pkg/teams"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// validateRoutes checks route patterns and the names of groups. It is the only place that does.
func (c *checker) validateRoutes(path string, routes []string, known *teams.Routes) {
	for i, route := range routes {
		if err := known.Check(route); err != nil {
			// The error starts with the route, which may have come from a variable.
			reason := strings.TrimPrefix(err.Error(), fmt.Sprintf("route %q: ", route))
			c.file.Refuse(yamlfile.Element(path, i), "is not a route: "+reason, "")
		}
	}
}

// routeGroups checks the operator's groups and returns the routes that know them.
func (c *checker) routeGroups(path string, own []*configv1.RouteGroup) (*teams.Routes, error) {
	builtin, err := teams.NewRoutes(nil)
	if err != nil {
		return nil, err
	}
	groups := map[string][]string{}
	for i, group := range own {
		at := yamlfile.Element(path, i)
		c.groupName(at+".name", group, groups, builtin)
		c.validateRoutes(at+".routes", group.GetRoutes(), builtin)
		addGroup(groups, group.GetName(), group.GetRoutes())
	}
	return teams.NewRoutes(groups)
}

// addGroup keeps the name of a group even if its routes are wrong: they were reported, and the uses of the group,
// which may come first in the file, are right.
func addGroup(groups map[string][]string, name string, routes []string) {
	for _, members := range [][]string{routes, nil} {
		if _, err := teams.NewRoutes(map[string][]string{name: members}); err == nil {
			groups[name] = members
			return
		}
	}
}

func (c *checker) groupName(path string, group *configv1.RouteGroup, groups map[string][]string, builtin *teams.Routes) {
	if group.Name == nil {
		return
	}
	if slices.Contains(builtin.Groups(), group.GetName()) {
		c.file.Refuse(path, "is a built-in group", "a name of your own")
	}
	if _, taken := groups[group.GetName()]; taken {
		c.file.Refuse(path, "is the name of another group", "each name once")
	}
}
