package main

import (
	"runtime"
	"time"

	"github.com/extauthz/extauthz/internal/admission"
	configv1 "github.com/extauthz/extauthz/proto/extauthz/config/v1"
)

// maxWait is how long a check may wait wherever it has to: to be begun, for its signature to be verified, for
// the store. It leaves three quarters of server.check_timeout for what it waits for.
func maxWait(c *configv1.Config) time.Duration {
	return c.GetServer().GetCheckTimeout().AsDuration() / 4
}

// maxQueue is how many calls may wait at each gate: enough for a burst, and a fraction of what Envoy has room for
// (max_requests in deploy/envoy), so that those who wait here leave room there for those who need not.
const maxQueue = 128

// newVerificationGate bounds the signatures that are verified at once: with more than there are CPUs none is done
// sooner, and callers whose tokens are known would get less of the CPUs.
func newVerificationGate(c *configv1.Config) *admission.Gate {
	return admission.NewGate("verification", runtime.GOMAXPROCS(0), maxQueue, maxWait(c))
}

// newStoreGate bounds the store's calls under way: with more than it has connections they would wait for one until
// their time is up, and count as its failures.
func newStoreGate(c *configv1.Config) *admission.Gate {
	return admission.NewGate("store", max(1, int(c.GetStore().GetMaxConnections())), maxQueue, maxWait(c))
}
