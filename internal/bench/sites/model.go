package main

import (
	"math"
	"time"
)

// What a site has unless it is configured otherwise, and what the model takes for granted.
const (
	defaultMappingTTL = 300 * time.Second
	defaultKeyTTL     = 30 * time.Second
	maxConnections    = 10   // store.max_connections
	teamClients       = 100  // clients of a team
	serveStale        = 300  // mapping.serve_stale, in seconds: what has ended stays in memory for so long
	clientBytes       = 1152 // of cache.max_bytes, for a client with an operator's key of its own: TestResident of cmd/extauthz
)

// site is N replicas and M clients. Rates are per second and of all replicas together.
type site struct {
	Clients, Replicas int
	Rate              float64       // requests
	Changes           float64       // of a client's key and mapping, told to each replica
	KeyTTL            time.Duration // cache.ttl
	MappingTTL        time.Duration // mapping.cache_ttl, at least as long
}

// load is what a site asks of its database.
type load struct {
	Mapping, Key, Team float64 // hits, of 1
	Statements         float64 // look-ups a second, of all replicas
	Notifications      float64 // delivered in a second, with each replica's heartbeat
	Connections        int
	Cached             float64 // clients in the memory of a replica, if cache.max_bytes lets them
}

// load adds up what each client asks of one replica. Requests come independently of each other, so a row that is kept for
// the time h is found by all but 1 of 1 + λh requests.
func (s site) load() load {
	gone := s.Changes / float64(s.Clients)
	mappingHold, keyHold := hold(s.MappingTTL, gone), hold(s.KeyTTL, gone)
	expires := math.Exp(-gone * s.MappingTTL.Seconds()) // the part of the mappings that no change ends
	if s.MappingTTL == s.KeyTTL {
		expires = 0 // what was loaded together ends together: no mapping is loaded while its key is there
	}

	perReplica := s.Rate / float64(s.Replicas)
	var mappings, keys, alone, cached float64 // misses a second of a replica; alone: of a mapping whose key is there
	for _, weight := range zipf(s.Clients) {
		rate := perReplica * weight
		missed := rate / (1 + rate*mappingHold)
		mappings += missed
		keys += rate / (1 + rate*keyHold)
		x := rate * s.KeyTTL.Seconds()
		alone += missed * expires * (x - 1 + math.Exp(-x)) / (1 + x)
		cached += 1 - missed/rate*math.Exp(-rate*serveStale)
	}
	count := math.Ceil(float64(s.Clients) / teamClients)
	rate := perReplica / count
	teams := count * rate / (1 + rate*s.KeyTTL.Seconds())

	n := float64(s.Replicas)
	return load{
		Mapping: 1 - mappings/perReplica, Key: 1 - keys/perReplica, Team: 1 - teams/perReplica,
		Statements:    n * (keys + alone + teams), // a mapping brings its key along
		Notifications: n * (s.Changes + 1),
		Connections:   s.Replicas * (maxConnections + 1),
		Cached:        cached,
	}
}

// hold is how many seconds a row is kept that changes end at the rate.
func hold(ttl time.Duration, changes float64) float64 {
	if changes == 0 {
		return ttl.Seconds()
	}
	return -math.Expm1(-changes*ttl.Seconds()) / changes
}

// zipf is each client's part of the requests: the n-th asks 1/n as often as the first.
func zipf(clients int) []float64 {
	weights, sum := make([]float64, clients), 0.0
	for n := range weights {
		weights[n] = 1 / float64(n+1)
		sum += weights[n]
	}
	for n := range weights {
		weights[n] /= sum
	}
	return weights
}
