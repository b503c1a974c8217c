package authz

import (
	"errors"
	"net/url"
	"path"
	"strings"
	"testing"
	"unicode/utf8"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/extauthz/extauthz/pkg/authz/wire"
	"github.com/extauthz/extauthz/pkg/teams"
)

func TestCanonicalPath(t *testing.T) {
	for _, c := range []struct{ raw, decoded string }{
		{"/", "/"}, {"/v1/chat", "/v1/chat"}, {"/v1/chat/", "/v1/chat/"}, {"/a%20b", "/a b"}, {"/%61bc", "/abc"},
		{"/m/gemini:generateContent", "/m/gemini:generateContent"}, {"/caf%C3%A9", "/café"}, {"/a...b", "/a...b"}, {"/.well-known", "/.well-known"},
	} {
		if got, err := canonicalPath(c.raw); got != c.decoded || err != nil {
			t.Errorf("%q: %q, %v; want %q", c.raw, got, err, c.decoded)
		}
	}
	for _, raw := range []string{
		"", "*", "v1/chat", "http://host/v1", "//admin", "/a//b", "/a/../b", "/..", "/.", "/a/.", "/a/./b", "/%2e%2e/b", "/a/%2E/b",
		"/a%2Fb", "/a%2fb", "/a%5Cb", `/a\b`, "/a%25b", "/a%252Fb", "/a%00b", "/a%0ab", "/a%7F", "/a%c2%80", "/a%ff", "/a%c0%af", "/a%", "/a%2", "/a%zz",
		"/a#b", "/a b", "/a\tb", "/a\x00b", "/caf\u00e9", "/a\xffb", "/a;b", "/a/..;/b", "/a/..;x=1/b", "/a%3Bb", "/a%23b", "/a%3Fb",
	} {
		if got, err := canonicalPath(raw); !errors.Is(err, ErrPathAmbiguous) || got != "" {
			t.Errorf("%q is accepted as %q (%v)", raw, got, err)
		}
	}
}

// FuzzCanonicalPath: an accepted path has one reading. Decoding it again, cleaning it, cutting parameters
// and parsing it as a URL change nothing.
func FuzzCanonicalPath(f *testing.F) {
	for _, seed := range []string{"/", "/a/b", "/a%20b", "/a/../b", "/%2e%2e", "//x", "/a;b", "/a%252fb", `/a\b`, "/a/", "/a?b", "/caf%C3%A9"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		accepted, err := canonicalPath(raw)
		if err != nil {
			return
		}
		for name, reading := range map[string]string{
			"decoded":        unescaped(raw),
			"decoded twice":  unescaped(unescaped(raw)),
			"without its \\": strings.ReplaceAll(unescaped(raw), `\`, "/"),
			"cleaned":        cleaned(unescaped(raw)),
			"cleaned first":  unescaped(cleaned(raw)),
			"cut":            unescaped(strings.FieldsFunc(raw, func(r rune) bool { return strings.ContainsRune(";?#", r) })[0]),
			"parsed":         parsed(raw, url.ParseRequestURI),
			"of a URL":       parsed("http://host"+raw, url.Parse),
		} {
			if reading != accepted {
				t.Errorf("%q accepted as %q; %s it is %q", raw, accepted, name, reading)
			}
		}
		if strings.ContainsFunc(accepted, func(r rune) bool { return r < ' ' || r == 0x7f }) || !utf8.ValidString(accepted) {
			t.Errorf("%q accepted as %q", raw, accepted)
		}
	})
}

func unescaped(path string) string {
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return path
	}
	return decoded
}

// cleaned is path.Clean, which drops a last slash, with it.
func cleaned(p string) string {
	if p != "/" && strings.HasSuffix(p, "/") {
		return strings.TrimSuffix(path.Clean(p), "/") + "/"
	}
	return path.Clean(p)
}

func parsed(target string, parse func(string) (*url.URL, error)) string {
	u, err := parse(target)
	if err != nil {
		return err.Error()
	}
	return u.Path
}

func TestBearer(t *testing.T) {
	names := []string{"authorization", "x-token"}
	for name, c := range map[string]struct {
		headers sent
		token   string
		err     error
	}{
		"bearer":                    {sent{"authorization": {"Bearer abc"}}, "abc", nil},
		"any case":                  {sent{"authorization": {"bEARER abc"}}, "abc", nil},
		"none":                      {sent{}, "", ErrTokenMissing},
		"empty":                     {sent{"authorization": {""}}, "", ErrTokenMissing},
		"another scheme":            {sent{"authorization": {"Basic abc"}}, "", errNotBearer},
		"no scheme":                 {sent{"authorization": {"abc"}}, "", errNotBearer},
		"joined":                    {sent{"authorization": {"Bearer a,Bearer b"}}, "", ErrCredentialsAmbiguous},
		"twice":                     {sent{"authorization": {"Bearer a", "Bearer b"}}, "", ErrCredentialsAmbiguous},
		"twice the same":            {sent{"authorization": {"Bearer a", "Bearer a"}}, "", ErrCredentialsAmbiguous},
		"twice, once empty":         {sent{"authorization": {"", "Bearer a"}}, "", ErrCredentialsAmbiguous},
		"two headers":               {sent{"authorization": {"Bearer a"}, "x-token": {"a"}}, "", ErrCredentialsAmbiguous},
		"another header, bare":      {sent{"x-token": {"abc"}}, "abc", nil},
		"another header, bearer":    {sent{"x-token": {"Bearer abc"}}, "abc", nil},
		"two spaces":                {sent{"authorization": {"Bearer  abc"}}, " abc", nil}, // no token starts with a space
		"a header nobody asked for": {sent{"x-other": {"Bearer abc"}}, "", ErrTokenMissing},
	} {
		got, err := bearerFrom(c.headers.list(), names)
		if got != c.token || !errors.Is(err, c.err) || (err == nil) != (c.err == nil) {
			t.Errorf("%s: %q, %v; want %q, %v", name, got, err, c.token, c.err)
		}
	}
}

// in builds a CheckRequest of a POST with a JSON body, in the raw header form.
func in(change func(*authv3.AttributeContext_HttpRequest)) *authv3.CheckRequest {
	http := &authv3.AttributeContext_HttpRequest{
		Method: "POST", Path: "/v1/chat/completions", Host: "llm.example.com",
		RawBody: []byte(`{"model":"gpt-4o"}`), Size: 18,
		HeaderMap: rawHeaders("content-type", "application/json", partialBodyHeader, "false"),
	}
	change(http)
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{Http: http}}}
}

func rawHeaders(pairs ...string) *corev3.HeaderMap {
	m := &corev3.HeaderMap{}
	for i := 0; i < len(pairs); i += 2 {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
	}
	return m
}

func newReader(t testing.TB, trusted ...string) *requestReader {
	t.Helper()
	models, err := newModelReader(trusted)
	if err != nil {
		t.Fatal(err)
	}
	return &requestReader{selector: "x-team-id", models: models}
}

func TestModel(t *testing.T) {
	known := func(name string) teams.Model { return teams.Model{State: teams.ModelKnown, Name: name} }
	unreadable, absent := teams.Model{}, teams.Model{State: teams.ModelAbsent}
	body := func(text string) func(*httpRequest) {
		return func(h *httpRequest) { h.RawBody, h.Size = []byte(text), int64(len(text)) }
	}
	path := func(p string, more ...func(*httpRequest)) func(*httpRequest) {
		return func(h *httpRequest) {
			h.Path = p
			for _, change := range more {
				change(h)
			}
		}
	}
	header := func(pairs ...string) func(*httpRequest) {
		return func(h *httpRequest) {
			h.HeaderMap.Headers = append(h.HeaderMap.Headers, rawHeaders(pairs...).Headers...)
		}
	}
	part := func(disposition, value string) string {
		return "--x\r\ncontent-disposition: form-data; " + disposition + "\r\n\r\n" + value + "\r\n"
	}
	form := func(contentType, text string) func(*httpRequest) {
		return func(h *httpRequest) {
			h.HeaderMap = rawHeaders("content-type", contentType, partialBodyHeader, "false")
			h.RawBody, h.Size = []byte(text), int64(len(text))
		}
	}
	method := func(m string) func(*httpRequest) { return func(h *httpRequest) { h.Method = m } }
	noBody := body("")
	for name, c := range map[string]struct {
		change func(*httpRequest)
		model  teams.Model
		err    error
	}{
		"body":                        {body(`{"messages":[{"model":"x"}],"model":"gpt-4o"}`), known("gpt-4o"), nil},
		"escaped name":                {body(`{"mod\u0065l":"gpt-4o"}`), known("gpt-4o"), nil},
		"escaped value":               {body(`{"model":"gpt\u002d4o"}`), known("gpt-4o"), nil},
		"twice":                       {body(`{"model":"a","model":"b"}`), teams.Model{}, ErrModelAmbiguous},
		"twice the same":              {body(`{"model":"a","model":"a"}`), teams.Model{}, ErrModelAmbiguous},
		"twice, once escaped":         {body(`{"model":"a","\u006dodel":"b"}`), teams.Model{}, ErrModelAmbiguous},
		"in another case":             {body(`{"Model":"a"}`), teams.Model{}, ErrModelAmbiguous},
		"no model":                    {body(`{"messages":[]}`), unreadable, nil},
		"null":                        {body(`{"model":null}`), unreadable, nil},
		"a list":                      {body(`{"model":["a"]}`), unreadable, nil},
		"empty":                       {body(`{"model":""}`), unreadable, nil},
		"control character":           {body(`{"model":"a\u0000"}`), unreadable, nil},
		"not an object":               {body(`["model"]`), unreadable, nil},
		"not JSON":                    {body(`model=gpt-4o`), unreadable, nil},
		"cut":                         {body(`{"model":"gpt-4o"`), unreadable, nil},
		"text after it":               {body(`{"model":"gpt-4o"} {"model":"o1"}`), unreadable, nil},
		"garbage after it":            {body(`{"model":"gpt-4o"}x`), unreadable, nil},
		"bad UTF-8":                   {body("{\"model\":\"gpt-4o\",\"x\":\"\xff\"}"), unreadable, nil},
		"byte order mark":             {body("\xef\xbb\xbf{\"model\":\"gpt-4o\"}"), unreadable, nil},
		"white space around":          {body(" \n{\"model\":\"gpt-4o\"}\r\n"), known("gpt-4o"), nil},
		"no body":                     {noBody, unreadable, nil},
		"partial body":                {func(h *httpRequest) { h.HeaderMap = rawHeaders(partialBodyHeader, "true") }, unreadable, nil},
		"shorter than its size":       {func(h *httpRequest) { h.Size = 100 }, unreadable, nil},
		"two partial headers":         {header(partialBodyHeader, "false"), unreadable, nil},
		"two content types":           {header("content-type", "multipart/form-data; boundary=x"), unreadable, nil},
		"multipart":                   {form("multipart/form-data; boundary=x", part(`name="file"; filename="a.wav"`, "RIFF")+part(`name="model"`, "whisper-1")+"--x--\r\n"), known("whisper-1"), nil},
		"multipart, quoted boundary":  {form(`Multipart/Form-Data; boundary="x"`, part(`name=model`, "whisper-1")+"--x--"), known("whisper-1"), nil},
		"multipart, none":             {form("multipart/form-data; boundary=x", part(`name="file"`, "RIFF")+"--x--\r\n"), unreadable, nil},
		"multipart, twice":            {form("multipart/form-data; boundary=x", part(`name="model"`, "a")+part(`name="model"`, "a")+"--x--\r\n"), teams.Model{}, ErrModelAmbiguous},
		"multipart, another case":     {form("multipart/form-data; boundary=x", part(`name="Model"`, "a")+"--x--\r\n"), teams.Model{}, ErrModelAmbiguous},
		"multipart, extended name":    {form("multipart/form-data; boundary=x", part(`name="a"; name*=utf-8''model`, "a")+part(`name="model"`, "b")+"--x--\r\n"), teams.Model{}, ErrModelAmbiguous},
		"multipart, cut":              {form("multipart/form-data; boundary=x", part(`name="model"`, "whisper-1")), unreadable, nil},
		"multipart, no boundary":      {form("multipart/form-data", part(`name="model"`, "whisper-1")+"--x--\r\n"), unreadable, nil},
		"multipart, other boundary":   {form("multipart/form-data; boundary=y", part(`name="model"`, "whisper-1")+"--x--\r\n"), unreadable, nil},
		"multipart, a file as model":  {form("multipart/form-data; boundary=x", part(`name="model"; filename="m"`, "whisper-1")+"--x--\r\n"), unreadable, nil},
		"multipart, encoded model":    {form("multipart/form-data; boundary=x", "--x\r\ncontent-disposition: form-data; name=\"model\"\r\ncontent-transfer-encoding: quoted-printable\r\n\r\n=61\r\n--x--\r\n"), unreadable, nil},
		"multipart, text before it":   {form("multipart/form-data; boundary=x", "a\r\n"+part(`name="model"`, "whisper-1")+"--x--\r\n"), unreadable, nil},
		"multipart, text after it":    {form("multipart/form-data; boundary=x", part(`name="model"`, "whisper-1")+"--x--\r\na"), unreadable, nil},
		"multipart, line break first": {form("multipart/form-data; boundary=x", "\r\n"+part(`name="model"`, "whisper-1")+"--x--\r\n\r\n"), known("whisper-1"), nil},
		"multipart, delimiter in it":  {form("multipart/form-data; boundary=x", part(`name="a"`, "b--x")+part(`name="model"`, "whisper-1")+"--x--\r\n"), unreadable, nil},
		"multipart, more parameters":  {form("multipart/form-data; boundary=x; z=y", part(`name="model"`, "whisper-1")+"--x--\r\n"), unreadable, nil},
		"multipart, ext. boundary":    {form("multipart/form-data; boundary=y; boundary*=utf-8''x", part(`name="model"`, "whisper-1")+"--x--\r\n"), unreadable, nil},
		"multipart, escaped boundary": {form(`multipart/form-data; boundary="x\y"`, strings.ReplaceAll(part(`name="model"`, "whisper-1")+"--x--\r\n", "--x", `--x\y`)), unreadable, nil},
		"multipart, two dispositions": {form("multipart/form-data; boundary=x", part("name=\"a\"\r\ncontent-disposition: form-data; name=\"model\"", "o1")+part(`name="model"`, "whisper-1")+"--x--\r\n"), unreadable, nil},
		"multipart, no disposition":   {form("multipart/form-data; boundary=x", "--x\r\nx-a: b\r\n\r\no1\r\n"+part(`name="model"`, "whisper-1")+"--x--\r\n"), unreadable, nil},
		"multipart, an attachment":    {form("multipart/form-data; boundary=x", "--x\r\ncontent-disposition: attachment; name=\"model\"\r\n\r\nwhisper-1\r\n--x--\r\n"), unreadable, nil},
		"multipart, empty model":      {path("/openai/deployments/gpt-4o/audio/speech", form("multipart/form-data; boundary=x", part(`name="model"`, "")+"--x--\r\n")), unreadable, nil},
		"multipart/mixed, JSON in it": {form("multipart/mixed; boundary=x", `{"model":"gpt-4o"}`), unreadable, nil},
		"multipart, a charset":        {form("multipart/form-data; boundary=x; charset=utf-8", part(`name="model"`, "whisper-1")+"--x--\r\n"), known("whisper-1"), nil},
		"multipart, extended file":    {form("multipart/form-data; boundary=x", part(`name="file"; filename*=utf-8''a.wav`, "RIFF")+part(`name="model"`, "whisper-1")+"--x--\r\n"), known("whisper-1"), nil},
		"multipart, charset of model": {form("multipart/form-data; boundary=x", "--x\r\ncontent-disposition: form-data; name=\"model\"\r\ncontent-type: text/plain; charset=utf-7\r\n\r\na\r\n--x--\r\n"), unreadable, nil},
		"multipart/mixed":             {form("multipart/mixed; boundary=x", part(`name="model"`, "whisper-1")+"--x--\r\n"), unreadable, nil},
		"form":                        {form("application/x-www-form-urlencoded", "model=gpt-4o&x=1"), known("gpt-4o"), nil},
		"form, twice":                 {form("application/x-www-form-urlencoded", "model=gpt-4o&model=o1"), teams.Model{}, ErrModelAmbiguous},
		"form, JSON in it":            {form("application/x-www-form-urlencoded", `{"x":"&model=gpt-4o&"}`), unreadable, nil},
		"form, type does not parse":   {form("application/x-www-form-urlencoded; =", `{"model":"gpt-4o"}`), unreadable, nil},
		"form, JSON after a mark":     {form("application/x-www-form-urlencoded", "\ufeff{\"x\":\"&model=gpt-4o&\"}"), unreadable, nil},
		"form, another case":          {form("application/x-www-form-urlencoded", "Model=o1&model=gpt-4o"), teams.Model{}, ErrModelAmbiguous},
		"form, UTF-16 in it":          {form("application/x-www-form-urlencoded", "\x00{\x00}&model=gpt-4o"), unreadable, nil},
		"form, none":                  {form("application/x-www-form-urlencoded", "x=1"), unreadable, nil},
		"gzip":                        {header("content-encoding", "gzip"), unreadable, nil},
		"two content types, joined":   {form("application/json,application/json", `{"model":"gpt-4o"}`), unreadable, nil},
		"identity twice":              {header("content-encoding", "identity", "content-encoding", "Identity"), unreadable, nil},
		"identity and more, joined":   {header("content-encoding", "identity, gzip"), unreadable, nil},
		"identity":                    {header("content-encoding", "identity"), known("gpt-4o"), nil},
		"text/plain JSON":             {form("text/plain", `{"model":"gpt-4o"}`), known("gpt-4o"), nil},
		"query agrees":                {path("/v1/chat/completions?model=gpt-4o"), known("gpt-4o"), nil},
		"query disagrees":             {path("/v1/chat/completions?model=o1"), teams.Model{}, ErrModelAmbiguous},
		"query, escaped name":         {path("/v1/chat/completions?m%6Fdel=o1"), teams.Model{}, ErrModelAmbiguous},
		"query after a semicolon":     {path("/v1/chat/completions?a=b;model=o1"), teams.Model{}, ErrModelAmbiguous},
		"query, cut by a semicolon":   {path("/v1/chat/completions?model=gpt-4o;x"), teams.Model{}, ErrModelAmbiguous},
		"query twice":                 {path("/v1/chat/completions?model=gpt-4o&model=o1"), teams.Model{}, ErrModelAmbiguous},
		"query, empty":                {path("/v1/chat/completions?model="), teams.Model{}, ErrModelAmbiguous},
		"query, another case":         {path("/v1/chat/completions?MODEL=gpt-4o"), teams.Model{}, ErrModelAmbiguous},
		"query, bad UTF-8":            {path("/v1/chat/completions?model=%ff"), unreadable, nil},
		"query, bad escape":           {path("/v1/chat/completions?mode%=o1"), teams.Model{}, ErrRequestMalformed},
		"Azure":                       {path("/openai/deployments/gpt-4o/chat/completions", body(`{}`)), known("gpt-4o"), nil},
		"a list of models":            {body(`{"model":"gpt-4o,o1"}`), teams.Model{}, ErrModelAmbiguous},
		"fallbacks":                   {body(`{"model":"gpt-4o","fallbacks":["o1"]}`), unreadable, nil},
		"a very long name":            {body(`{"model":"` + strings.Repeat("x", 300) + `"}`), unreadable, nil},
		"another charset":             {form("application/json; charset=utf-7", `{"model":"gpt-4o"}`), unreadable, nil},
		"its own charset":             {form(`application/json; charset="UTF-8"`, `{"model":"gpt-4o"}`), known("gpt-4o"), nil},
		"Azure, slash in the name":    {path("/openai/deployments/mistral/large/chat/completions", body(`{}`)), known("mistral/large"), nil},
		"Azure, in another case":      {path("/openai/Deployments/o1/chat/completions"), teams.Model{}, ErrModelAmbiguous},
		"Azure, unknown action":       {path("/openai/deployments/gpt-4o/frob"), unreadable, nil},
		"Gemini, slash in the name":   {path("/v1beta/models/gemini/pro:generateContent"), teams.Model{}, ErrModelAmbiguous},
		"Gemini, tuned":               {path("/v1beta/tunedModels/x:generateContent"), teams.Model{}, ErrModelAmbiguous},
		"Bedrock":                     {path("/bedrock/model/anthropic.claude/invoke", body(`{}`)), known("anthropic.claude"), nil},
		"Bedrock, converse":           {path("/bedrock/model/anthropic.claude/converse", body(`{}`)), known("anthropic.claude"), nil},
		"Bedrock, in another case":    {path("/bedrock/model/o1/Invoke"), unreadable, nil},
		"Azure, a list in the body":   {path("/openai/deployments/gpt-4o/chat/completions", body(`{"model":["o1"]}`)), unreadable, nil},
		"Azure, empty in the body":    {path("/openai/deployments/gpt-4o/chat/completions", body(`{"model":""}`)), unreadable, nil},
		"Azure, two actions":          {path("/openai/deployments/gpt-4o/embeddings/x/chat/completions"), teams.Model{}, ErrModelAmbiguous},
		"Gemini, two actions":         {path("/v1beta/models/gpt-4o:countTokens-x:generateContent", body(`{}`)), teams.Model{}, ErrModelAmbiguous},
		"Gemini and Azure":            {path("/models/gpt-4o:x/deployments/o1/chat/completions"), teams.Model{}, ErrModelAmbiguous},
		"a model's description":       {path("/model/info", method("GET"), noBody), absent, nil},
		"an upgrade":                  {path("/v1/responses", method("GET"), noBody, header("upgrade", "websocket")), unreadable, nil},
		"an upgrade with a model":     {path("/v1/responses?model=gpt-4o", method("GET"), noBody, header("upgrade", "websocket")), unreadable, nil},
		"realtime with an upgrade":    {path("/v1/realtime/?model=gpt-4o", method("GET"), noBody, header("upgrade", "websocket")), known("gpt-4o"), nil},
		"Azure disagrees":             {path("/openai/deployments/o1/chat/completions"), teams.Model{}, ErrModelAmbiguous},
		"Azure, unseen body":          {path("/openai/deployments/o1/chat/completions", noBody, func(h *httpRequest) { h.HeaderMap = nil }), unreadable, nil},
		"engines":                     {path("/engines/gpt-4o/completions", body(`{}`)), known("gpt-4o"), nil},
		"Gemini":                      {path("/v1beta/models/gemini-2.0:generateContent", body(`{"contents":[]}`)), known("gemini-2.0"), nil},
		"Gemini, colon in the name":   {path("/v1beta/models/a:b:generateContent", body(`{}`)), known("a:b"), nil},
		"models list":                 {path("/v1/models", method("GET"), noBody), absent, nil},
		"one model's description":     {path("/v1/models/gpt-4o", method("GET"), noBody), absent, nil},
		"GET without a body header":   {path("/v1/models", method("GET"), noBody, func(h *httpRequest) { h.HeaderMap = nil }), absent, nil},
		"realtime":                    {path("/v1/realtime?model=gpt-4o", method("GET"), noBody), known("gpt-4o"), nil},
		"realtime, unseen body":       {path("/v1/realtime?model=gpt-4o", method("GET"), noBody, func(h *httpRequest) { h.HeaderMap = rawHeaders("content-length", "9") }), unreadable, nil},
		"realtime, body of no length": {path("/v1/realtime?model=gpt-4o", method("GET"), noBody, func(h *httpRequest) { h.HeaderMap = rawHeaders("transfer-encoding", "chunked") }), unreadable, nil},
		"realtime, two lengths":       {path("/v1/realtime?model=gpt-4o", method("GET"), noBody, func(h *httpRequest) { h.HeaderMap = rawHeaders("content-length", "0", "content-length", "9") }), unreadable, nil},
		"realtime, empty body":        {path("/v1/realtime?model=gpt-4o", method("GET"), noBody, func(h *httpRequest) { h.HeaderMap = rawHeaders("content-length", "0") }), known("gpt-4o"), nil},
		"realtime, none":              {path("/v1/realtime", method("GET"), noBody), unreadable, nil},
		"file upload":                 {path("/v1/files", header("content-type", "multipart/form-data")), absent, nil},
		"batch":                       {path("/v1/batches", body(`{"input_file_id":"f"}`)), unreadable, nil},
		"mcp":                         {path("/mcp", body(`{"method":"tools/call"}`)), absent, nil},
		"unknown route":               {path("/custom", body(`{"x":1}`)), unreadable, nil},
		"unknown route with a model":  {path("/custom"), known("gpt-4o"), nil},
		"management route":            {path("/key/generate", body(`{"models":["a"]}`)), absent, nil},
		"untrusted header":            {header("x-other-model", "o1"), known("gpt-4o"), nil},
		"trusted header agrees":       {header("x-model", "gpt-4o"), known("gpt-4o"), nil},
		"trusted header disagrees":    {header("x-model", "o1"), teams.Model{}, ErrModelAmbiguous},
		"trusted header twice":        {header("x-model", "gpt-4o", "x-model", "gpt-4o"), teams.Model{}, ErrRequestMalformed},
		"trusted header, unseen body": {func(h *httpRequest) { h.RawBody, h.Size, h.HeaderMap = nil, 0, rawHeaders("x-model", "gpt-4o") }, unreadable, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := newReader(t, "x-model").read(wire.RequestOf(in(c.change)))
			if !errors.Is(err, c.err) || (err == nil) != (c.err == nil) || err == nil && r.Model != c.model {
				t.Fatalf("got %+v, %v; want %+v, %v", r.Model, err, c.model, c.err)
			}
		})
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*httpRequest)
		err    error
	}{
		"no method":              {func(h *httpRequest) { h.Method = "" }, ErrRequestMalformed},
		"CONNECT":                {func(h *httpRequest) { h.Method = "CONNECT" }, ErrRequestMalformed},
		"a method with a space":  {func(h *httpRequest) { h.Method = "GET /x" }, ErrRequestMalformed},
		"userinfo in the host":   {func(h *httpRequest) { h.Host = "a@b" }, ErrRequestMalformed},
		"two hosts":              {func(h *httpRequest) { h.Host = "a,b" }, ErrRequestMalformed},
		"NUL in the host":        {func(h *httpRequest) { h.Host = "a\x00b" }, ErrRequestMalformed},
		"a query in the host":    {func(h *httpRequest) { h.Host = "a?b" }, ErrRequestMalformed},
		"a space in the query":   {func(h *httpRequest) { h.Path = "/a?b c" }, ErrPathAmbiguous},
		"both forms of the body": {func(h *httpRequest) { h.Body = "{}" }, ErrRequestMalformed},
		"absolute form":          {func(h *httpRequest) { h.Path = "http://a/b" }, ErrPathAmbiguous},
		"both forms of headers":  {func(h *httpRequest) { h.Headers = map[string]string{"a": "b"} }, ErrRequestMalformed},
		"two values of a header": {func(h *httpRequest) { h.HeaderMap.Headers[0].Value = "other" }, ErrRequestMalformed},
		"two selected teams":     {func(h *httpRequest) { h.HeaderMap = rawHeaders("x-team-id", "a", "x-team-id", "b") }, ErrRequestMalformed},
		"a list of teams":        {func(h *httpRequest) { h.HeaderMap = rawHeaders("X-Team-Id", "a,b") }, ErrRequestMalformed},
		"a control in the team":  {func(h *httpRequest) { h.HeaderMap = rawHeaders("x-team-id", "a\x01") }, ErrRequestMalformed},
	} {
		if _, err := newReader(t).read(wire.RequestOf(in(c.change))); !errors.Is(err, c.err) {
			t.Errorf("%s: %v, want %v", name, err, c.err)
		}
	}
	for _, empty := range []*authv3.CheckRequest{nil, {}, {Attributes: &authv3.AttributeContext{}}} {
		if _, err := newReader(t).read(wire.RequestOf(empty)); !errors.Is(err, ErrRequestMalformed) {
			t.Errorf("%v: %v", empty, err)
		}
	}
}

// FuzzRead: whatever a peer sends, reading it neither panics nor yields a path that is not canonical,
// and both forms of headers read alike, also where a header was sent twice and Envoy joined the two.
func FuzzRead(f *testing.F) {
	f.Add("POST", "/v1/chat/completions?model=a", "host", "x-team-id", "a", "", []byte(`{"model":"a"}`))
	f.Add("POST", "/v1/chat/completions", "host", "Authorization", "Bearer a", "Bearer b", []byte(`{"model":"a"}`))
	f.Add("POST", "/v1/chat/completions", "host", "content-type", "application/json", "application/json", []byte(`{"model":"a"}`))
	f.Add("POST", "/v1/chat/completions", "host", "content-encoding", "identity", "identity", []byte(`{"model":"a"}`))
	f.Add("GET", "/v1/models", "host", "content-length", "0", "0", []byte(nil))
	f.Fuzz(func(t *testing.T, method, path, host, name, first, second string, body []byte) {
		read := func(change func(*authv3.AttributeContext_HttpRequest)) (Request, string, string) {
			r, err := newReader(t, "x-model").read(wire.RequestOf(in(func(h *authv3.AttributeContext_HttpRequest) {
				h.Method, h.Path, h.Host, h.RawBody, h.Size = method, path, host, body, int64(len(body))
				change(h)
			})))
			bearer, credentialErr := bearerFrom(r.headers, []string{"authorization", "x-token"})
			return r, bearer, reasonOf(err) + " " + reasonOf(credentialErr)
		}
		raw, rawBearer, rawErr := read(func(h *authv3.AttributeContext_HttpRequest) {
			h.HeaderMap = rawHeaders(name, first)
			if second != "" {
				h.HeaderMap = rawHeaders(name, first, strings.ToUpper(name), second)
			}
		})
		joined, joinedBearer, joinedErr := read(func(h *authv3.AttributeContext_HttpRequest) {
			h.HeaderMap, h.Headers = nil, map[string]string{name: first}
			if second != "" {
				h.Headers[name] = first + "," + second
			}
		})
		if rawErr != joinedErr || raw.Request != joined.Request || rawBearer != joinedBearer {
			t.Fatalf("raw: %+v, %s; joined: %+v, %s", raw.Request, rawErr, joined.Request, joinedErr)
		}
		if strings.HasPrefix(rawErr, " ") && (raw.Path == "" || raw.Path[0] != '/') {
			t.Fatalf("path %q", raw.Path)
		}
	})
}

// reasonOf is what a client is told of an error; "" for none.
func reasonOf(err error) string {
	if err == nil {
		return ""
	}
	return string(outcomeOf(err).Reason)
}

// sent are headers by name, as tests state them.
type sent map[string][]string

func (s sent) list() (h headers) {
	for name, values := range s {
		for _, value := range values {
			h.list = append(h.list, wire.Header{Name: name, Value: value})
		}
	}
	return h
}
