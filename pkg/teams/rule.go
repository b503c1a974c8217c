package teams

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/ext"

	"github.com/extauthz/extauthz/internal/trace"
)

// Rule is a condition in the Common Expression Language that a request must meet.
type Rule struct {
	// Name says which rule it was, in logs and explanations.
	Name string
	// Expression must yield a bool. It sees claims, identity, request, now and, in a team rule, team.
	Expression string
	// Message is what a denied client is told; empty means a fixed text.
	Message string
	// Shadow records what the rule would have denied, and denies nothing.
	Shadow bool
}

// RuleError is an [ErrRuleFailed] that names the rule.
type RuleError struct {
	Rule    string
	Message string // for the client; may be empty
	Cause   error  // of an evaluation that failed; nil for one that yielded false
}

// Error does not repeat the cause: CEL quotes what it could not convert or find, and that is a claim's value.
func (e *RuleError) Error() string {
	text := fmt.Sprintf("%v: %s", ErrRuleFailed, e.Rule)
	if e.Cause != nil {
		text += ": it cannot be evaluated"
	}
	return text
}

func (e *RuleError) Unwrap() error { return ErrRuleFailed }

// ruleCost bounds one evaluation in CEL's own unit, about one elementary operation: an expression
// over a claim of the client's choosing must not take a CPU with it. A list of 200 groups searched
// twice costs about 1,000. Spending it all takes some 10 ms; four times as much took ten times as long.
const ruleCost = 25_000

// interruptEvery is how many iterations of a comprehension pass between looks at the context.
const interruptEvery = 100

// maxExpression bounds the text of a rule.
const maxExpression = 4096

// compiledRule is a Rule that type-checks.
type compiledRule struct {
	Rule
	program cel.Program
}

// ruleScope is where rules are evaluated; it decides which variables they see.
type ruleScope struct{ env *cel.Env }

func newRuleScope(withTeam bool) (ruleScope, error) {
	object := cel.MapType(cel.StringType, cel.DynType)
	options := []cel.EnvOption{
		cel.CustomTypeAdapter(jsonAdapter{types.DefaultTypeAdapter}),
		cel.Variable("claims", object), cel.Variable("identity", object), cel.Variable("request", object),
		cel.Variable("now", cel.TimestampType),
		ext.Strings(ext.StringsVersion(4)), ext.Sets(),
	}
	if withTeam {
		options = append(options, cel.Variable("team", object))
	}
	env, err := cel.NewEnv(options...)
	return ruleScope{env}, err
}

// compile checks a rule's syntax and types. The error is one line that says where.
func (s ruleScope) compile(rule Rule) (compiledRule, error) {
	if len(rule.Expression) > maxExpression {
		return compiledRule{}, fmt.Errorf("the expression is longer than %d bytes", maxExpression)
	}
	ast, issues := s.env.Compile(rule.Expression)
	if err := issues.Err(); err != nil {
		first := issues.Errors()[0]
		return compiledRule{}, fmt.Errorf("line %d, column %d: %s",
			first.Location.Line(), first.Location.Column()+1, strings.ReplaceAll(first.Message, "\n", " "))
	}
	if !ast.OutputType().IsExactType(cel.BoolType) {
		return compiledRule{}, fmt.Errorf("the expression yields %s, not bool", ast.OutputType())
	}
	program, err := s.env.Program(ast, cel.CostLimit(ruleCost), cel.InterruptCheckFrequency(interruptEvery), cel.EvalOptions(cel.OptOptimize))
	return compiledRule{rule, program}, err
}

// CheckExpression reports, in one line, why an expression is none that a rule can have. withTeam is for
// a team rule.
func CheckExpression(expression string, withTeam bool) error {
	scope, err := newRuleScope(withTeam)
	if err != nil {
		return err
	}
	_, err = scope.compile(Rule{Expression: expression})
	return err
}

func (s ruleScope) compileAll(rules []Rule) ([]compiledRule, error) {
	compiled := make([]compiledRule, 0, len(rules))
	for _, rule := range rules {
		c, err := s.compile(rule)
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", rule.Name, err)
		}
		compiled = append(compiled, c)
	}
	return compiled, nil
}

// check evaluates the rule. Only true passes.
func (r compiledRule) check(ctx context.Context, variables map[string]any) error {
	value, _, err := r.program.ContextEval(ctx, variables)
	if err == nil && value.Value() == true {
		trace.From(ctx).Add("policy", "rule %q holds", r.Name)
		return nil
	}
	if err != nil {
		trace.From(ctx).Add("policy", "rule %q cannot be evaluated: %s", r.Name, err.Error())
	}
	failed := &RuleError{Rule: r.Name, Message: r.Message, Cause: err}
	if r.Shadow {
		trace.From(ctx).Shadow(failed)
		return nil
	}
	return failed
}

// checkAll returns the failure of the first rule that does not hold.
func checkAll(ctx context.Context, rules []compiledRule, variables map[string]any) error {
	for _, rule := range rules {
		if err := rule.check(ctx, variables); err != nil {
			return err
		}
	}
	return nil
}

// ruleVariables are what rules see. They are maps, never Go structs: cel-go once exposed private
// fields of structs (GHSA-gcjh-h69q-9w9g).
func ruleVariables(id *Identity, r Request, now time.Time) map[string]any {
	claims := id.Claims.Values
	if claims == nil { // a direct virtual key has none
		claims = map[string]any{}
	}
	return map[string]any{
		"claims": claims,
		"identity": map[string]any{
			"issuer": string(id.Issuer), "user_id": string(id.UserID), "email": id.Email, "team_id": string(id.TeamID),
			"team_ids": texts(id.TeamIDs), "org_id": string(id.OrganizationID), "roles": texts(id.Roles), "scopes": texts(id.Scopes),
		},
		"request": map[string]any{"method": r.Method, "path": r.Path, "model": r.Model.Name, "team": string(r.Team)},
		"now":     now,
	}
}

func teamVariables(t *Team) map[string]any {
	if t == nil {
		return map[string]any{}
	}
	return map[string]any{
		"id": string(t.ID), "alias": t.Alias, "org_id": string(t.OrganizationID),
		"models": texts(t.Models), "allowed_routes": texts(t.AllowedRoutes),
	}
}

func texts[S ~string](list []S) []string {
	plain := make([]string, len(list))
	for i, text := range list {
		plain[i] = string(text)
	}
	return plain
}

// jsonAdapter gives CEL the numbers of a token: integers where they are, else doubles.
type jsonAdapter struct{ types.Adapter }

func (a jsonAdapter) NativeToValue(value any) ref.Val {
	switch value := value.(type) {
	case json.Number:
		if n, err := value.Int64(); err == nil {
			return types.Int(n)
		}
		f, err := value.Float64()
		if err != nil {
			return types.NewErr("number out of range")
		}
		return types.Double(f)
	case map[string]any:
		return types.NewStringInterfaceMap(a, value)
	case []any:
		return types.NewDynamicList(a, value)
	}
	return a.Adapter.NativeToValue(value)
}
