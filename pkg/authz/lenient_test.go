package authz

import (
	"bytes"
	"encoding/json"
	"mime"
	"mime/multipart"
	"net/url"
	"regexp"
	"strings"
)

// This file holds ordinary, forgiving readers: what upstreams do with a request. The fuzz targets hold the
// strict readers of this package against them.

// lenientModels returns every model that some upstream might take from a request. They read a body
// whatever its content type says, take the first or the last of several, and repair what they can.
func lenientModels(path, query, contentType string, body []byte) []string {
	var found []string
	found = append(found, modelsOfPath(path)...)
	found = append(found, modelsOfQuery(query)...)
	found = append(found, modelsOfJSON(body)...)
	if strings.Contains(strings.ToLower(contentType), "x-www-form-urlencoded") {
		found = append(found, modelsOfQuery(string(body))...)
	}
	for _, boundary := range boundariesOf(contentType) {
		found = append(found, modelsOfMultipart(body, boundary)...)
		found = append(found, modelsByLine(body, boundary)...)
	}
	return found
}

var modelPaths = []*regexp.Regexp{
	regexp.MustCompile(`(?i)/(?:deployments|engines)/(.+?)/(?:chat/completions|completions|embeddings|images/|audio/|responses|rerank)`),
	regexp.MustCompile(`(?i)/(?:deployments|engines)/(.+)/(?:chat/completions|embeddings)$`),
	regexp.MustCompile(`(?i)/(?:models|tunedModels)/([^/]+?):(?:generateContent|streamGenerateContent|countTokens|embedContent)`),
	regexp.MustCompile(`(?i)/(?:models|tunedModels)/(.+):(?:generateContent|streamGenerateContent|countTokens|embedContent)$`),
	regexp.MustCompile(`(?i)/model/([^/]+)/(?:invoke|converse)`),
}

func modelsOfPath(path string) []string {
	var found []string
	for _, form := range modelPaths {
		for _, match := range form.FindAllStringSubmatch(path, -1) {
			found = append(found, match[1])
		}
	}
	return found
}

// modelsOfQuery reads a query as net/url does, which drops what it cannot read, and as servers do that part
// at & alone and leave a broken escape as it is.
func modelsOfQuery(query string) []string {
	values, _ := url.ParseQuery(query)
	found := values["model"]
	for _, pair := range strings.Split(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if leniently(name) == "model" {
			found = append(found, leniently(value))
		}
	}
	return found
}

func leniently(escaped string) string {
	text, err := url.QueryUnescape(escaped)
	if err != nil {
		return escaped
	}
	return text
}

// modelsOfJSON reads the first JSON value of a body, as a decoder of a stream does: into a struct, which
// ignores case and takes the last of several members, and token by token, for all of them.
func modelsOfJSON(body []byte) []string {
	var found []string
	add := func(value any) {
		if text, ok := value.(string); ok {
			found = append(found, text)
		}
	}
	var object struct{ Model any }
	if json.NewDecoder(bytes.NewReader(body)).Decode(&object) == nil {
		add(object.Model)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if start, err := decoder.Token(); err != nil || start != json.Delim('{') {
		return found
	}
	for decoder.More() {
		var value any
		name, err := decoder.Token()
		if err != nil || decoder.Decode(&value) != nil {
			return found
		}
		if name == "model" {
			add(value)
		}
	}
	return found
}

var boundaryParameter = regexp.MustCompile(`(?i)boundary="?([^";,\s]+)`)

func boundariesOf(contentType string) []string {
	var found []string
	if _, parameters, err := mime.ParseMediaType(contentType); err == nil && parameters["boundary"] != "" {
		found = append(found, parameters["boundary"])
	}
	if strings.Contains(strings.ToLower(contentType), "multipart/") {
		for _, match := range boundaryParameter.FindAllStringSubmatch(contentType, -1) {
			found = append(found, match[1])
		}
	}
	return found
}

func modelsOfMultipart(body []byte, boundary string) []string {
	form, err := multipart.NewReader(bytes.NewReader(body), boundary).ReadForm(1 << 20)
	if err != nil {
		return nil
	}
	return form.Value["model"]
}

var nameParameter = regexp.MustCompile(`(?i)[;\s]name="?((?:\\.|[^";\\])*)`)

// modelsByLine reads a multipart form line by line, with and without carriage returns, past its end and
// from whatever stands before its beginning, and finds names by pattern.
func modelsByLine(body []byte, boundary string) []string {
	var found []string
	const outside, header, value = 0, 1, 2
	state, name, text := outside, "", []string(nil)
	for _, line := range strings.Split(string(body), "\n") {
		line = strings.TrimSuffix(line, "\r")
		switch {
		case strings.HasPrefix(line, "--"+boundary):
			if state == value && name == "model" {
				found = append(found, strings.Join(text, "\n"))
			}
			state, name, text = header, "", nil
		case state == header && line == "":
			state = value
		case state == header:
			field, disposition, _ := strings.Cut(line, ":")
			if match := nameParameter.FindStringSubmatch(disposition); match != nil && strings.EqualFold(strings.TrimSpace(field), "content-disposition") {
				name = strings.ReplaceAll(match[1], `\`, "")
			}
		case state == value:
			text = append(text, line)
		}
	}
	return found
}
