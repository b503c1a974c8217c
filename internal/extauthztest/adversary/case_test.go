package adversary

import (
	"fmt"
	"testing"
)

// Case is one hostile input and what must become of it.
type Case struct {
	Name  string
	Basis string
	Want  want
	Moves moves
}

// Group is a table of cases.
type Group struct {
	Name  string
	Cases []Case
}

// keySets is the group whose cases have issuers of their own.
const keySets = "issuer/key set"

// groups are all tables whose cases are checked, one after the other.
func groups() []Group {
	return []Group{
		{"token/header", headerCases()},
		{"token/key id", kidCases()},
		{"token/form", formCases()},
		{"token/signature", signatureCases()},
		{"token/json", jsonCases()},
		{"token/dates", dateCases()},
		{"token/issuer", issuerCases()},
		{"token/audience", audienceCases()},
		{"token/tenants", tenantCases()},
		{keySets, keySetCases()},
		{"claims/identity", identityCases()},
		{"claims/mapped value", mappedValueCases()},
		{"claims/policy", policyCases()},
		{"request/credential", credentialCases()},
		{"request/path", pathCases()},
		{"request/method and host", methodCases()},
		{"request/headers", headersCases()},
		{"request/model", modelCases()},
		{"request/forged check", forgedCases()},
		{"store/state", stateCases()},
	}
}

// want is the verdict that a case must get.
type want struct {
	status int
	what   string // the reason of a denial, the source of an allow
	key    string // the alias of the key that an allow carries; "-" for none; "" is not looked at
}

func (w want) allowed() bool { return w.status == 200 }

func (w want) String() string { return fmt.Sprintf("%d %s", w.status, w.what) }

func deny(status int, reason string) want { return want{status: status, what: reason} }

// allow is the verdict of a control.
func allow(source string) want { return want{status: 200, what: source} }

// with names the key that an allow must carry.
func (w want) with(alias string) want {
	w.key = alias
	return w
}

// TestCasesAreDistinct: a case with another's name cannot be told from it, and one without a basis says nothing.
func TestCasesAreDistinct(t *testing.T) {
	denials := 0
	for _, g := range groups() {
		seen := make(map[string]bool)
		for _, c := range g.Cases {
			if c.Name == "" || c.Basis == "" || seen[c.Name] {
				t.Errorf("%s: %q: no basis, or the name is there twice", g.Name, c.Name)
			}
			seen[c.Name] = true
			if !c.Want.allowed() {
				denials++
			}
		}
	}
	denials += len(mistakes()) + len(refusedRows()) + len(refusedStatements())
	if denials < 400 {
		t.Errorf("only %d cases are denied or refused", denials)
	}
}
