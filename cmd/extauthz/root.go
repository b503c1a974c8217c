package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Exit codes, for scripts.
const (
	exitOK      = 0
	exitFailure = 1 // something that was asked for could not be done
	exitUsage   = 2 // bad input: a flag, a configuration, a resource file, a database URL
	exitDenied  = 3 // `extauthz check`: the request was denied
)

// usageError is bad input; its text names the place and what is allowed.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// deniedError ends `extauthz check` for a denied request, which was already printed.
type deniedError struct{ error }

// execute runs one command line and returns the exit code. An error is printed as one line.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	var denied deniedError
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &denied):
		return exitDenied
	}
	_, _ = fmt.Fprintln(stderr, "extauthz: "+strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "))
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailure
}

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "extauthz",
		Short: "Envoy external authorization: a JWT becomes a virtual key",
		Long: `extauthz answers Envoy's external authorization calls. On every request it verifies the JWT, runs the
team and role policy and maps a claim of the token to a virtual key.

Exit codes: 0 done, 1 failed, 2 bad input, 3 (check) the request was denied.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          unknownCommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see `%s --help`", err, c.CommandPath())}
	})
	root.AddCommand(newServe(), newMigrate(), newApply(), newExport(), newCheck(), newConfig(), newKeyset(), newExplain(), newDemo(), newVersion())
	return root
}

func unknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usageError{fmt.Errorf("unknown command %q for %s; see `%s --help`", args[0], c.CommandPath(), c.CommandPath())}
}

// noArguments is cobra.NoArgs with our exit code.
func noArguments(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q; see `%s --help`", args[0], c.CommandPath())}
	}
	return nil
}
