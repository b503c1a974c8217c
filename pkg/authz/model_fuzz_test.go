package authz

import (
	"testing"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"pgregory.net/rapid"

	"github.com/extauthz/extauthz/pkg/authz/wire"
	"github.com/extauthz/extauthz/pkg/teams"
)

// modelRequest is a request that names its model, in one way or another.
type modelRequest struct{ target, contentType, body string }

const (
	formOfX    = "multipart/form-data; boundary=x"
	urlencoded = "application/x-www-form-urlencoded"
)

// formPart is a part of a form with the boundary x.
func formPart(disposition, value string) string {
	return "--x\r\ncontent-disposition: " + disposition + "\r\n\r\n" + value + "\r\n"
}

// plainRequests name the model "ok", and only that.
func plainRequests() []modelRequest {
	const chat, form = "/v1/chat/completions", "/v1/audio/transcriptions"
	model, file := formPart(`form-data; name="model"`, "ok"), formPart(`form-data; name="file"; filename="a"`, "RIFF")
	return []modelRequest{
		{chat, "application/json", `{"model":"ok"}`}, {chat + "?model=ok", "", `{"model":"ok","x":[1]}`}, {chat + "?x=1&model=ok", "application/json", "{}"},
		{"/openai/deployments/ok/chat/completions", "application/json", "{}"}, {"/engines/ok/embeddings", "", ""},
		{"/v1beta/models/ok:generateContent", "application/json", "{}"}, {"/tunedModels/ok:x", "application/json", "{}"},
		{"/bedrock/model/ok/invoke", "application/json", "{}"},
		{form, urlencoded, "model=ok"}, {form, urlencoded + "; charset=utf-8", "a=b&model=ok&x=1"},
		{form, formOfX, model + "--x--"}, {form, formOfX, file + model + "--x--\r\n"}, {form, formOfX, model + file + "--x--\r\n"},
		{form, formOfX, "--x\ncontent-disposition: form-data; name=\"model\"\n\nok\n--x--"},
	}
}

// hidingRequests once passed as requests for the model "ok", while some reader finds "o1" in them.
func hidingRequests() []modelRequest {
	const chat, form = "/v1/chat/completions", "/v1/audio/transcriptions"
	model := formPart(`form-data; name="model"`, "ok")
	hidden := func(disposition string) modelRequest {
		return modelRequest{form, formOfX, model + formPart(disposition, "o1") + "--x--\r\n"}
	}
	return []modelRequest{
		hidden(`form-data; name="model"; y`), hidden(`attachment; name="model"`), hidden(`form-data; name="mo\del"`), hidden(`form-data; name="model"; name*=utf-8''y`),
		hidden(`form-data; filename="\"; name=model; x="; name="y"`),
		{form, formOfX, model + formPart(`form-data; name="y"`, "\n--x\ncontent-disposition: form-data; name=\"model\"\n\no1") + "--x--\r\n"},
		{form, formOfX, model + "--x--\r\n" + formPart(`form-data; name="model"`, "o1") + "--x--\r\n"},
		{form, `multipart/form-data; z="; boundary=y"; boundary=x`, model + formPart(`form-data; name="y"`, "\r\n--y\r\ncontent-disposition: form-data; name=\"model\"\r\n\r\no1\r\n--y--") + "--x--\r\n"},
		{chat, urlencoded, `{"model":"o1"}&model=ok`}, {chat, urlencoded, `{"model":"o1","x":"&model=ok-"}`}, {chat, formOfX, `{"model":"o1"}` + "\r\n" + model + "--x--\r\n"},
		{chat + "?model=ok;o1", "", ""},
		{"/bedrock/model/o1/Invoke", "application/json", `{"model":"ok"}`}, {"/v1beta/models/o1:generateContent-ok:generateContent", "application/json", "{}"},
		{"/openai/deployments/o1/chat/completions/x-ok/chat/completions", "application/json", "{}"},
		{"/openai/models/ok:x/deployments/o1/chat/completions", "application/json", "{}"},
		{"/bedrock/model/o1/invoked/x-ok/invoke", "application/json", "{}"}, {"/openai/deployments/o1/embeddings-ok/chat/completions", "application/json", "{}"},
	}
}

// modelCheck returns a check of one request: if restrictions on models let it pass, no forgiving reader finds
// another model in it that they forbid. The check reports whether they do let it pass.
func modelCheck(t testing.TB) func(t interface{ Fatalf(string, ...any) }, r modelRequest) bool {
	t.Helper()
	policy, err := teams.NewPolicy(teams.Config{}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	reader := newReader(t)
	permitted := func(model teams.Model) bool {
		return policy.Permit(nil, []string{"ok", "ok-*", "*-ok"}, teams.Request{Model: model}) == nil
	}
	return func(t interface{ Fatalf(string, ...any) }, m modelRequest) bool {
		r, err := reader.read(wire.RequestOf(in(func(h *authv3.AttributeContext_HttpRequest) {
			h.Path, h.RawBody, h.Size = m.target, []byte(m.body), int64(len(m.body))
			h.HeaderMap = rawHeaders("content-type", m.contentType, partialBodyHeader, "false")
		})))
		if err != nil || !reader.models.carries(&r, r.headers.has("upgrade")) || !permitted(r.Model) {
			return false
		}
		_, query := splitTarget(m.target)
		for _, name := range lenientModels(r.Path, query, m.contentType, []byte(m.body)) {
			if name != "" && !permitted(teams.Model{State: teams.ModelKnown, Name: name}) {
				t.Fatalf("%q passes as model %q, and %q hides in it", m, r.Model.Name, name)
			}
		}
		return true
	}
}

func TestHiddenModels(t *testing.T) {
	check := modelCheck(t)
	for _, r := range plainRequests() {
		if !check(t, r) {
			t.Errorf("%q does not pass", r)
		}
	}
	for _, r := range hidingRequests() {
		t.Run(r.target+" "+r.contentType, func(t *testing.T) {
			if check(t, r) {
				t.Errorf("%q passes", r)
			}
		})
	}
}

// FuzzModel: a request that restrictions on models let pass names no other model to a more forgiving reader.
func FuzzModel(f *testing.F) {
	check := modelCheck(f)
	for _, r := range append(plainRequests(), hidingRequests()...) {
		f.Add(r.target, r.contentType, r.body)
	}
	f.Fuzz(func(t *testing.T, target, contentType, body string) {
		check(t, modelRequest{target, contentType, body})
	})
}

// TestHiddenModelsInEditedRequests is FuzzModel with edits that know the forms: a few pieces of them go anywhere into
// a plain request.
func TestHiddenModelsInEditedRequests(t *testing.T) {
	check := modelCheck(t)
	targets := []string{
		"/deployments", "/Engines", "/models", "/tunedModels", "/model", "/ok", "/o1", "/", "-ok", "ok-", ":generateContent", ":countTokens", ":x", "/chat/completions",
		"/embeddings", "/invoke", "/Converse", "/responses", "?", "?model=", "%6dodel", "model", "=", "o1", "&", ";", "%", "+", "Model=",
	}
	types := []string{"; ", ";", `boundary="x"`, "; boundary=y", "; boundary*=utf-8''y", `\`, `; z="`, `"`, ",", "charset=utf-8", "charset=utf-7", "application/json", "*"}
	bodies := []string{
		formPart(`form-data; name="model"`, "o1"), "--x\r\n", "--x\n", "--y\r\n", "--x--\r\n", "--x", `; name="model"`, `; filename="a"`, `filename="\"`, "name=model",
		"name*=utf-8''y", "; z", `\`, `"`, "\r\n", "\n", "\r", "o1", "-ok", "ok-", `{"model":"o1"}`, `"Model":"o1",`, `"mod\u0065l":"o1",`, `"model":"o1",`,
		",", "&", "model=o1", ";", "+", "\ufeff", "\x00", "{", "}",
	}
	passed := 0
	rapid.Check(t, func(t *rapid.T) {
		for range 50 {
			r := rapid.SampledFrom(plainRequests()).Draw(t, "request")
			edited := modelRequest{edit(t, r.target, targets), edit(t, r.contentType, types), edit(t, r.body, bodies)}
			if check(t, edited) {
				passed++
			}
		}
	})
	if passed == 0 {
		t.Error("no request passed: the edits are no test")
	}
}

// edit inserts up to three pieces into a text, or none, over some of its characters.
func edit(t *rapid.T, text string, pieces []string) string {
	for range max(0, rapid.IntRange(-1, 3).Draw(t, "edits")) {
		from := rapid.IntRange(0, len(text)).Draw(t, "from")
		to := min(len(text), from+rapid.SampledFrom([]int{0, 0, 0, 1, 4}).Draw(t, "over"))
		text = text[:from] + rapid.SampledFrom(pieces).Draw(t, "piece") + text[to:]
	}
	return text
}
