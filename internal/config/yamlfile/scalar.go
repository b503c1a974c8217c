package yamlfile

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"gopkg.in/yaml.v3"
)

// scalar reads a single value: its form, then variables, then its type.
func (d *decoder) scalar(node *yaml.Node, field protoreflect.FieldDescriptor, path string) (protoreflect.Value, *Error) {
	var none protoreflect.Value
	if node.Kind != yaml.ScalarNode {
		return none, d.file.fault(node, path, kindOf(node)+" where a single value is expected", allowedElement(field))
	}
	if isSecret(field) {
		d.file.hidden[node] = true
	}
	if fault := d.expand(node, path); fault != nil {
		return none, fault
	}
	if reason := textFault(node.Value); reason != "" {
		return none, d.file.fault(node, path, reason, allowedElement(field))
	}
	value, predicate := convert(node, field, d.file.hidden[node])
	if predicate != "" {
		return none, d.file.fault(node, path, d.file.show(node)+" "+predicate, allowedElement(field))
	}
	return value, nil
}

// textFault says what is wrong with a text in any field. It never repeats the text.
func textFault(text string) string {
	switch {
	case !utf8.ValidString(text):
		return "is not valid UTF-8"
	case len(text) > MaxValueBytes:
		return "is longer than " + strconv.Itoa(MaxValueBytes) + " bytes"
	case strings.ContainsFunc(text, func(r rune) bool { return printable(r) != r }):
		return "contains a control character or a line break"
	}
	return ""
}

// convert returns the value of a scalar, or what is wrong with it. A number in quotes is text, but for one that a
// variable gave: quotes are then the only way to write it inside braces.
func convert(node *yaml.Node, field protoreflect.FieldDescriptor, loose bool) (protoreflect.Value, string) {
	typed := func(tags ...string) bool { return loose || slices.Contains(tags, node.Tag) }
	switch field.Kind() {
	case protoreflect.StringKind:
		if !typed("!!str", "!!int", "!!float", "!!bool", "!!timestamp", "!!merge") {
			return protoreflect.Value{}, "is not text"
		}
		return protoreflect.ValueOfString(node.Value), ""
	case protoreflect.BoolKind:
		return toBool(node.Value, typed("!!bool"))
	case protoreflect.Uint32Kind:
		return toUint32(node.Value, typed("!!int"))
	case protoreflect.Int64Kind:
		return toInt64(node.Value, typed("!!int"))
	case protoreflect.DoubleKind:
		return toDouble(node.Value, typed("!!int", "!!float"))
	case protoreflect.MessageKind:
		return toTime(node.Value, field)
	default:
		return protoreflect.Value{}, "has a type that this program cannot read"
	}
}

func toBool(text string, typed bool) (protoreflect.Value, string) {
	if !typed || (text != "true" && text != "false") {
		return protoreflect.Value{}, "is not true or false"
	}
	return protoreflect.ValueOfBool(text == "true"), ""
}

const notWhole = "is not a whole number"

// decimal refuses what strconv or YAML would read in another base: 0x10, 0o10, 010, 1_000.
func decimal(text string) bool {
	digits := strings.TrimPrefix(text, "-")
	return strings.Trim(digits, "0123456789") == "" && (digits == "0" || !strings.HasPrefix(digits, "0"))
}

func toInt64(text string, typed bool) (protoreflect.Value, string) {
	n, err := strconv.ParseInt(text, 10, 64)
	if !typed || !decimal(text) || err != nil {
		return protoreflect.Value{}, notWhole
	}
	return protoreflect.ValueOfInt64(n), ""
}

func toUint32(text string, typed bool) (protoreflect.Value, string) {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case !typed || !decimal(text) || err != nil:
		return protoreflect.Value{}, notWhole
	case n < 0 || n > math.MaxUint32:
		return protoreflect.Value{}, outOfRange
	}
	return protoreflect.ValueOfUint32(uint32(n)), ""
}

func toDouble(text string, typed bool) (protoreflect.Value, string) {
	x, err := strconv.ParseFloat(text, 64)
	if !typed || err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
		return protoreflect.Value{}, "is not a number"
	}
	return protoreflect.ValueOfFloat64(x), ""
}

// toTime reads the two well-known types that the schemas use.
func toTime(text string, field protoreflect.FieldDescriptor) (protoreflect.Value, string) {
	if isDuration(field) {
		d, err := time.ParseDuration(text)
		if err != nil {
			return protoreflect.Value{}, "is not a duration with a unit"
		}
		return protoreflect.ValueOfMessage(durationpb.New(d).ProtoReflect()), ""
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return protoreflect.Value{}, "is not an RFC 3339 time"
	}
	return protoreflect.ValueOfMessage(timestamppb.New(t).ProtoReflect()), ""
}

func isDuration(field protoreflect.FieldDescriptor) bool {
	return field.Message() != nil && field.Message().FullName() == "google.protobuf.Duration"
}
