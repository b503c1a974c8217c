package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/extauthz/extauthz/deploy/envoy"
	"github.com/extauthz/extauthz/internal/config"
	"github.com/extauthz/extauthz/internal/echo"
	"github.com/extauthz/extauthz/internal/envoyproc"
	"github.com/extauthz/extauthz/internal/extauthztest/issuertest/localissuer"
	"github.com/extauthz/extauthz/internal/resource"
	"github.com/extauthz/extauthz/internal/store"
	"github.com/extauthz/extauthz/pkg/keys"
)

//go:embed demo/extauthz.yaml
var demoConfig []byte

//go:embed demo/resources.yaml
var demoResources []byte

func newDemo() *cobra.Command {
	d := demo{}
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run everything on this machine: issuer, upstream, Envoy and extauthz",
		Long: `demo starts a token issuer, an upstream that shows what reaches it, extauthz on a SQLite file in a
temporary directory, and a real Envoy in front, all on loopback. It sends four requests through
Envoy, prints what became of them, and keeps running for requests of your own until Ctrl-C.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			d.out, d.errs = c.OutOrStdout(), c.ErrOrStderr()
			return d.run(c.Context())
		},
	}
	c.Flags().StringVar(&d.envoy, "envoy", "", "Envoy binary (default: the one that `make envoy` installed)")
	c.Flags().BoolVar(&d.exit, "exit", false, "end after the four requests")
	return c
}

// demo is a running demonstration. Its parts end with its context.
type demo struct {
	envoy     string
	exit      bool
	out, errs io.Writer

	dir      string
	issuer   *localissuer.Issuer
	upstream *echo.Server
	front    *envoyproc.Process
}

func (d *demo) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var err error
	if d.dir, err = os.MkdirTemp("", "extauthz-demo-"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(d.dir) }()

	ended := make(chan error, 1)
	if err := d.start(ctx, ended); err != nil {
		cancel()
		return err
	}
	defer d.front.Stop()
	if err := d.requests(ctx); err != nil {
		return err
	}
	if !d.exit {
		d.invite()
		select {
		case <-ctx.Done():
		case err = <-ended:
			return errors.Join(errors.New("extauthz ended"), err)
		}
	}
	d.say("stopping")
	cancel()
	return <-ended
}

// start starts the parts in the order in which they need each other. ended receives extauthz's end.
func (d *demo) start(ctx context.Context, ended chan<- error) error {
	var err error
	d.say("starting a token issuer (OpenID Connect discovery and JWKS)")
	if d.issuer, err = localissuer.Start(ctx, localissuer.Audience("llm-gateway")); err != nil {
		return err
	}
	d.say("starting an upstream that answers with what reached it")
	if d.upstream, err = echo.Start(ctx, "127.0.0.1:0"); err != nil {
		return err
	}
	d.say("filling a SQLite store: team research, a virtual key, a mapping of sub=alice to it")
	if err := d.fill(ctx); err != nil {
		return err
	}
	d.say("starting extauthz")
	at, err := d.serve(ctx, ended)
	if err != nil {
		return err
	}
	d.say("starting Envoy with deploy/envoy/envoy.yaml")
	return d.startEnvoy(ctx, at)
}

func (d *demo) storeURL() string { return "sqlite:" + filepath.Join(d.dir, "demo.db") }

func (d *demo) fill(ctx context.Context) error {
	opened, err := store.Open(ctx, store.Options{URL: d.storeURL()})
	if err != nil {
		return err
	}
	defer opened.Close()
	file := bytes.ReplaceAll(demoResources, []byte("${SECRET}"), []byte(string(keys.Generate())))
	set, places, err := resource.Parse("demo/resources.yaml", file)
	if err != nil {
		return err
	}
	if err := opened.Apply(ctx, set); err != nil {
		return places.Locate(err)
	}
	return nil
}

func (d *demo) serve(ctx context.Context, ended chan<- error) (addresses, error) {
	settings, err := config.Parse("demo/extauthz.yaml", demoConfig, func(name string) (string, bool) {
		value, ok := map[string]string{"STORE": d.storeURL(), "ISSUER": d.issuer.URL()}[name]
		return value, ok
	})
	if err != nil {
		return addresses{}, err
	}
	log, err := os.Create(filepath.Join(d.dir, "extauthz.log"))
	if err != nil {
		return addresses{}, err
	}
	started := make(chan addresses, 1)
	failed := make(chan error, 1)
	go func() {
		err := serve(ctx, settings, configFile{}, log, func(at addresses) { started <- at })
		failed <- err
		ended <- errors.Join(err, log.Close())
	}()
	select {
	case at := <-started:
		return at, nil
	case err := <-failed:
		return addresses{}, err
	}
}

func (d *demo) startEnvoy(ctx context.Context, at addresses) error {
	binary := d.envoy
	if binary == "" {
		var err error
		if binary, err = envoyproc.FindBinary("."); err != nil {
			return usageError{fmt.Errorf("%w; `make envoy` installs it, --envoy names another", err)}
		}
	}
	var err error
	d.front, err = envoyproc.Start(ctx, envoyproc.Config{
		Binary: binary, YAML: envoy.TCP, Authz: at.server, Upstream: d.upstream.Address, StartTimeout: time.Minute,
	})
	return err
}

func (d *demo) say(text string) { d.print("==> %s\n", text) }

func (d *demo) print(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format, args...) }
