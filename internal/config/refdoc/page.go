package main

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/extauthz/extauthz/internal/config"
	"github.com/extauthz/extauthz/internal/config/yamlfile"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// page is the page so far, and the first thing that was wrong with it.
type page struct {
	strings.Builder
	comments map[string]string // by full name
	err      error
}

func (p *page) configuration(example []byte) {
	p.WriteString(introduction)
	fmt.Fprintf(p, "## Example\n\n```yaml\n%s\n```\n", example)
	p.message("", "## Keys", config.Defaults().ProtoReflect())
}

func (p *page) resources(example []byte) {
	p.WriteString(resourceIntroduction)
	fmt.Fprintf(p, "```yaml\n%s\n```\n", example)
	p.message("", "## Keys of the resource file", new(configv1.ResourceFile).ProtoReflect())
}

// message writes the section of one message and then those of the messages in it. Values in it are the defaults.
func (p *page) message(path, heading string, message protoreflect.Message) {
	fields := message.Descriptor().Fields()
	fmt.Fprintf(p, "\n%s\n\n%s\n\n", heading, p.comment(message.Descriptor()))
	p.WriteString("| key | type | default | allowed | meaning |\n|---|---|---|---|---|\n")
	for i := range fields.Len() {
		p.row(path, message, fields.Get(i))
	}
	for i := range fields.Len() {
		if field := fields.Get(i); isSection(field) {
			inner := path + name(field)
			p.message(inner+".", "### `"+inner+"`", inside(message, field))
		}
	}
}

func (p *page) row(path string, message protoreflect.Message, field protoreflect.FieldDescriptor) {
	allowed := yamlfile.Allowed(field)
	if isSection(field) {
		allowed = "see below"
	}
	fmt.Fprintf(p, "| `%s` | %s | %s | %s | %s |\n",
		path+name(field), typeOf(field), defaultOf(message, field), cell(allowed), cell(p.comment(field)))
}

func (p *page) comment(d protoreflect.Descriptor) string {
	text := p.comments[string(d.FullName())]
	if text == "" && p.err == nil {
		p.err = fmt.Errorf("%s has no comment", d.FullName())
	}
	return text
}

// cell keeps a text inside its cell of a table. Backslashes in it stay: patterns and claim paths have them.
func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

func name(field protoreflect.FieldDescriptor) string {
	if field.IsList() && isSection(field) {
		return string(field.Name()) + "[]"
	}
	return string(field.Name())
}

// inside returns the message that a field holds: for a list the first one, if there is any.
func inside(message protoreflect.Message, field protoreflect.FieldDescriptor) protoreflect.Message {
	value := message.Get(field)
	switch {
	case !field.IsList():
		return value.Message()
	case value.List().Len() > 0:
		return value.List().Get(0).Message()
	}
	return value.List().NewElement().Message()
}

func isSection(field protoreflect.FieldDescriptor) bool {
	return field.Message() != nil && field.Message().ParentFile().Package() == "extauthz.config.v1"
}

func typeOf(field protoreflect.FieldDescriptor) string {
	text := "text"
	switch {
	case isSection(field):
		text = "mapping"
	case field.Message() != nil && field.Message().Name() == "Duration":
		text = "duration"
	case field.Message() != nil:
		text = "time"
	case field.Kind() == protoreflect.BoolKind:
		text = "true or false"
	case field.Kind() == protoreflect.DoubleKind:
		text = "number"
	case field.Kind() != protoreflect.StringKind:
		text = "whole number"
	case strings.HasPrefix(yamlfile.Allowed(field), "a decimal number"):
		text = "decimal number"
	}
	if field.IsList() {
		return "list of " + text
	}
	return text
}

// defaultOf words the value of a field in the default configuration. A dash is no default.
func defaultOf(message protoreflect.Message, field protoreflect.FieldDescriptor) string {
	if yamlfile.Required(field) {
		return "required"
	}
	if isSection(field) || !message.Has(field) {
		return "–"
	}
	value := message.Get(field)
	switch {
	case field.IsList():
		texts := make([]string, value.List().Len())
		for i := range texts {
			texts[i] = value.List().Get(i).String()
		}
		return "`[" + strings.Join(texts, ", ") + "]`"
	case field.Message() != nil:
		d, _ := value.Message().Interface().(*durationpb.Duration)
		return "`" + yamlfile.DurationText(d.AsDuration()) + "`"
	case value.String() == "":
		return "`\"\"`"
	}
	return "`" + value.String() + "`"
}
