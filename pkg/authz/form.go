package authz

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"
)

// maxModelField bounds the form field that names the model.
const maxModelField = 1024

// formOf returns the media type and boundary of a form, if the content type says that the body is one.
// Two content types, or one that cannot be parsed, are no form that is safe to read: readable is
// false.
func formOf(h headers) (media, boundary string, readable bool) {
	types := h["content-type"]
	if len(types) != 1 || strings.Contains(types[0], ",") { // a comma is how Envoy joins two
		return "", "", len(types) == 0
	}
	media, parameters, err := mime.ParseMediaType(types[0])
	if foreignCharset(strings.ToLower(types[0])) {
		return "", "", false
	}
	looksLikeForm := strings.Contains(strings.ToLower(types[0]), "multipart/") ||
		strings.Contains(strings.ToLower(types[0]), "x-www-form-urlencoded")
	switch {
	case err != nil:
		return "", "", !looksLikeForm
	case media == "multipart/form-data" || media == "application/x-www-form-urlencoded":
		return media, parameters["boundary"], true
	}
	return "", "", !looksLikeForm
}

// addMultipart reads the field "model" of a multipart form (audio, images). As in JSON, a second one, or
// one in another case, is ambiguous.
func (n *modelNames) addMultipart(body []byte, boundary string) {
	if boundary == "" {
		n.unreadable = true
		return
	}
	reader, seen := multipart.NewReader(bytes.NewReader(body), boundary), false
	for {
		part, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			n.unreadable = true
			return
		}
		switch name := part.FormName(); {
		case len(part.Header["Content-Disposition"]) != 1:
			n.unreadable = true // which of them counts differs by reader
		case !strings.EqualFold(name, "model"):
		case seen || name != "model":
			n.ambiguous = true
		default:
			seen = true
			n.addField(part)
		}
	}
}

// addField reads the value of the model's field. Encoded or very long, it is none that we know.
func (n *modelNames) addField(part *multipart.Part) {
	value, err := io.ReadAll(io.LimitReader(part, maxModelField+1))
	if err != nil || len(value) == 0 || len(value) > maxModelField || part.Header.Get("Content-Transfer-Encoding") != "" || part.FileName() != "" {
		n.unreadable = true
		return
	}
	n.add(string(value))
}
