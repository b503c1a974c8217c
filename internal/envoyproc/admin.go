package envoyproc

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// adminTimeout bounds one call of the admin interface, which is on loopback.
const adminTimeout = 5 * time.Second

// Stats returns Envoy's counters and gauges whose names match the regular expression filter (the admin interface's
// /stats?filter=). Histograms and texts are left out. Envoy merges its counters before it answers, so the numbers include
// every request that has ended; a counter that was never used may be absent.
func (p *Process) Stats(ctx context.Context, filter string) (map[string]int64, error) {
	body, err := get(ctx, p.AdminURL+"/stats?filter="+url.QueryEscape(filter))
	if err != nil {
		return nil, err
	}
	stats := make(map[string]int64)
	for line := range strings.Lines(string(body)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			stats[name] = n
		}
	}
	return stats, nil
}

// get reads one admin page. Each call has a connection of its own, so that nothing is left open behind a stopped Envoy.
func get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Timeout: adminTimeout, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var body bytes.Buffer
	if _, err := io.Copy(&body, resp.Body); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("envoy admin answers %s", resp.Status)
	}
	return body.Bytes(), nil
}
