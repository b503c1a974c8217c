package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/spf13/cobra"
	"google.golang.org/grpc"
)

// requestFlags describe a request, as Envoy would have seen it.
type requestFlags struct {
	token, tokenFile         string
	method, path, host, body string
	headers                  []string
}

func (f *requestFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.token, "token", "", "bearer token (visible to other users of this machine: prefer --token-file)")
	flags.StringVar(&f.tokenFile, "token-file", "", "file with the bearer token, or - for standard input")
	flags.StringVarP(&f.method, "method", "X", "POST", "HTTP method")
	flags.StringVar(&f.path, "path", "/v1/chat/completions", "request path, with its query")
	flags.StringVar(&f.host, "host", "localhost", "request host")
	flags.StringVar(&f.body, "body", "", "request body")
	flags.StringArrayVarP(&f.headers, "header", "H", nil, "request header, as `Name: value`; may be repeated")
}

// requestFlagNames are the flags that add defines.
func requestFlagNames() []string {
	return []string{"token", "token-file", "method", "path", "host", "body", "header"}
}

// checkFlags say which server `extauthz check` asks, and about what.
type checkFlags struct {
	requestFlags
	tls     tlsFlags
	address string
	output  string
	timeout time.Duration
}

func newCheck() *cobra.Command {
	var f checkFlags
	c := &cobra.Command{
		Use:   "check",
		Short: "Ask a running server what it decides for a request",
		Long: `check sends a request to a running server the way Envoy would and prints the decision, its reason and
the headers. It exits with 0 if the request is allowed and with 3 if it is denied. With --ca-file, --cert-file
or --server-name it speaks TLS.`,
		Example: "  extauthz check --token-file token.jwt --path /v1/chat/completions --body '{\"model\":\"gpt-4o\"}'",
		Args:    noArguments,
		RunE:    func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	f.add(c)
	f.tls.add(c)
	flags := c.Flags()
	flags.StringVar(&f.address, "address", "127.0.0.1:9001", "where the server listens: host:port or unix:///path")
	flags.StringVarP(&f.output, "output", "o", "table", "output format: table or json")
	flags.DurationVar(&f.timeout, "timeout", 5*time.Second, "how long to wait for the answer")
	return c
}

func (f *checkFlags) run(c *cobra.Command) error {
	if f.output != "table" && f.output != "json" {
		return usageError{fmt.Errorf("--output %q: must be table or json", f.output)}
	}
	request, err := f.request(c.InOrStdin())
	if err != nil {
		return usageError{err}
	}
	response, err := f.ask(c.Context(), request)
	if err != nil {
		return err
	}
	answer := readAnswer(response)
	if err := answer.print(c.OutOrStdout(), f.output); err != nil {
		return err
	}
	if answer.Decision != "allow" {
		return deniedError{errors.New("denied")}
	}
	return nil
}

func (f *requestFlags) request(stdin io.Reader) (*authv3.CheckRequest, error) {
	headers := make(map[string]string)
	for _, header := range f.headers {
		name, value, found := strings.Cut(header, ":")
		if !found || name == "" {
			return nil, fmt.Errorf("--header %q: must be `Name: value`", name)
		}
		name = strings.ToLower(name)
		if earlier, repeated := headers[name]; repeated {
			value = earlier + "," + value // as Envoy joins them
		}
		headers[name] = strings.TrimSpace(value)
	}
	token, err := f.bearer(stdin)
	if err != nil {
		return nil, err
	}
	if token != "" {
		headers["authorization"] = "Bearer " + token
	}
	headers["x-envoy-auth-partial-body"] = "false"
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{Request: &authv3.AttributeContext_Request{
		Http: &authv3.AttributeContext_HttpRequest{
			Method: f.method, Path: f.path, Host: f.host, Headers: headers,
			RawBody: []byte(f.body), Size: int64(len(f.body)), Protocol: "HTTP/1.1", Scheme: "http",
		},
	}}}, nil
}

func (f *requestFlags) bearer(stdin io.Reader) (string, error) {
	if f.token != "" && f.tokenFile != "" {
		return "", errors.New("--token and --token-file: only one of the two may be given")
	}
	var data []byte
	var err error
	switch f.tokenFile {
	case "":
		return f.token, nil
	case "-":
		data, err = io.ReadAll(io.LimitReader(stdin, 1<<20))
	default:
		data, err = os.ReadFile(f.tokenFile)
	}
	return strings.TrimSpace(string(data)), err
}

func (f *checkFlags) ask(ctx context.Context, request *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	if _, _, err := net.SplitHostPort(f.address); err != nil && !strings.HasPrefix(f.address, "unix:///") {
		return nil, usageError{fmt.Errorf("--address %q: must be host:port or unix:///path", f.address)}
	}
	creds, err := f.tls.credentials()
	if err != nil {
		return nil, usageError{err}
	}
	connection, err := grpc.NewClient(f.address, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, err
	}
	defer func() { _ = connection.Close() }()
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	response, err := authv3.NewAuthorizationClient(connection).Check(ctx, request)
	if err != nil {
		return nil, fmt.Errorf("no answer from %s: %w", f.address, err)
	}
	return response, nil
}

// answer is a CheckResponse as it is printed.
type answer struct {
	Decision      string            `json:"decision"`
	Reason        string            `json:"reason,omitempty"`
	Status        int               `json:"status"`
	Headers       map[string]string `json:"headers,omitempty"`
	RemoveHeaders []string          `json:"remove_headers,omitempty"`
	Body          string            `json:"body,omitempty"`
	Metadata      map[string]any    `json:"metadata,omitempty"`
}

func readAnswer(r *authv3.CheckResponse) answer {
	a := answer{Decision: "deny", Status: 403, Headers: make(map[string]string), Metadata: r.GetDynamicMetadata().AsMap()}
	a.Reason, _ = a.Metadata["reason"].(string)
	if r.GetStatus().GetCode() == 0 { // all that Envoy looks at
		ok := r.GetOkResponse()
		a.Decision, a.Status = "allow", 200
		a.RemoveHeaders = slices.Sorted(slices.Values(ok.GetHeadersToRemove()))
		for _, h := range ok.GetHeaders() {
			a.Headers[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
		}
		return a
	}
	denied := r.GetDeniedResponse()
	if denied == nil {
		denied = r.GetErrorResponse()
	}
	a.Status, a.Body = int(denied.GetStatus().GetCode()), denied.GetBody()
	for _, h := range denied.GetHeaders() {
		a.Headers[h.GetHeader().GetKey()] = h.GetHeader().GetValue()
	}
	return a
}

func (a answer) print(out io.Writer, format string) error {
	if format == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(a)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			_, _ = fmt.Fprintf(w, "%s\t%s\n", name, value)
		}
	}
	row("decision", a.Decision)
	row("reason", a.Reason)
	row("status", fmt.Sprint(a.Status))
	for _, name := range slices.Sorted(maps.Keys(a.Headers)) {
		row("header", name+": "+a.Headers[name])
	}
	row("removed", strings.Join(a.RemoveHeaders, " "))
	row("body", a.Body)
	return w.Flush()
}
