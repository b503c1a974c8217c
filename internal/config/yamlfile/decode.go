package yamlfile

import (
	"bytes"
	"errors"
	"io"
	"regexp"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"gopkg.in/yaml.v3"
)

// Lookup returns the value of an environment variable, and whether it is set.
type Lookup func(name string) (string, bool)

// Decode reads the YAML document in data into message. With a lookup, ${NAME} in a value is replaced by
// the variable's value; with none, it is text like any other. The name is for the errors, which
// are of type [*Error]; an empty document is an empty message.
func Decode(name string, data []byte, message proto.Message, lookup Lookup) (*File, error) {
	f := &File{name: name, schema: message.ProtoReflect().Descriptor(), hidden: map[*yaml.Node]bool{}}
	root, fault := f.parse(data)
	if fault != nil {
		return nil, fault
	}
	if root == nil {
		return f, nil
	}
	f.root = root
	d := decoder{file: f, lookup: lookup}
	if fault := d.message(root, message.ProtoReflect(), ""); fault != nil {
		return nil, fault
	}
	return f, nil
}

// parse returns the root node of the only document, or nil if there is none.
func (f *File) parse(data []byte) (*yaml.Node, *Error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, next yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, f.syntax(err, data)
	}
	root := document.Content[0]
	if isEmpty(root) {
		root = nil
	}
	switch err := decoder.Decode(&next); {
	case errors.Is(err, io.EOF):
		return root, nil
	case err != nil:
		return nil, f.syntax(err, data)
	}
	return nil, f.fault(&next, "", "a second YAML document", "one document")
}

// isEmpty reports whether the document is only comments, or a line of dashes.
func isEmpty(root *yaml.Node) bool {
	return root.Kind == yaml.ScalarNode && root.Tag == nullTag && root.Value == ""
}

// decoder walks the tree in the order of the file, so that the first fault it meets is the first there is.
type decoder struct {
	file   *File
	lookup Lookup
}

func (d *decoder) message(node *yaml.Node, message protoreflect.Message, path string) *Error {
	fields := message.Descriptor().Fields()
	if node.Kind != yaml.MappingNode {
		return d.file.fault(node, path, kindOf(node)+" where keys are expected", keysOf(fields))
	}
	seen := make(map[string]bool, len(node.Content)/2)
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		field := fields.ByName(protoreflect.Name(key.Value))
		if key.Kind != yaml.ScalarNode || field == nil {
			return d.unknown(key, path, fields)
		}
		inner := member(path, key.Value)
		if seen[key.Value] {
			return d.file.fault(key, inner, "is stated twice", "each key once")
		}
		seen[key.Value] = true
		if fault := d.field(value, message, field, inner); fault != nil {
			return fault
		}
	}
	return nil
}

// unknown names the key only if it looks like one: what a typing slip turned into a key may be a secret.
func (d *decoder) unknown(key *yaml.Node, path string, fields protoreflect.FieldDescriptors) *Error {
	if regexp.MustCompile(`^[A-Za-z0-9_]{1,40}$`).MatchString(key.Value) {
		path = member(path, key.Value)
	}
	return d.file.fault(key, path, "unknown key", keysOf(fields))
}

func (d *decoder) field(node *yaml.Node, message protoreflect.Message, field protoreflect.FieldDescriptor, path string) *Error {
	switch {
	case isNull(node):
		return d.file.fault(node, path, "has no value", Allowed(field)+"; or leave the key out")
	case field.IsList():
		return d.list(node, message.Mutable(field).List(), field, path)
	case isSection(field):
		return d.message(node, message.Mutable(field).Message(), path)
	}
	value, fault := d.scalar(node, field, path)
	if fault == nil {
		message.Set(field, value)
	}
	return fault
}

func (d *decoder) list(node *yaml.Node, list protoreflect.List, field protoreflect.FieldDescriptor, path string) *Error {
	if node.Kind != yaml.SequenceNode {
		return d.file.fault(node, path, kindOf(node)+" where a list is expected", Allowed(field))
	}
	for i, element := range node.Content {
		if fault := d.element(element, list, field, Element(path, i)); fault != nil {
			return fault
		}
	}
	return nil
}

func (d *decoder) element(node *yaml.Node, list protoreflect.List, field protoreflect.FieldDescriptor, path string) *Error {
	if isNull(node) {
		return d.file.fault(node, path, "has no value", allowedElement(field))
	}
	if isSection(field) {
		return d.message(node, list.AppendMutable().Message(), path)
	}
	value, fault := d.scalar(node, field, path)
	if fault == nil {
		list.Append(value)
	}
	return fault
}

func (f *File) fault(node *yaml.Node, path, reason, allowed string) *Error {
	return &Error{File: f.name, Line: max(node.Line, 1), Column: max(node.Column, 1), Path: path, Reason: reason, Allowed: allowed}
}

// isSection reports whether the field's value is a message of our own, and so a mapping in YAML.
func isSection(field protoreflect.FieldDescriptor) bool {
	return field.Message() != nil && field.Message().FullName().Parent() != "google.protobuf"
}

// isSecret reports whether the schema says that the value must not be seen.
func isSecret(field protoreflect.FieldDescriptor) bool {
	options, ok := field.Options().(*descriptorpb.FieldOptions)
	return ok && options.GetDebugRedact()
}

const nullTag = "!!null"

func isNull(node *yaml.Node) bool { return node.Kind == yaml.ScalarNode && node.Tag == nullTag }

func kindOf(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "a YAML alias"
	default:
		return "a single value"
	}
}
