package authz

import (
	"bytes"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/extauthz/extauthz/pkg/teams"
)

// modelReader reads the model that a request asks for from every place where an upstream might look
// for it. Two places that disagree are refused, because which one wins differs by upstream:
// LiteLLM, for one, prefers a model parameter of the query to the body.
type modelReader struct {
	headers   []string // trusted to name the model
	modelless *teams.Routes
	readers   sync.Pool // of *jsonReader
}

// modellessRoutes carry no model, though their methods have bodies. What is not listed does: a
// batch, for one, names its models in a file that nobody sees here.
func modellessRoutes() map[string][]string {
	var routes []string
	for _, resource := range []string{"/files", "/uploads", "/vector_stores", "/containers", "/conversations", "/skills"} {
		routes = append(routes, resource, resource+"/*", "/v1"+resource, "/v1"+resource+"/*")
	}
	return map[string][]string{"modelless": append(routes, "mcp_routes", "info_routes", "management_routes")}
}

func newModelReader(trusted []string) (*modelReader, error) {
	routes, err := teams.NewRoutes(modellessRoutes())
	if err != nil {
		return nil, err
	}
	return &modelReader{headers: trusted, modelless: routes}, nil
}

// read returns the model of a request. An unreadable source hides a model only on routes that
// carry one.
func (m *modelReader) read(r *Request, query string, body []byte, sent *bodyHeaders, complete bool) (teams.Model, error) {
	names := &modelNames{readers: &m.readers}
	names.addPath(r.Path)
	if err := names.addQuery(query); err != nil {
		return teams.Model{}, err
	}
	for _, header := range m.headers {
		name, err := r.headers.one(header)
		if err != nil {
			return teams.Model{}, err
		}
		names.add(name)
	}
	names.addBody(body, sent, complete)
	upgrades := sent.upgrade.count > 0 // it asks to leave HTTP: what follows, models included, nobody sees
	if upgrades && !isRealtime(r.Path) {
		names.unreadable = true
	}
	return names.model(m.carries(r, upgrades))
}

func (m *modelReader) carries(r *Request, upgrades bool) bool {
	method, path := r.Method, r.Path
	switch method {
	case "GET", "HEAD", "DELETE", "OPTIONS":
		return isRealtime(path) || upgrades
	}
	return !m.modelless.Match([]string{"modelless"}, method, path)
}

func isRealtime(path string) bool {
	return strings.HasSuffix(strings.TrimSuffix(path, "/"), "/realtime")
}

// maxModelName bounds a model's name, in bytes: it goes into metadata and logs.
const maxModelName = 256

// modelNames collects what the sources say.
type modelNames struct {
	name       string
	ambiguous  bool
	unreadable bool
	readers    *sync.Pool
}

func (n *modelNames) add(name string) {
	switch {
	case name == "":
	case !utf8.ValidString(name) || !printable(name) || len(name) > maxModelName:
		n.unreadable = true // would be two things to two readers, or is no name
	case strings.Contains(name, ","): // LiteLLM calls each model of such a list
		n.ambiguous = true
	case n.name != "" && n.name != name:
		n.ambiguous = true
	default:
		n.name = name
	}
}

func (n *modelNames) model(carried bool) (teams.Model, error) {
	switch {
	case n.ambiguous:
		return teams.Model{}, ErrModelAmbiguous
	case n.unreadable && carried:
		return teams.Model{State: teams.ModelUnreadable}, nil
	case n.name != "":
		return teams.Model{State: teams.ModelKnown, Name: n.name}, nil
	case carried:
		return teams.Model{State: teams.ModelUnreadable}, nil
	}
	return teams.Model{State: teams.ModelAbsent}, nil
}

// maxPathForms is more than any API's path has.
const maxPathForms = 8

// addPath reads the forms that carry the model in the path: Azure's (/deployments/NAME/ACTION,
// /engines/NAME/ACTION), Google's (/models/NAME:action, /tunedModels/NAME:action) and Bedrock's
// (/model/NAME/ACTION). A name may itself hold slashes, as LiteLLM's routes let it; names of segments
// are compared without regard to case, as some upstreams do.
//
// Each form reads what is left of the path. With more than maxPathForms of them nobody knows which one counts, and to read
// them would take time that grows with the square of the path's length, before the caller is known.
func (n *modelNames) addPath(path string) {
	forms := 0
	for rest, more := path, true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		switch lower(segment) {
		case "deployments", "engines":
			n.addAction(rest, "chat/completions", "completions", "embeddings", "images/generations", "images/edits",
				"audio/speech", "audio/transcriptions", "audio/translations", "responses", "rerank")
		case "models", "tunedmodels":
			if name, _, action := cutLast(rest, ":"); action {
				n.addGoogle(name)
			}
		case "model":
			if below := strings.ToLower(rest); strings.Contains(below, "/invoke") || strings.Contains(below, "/converse") {
				n.addAction(rest, "invoke", "invoke-with-response-stream", "converse", "converse-stream")
			}
		default:
			continue
		}
		if forms++; forms > maxPathForms {
			n.ambiguous = true
			return
		}
	}
}

// addAction reads NAME/ACTION. What ends in no known action hides its name. A name may hold slashes, but no segment that
// begins as an action: that would be the end of the name to one who looks no further.
func (n *modelNames) addAction(rest string, actions ...string) {
	longest := ""
	for _, action := range actions {
		if strings.HasSuffix(rest, "/"+action) && len(action) > len(longest) {
			longest = action
		}
	}
	if longest == "" {
		n.unreadable = true
		return
	}
	name := strings.TrimSuffix(rest, "/"+longest)
	for _, action := range actions {
		n.ambiguous = n.ambiguous || strings.Contains(strings.ToLower(name), "/"+action)
	}
	n.add(name)
}

// addGoogle adds the NAME of NAME:action. A name may hold colons, but no action: that would be another name to one
// who reads to the first colon.
func (n *modelNames) addGoogle(name string) {
	for _, action := range []string{":generate", ":streamgenerate", ":count", ":embed", ":batch", ":predict", ":rawpredict", ":streamrawpredict"} {
		n.ambiguous = n.ambiguous || strings.Contains(strings.ToLower(name), action)
	}
	n.add(name)
}

func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return s, "", false
}

// addQuery reads the query parameter "model". Both separators that servers have used are honoured; a value
// that ends at one of them alone is two to two readers.
func (n *modelNames) addQuery(query string) error {
	for query != "" {
		pair, separator := query, byte('&')
		if i := strings.IndexAny(query, "&;"); i >= 0 {
			pair, separator, query = query[:i], query[i], query[i+1:]
		} else {
			query = ""
		}
		key, value, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(key)
		if err != nil {
			return fmt.Errorf("%w: bad escape in a query parameter's name", ErrRequestMalformed)
		}
		if !strings.EqualFold(name, "model") {
			continue
		}
		model, err := url.QueryUnescape(value)
		if err != nil || name != "model" || model == "" || separator == ';' {
			return fmt.Errorf("%w: the query parameter model", ErrModelAmbiguous)
		}
		n.add(model)
	}
	return nil
}

// addBody reads a complete body: a form where the content type says so, else JSON. Upstreams ignore
// most other content types.
func (n *modelNames) addBody(body []byte, sent *bodyHeaders, complete bool) {
	if len(body) == 0 && complete {
		return
	}
	media, boundary, readable := formOf(sent.contentType)
	switch {
	case !complete, !readable, encoded(sent.contentEncoding):
		n.unreadable = true
	case media == "multipart/form-data":
		n.addMultipart(body, boundary)
	case media != "":
		n.addForm(string(body))
	default:
		n.addJSON(body)
	}
}

// encoded reports whether the body has a content coding, which hides what it says, or several.
func encoded(coding field) bool {
	return coding.count > 1 || coding.value != "" && !strings.EqualFold(coding.value, "identity")
}

// foreignCharset reports whether a content type, in lower case, names a charset in which the body might
// read otherwise than in UTF-8.
func foreignCharset(contentType string) bool {
	_, charset, named := strings.Cut(contentType, "charset")
	charset = strings.Trim(charset, ` ="';`)
	return named && charset != "utf-8" && charset != "utf8" && charset != "us-ascii"
}

// jsonReader is a decoder, and where it reads from.
type jsonReader struct {
	decoder jsontext.Decoder
	body    bytes.Buffer
}

func (r *jsonReader) of(body []byte) *jsontext.Decoder {
	r.body = *bytes.NewBuffer(body)
	r.decoder.Reset(&r.body, jsontext.AllowDuplicateNames(true))
	return &r.decoder
}

// addJSON reads the member "model" of a JSON object. A second one, or one in another case, is
// ambiguous: JSON readers differ in which they take, and some ignore case.
func (n *modelNames) addJSON(body []byte) {
	reader, ok := n.readers.Get().(*jsonReader)
	if !ok {
		reader = new(jsonReader)
	}
	defer n.readers.Put(reader)
	decoder := reader.of(body)
	if token, err := decoder.ReadToken(); err != nil || token.Kind() != jsontext.KindBeginObject {
		n.unreadable = true
		return
	}
	seen := false
	for decoder.PeekKind() == jsontext.KindString {
		name, err := decoder.ReadToken()
		if err != nil {
			break
		}
		switch text := name.String(); {
		case namesMoreModels(text):
			n.unreadable = true
			err = decoder.SkipValue()
		case !strings.EqualFold(text, "model"):
			err = decoder.SkipValue()
		case seen || text != "model":
			n.ambiguous = true
			return
		default:
			seen = true
			err = n.addJSONModel(decoder)
		}
		if err != nil {
			n.unreadable = true
			return
		}
	}
	n.endJSON(decoder)
}

// namesMoreModels reports whether a member makes LiteLLM try other models than the one that is named.
func namesMoreModels(member string) bool {
	switch lower(member) {
	case "models", "fallbacks", "context_window_fallbacks", "content_policy_fallbacks":
		return true
	}
	return false
}

func (n *modelNames) addJSONModel(decoder *jsontext.Decoder) error {
	if decoder.PeekKind() != jsontext.KindString {
		n.unreadable = true
		return decoder.SkipValue()
	}
	token, err := decoder.ReadToken()
	if err != nil {
		return err
	}
	name := token.String()
	n.unreadable = n.unreadable || name == ""
	n.add(name)
	return nil
}

// endJSON requires the end of the object and then of the body.
func (n *modelNames) endJSON(decoder *jsontext.Decoder) {
	if token, err := decoder.ReadToken(); err != nil || token.Kind() != jsontext.KindEndObject || decoder.PeekKind() != jsontext.KindInvalid {
		n.unreadable = true
		return
	}
	if _, err := decoder.ReadToken(); !isEOF(err) {
		n.unreadable = true
	}
}
