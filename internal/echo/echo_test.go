package echo_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/extauthz/extauthz/internal/echo"
)

func TestAnswersWithTheRequest(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		transport := &http.Transport{Protocols: new(http.Protocols), DisableCompression: true}
		transport.Protocols.SetHTTP1(!http2)
		transport.Protocols.SetUnencryptedHTTP2(http2)
		t.Cleanup(transport.CloseIdleConnections)
		server, err := echo.Start(t.Context(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Close() })

		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+server.Address+"/a%2Fb//c?q=1", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "api.example.com"
		req.Header = http.Header{"X-Team": {"a", "b"}, "x_team": {"c"}}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		var got echo.Request
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got.Method != "POST" || got.Target != "/a%2Fb//c?q=1" || got.Host != "api.example.com" || got.BodyBytes != 4 {
			t.Errorf("got %+v", got)
		}
		if !reflect.DeepEqual(got.Headers["x-team"], []string{"a", "b"}) || !reflect.DeepEqual(got.Headers["x_team"], []string{"c"}) {
			t.Errorf("headers %v, want both forms of the name with all values", got.Headers)
		}
		if seen := server.Requests(); len(seen) != 1 || !reflect.DeepEqual(seen[0], got) {
			t.Errorf("recorded %+v, answered %+v", seen, got)
		}
	}
}
