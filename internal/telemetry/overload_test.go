package telemetry_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/extauthz/extauthz/internal/admission"
	"github.com/extauthz/extauthz/internal/telemetry"
	"github.com/extauthz/extauthz/pkg/authz"
)

// A flood that is turned away must not become a flood of log lines. It is counted all the same.
func TestOverloadIsLoggedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		metrics := telemetry.NewMetrics("test")
		observe := telemetry.Observer(metrics, &telemetry.DecisionLog{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
		shed := &authz.Decision{Err: &admission.Error{At: "arrival"}, Outcome: authz.Outcome{Reason: authz.ReasonOverloaded, Status: 503}}
		for range 3 {
			for range 1000 {
				observe(context.Background(), shed, 0)
			}
			time.Sleep(time.Second)
		}
		if lines := bytes.Count(log.Bytes(), []byte("\n")); lines != 3 || !bytes.Contains(log.Bytes(), []byte(`"error":"overloaded: arrival"`)) {
			t.Errorf("%d lines in three seconds, want 3:\n%s", lines, log.String())
		}
		if n := counted(t, metrics, "extauthz_shed_total"); n != 3000 {
			t.Errorf("%v are counted, want 3000", n)
		}
	})
}

// counted is the value of a counter with one series.
func counted(t *testing.T, m *telemetry.Metrics, name string) float64 {
	t.Helper()
	families, err := m.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			return family.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return 0
}
