package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"extauthz": func() { os.Exit(execute(context.Background(), os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// TestScripts runs the command line as scripts do: arguments in; output and an exit code out.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:  "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"refused": refused, "status": status},
	})
}

// status CODE ARGUMENT...: extauthz with these arguments exits with the code.
func status(ts *testscript.TestScript, _ bool, args []string) {
	runExpecting(ts, args[0], args[1:])
}

// refused CODE TEXT ARGUMENT...: extauthz with these arguments exits with the code and prints this one line.
func refused(ts *testscript.TestScript, _ bool, args []string) {
	runExpecting(ts, args[0], args[2:])
	if said := ts.ReadFile("stderr"); said != "extauthz: "+args[1]+"\n" {
		ts.Fatalf("it said\n%swant\nextauthz: %s", said, args[1])
	}
}

func runExpecting(ts *testscript.TestScript, want string, args []string) {
	code := 0
	var exit *exec.ExitError
	if errors.As(ts.Exec("extauthz", args...), &exit) {
		code = exit.ExitCode()
	}
	if strconv.Itoa(code) != want {
		ts.Fatalf("exit code %d, want %s", code, want)
	}
}
