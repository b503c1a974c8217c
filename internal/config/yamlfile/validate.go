package yamlfile

import (
	"errors"
	"fmt"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const outOfRange = "is out of range"

// Validate checks message, which was decoded from the file, against the rules in its schema and reports each fault.
// It fails only if the rules themselves cannot be evaluated.
func (f *File) Validate(message proto.Message) error {
	var failed *protovalidate.ValidationError
	switch err := protovalidate.Validate(message); {
	case errors.As(err, &failed):
		for _, violation := range failed.Violations {
			f.violation(violation)
		}
	case err != nil:
		return fmt.Errorf("validation rules: %w", err)
	}
	return nil
}

// violation reports a broken rule in plain words.
func (f *File) violation(v *protovalidate.Violation) {
	path := protovalidate.FieldPathString(v.Proto.GetField())
	_, rule, _ := strings.Cut(v.Proto.GetRuleId(), ".")
	switch {
	case rule == "unique":
		f.Refuse(Element(path, repeated(v.FieldValue.List())), "is listed twice", "each entry once")
	case !f.Has(path):
		f.Report(path, "is missing", "")
	case rule == "min_items":
		f.Report(path, "has no entries", "")
	case rule == "min_len":
		f.Report(path, "is empty", "")
	case strings.HasPrefix(rule, "gt"), strings.HasPrefix(rule, "lt"):
		f.Refuse(path, outOfRange, "")
	default:
		f.Refuse(path, "is not allowed", "")
	}
}

// repeated returns the index of the first entry of a list of texts that an earlier entry equals.
func repeated(list protoreflect.List) int {
	seen := make(map[string]bool, list.Len())
	for i := range list.Len() {
		text := list.Get(i).String()
		if seen[text] {
			return i
		}
		seen[text] = true
	}
	return 0
}
