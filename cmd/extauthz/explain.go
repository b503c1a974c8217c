package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
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
	"github.com/extauthz/extauthz/pkg/teams"
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

The request comes from the flags, or from a captured CheckRequest in JSON, which may be in either form of
headers and bodies. The token and the key in it are not printed. It exits with 0 if the
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
			in, err := request.read(c, captured)
			if err != nil {
				return usageError{err}
			}
			if profile != "" {
				in.Attributes.ContextExtensions = map[string]string{"profile": profile}
			}
			if err := fileExists(settings.GetStore().GetUrl()); err != nil {
				return err
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
	c.Flags().StringVar(&captured, "request", "", "file with a captured CheckRequest in JSON, instead of the flags that describe a request")
	c.Flags().StringVar(&profile, "profile", "", "profile that the Envoy route selects, instead of the captured one")
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
	rows, err := openRows(ctx, c, metrics, slog.New(slog.DiscardHandler), func(s telemetry.Store) (mapping.Store, teams.Store) {
		return mapping.DryRun(s), teams.DryRun(s)
	})
	if err != nil {
		return nil, err
	}
	defer rows.close()
	seals, err := openKeyset(ctx, c.GetSealing())
	if err != nil {
		return nil, err
	}
	rules, err := decisionsOf(c, parts{verifier: verifier, rows: rows, seals: seals})
	if err != nil {
		return nil, usageError{err}
	}
	server, err := authz.NewServer(rules)
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
func (f *requestFlags) read(c *cobra.Command, captured string) (*authv3.CheckRequest, error) {
	if captured == "" {
		return f.request(c.InOrStdin())
	}
	for _, flag := range requestFlagNames() {
		if c.Flags().Changed(flag) {
			return nil, fmt.Errorf("--%s: not with --request, whose file describes the request", flag)
		}
	}
	data, err := os.ReadFile(captured)
	if err != nil {
		return nil, err
	}
	in := new(authv3.CheckRequest)
	if err := protojson.Unmarshal(data, in); err != nil {
		return nil, captureError(captured, err)
	}
	if in.Attributes == nil {
		in.Attributes = new(authv3.AttributeContext)
	}
	return in, nil
}

var (
	jsonPlace    = regexp.MustCompile(`line (\d+:\d+)`)
	unknownField = regexp.MustCompile(`unknown field "\w+"`)
)

// captureError says where a file is no CheckRequest. The decoder's own text is left out: it may quote the
// file, and with it a token.
func captureError(file string, err error) error {
	place := file
	if match := jsonPlace.FindStringSubmatch(err.Error()); match != nil {
		place += ":" + match[1]
	}
	if field := unknownField.FindString(err.Error()); field != "" {
		return fmt.Errorf("%s: %s; allowed: those of envoy.service.auth.v3.CheckRequest in JSON", place, field)
	}
	return fmt.Errorf("%s: must be an envoy.service.auth.v3.CheckRequest in JSON", place)
}
