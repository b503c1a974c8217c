// Package figures is what a run of the benchmark says, as it is written to a file.
package figures

// Report is one run.
type Report struct {
	Machine Machine  `json:"machine"`
	Servers []Server `json:"servers"`
	Envoy   []Front  `json:"envoy"`
}

// Machine is where and how the figures were made.
type Machine struct {
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"`
	Go      string `json:"go"`
	Rounds  int    `json:"rounds"`
	Burst   string `json:"burst"`   // length of one server's turn
	Workers int    `json:"workers"` // checks in flight
}

// Server is one server's medians over the rounds.
type Server struct {
	Name string `json:"name"`
	// CPU is the server's time on a CPU for one check, in microseconds; Ratio is it over the no-op server's in the
	// neighbouring turns, and Spread the standard deviation of that ratio over the rounds.
	CPU    float64 `json:"cpu_us"`
	Ratio  float64 `json:"ratio"`
	Spread float64 `json:"ratio_sd"`
	// Rate is checks a second; the latencies are in microseconds.
	Rate float64 `json:"checks_per_s"`
	P50  float64 `json:"p50_us"`
	P99  float64 `json:"p99_us"`
	P999 float64 `json:"p999_us"`
	// Allocations is heap objects a check, background work included.
	Allocations float64 `json:"allocs"`
	// Writes is system calls to write for one check.
	Writes float64 `json:"writes"`
	// RSS is resident memory in MiB after the run.
	RSS float64 `json:"rss_mib"`
	// StoreCalls is calls to the store for one check.
	StoreCalls float64 `json:"store_calls"`
}

// Front is an Envoy with some filter: medians over the rounds, in microseconds. Added is what the filter adds to no filter.
type Front struct {
	Rate     int     `json:"per_s"` // requests a second
	Name     string  `json:"name"`
	P50      float64 `json:"p50_us"`
	P99      float64 `json:"p99_us"`
	P50Added float64 `json:"p50_added_us"`
	P99Added float64 `json:"p99_added_us"`
	// Beyond is by how much P50Added is more than that of the no-op server: the mean over the rounds, and its standard error.
	Beyond      float64 `json:"p50_beyond_noop_us"`
	BeyondError float64 `json:"p50_beyond_noop_se_us"`
}
