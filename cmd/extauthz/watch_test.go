package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/extauthz/extauthz/internal/telemetry"
)

// A change is told, a fault that lasts is told once, and one that the next look does not find is not.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		bad, worse := errors.New("bad"), errors.New("worse")
		type look struct {
			changed bool
			err     error
		}
		looks := make(chan look, 1)
		var log bytes.Buffer
		metrics := telemetry.NewMetrics("test")
		w := watched{name: "thing", load: func(context.Context) (bool, error) { l := <-looks; return l.changed, l.err }}
		go w.watch(ctx, slog.New(slog.NewTextHandler(&log, nil)), metrics)
		for n, step := range []struct {
			look
			told string
		}{
			{look{false, nil}, ""},
			{look{true, nil}, "thing reloaded"},
			{look{false, bad}, ""},
			{look{true, nil}, "thing reloaded"}, // two files were written one after the other
			{look{false, bad}, ""},
			{look{false, bad}, "thing not reloaded"},
			{look{false, bad}, ""},
			{look{false, worse}, "thing not reloaded"},
			{look{false, nil}, ""}, // what it was before
			{look{false, bad}, ""},
			{look{false, bad}, "thing not reloaded"},
		} {
			log.Reset()
			looks <- step.look
			time.Sleep(fileInterval)
			synctest.Wait()
			if told := log.String(); (told != "") != (step.told != "") || !strings.Contains(told, step.told) {
				t.Errorf("look %d: told %q, want %q", n, told, step.told)
			}
		}
		if ok, failed := reloads(t, metrics, "ok"), reloads(t, metrics, "error"); ok != 2 || failed != 4 {
			t.Errorf("counted %v and %v, want 2 and 4", ok, failed)
		}
	})
}

// reloads returns how often files were taken over, or could not be.
func reloads(t *testing.T, metrics *telemetry.Metrics, result string) float64 {
	t.Helper()
	families, err := metrics.Registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if family.GetName() == "extauthz_file_reloads_total" && m.GetLabel()[1].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}
