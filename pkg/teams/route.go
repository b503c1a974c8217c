package teams

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Routes matches requests against route patterns and named groups of them. It is immutable.
//
// A pattern is `[METHOD ]/path`. A segment may hold one placeholder, `{name}`, which matches one or
// more characters of that segment; a trailing `/*` matches everything below. Matching is
// case-sensitive and by whole segments: `/public` never matches `/publicx`. A name without a
// slash is a group.
type Routes struct {
	groups map[string]*routeGroup
}

// routeGroup is the patterns of a group, where they are found by the path: some groups have a hundred, and every request
// is matched against several groups.
type routeGroup struct {
	members  []string
	literals map[string][]string       // methods by path; "" stands for every known one
	below    map[string][]routePattern // by the first segment of their path
	anywhere []routePattern            // with a placeholder in that segment
}

// routePattern is a pattern with the text of its path before the first placeholder, which most paths do not
// begin with.
type routePattern struct{ pattern, prefix string }

func newRouteGroup(members []string) *routeGroup {
	g := &routeGroup{members: members, literals: make(map[string][]string), below: make(map[string][]routePattern)}
	for _, pattern := range members {
		method, path, named := strings.Cut(pattern, " ")
		if !named {
			method, path = "", pattern
		}
		placeholder := strings.IndexAny(path, "{*")
		if placeholder < 0 {
			g.literals[path] = append(g.literals[path], method)
			continue
		}
		p := routePattern{pattern, path[:placeholder]}
		if first, _ := cutSegment(path); len(first) < placeholder {
			g.below[first] = append(g.below[first], p)
		} else {
			g.anywhere = append(g.anywhere, p)
		}
	}
	return g
}

func (g *routeGroup) match(method, path string) bool {
	for _, m := range g.literals[path] {
		if m == method && m != "" || m == "" && isKnownMethod(method) {
			return true
		}
	}
	if path == "" {
		return false
	}
	first, _ := cutSegment(path)
	return matchAny(g.below[first], method, path) || matchAny(g.anywhere, method, path)
}

func matchAny(patterns []routePattern, method, path string) bool {
	for _, p := range patterns {
		if strings.HasPrefix(path, p.prefix) && matchRoute(p.pattern, method, path) {
			return true
		}
	}
	return false
}

// knownMethods are those that a pattern without a method matches. Any other method is matched only
// by a pattern that names it, so that an upstream's private verbs are never granted by accident.
func knownMethods() []string {
	return []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
}

func isKnownMethod(method string) bool {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return true
	}
	return false
}

// NewRoutes returns a matcher that knows the built-in groups and the operator's own. A member of a
// group is a pattern or the name of a built-in group.
func NewRoutes(own map[string][]string) (*Routes, error) {
	groups := make(map[string]*routeGroup)
	for name, members := range builtinGroups() {
		groups[name] = newRouteGroup(members)
	}
	for name := range own {
		if _, taken := groups[name]; taken {
			return nil, fmt.Errorf("route group %q: the name is built in", name)
		}
		if err := checkGroupName(name); err != nil {
			return nil, err
		}
	}
	builtin := &Routes{groups: maps.Clone(groups)}
	for name, members := range own {
		var flat []string
		for _, member := range members {
			if err := builtin.Check(member); err != nil {
				return nil, fmt.Errorf("route group %q: %w", name, err)
			}
			if group, ok := builtin.groups[member]; ok {
				flat = append(flat, group.members...)
			} else {
				flat = append(flat, member)
			}
		}
		groups[name] = newRouteGroup(flat)
	}
	return &Routes{groups: groups}, nil
}

func checkGroupName(name string) error {
	if name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' && r != '-'
	}) {
		return fmt.Errorf("route group %q: a name is made of a-z, 0-9, _ and -", name)
	}
	return nil
}

// Groups returns the names of all groups, sorted.
func (r *Routes) Groups() []string {
	var names []string
	for name := range r.groups {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Members returns the patterns of a group; nil if there is no such group.
func (r *Routes) Members(group string) []string {
	if g, ok := r.groups[group]; ok {
		return slices.Clone(g.members)
	}
	return nil
}

// Check reports what is wrong with a pattern or a group's name. Match takes what is wrong literally, so that
// a misspelled pattern permits no more than it spells.
func (r *Routes) Check(pattern string) error {
	if !strings.Contains(pattern, "/") {
		if _, ok := r.groups[pattern]; !ok {
			return fmt.Errorf("route %q: neither a pattern ([METHOD ]/path) nor a group (%s)", pattern, strings.Join(r.Groups(), ", "))
		}
		return nil
	}
	return checkPattern(pattern)
}

func checkPattern(pattern string) error {
	bad := func(why string) error { return fmt.Errorf("route %q: %s", pattern, why) }
	method, path, found := strings.Cut(pattern, " ")
	if !found {
		method, path = "GET", pattern
	}
	if method == "" || strings.ContainsFunc(method, func(r rune) bool { return r < 'A' || r > 'Z' }) {
		return bad("the method before the path must be upper-case letters and one space")
	}
	if !strings.HasPrefix(path, "/") {
		return bad("the path must start with /")
	}
	if strings.ContainsFunc(path, func(r rune) bool { return r <= ' ' || r == 0x7f || strings.ContainsRune(`?#%\;`, r) }) {
		return bad(`the path must not contain a space, a control character or any of ?#%\;`)
	}
	segments := strings.Split(path[1:], "/")
	for i, segment := range segments {
		last := i == len(segments)-1
		switch {
		case segment == "*" && last:
		case strings.Contains(segment, "*"):
			return bad("* is allowed only as the last segment")
		case segment == "" && !last, segment == ".", segment == "..":
			return bad("the path must not contain //, /. or /..")
		case !validPlaceholder(segment):
			return bad("a segment may hold one {name}")
		}
	}
	return nil
}

func validPlaceholder(segment string) bool {
	opening, closing := strings.Count(segment, "{"), strings.Count(segment, "}")
	return opening == 0 && closing == 0 ||
		opening == 1 && closing == 1 && strings.Index(segment, "{")+1 < strings.Index(segment, "}")
}

// Match reports whether any pattern of the list matches. An empty list matches nothing.
func (r *Routes) Match(list []string, method, path string) bool {
	for _, pattern := range list {
		group, ok := r.groups[pattern]
		if ok && group.match(method, path) || !ok && matchRoute(pattern, method, path) {
			return true
		}
	}
	return false
}

// Covers is Match for a list that closes routes instead of opening them: there, a pattern without a method
// covers every method, unknown ones too.
func (r *Routes) Covers(list []string, method, path string) bool {
	if r.Match(list, method, path) {
		return true
	}
	if isKnownMethod(method) {
		return false
	}
	for _, known := range knownMethods() { // a pattern without a method matches each of them
		if !r.Match(list, known, path) {
			return false
		}
	}
	return true
}

// Allow reports whether the list permits the request. An empty list restricts nothing.
func (r *Routes) Allow(list []string, method, path string) bool {
	return len(list) == 0 || r.Match(list, method, path)
}

func matchRoute(pattern, method, path string) bool {
	want, rest, named := strings.Cut(pattern, " ")
	if !named {
		return isKnownMethod(method) && matchPath(pattern, path)
	}
	return want == method && matchPath(rest, path)
}

func matchPath(pattern, path string) bool {
	if pattern == path && strings.HasPrefix(path, "/") {
		return true // each segment matches itself
	}
	for pattern != "" {
		if path == "" || path[0] != '/' || pattern[0] != '/' {
			return false
		}
		if pattern == "/*" {
			return true
		}
		var want, have string
		want, pattern = cutSegment(pattern)
		have, path = cutSegment(path)
		if !matchSegment(want, have) {
			return false
		}
	}
	return path == ""
}

// cutSegment splits "/a/b" into "a" and "/b".
func cutSegment(path string) (segment, rest string) {
	if i := strings.IndexByte(path[1:], '/'); i >= 0 {
		return path[1 : 1+i], path[1+i:]
	}
	return path[1:], ""
}

func matchSegment(pattern, segment string) bool {
	opening, closing := strings.IndexByte(pattern, '{'), strings.IndexByte(pattern, '}')
	if opening < 0 || !validPlaceholder(pattern) {
		return pattern == segment
	}
	prefix, suffix := pattern[:opening], pattern[closing+1:]
	return len(segment) > len(prefix)+len(suffix) && strings.HasPrefix(segment, prefix) && strings.HasSuffix(segment, suffix)
}
