package main

import "github.com/spf13/cobra"

const defaultConfig = "extauthz.yaml"

func newServe() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Answer Envoy's authorization calls until SIGTERM",
		Long: `serve answers Envoy's authorization calls until SIGTERM or SIGINT, then drains. A configuration file that
changes is taken over within seconds, on SIGHUP at once; one that is not valid leaves the old one in force.

Decisions are logged to standard output, one JSON object a line.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			settings, read, err := readConfig(file)
			if err != nil {
				return usageError{err}
			}
			return serve(c.Context(), settings, read, c.OutOrStdout(), func(addresses) {})
		},
	}
	addConfigFlag(c, &file)
	return c
}

func addConfigFlag(c *cobra.Command, file *string) {
	c.Flags().StringVarP(file, "config", "c", defaultConfig, "configuration file")
}

func newConfig() *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Work with the configuration file", Args: unknownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	var file string
	validate := &cobra.Command{
		Use:   "validate",
		Short: "Check a configuration file as `extauthz serve` would",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			settings, _, err := readConfig(file)
			if err != nil {
				return usageError{err}
			}
			if err := checkSettings(settings); err != nil {
				return usageError{err}
			}
			c.Println(file + ": ok")
			return nil
		},
	}
	addConfigFlag(validate, &file)
	c.AddCommand(validate)
	return c
}
