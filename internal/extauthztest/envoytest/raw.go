package envoytest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Response is an answer that has been read to its end.
type Response struct {
	Status int
	Header http.Header
	Body   string
}

// rawTimeout bounds one request of SendRaw.
const rawTimeout = 20 * time.Second

// SendRaw sends one HTTP/1.1 request byte for byte and reads the answer. Go's client would clean up what such tests are
// about: `//` and `#` in the target, a header name's case, a header that is sent twice. Lines are joined by CRLF; an empty
// line between headers and body is the caller's: SendRaw(t, e.URL, "GET // HTTP/1.1", "Host: api", "Connection: close", "", "").
func SendRaw(t testing.TB, baseURL string, lines ...string) Response {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: rawTimeout}).DialContext(t.Context(), "tcp", strings.TrimPrefix(baseURL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(rawTimeout)) // fails only on a closed connection, which the write reports
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	return readResponse(t, resp)
}

// Do sends a request with Go's client, without following redirects, and reads the answer.
func Do(t testing.TB, req *http.Request) Response {
	t.Helper()
	resp, err := noRedirects.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	return readResponse(t, resp)
}

// Connections are not kept: a goroutine of an idle one would look like a leak to the caller's test.
var noRedirects = &http.Client{
	Timeout:       rawTimeout,
	Transport:     &http.Transport{DisableKeepAlives: true},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

func readResponse(t testing.TB, resp *http.Response) Response {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return Response{Status: resp.StatusCode, Header: resp.Header, Body: string(body)}
}
