// Command refdoc writes docs/configuration.md from the schema and its comments, the defaults and the example files.
//
//	buf build proto -o - | go run ./internal/config/refdoc -config FILE -resources FILE > docs/configuration.md
//
// It trusts the schema to be complete: every message and field must have a comment, or it fails.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

func main() {
	configFile := flag.String("config", "", "the example of a configuration `file`")
	resourceFile := flag.String("resources", "", "the example of a resource `file`")
	flag.Parse()
	page, err := generate(os.Stdin, *configFile, *resourceFile)
	if err == nil {
		_, err = os.Stdout.WriteString(page)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "refdoc:", err)
		os.Exit(1)
	}
}

// generate returns the page for the descriptor set in schema.
func generate(schema io.Reader, configFile, resourceFile string) (string, error) {
	comments, err := readComments(schema)
	if err != nil {
		return "", err
	}
	configExample, err := os.ReadFile(configFile)
	if err != nil {
		return "", err
	}
	resourceExample, err := os.ReadFile(resourceFile)
	if err != nil {
		return "", err
	}
	p := page{comments: comments}
	p.configuration(bytes.TrimSpace(configExample))
	p.resources(bytes.TrimSpace(resourceExample))
	return p.String(), p.err
}

// readComments returns the comment above each message and field, on one line, by full name.
func readComments(schema io.Reader) (map[string]string, error) {
	data, err := io.ReadAll(schema)
	if err != nil {
		return nil, err
	}
	var set descriptorpb.FileDescriptorSet
	if err := proto.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("descriptor set: %w", err)
	}
	files, err := protodesc.NewFiles(&set)
	if err != nil {
		return nil, fmt.Errorf("descriptor set: %w", err)
	}
	comments := map[string]string{}
	for _, name := range []string{"extauthz/config/v1/config.proto", "extauthz/config/v1/resources.proto"} {
		file, err := files.FindFileByPath(name)
		if err != nil {
			return nil, err
		}
		addComments(comments, file)
	}
	return comments, nil
}

func addComments(comments map[string]string, file protoreflect.FileDescriptor) {
	add := func(d protoreflect.Descriptor) {
		text := file.SourceLocations().ByDescriptor(d).LeadingComments
		comments[string(d.FullName())] = strings.Join(strings.Fields(text), " ")
	}
	for i := range file.Messages().Len() {
		message := file.Messages().Get(i)
		add(message)
		for j := range message.Fields().Len() {
			add(message.Fields().Get(j))
		}
	}
}
