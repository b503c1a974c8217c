package adversary

import (
	"strconv"
	"strings"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
)

// encoding is a form in which Envoy sends headers: `headers` joins the copies of one with commas and turns what is no
// UTF-8 into "!", `header_map` (encode_raw_headers) sends each as it came.
type encoding string

const (
	joined encoding = "headers"
	raw    encoding = "header_map"
)

// check is the request as Envoy would describe it.
func (a *attempt) check(e encoding) *authv3.CheckRequest {
	http := &authv3.AttributeContext_HttpRequest{
		Method: sanitized(a.method), Path: sanitized(a.path), Host: sanitized(a.host), Scheme: "http", Protocol: "HTTP/1.1",
		RawBody: []byte(a.body), Size: int64(len(a.body)),
	}
	headers := a.seenHeaders()
	if e == raw {
		http.HeaderMap = &corev3.HeaderMap{}
		for _, h := range headers {
			http.HeaderMap.Headers = append(http.HeaderMap.Headers, &corev3.HeaderValue{Key: strings.ToLower(h[0]), RawValue: []byte(h[1])})
		}
	} else {
		http.Headers = make(map[string]string)
		for _, h := range headers {
			name := strings.ToLower(h[0])
			if earlier, repeated := http.Headers[name]; repeated {
				h[1] = earlier + "," + h[1]
			}
			http.Headers[name] = sanitized(h[1])
		}
	}
	in := &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: http}}}
	if a.profile != "" {
		in.Attributes.ContextExtensions = map[string]string{"profile": a.profile}
	}
	for _, forge := range a.forged {
		forge(in)
	}
	return in
}

// seenHeaders are the client's headers and those that Envoy adds before it asks.
func (a *attempt) seenHeaders() [][2]string {
	headers := [][2]string{{":authority", a.host}, {":method", a.method}, {":path", a.path}, {":scheme", "http"}}
	headers = append(headers, a.sentHeaders()...)
	headers = append(headers, [2]string{"x-forwarded-proto", "http"}, [2]string{"x-request-id", "4ed3c8b7-4a2c-4d5c-9b0a-0f6a3f1f8a11"})
	switch {
	case a.partial != "":
		headers = append(headers, [2]string{partialBody, a.partial})
	case a.body != "":
		headers = append(headers, [2]string{partialBody, "false"})
	}
	return headers
}

// sentHeaders are what the client sends, but for the host.
func (a *attempt) sentHeaders() [][2]string {
	var headers [][2]string
	if a.authorization != "" {
		headers = append(headers, [2]string{"authorization", a.authorization})
	}
	headers = append(headers, a.headers...)
	if a.body != "" || a.method == "POST" {
		headers = append(headers, [2]string{"content-length", strconv.Itoa(len(a.body))})
	}
	return headers
}

// lines are the request over HTTP/1.1. ok is false if no client can send it: what it says would end the line, or only a
// forged check says it.
func (a *attempt) lines() (lines []string, ok bool) {
	if a.checkOnly || strings.ContainsAny(a.method+a.path+a.host, "\r\n") {
		return nil, false
	}
	lines = []string{a.method + " " + a.path + " HTTP/1.1", "host: " + a.host}
	for _, h := range a.sentHeaders() {
		if strings.ContainsAny(h[1], "\r\n") {
			return nil, false
		}
		lines = append(lines, h[0]+": "+h[1])
	}
	return append(lines, "x-test-profile: "+a.profile, "", a.body), true
}

// sanitized is what Envoy puts into a text field.
func sanitized(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var clean strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		if r == utf8.RuneError && size == 1 {
			clean.WriteByte('!')
		} else {
			clean.WriteRune(r)
		}
		text = text[size:]
	}
	return clean.String()
}
