package main

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// schema returns the descriptor set of the compiled schema, with a comment at everything that has a location, or with none.
func schema(t *testing.T, commented bool) []byte {
	t.Helper()
	set := new(descriptorpb.FileDescriptorSet)
	seen := map[string]bool{}
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		descriptor := protodesc.ToFileDescriptorProto(file)
		if commented {
			descriptor.SourceCodeInfo = comments(descriptor)
		}
		set.File = append(set.File, descriptor)
	}
	add(new(configv1.Config).ProtoReflect().Descriptor().ParentFile())
	add(new(configv1.ResourceFile).ProtoReflect().Descriptor().ParentFile())
	data, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func comments(file *descriptorpb.FileDescriptorProto) *descriptorpb.SourceCodeInfo {
	info := new(descriptorpb.SourceCodeInfo)
	add := func(text string, path ...int32) {
		span := []int32{int32(len(info.Location)), 0, 1}
		info.Location = append(info.Location, &descriptorpb.SourceCodeInfo_Location{Path: path, Span: span, LeadingComments: &text})
	}
	for i, message := range file.GetMessageType() {
		add(" About\n "+message.GetName()+".\n", 4, int32(i))
		for j, field := range message.GetField() {
			add(" The "+field.GetName()+" | or not.\n", 4, int32(i), 2, int32(j))
		}
	}
	return info
}

func TestGenerate(t *testing.T) {
	page, err := generate(bytes.NewReader(schema(t, true)), "../testdata/full.yaml", "../testdata/resources.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"### `issuers[].claims`\n\nAbout Claims.\n",
		"| `server.check_timeout` | duration | `400ms` | a duration such as 300ms, 30s, 5m or 24h, more than 0s, at most 10s | The check_timeout \\| or not. |\n",
		"| `issuers[]` | list of mapping | required | see below | The issuers \\| or not. |\n",
		"| `policy.teams.default_team_id` | text | `\"\"` | text | ",
		"| `keys[].expires_at` | time | – | a time such as 2027-01-31T00:00:00Z | ",
		"| `teams[].max_budget` | decimal number | – | ",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
}

func TestGenerateWantsComments(t *testing.T) {
	_, err := generate(bytes.NewReader(schema(t, false)), "../testdata/full.yaml", "../testdata/resources.yaml")
	if err == nil || err.Error() != "extauthz.config.v1.Config has no comment" {
		t.Errorf("got %v", err)
	}
}

func TestGenerateRefusesOtherInput(t *testing.T) {
	for _, data := range []string{"", "not a descriptor set"} {
		if page, err := generate(strings.NewReader(data), "../testdata/full.yaml", "../testdata/resources.yaml"); err == nil {
			t.Errorf("%q became a page of %d bytes", data, len(page))
		}
	}
}
