package yamlfile

import (
	"fmt"
	"strings"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Allowed says in words which values a field takes, from its type and its rules. It is what errors and the
// reference page print.
func Allowed(field protoreflect.FieldDescriptor) string {
	if !field.IsList() {
		return allowedElement(field)
	}
	if Required(field) {
		return "a list with at least 1 entry, each " + allowedElement(field)
	}
	return "a list, each entry " + allowedElement(field)
}

// Required reports whether a file must state the field wherever it states the message around it.
func Required(field protoreflect.FieldDescriptor) bool {
	rules := fieldRules(field)
	return rules.GetRequired() || rules.GetRepeated().GetMinItems() > 0
}

// allowedElement is [Allowed] for one entry of a list, or for the value of any other field.
func allowedElement(field protoreflect.FieldDescriptor) string {
	if isSection(field) {
		return "a mapping with " + keysOf(field.Message().Fields())
	}
	rules := elementRules(field)
	if own := rules.GetCel(); len(own) > 0 { // the message of a rule of ours is what it allows, in words
		return own[0].GetMessage()
	}
	switch field.Kind() {
	case protoreflect.BoolKind:
		return "true, false"
	case protoreflect.StringKind:
		return allowedText(rules.GetString())
	case protoreflect.DoubleKind:
		return "a number" + bounds(rules.GetDouble())
	case protoreflect.MessageKind:
		if isDuration(field) {
			return "a duration such as 300ms, 30s, 5m or 24h" + bounds(rules.GetDuration())
		}
		return "a time such as 2027-01-31T00:00:00Z"
	default:
		return "a whole number" + allowedInteger(rules)
	}
}

func allowedText(rules *validate.StringRules) string {
	switch {
	case len(rules.GetIn()) > 0:
		return strings.Join(rules.GetIn(), ", ")
	case rules.GetHostname():
		return "a host name"
	case rules.HasMaxBytes() && rules.HasMinLen():
		return fmt.Sprintf("text of 1 to %d bytes", rules.GetMaxBytes())
	case rules.HasMaxBytes():
		return fmt.Sprintf("text of at most %d bytes", rules.GetMaxBytes())
	case rules.HasMinLen():
		return "text that is not empty"
	}
	return "text"
}

// allowedInteger words the range of either integer type. No field takes a negative number.
func allowedInteger(rules *validate.FieldRules) string {
	text := bounds(rules.GetInt64()) + bounds(rules.GetUint32())
	if !strings.Contains(text, "at least") {
		text = ", at least 0" + text
	}
	return text
}

// bounds words the limits of a range, in the order in which a reader expects them.
func bounds(rules proto.Message) string {
	words := []struct{ rule, word string }{
		{"gt", "more than"}, {"gte", "at least"}, {"lt", "less than"}, {"lte", "at most"},
	}
	var text strings.Builder
	message := rules.ProtoReflect()
	for _, w := range words {
		field := message.Descriptor().Fields().ByName(protoreflect.Name(w.rule))
		if message.Has(field) {
			fmt.Fprintf(&text, ", %s %s", w.word, boundText(message.Get(field)))
		}
	}
	return text.String()
}

func boundText(value protoreflect.Value) string {
	if message, ok := value.Interface().(protoreflect.Message); ok {
		if d, ok := message.Interface().(*durationpb.Duration); ok {
			return DurationText(d.AsDuration())
		}
	}
	return value.String()
}

// DurationText writes a duration as a person would: 5m instead of 5m0s.
func DurationText(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func fieldRules(field protoreflect.FieldDescriptor) *validate.FieldRules {
	rules, _ := proto.GetExtension(field.Options(), validate.E_Field).(*validate.FieldRules)
	return rules
}

// elementRules returns the rules of one value: for a list, those of its entries.
func elementRules(field protoreflect.FieldDescriptor) *validate.FieldRules {
	if field.IsList() {
		return fieldRules(field).GetRepeated().GetItems()
	}
	return fieldRules(field)
}

func keysOf(fields protoreflect.FieldDescriptors) string {
	names := make([]string, fields.Len())
	for i := range names {
		names[i] = string(fields.Get(i).Name())
	}
	return "the keys " + strings.Join(names, ", ")
}
