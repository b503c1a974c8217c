package yamlfile

import (
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// expand replaces the variables in a value. It works on the parsed value, so that a variable cannot
// bring in YAML of its own, and hides the value from then on.
func (d *decoder) expand(node *yaml.Node, path string) *Error {
	if d.lookup == nil || !strings.Contains(node.Value, "${") {
		return nil
	}
	text, reason := expand(node.Value, d.lookup)
	if reason != "" {
		return d.file.fault(node, path, reason, "${NAME} of a variable that is set, or $${ for the characters ${")
	}
	node.Value = text
	d.file.hidden[node] = true
	return nil
}

// expand returns text with its variables replaced, or what is wrong with it. Values are not expanded again.
func expand(text string, lookup Lookup) (expanded, reason string) {
	name := regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)
	var out strings.Builder
	for text != "" {
		match := name.FindStringSubmatch(text)
		switch {
		case strings.HasPrefix(text, "$${"):
			out.WriteString("${")
			text = text[len("$${"):]
		case match != nil:
			value, ok := lookup(match[1])
			if !ok {
				return "", "the environment variable " + match[1] + " is not set"
			}
			out.WriteString(value)
			text = text[len(match[0]):]
		case strings.HasPrefix(text, "${"):
			return "", "has a ${ that no variable's name and } follow"
		default:
			out.WriteByte(text[0])
			text = text[1:]
		}
	}
	return out.String(), ""
}
