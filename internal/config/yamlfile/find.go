package yamlfile

import (
	"strconv"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"gopkg.in/yaml.v3"
)

// find returns the node at path, or the innermost one around it, and whether it is the former.
// It walks the tree each time: only faults and a few questions need it, and an index of a large
// resource file would be larger than the file.
func (f *File) find(path string) (*yaml.Node, bool) {
	node := f.root
	for node != nil && path != "" {
		var step string
		step, path = nextStep(path)
		child := childOf(node, step)
		if child == nil {
			return node, false
		}
		node = child
	}
	return node, node != nil
}

// nextStep cuts the first key or index from a path: "a", "[0]" and "b" from "a[0].b".
func nextStep(path string) (step, rest string) {
	path = strings.TrimPrefix(path, ".")
	if end := strings.IndexAny(path[1:], ".["); end >= 0 {
		return path[:end+1], path[end+1:]
	}
	return path, ""
}

func childOf(node *yaml.Node, step string) *yaml.Node {
	if strings.HasPrefix(step, "[") {
		return elementOf(node, strings.Trim(step, "[]"))
	}
	if node.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == step {
			return node.Content[i+1]
		}
	}
	return nil
}

func elementOf(node *yaml.Node, index string) *yaml.Node {
	i, err := strconv.Atoi(index)
	if err != nil || i < 0 || node.Kind != yaml.SequenceNode || i >= len(node.Content) {
		return nil
	}
	return node.Content[i]
}

// allowedAt says which values the schema allows at path.
func (f *File) allowedAt(path string) string {
	message, allowed := f.schema, ""
	for path != "" && message != nil {
		var step string
		step, path = nextStep(path)
		if strings.HasPrefix(step, "[") {
			continue
		}
		field := message.Fields().ByName(protoreflect.Name(step))
		if field == nil {
			return ""
		}
		message, allowed = field.Message(), Allowed(field)
		if strings.HasPrefix(path, "[") {
			allowed = allowedElement(field)
		}
	}
	return allowed
}

// member returns the path of a key of the message at path.
func member(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// Element returns the path of an entry of the list at path.
func Element(path string, index int) string { return path + "[" + strconv.Itoa(index) + "]" }
