package adversary

// stateCases are rows that deny, whatever the no-match policy: a mapping that is there and cannot be used is not the
// absence of one (R6). The rows are in testdata/resources.yaml and testdata/*.sql.
func stateCases() []Case {
	const r6 = "R6: known and unusable denies under every policy, and is never registered anew"
	var cases []Case
	for _, policy := range []string{"", "register", "fallback"} {
		for _, state := range []struct {
			name, client string
			want         want
			more         moves
		}{
			{"mapping switched off", "off", deny(403, "mapping_disabled"), nil},
			{"the issuer's own mapping switched off, the global one not", "split", deny(403, "mapping_disabled"), nil},
			{"mapping of a key that is gone", "dangling", deny(403, "mapping_disabled"), nil},
			{"key blocked", "blocked", deny(403, "key_blocked"), nil},
			{"key expired", "expired", deny(403, "key_expired"), nil},
			{"key unused for too long", "idle", deny(403, "key_expired"), nil},
			{"key's budget spent", "spent", deny(429, "budget_exceeded"), nil},
			{"key's budget overspent", "overspent", deny(429, "budget_exceeded"), nil},
			{"key's budget zero", "zero", deny(429, "budget_exceeded"), nil},
			{"key's budget the largest, spent to the last millionth", "brim", deny(429, "budget_exceeded"), nil},
			{"key without the route", "embed", deny(403, "route_forbidden"), nil},
			{"key with a route that is no pattern", "bad-route", deny(403, "route_forbidden"), nil},
			{"key without the model", "other-model", deny(403, "model_forbidden"), nil},
			{"key's team blocked", "of-stopped", deny(403, "team_blocked"), nil},
			{"key's team's organization blocked", "of-closed", deny(403, "org_blocked"), nil},
			{"key's organization blocked", "org-closed", deny(403, "org_blocked"), nil},
			{"key's team's budget spent", "of-spent", deny(429, "budget_exceeded"), nil},
			{"key's team's organization's budget spent", "of-poor", deny(429, "budget_exceeded"), nil},
			{"key's team without the model", "of-narrow", deny(403, "model_forbidden"), nil},
			{"key's user blocked", "of-mallory", deny(403, "user_blocked"), nil},
			{"key's user's budget spent", "of-spender", deny(429, "budget_exceeded"), nil},
			{"the caller's team blocked", "plain", deny(403, "team_blocked"), moves{claim("team", "stopped")}},
			{"the caller's team of a blocked organization", "plain", deny(403, "org_blocked"), moves{claim("team", "closed")}},
			{"the caller's team's budget spent", "plain", deny(429, "budget_exceeded"), moves{claim("team", "spent")}},
			{"the caller's organization's budget spent", "plain", deny(429, "budget_exceeded"), moves{claim("team", "b"), claim("org", "poor")}},
			{"the caller blocked", "plain", deny(403, "user_blocked"), moves{claim("sub", "subject-mallory")}},
			{"the caller's budget spent", "plain", deny(429, "budget_exceeded"), moves{claim("sub", "subject-spender")}},
			{"unmapped, the caller blocked", "nobody-blocked" + policy, deny(403, "user_blocked"), moves{claim("sub", "subject-mallory")}},
			{"unmapped, the caller's budget spent", "nobody-spent" + policy, unmappedBudget(policy), moves{claim("sub", "subject-spender")}},
		} {
			name := state.name
			if policy != "" {
				name += ", " + policy
			}
			cases = append(cases, Case{name, r6, state.want, append(moves{client(state.client), profile(policy)}, state.more...)})
		}
	}
	return cases
}

// unmappedBudget: a budget is looked at last, so the policy comes first.
func unmappedBudget(policy string) want {
	if policy == "" {
		return deny(403, "no_mapping")
	}
	return deny(429, "budget_exceeded")
}
