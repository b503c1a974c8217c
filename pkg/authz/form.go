package authz

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"strings"
)

// formOf returns the media type and boundary of a form, if the content type says that the body is one.
// Two content types, or one that cannot be parsed or that readers may parse in two ways, are no form
// that is safe to read: readable is false.
func formOf(sent field) (media, boundary string, readable bool) {
	contentType := sent.value
	if sent.count != 1 {
		return "", "", sent.count == 0
	}
	if contentType == "application/json" { // nearly all, and dear to parse
		return "", "", true
	}
	text := strings.ToLower(contentType)
	if foreignCharset(text) || strings.Contains(text, ",") { // how Envoy joins two headers
		return "", "", false
	}
	looksLikeForm := strings.Contains(text, "multipart/") || strings.Contains(text, "x-www-form-urlencoded")
	media, parameters, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil:
		return "", "", !looksLikeForm
	case media == "application/x-www-form-urlencoded":
		return media, "", true
	case media == "multipart/form-data":
		return media, parameters["boundary"], plainBoundary(text, parameters)
	}
	return "", "", !looksLikeForm
}

// plainBoundary reports whether every reader takes the same boundary from a content type: it has no
// extended notation (RFC 8187), no other parameter that could hold a second one, and no escape.
func plainBoundary(contentType string, parameters map[string]string) bool {
	for name := range parameters {
		if name != "boundary" && name != "charset" {
			return false
		}
	}
	boundary := parameters["boundary"]
	return boundary != "" && !strings.Contains(contentType, "*") && !strings.ContainsFunc(boundary, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"\`, r)
	})
}

// addForm reads the field "model" of an urlencoded form. Some upstreams read JSON whatever the content type
// says, and some of them only the first value of the body: what may be JSON to them is unreadable.
func (n *modelNames) addForm(body string) {
	if !printable(body) || strings.HasPrefix(strings.TrimLeft(body, " \ufeff"), "{") {
		n.unreadable = true
	}
	if n.addQuery(body) != nil {
		n.ambiguous = true
	}
}

// addMultipart reads the field "model" of a multipart form (audio, images). As in JSON, a second one, or
// one in another case, is ambiguous. A form in which readers may see different parts is unreadable: every
// delimiter must be one to all of them, with nothing before the first part and nothing after the last.
func (n *modelNames) addMultipart(body []byte, boundary string) {
	delimiter := []byte("--" + boundary)
	n.unreadable = n.unreadable || !bytes.HasPrefix(bytes.TrimLeft(body, "\r\n"), delimiter) || !endsForm(body, delimiter)
	reader, parts, seen := multipart.NewReader(bytes.NewReader(body), boundary), 0, false
	for {
		part, err := reader.NextRawPart()
		if err != nil {
			n.unreadable = n.unreadable || !errors.Is(err, io.EOF) || bytes.Count(body, delimiter) != parts+1
			return
		}
		parts++
		name, plain := fieldName(part)
		n.unreadable = n.unreadable || !plain
		switch {
		case !strings.EqualFold(name, "model"):
		case seen || name != "model":
			n.ambiguous = true
		default:
			seen = true
			n.addField(part)
		}
	}
}

// endsForm reports whether nothing but white space comes after the last delimiter.
func endsForm(body, delimiter []byte) bool {
	last := bytes.LastIndex(body, delimiter)
	end, found := bytes.CutPrefix(body[max(last, 0):], append(bytes.Clone(delimiter), "--"...))
	return found && len(bytes.TrimSpace(end)) == 0
}

// fieldName returns the name of a form's field, and whether every reader takes it for that name: readers
// differ in what they do with two dispositions, one that does not parse, another type than form-data,
// escapes, quotes within quotes and the extended notation (RFC 8187).
func fieldName(part *multipart.Part) (name string, plain bool) {
	dispositions := part.Header["Content-Disposition"]
	if len(dispositions) != 1 {
		return "", false
	}
	kind, parameters, err := mime.ParseMediaType(dispositions[0])
	name = parameters["name"]
	extended := strings.Contains(strings.ReplaceAll(strings.ToLower(dispositions[0]), "filename*", ""), "name*")
	return name, err == nil && kind == "form-data" && !extended && !strings.ContainsAny(name, `'"\`) && !strings.Contains(dispositions[0], `\"`)
}

// addField reads the value of the model's field. Encoded or very long, it is none that we know.
func (n *modelNames) addField(part *multipart.Part) {
	value, err := io.ReadAll(io.LimitReader(part, maxModelName+1))
	if err != nil || len(value) == 0 || part.Header.Get("Content-Transfer-Encoding") != "" ||
		foreignCharset(strings.ToLower(part.Header.Get("Content-Type"))) || part.FileName() != "" {
		n.unreadable = true
		return
	}
	n.add(string(value))
}
