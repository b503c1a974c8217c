package adversary

import (
	"strings"
)

const (
	oneModel  = "two readers take two models: refused"
	unseen    = "where models are restricted, what cannot be read is refused"
	litellms  = "LiteLLM reads it: "
	dupJSON   = "RFC 8259 4: which of two members counts differs by reader"
	partially = "ENVOY: with_request_body may cut the body"
)

// modelCases smuggle gpt-4o past a key that may use *-mini alone.
func modelCases() []Case {
	forbidden, required := deny(403, "model_forbidden"), deny(403, "model_required")
	ambiguous, permitted := deny(400, "model_ambiguous"), allow("mapping").with("mini")
	const (
		chat   = "/v1/chat/completions"
		edits  = "/v1/images/edits"
		multi  = "multipart/form-data; boundary=x"
		coded  = "application/x-www-form-urlencoded"
		plain  = `{"model":"gpt-4o-mini","messages":[]}`
		secret = `{"model":"gpt-4o","messages":[]}`
	)
	part := func(disposition, value string) string {
		return "--x\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n" + value + "\r\n"
	}
	var cases []Case
	add := func(name, basis string, want want, m ...move) {
		cases = append(cases, Case{name, basis, want, append(moves{client("mini")}, m...)})
	}
	add("the permitted model", "control", permitted)
	add("another", "control of the cases below", forbidden, body(secret))
	add("in another case", "models are compared byte for byte", forbidden, body(`{"model":"GPT-4O-MINI"}`))
	add("in look-alike letters", lookAlike, forbidden, body(`{"model":"gpt-4o-mіni"}`))
	add("with a space after", "models are compared byte for byte", forbidden, body(`{"model":"gpt-4o-mini "}`))
	add("a suffix that the pattern wants, after a NUL", nul, required, body(`{"model":"gpt-4o\u0000-mini"}`))
	add("a suffix that the pattern wants, after a line break", "readers that trim", required, body(`{"model":"gpt-4o\n-mini"}`))
	add("a name of 300 bytes", "R10: bounds everywhere", required, body(`{"model":"`+strings.Repeat("x", 300)+`-mini"}`))
	add("a list in one name", litellms+"each of a list", ambiguous, body(`{"model":"gpt-4o-mini,gpt-4o"}`))
	add("a list in one name, the permitted one last", litellms+"each of a list", ambiguous, body(`{"model":"gpt-4o,gpt-4o-mini"}`))
	add("a list of names", unseen, required, body(`{"model":["gpt-4o-mini","gpt-4o"]}`))
	add("an object", unseen, required, body(`{"model":{"name":"gpt-4o"}}`))
	add("a number", unseen, required, body(`{"model":4}`))
	add("null", unseen, required, body(`{"model":null}`))
	add("empty", unseen, required, body(`{"model":""}`))
	add("none", unseen, required, body(`{"messages":[]}`))
	add("no body", unseen, required, body(""))

	add("twice, the permitted one first", dupJSON, ambiguous, body(`{"model":"gpt-4o-mini","model":"gpt-4o"}`))
	add("twice, the permitted one last", dupJSON, ambiguous, body(`{"model":"gpt-4o","model":"gpt-4o-mini"}`))
	add("twice, once with an escape", dupJSON, ambiguous, body(`{"model":"gpt-4o-mini","mod\u0065l":"gpt-4o"}`))
	add("twice, once in another case", "encoding/json ignores case", ambiguous, body(`{"model":"gpt-4o-mini","Model":"gpt-4o"}`))
	add("twice, once with the Kelvin sign's cousin", "encoding/json folds ſ to s; no such letter in model", permitted, body(`{"model":"gpt-4o-mini","ſtream":true}`))
	add("once, in another case", "encoding/json ignores case", ambiguous, body(`{"MODEL":"gpt-4o-mini"}`))
	add("inside of another object", "control: it is not the request's", permitted, body(`{"metadata":{"model":"gpt-4o"},"model":"gpt-4o-mini"}`))
	add("fallbacks", litellms+"fallbacks", required, body(`{"model":"gpt-4o-mini","fallbacks":["gpt-4o"]}`))
	add("fallbacks for long contexts", litellms+"context_window_fallbacks", required, body(`{"model":"gpt-4o-mini","context_window_fallbacks":[{"gpt-4o-mini":["gpt-4o"]}]}`))
	add("fallbacks for content policies", litellms+"content_policy_fallbacks", required, body(`{"model":"gpt-4o-mini","content_policy_fallbacks":[]}`))
	add("a list of models beside it", litellms+"models", required, body(`{"model":"gpt-4o-mini","models":["gpt-4o"]}`))
	add("fallbacks in another case", litellms+"fallbacks", required, body(`{"model":"gpt-4o-mini","Fallbacks":["gpt-4o"]}`))
	add("text after the object", "readers that stop at its end", required, body(plain+secret))
	add("a NUL after the object", nul, required, body(plain+"\x00"))
	add("cut short", unseen, required, body(`{"model":"gpt-4o-mini"`))
	add("a list around it", unseen, required, body("["+plain+"]"))
	add("a byte order mark before it", "RFC 8259 8.1", required, body("\xef\xbb\xbf"+plain))
	add("in UTF-16", "RFC 8259 8.1", required, body("\xff\xfe{\x00\"\x00"))
	add("in UTF-7", "charset of the content type", required, form("application/json; charset=utf-7", plain))
	add("invalid UTF-8 in it", "RFC 8259 8.1", required, body("{\"model\":\"gpt-4o-mini\",\"x\":\"\xff\"}"))
	add("a comment in it", "readers of JSON5", required, body(`{/*"model":"gpt-4o",*/"model":"gpt-4o-mini"}`))
	add("single quotes", "readers of JSON5", required, body(`{'model':'gpt-4o','model':'gpt-4o-mini'}`))
	add("nested 20,000 deep", tooDeep, required, body(`{"x":`+strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000)+`,"model":"gpt-4o-mini"}`))

	add("another in the query", litellms+"the query before the body", ambiguous, path(chat+"?model=gpt-4o"))
	add("another in the query, escaped", litellms+"the query", ambiguous, path(chat+"?m%6fdel=gpt-4o"))
	add("another in the query, after a semicolon", "servers that part at ;", ambiguous, path(chat+"?x=1;model=gpt-4o"))
	add("another in the query, in another case", "servers that ignore case", ambiguous, path(chat+"?Model=gpt-4o"))
	add("two in the query", "which of two counts differs by server", ambiguous, path(chat+"?model=gpt-4o-mini&model=gpt-4o"))
	add("an empty one in the query", "which counts differs by server", ambiguous, path(chat+"?model="))
	add("a bad escape in the query", "readers that repair it", deny(400, "request_malformed"), path(chat+"?mod%el=gpt-4o"))
	add("only in the query", "control", permitted, path(chat+"?model=gpt-4o-mini"), body(`{}`))
	add("only in the query, another", litellms+"the query", forbidden, path(chat+"?model=gpt-4o"), body(`{}`))
	add("in a header", "the client can send it: it is not read", forbidden, body(secret), send("x-ai-eg-model", "gpt-4o-mini"), send("x-model", "gpt-4o-mini"))
	add("another in Azure's path", "the path and the body disagree", ambiguous, path("/openai/deployments/gpt-4o/chat/completions"))
	add("only in Azure's path, another", "Azure", forbidden, path("/openai/deployments/gpt-4o/chat/completions"), body("{}"))
	add("only in Azure's path, in another case", "servers that ignore case", deny(403, "route_forbidden"), path("/openai/Deployments/gpt-4o/chat/completions"), body("{}"))
	add("only in the path of engines, another", "Azure", forbidden, path("/engines/gpt-4o/completions"), body("{}"))
	add("another in Google's path", "Gemini", forbidden, path("/v1beta/models/gpt-4o:generateContent"), body("{}"))
	add("another in Google's path, with a colon", "Gemini", forbidden, path("/v1beta/models/gpt-4o-mini:x:generateContent"), body("{}"))
	add("realtime without one", unseen, required, get("/v1/realtime"))
	add("realtime with another", "OpenAI realtime", forbidden, get("/v1/realtime?model=gpt-4o"))
	add("realtime with two lengths", "CVE-2020-25017: duplicate headers", required, get("/v1/realtime?model=gpt-4o-mini"), send("content-length", "0"), send("content-length", "0"))
	add("a batch", "a batch names its models in a file", required, path("/v1/batches"), body(`{"input_file_id":"f"}`))

	add("compressed", unseen, required, send("content-encoding", "gzip"))
	add("compressed twice over", unseen, required, send("content-encoding", "identity"), send("content-encoding", "gzip"))
	add("the content coding in another case", unseen, required, send("content-encoding", "GZIP"))
	add("the content coding identity", "control", permitted, send("content-encoding", "identity"))
	add("the content coding identity twice", "CVE-2020-25017: duplicate headers", required, send("content-encoding", "identity"), send("content-encoding", "identity"))
	add("two content types", "CVE-2020-25017: duplicate headers", required, send("content-type", multi))
	add("the same content type twice", "CVE-2020-25017: duplicate headers", required, send("content-type", "application/json"))
	add("a content type that cannot be parsed", unseen, required, form("multipart/form-data; boundary", plain))
	add("a content type of no form", "control: upstreams read JSON whatever it says", permitted, form("text/plain", plain))
	add("a content type of no form, another model", "upstreams read JSON whatever the type says", forbidden, form("text/plain", secret))
	add("no content type, another model", "upstreams read JSON whatever the type says", forbidden, noHeaders, body(secret))
	add("JSON as a form", unseen, required, form(coded, plain))
	add("a form", "control", permitted, form(coded, "model=gpt-4o-mini"))
	add("a form with two", "which of two counts differs by server", ambiguous, form(coded, "model=gpt-4o-mini&model=gpt-4o"))
	add("a form with an escaped name", "form", ambiguous, form(coded, "model=gpt-4o-mini&%6dodel=gpt-4o"))
	add("a form with another in the query", "which counts differs by server", ambiguous, form(coded, "model=gpt-4o-mini"), path(chat+"?model=gpt-4o"))
	add("multipart", "control", permitted, path(edits), form(multi, part(`name="model"`, "gpt-4o-mini")+"--x--\r\n"))
	add("multipart with another", "control of the cases below", forbidden, path(edits), form(multi, part(`name="model"`, "gpt-4o")+"--x--\r\n"))
	add("multipart with two", "which of two counts differs by server", ambiguous, path(edits), form(multi, part(`name="model"`, "gpt-4o-mini")+part(`name="model"`, "gpt-4o")+"--x--\r\n"))
	add("multipart with one in another case", "servers that ignore case", ambiguous, path(edits), form(multi, part(`name="model"`, "gpt-4o-mini")+part(`name="Model"`, "gpt-4o")+"--x--\r\n"))
	add("multipart with an extended name", "RFC 5987", ambiguous, path(edits), form(multi, part(`name="x"; name*=utf-8''model`, "gpt-4o")+part(`name="model"`, "gpt-4o-mini")+"--x--\r\n"))
	add("multipart with two dispositions", "which of two counts differs by server", required, path(edits), form(multi, "--x\r\nContent-Disposition: form-data; name=\"y\"\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ngpt-4o\r\n"+part(`name="model"`, "gpt-4o-mini")+"--x--\r\n"))
	add("multipart with a file as the model", unseen, required, path(edits), form(multi, part(`name="model"; filename="m"`, "gpt-4o-mini")+"--x--\r\n"))
	add("multipart with an encoded model", unseen, required, path(edits), form(multi, "--x\r\nContent-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: base64\r\n\r\nZ3B0LTRv\r\n--x--\r\n"))
	add("multipart with another boundary", unseen, required, path(edits), form("multipart/form-data; boundary=y", part(`name="model"`, "gpt-4o-mini")+"--x--\r\n"))
	add("multipart with two boundaries", unseen, required, path(edits), form("multipart/form-data; boundary=y; boundary=x", part(`name="model"`, "gpt-4o-mini")+"--x--\r\n"))
	add("multipart without its end", unseen, required, path(edits), form(multi, part(`name="model"`, "gpt-4o-mini")))
	add("multipart of another kind", unseen, required, path(edits), form("multipart/mixed; boundary=x", part(`name="model"`, "gpt-4o-mini")+"--x--\r\n"))
	add("multipart after a preamble", "RFC 2046 5.1.1: a preamble is ignored; some servers do not", required, path(edits), form(multi, part(`name="y"`, "")+"--x--\r\n"+part(`name="model"`, "gpt-4o")))
	add("an upgrade", unseen, required, get("/v1/responses"), send("connection", "Upgrade"), send("upgrade", "websocket"), send("sec-websocket-key", "x3JJHMbDL1EzLkh9GBhXDw=="), send("sec-websocket-version", "13"))
	add("an upgrade to HTTP/2", "CVE-2019-9900 ff.: h2c smuggling", required, get("/v1/responses"), send("connection", "Upgrade, HTTP2-Settings"), send("upgrade", "h2c"), send("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA"), repaired("/v1/responses"))

	add("a body that Envoy cut", partially, required, cut)
	add("a body that Envoy cut, and a client's denial", partially, required, cut, send("x-envoy-auth-partial-body", "false"))
	add("a client's word that it is cut", "ENVOY: Envoy writes the mark itself", required, send("x-envoy-auth-partial-body", "true"), forge(nil))
	add("a body shorter than its size", partially, required, forgeSize(1000))
	add("a body that Envoy did not send", partially, required, unsent)
	return cases
}
