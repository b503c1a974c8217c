package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"text/tabwriter"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/extauthz/extauthz/internal/config"
	"github.com/extauthz/extauthz/internal/telemetry"
	"github.com/extauthz/extauthz/internal/trace"
	"github.com/extauthz/extauthz/pkg/authz"
	"github.com/extauthz/extauthz/pkg/mapping"
	"github.com/extauthz/extauthz/pkg/token"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

func newExplain() *cobra.Command {
	var request requestFlags
	var file, captured, output, profile string
	c := &cobra.Command{
		Use:   "explain",
		Short: "Decide a request here and show how the decision came about",
		Long: `explain runs the decision of the configuration in this process, on the configured store and with the
issuers' keys, and prints each step with what decided it. It runs the code that the server runs, but
writes nothing: a registration is only shown. It prints claim values, which the server never logs.

The request comes from the flags, or from a captured CheckRequest in JSON. It exits with 0 if the
request is allowed and with 3 if it is denied.`,
		Example: "  extauthz explain --config extauthz.yaml --token-file token.jwt --path /v1/chat/completions",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if output != "table" && output != "json" {
				return usageError{fmt.Errorf("--output %q: must be table or json", output)}
			}
			settings, err := config.Load(file)
			if err != nil {
				return usageError{err}
			}
			in, err := request.read(c.InOrStdin(), captured)
			if err != nil {
				return usageError{err}
			}
			if profile != "" {
				in.Attributes.ContextExtensions = map[string]string{"profile": profile}
			}
			e, err := explain(c.Context(), settings, in)
			if err != nil {
				return err
			}
			if err := e.print(c.OutOrStdout(), output); err != nil {
				return err
			}
			if e.Decision != "allow" {
				return deniedError{errors.New("denied")}
			}
			return nil
		},
	}
	addConfigFlag(c, &file)
	request.add(c)
	c.Flags().StringVar(&captured, "request", "", "file with a captured CheckRequest in JSON, instead of the flags that describe one")
	c.Flags().StringVar(&profile, "profile", "", "profile that the Envoy route selects")
	c.Flags().StringVarP(&output, "output", "o", "table", "output format: table or json")
	return c
}

// explanation is an answer and the steps that led to it.
type explanation struct {
	answer
	Error string       `json:"error,omitempty"`
	Steps []trace.Step `json:"steps"`
}

// explainTimeout bounds the one decision: unlike a server's, its caches are empty and it fetches keys.
const explainTimeout = 30 * time.Second

func explain(ctx context.Context, c *configv1.Config, in *authv3.CheckRequest) (*explanation, error) {
	c.Server.CheckTimeout.Seconds = int64(explainTimeout / time.Second)
	metrics := telemetry.NewMetrics(version())
	verifier, err := token.NewVerifier(issuersOf(c), token.Options{})
	if err != nil {
		return nil, usageError{err}
	}
	rows, err := openRows(ctx, c, metrics, slog.New(slog.DiscardHandler), func(s mapping.Store) mapping.Store { return mapping.DryRun(s) })
	if err != nil {
		return nil, err
	}
	defer rows.close()
	seals, err := openKeyset(c.GetSealing(), nil)
	if err != nil {
		return nil, usageError{err}
	}
	server, err := newServer(c, verifier, rows, seals, func(context.Context, *authz.Decision, time.Duration) {})
	if err != nil {
		return nil, usageError{err}
	}
	decision, response, steps := server.Explain(ctx, in)
	e := &explanation{answer: readAnswer(response), Steps: steps}
	if decision.Err != nil {
		e.Error = decision.Err.Error()
	}
	if decision.Secret != "" {
		e.Headers[c.GetKeyHeader().GetName()] = c.GetKeyHeader().GetPrefix() + decision.Secret.String()
	}
	return e, nil
}

func (e *explanation) print(out io.Writer, format string) error {
	if format == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(e)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, step := range e.Steps {
		_, _ = fmt.Fprintf(w, "%s\t%s\n", step.Name, step.Detail)
	}
	if e.Error != "" {
		_, _ = fmt.Fprintf(w, "failed\t%s\n", e.Error)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out)
	return e.answer.print(out, format)
}

// read returns the captured request, or the one that the flags describe.
func (f *requestFlags) read(stdin io.Reader, captured string) (*authv3.CheckRequest, error) {
	if captured == "" {
		return f.request(stdin)
	}
	data, err := os.ReadFile(captured)
	if err != nil {
		return nil, err
	}
	in := new(authv3.CheckRequest)
	if err := protojson.Unmarshal(data, in); err != nil {
		return nil, fmt.Errorf("%s: it is no CheckRequest in JSON", captured)
	}
	if in.Attributes == nil {
		in.Attributes = new(authv3.AttributeContext)
	}
	return in, nil
}
