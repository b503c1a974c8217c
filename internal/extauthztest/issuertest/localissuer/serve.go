package localissuer

import (
	"encoding/json"
	"net/http"
	"time"
)

func (i *Issuer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+i.options.path+"/.well-known/openid-configuration", i.serveDiscovery)
	mux.HandleFunc("GET "+i.options.path+"/jwks", i.serveKeys)
	return mux
}

func (i *Issuer) serveDiscovery(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	i.discoveries++
	down := i.down
	i.mu.Unlock()
	if down {
		http.Error(w, "down", http.StatusServiceUnavailable)
		return
	}
	writeJSON(w, map[string]any{
		"issuer": i.URL(), "jwks_uri": i.JWKSURL(),
		"response_types_supported":              []string{"id_token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": i.options.algorithms,
	})
}

func (i *Issuer) serveKeys(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	i.keyRequests++
	respond, delay, down := i.respond, i.delay, i.down
	i.mu.Unlock()
	if !waitFor(r, delay) {
		return
	}
	switch {
	case down:
		http.Error(w, "down", http.StatusServiceUnavailable)
	case respond != nil:
		respond(w, r)
	default:
		writeJSON(w, i.keySet())
	}
}

// waitFor returns false if the client went away meanwhile.
func waitFor(r *http.Request, delay time.Duration) bool {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// keySet is the JWKS as it is published now.
func (i *Issuer) keySet() map[string]any {
	i.mu.Lock()
	defer i.mu.Unlock()
	entries := make([]any, 0, len(i.published)+len(i.extra))
	for _, k := range i.published {
		entries = append(entries, k.published())
	}
	return map[string]any{"keys": append(entries, i.extra...)}
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value) // the client may have gone, which is its own affair
}

// Down makes both documents answer 503 until [Issuer.Up].
func (i *Issuer) Down() { i.set(func() { i.down = true }) }

// Up ends what [Issuer.Down] began.
func (i *Issuer) Up() { i.set(func() { i.down = false }) }

// Delay makes each JWKS answer wait that long, in real time. Zero ends it.
func (i *Issuer) Delay(d time.Duration) { i.set(func() { i.delay = d }) }

// Respond answers JWKS requests from now on. nil restores the issuer's own answer.
func (i *Issuer) Respond(handler http.HandlerFunc) { i.set(func() { i.respond = handler }) }

func (i *Issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

// Requests is how often the JWKS was asked for.
func (i *Issuer) Requests() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keyRequests
}

// DiscoveryRequests is how often the discovery document was asked for.
func (i *Issuer) DiscoveryRequests() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.discoveries
}
