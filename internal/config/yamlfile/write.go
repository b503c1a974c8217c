package yamlfile

import (
	"bytes"
	"errors"

	"gopkg.in/yaml.v3"
)

// Object builds a YAML mapping in the order of the calls. Its methods leave out what is empty, which
// readers take for granted. The zero value is an empty mapping.
type Object struct{ content []*yaml.Node }

// Text adds a text, in quotes where YAML would read it as something else.
func (o *Object) Text(key, text string) {
	if text != "" {
		o.add(key, textNode(text))
	}
}

// Texts adds a list of texts, on one line.
func (o *Object) Texts(key string, texts []string) {
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, text := range texts {
		list.Content = append(list.Content, textNode(text))
	}
	o.addList(key, list)
}

// None adds a list without entries, where that says more than to leave the list out.
func (o *Object) None(key string) {
	o.add(key, &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle})
}

// Plain adds a number, a flag or a time, which never have quotes.
func (o *Object) Plain(key, text string) {
	o.add(key, &yaml.Node{Kind: yaml.ScalarNode, Value: text})
}

// Flag adds a flag that is on.
func (o *Object) Flag(key string, on bool) {
	if on {
		o.Plain(key, "true")
	}
}

// List adds a list of mappings.
func (o *Object) List(key string, objects []*Object) {
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, object := range objects {
		list.Content = append(list.Content, object.node())
	}
	o.addList(key, list)
}

// Bytes returns the mapping as a YAML document.
func (o *Object) Bytes() ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	err := errors.Join(encoder.Encode(o.node()), encoder.Close())
	return out.Bytes(), err
}

func (o *Object) node() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode, Content: o.content} }

func (o *Object) add(key string, value *yaml.Node) {
	o.content = append(o.content, textNode(key), value)
}

func (o *Object) addList(key string, list *yaml.Node) {
	if len(list.Content) > 0 {
		o.add(key, list)
	}
}

func textNode(text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}
