package yamlfile

import (
	"bytes"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// syntax turns an error of the YAML parser into one line. The parser knows no column.
func (f *File) syntax(err error, data []byte) *Error {
	fault := &Error{File: f.name, Line: 1, Column: 1, Reason: "is not YAML", Allowed: "one YAML mapping"}
	line, message := splitSyntax(err)
	if message == "" {
		return fault
	}
	fault.Line = syntaxLine(line, message, data)
	if strings.HasPrefix(message, unknownAnchor) {
		message = unknownAnchor // the rest repeats a word of the file, which may be a secret after a slip
	}
	fault.Reason += ": " + message
	return fault
}

const unknownAnchor = "unknown anchor"

// splitSyntax returns the line that the parser names, or 0, and the rest of its message.
func splitSyntax(err error) (int, string) {
	parts := regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`).FindStringSubmatch(err.Error())
	if parts == nil {
		return 0, ""
	}
	line, _ := strconv.Atoi(parts[1]) // 0 if it names none
	return line, parts[2]
}

// syntaxLine mends what the parser says of the line: it counts from 0 in some errors, and in those of a block it names
// the line where the block starts, which may be the first of the file.
func syntaxLine(line int, message string, data []byte) int {
	ofBlock := regexp.MustCompile(`^(did not find expected (key|'-' indicator)|` + unknownAnchor + `)`)
	fromZero := regexp.MustCompile(`^(did not find expected (node|',|<)|found undefined tag handle)`)
	lines := bytes.SplitAfter(bytes.TrimRight(data, "\r\n"), []byte("\n"))
	switch {
	case ofBlock.MatchString(message):
		return 1 + sort.Search(len(lines)-1, func(i int) bool { return failsSame(lines[:i+1], message) })
	case fromZero.MatchString(message):
		return min(line+1, len(lines))
	}
	return max(line, 1)
}

// failsSame reports whether the first lines of a file have the fault already.
func failsSame(lines [][]byte, message string) bool {
	err := yaml.Unmarshal(bytes.Join(lines, nil), new(yaml.Node))
	if err == nil {
		return false
	}
	_, same := splitSyntax(err)
	return same == message
}
