package policy_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport-dev/sallyport/pkg/policy"
)

var (
	lee   = policy.Principal{Kind: policy.UserPrincipal, ID: "usr_lee", Issuer: "sallyport", Subject: "usr_lee"}
	robot = policy.Principal{Kind: policy.ServicePrincipal, ID: "booking"}
)

func ask(p policy.Principal, rules ...policy.Rule) policy.Input {
	return policy.Input{Tenant: "maple", App: "app_1", Site: "main", Principal: p, Rules: rules, Now: time.Unix(1e9, 0)}
}

func rule(id string, effect policy.Effect, include ...policy.Selector) policy.Rule {
	return policy.Rule{ID: id, Effect: effect, Include: include}
}

func user(id string) policy.Selector {
	return policy.Selector{Kind: policy.UserPrincipal, ID: id}
}

func TestEvaluate(t *testing.T) {
	machine := policy.Selector{Kind: policy.ServicePrincipal, ID: "booking"}
	group := policy.Selector{Kind: "group", ID: "nurses"}
	for _, c := range []struct {
		name string
		in   policy.Input
		want policy.Decision
	}{
		{"no rules", ask(lee), policy.Decision{Reason: "no-rule"}},
		{"named user", ask(lee, rule("a", policy.Allow, user("usr_lee"))), policy.Decision{Effect: policy.Allow, Reason: "rule", Rule: "a"}},
		{"another user", ask(lee, rule("a", policy.Allow, user("usr_kim"))), policy.Decision{Reason: "no-rule"}},
		{"named service", ask(robot, rule("a", policy.Allow, machine)), policy.Decision{Effect: policy.Allow, Reason: "rule", Rule: "a"}},
		{"same id, other kind", ask(policy.Principal{Kind: policy.UserPrincipal, ID: "booking"}, rule("a", policy.Allow, machine)), policy.Decision{Reason: "no-rule"}},
		{"deny wins, last", ask(lee, rule("a", policy.Allow, user("usr_lee")), rule("b", policy.Deny, user("usr_lee"))), policy.Decision{Reason: "rule", Rule: "b"}},
		{"deny wins, first", ask(lee, rule("b", policy.Deny, user("usr_lee")), rule("a", policy.Allow, user("usr_lee"))), policy.Decision{Reason: "rule", Rule: "b"}},
		{"empty include", ask(lee, rule("a", policy.Allow)), policy.Decision{Reason: "no-rule"}},
		{"empty selector", ask(lee, rule("a", policy.Allow, policy.Selector{})), policy.Decision{Reason: "no-rule"}},
		{"nobody", ask(policy.Principal{}, rule("a", policy.Allow, policy.Selector{})), policy.Decision{Reason: "no-principal"}},
		{"unknown kind of principal", ask(policy.Principal{Kind: "root", ID: "x"}, rule("a", policy.Allow, policy.Selector{Kind: "root", ID: "x"})), policy.Decision{Reason: "no-principal"}},
		{"unknown selector allows nobody", ask(lee, rule("a", policy.Allow, group)), policy.Decision{Reason: "no-rule"}},
		{"unknown selector in a deny stops", ask(lee, rule("a", policy.Allow, user("usr_lee")), rule("b", policy.Deny, group)), policy.Decision{Reason: "rule", Rule: "b"}},
		{"unknown effect stops", ask(lee, rule("a", policy.Allow, user("usr_lee")), rule("b", 42, user("usr_lee"))), policy.Decision{Reason: "rule", Rule: "b"}},
		{"allow without a name", ask(lee, rule("", policy.Allow, user("usr_lee"))), policy.Decision{Reason: "no-rule"}},
		{"no app", policy.Input{Tenant: "maple", Principal: lee, Now: time.Unix(1, 0)}, policy.Decision{Reason: "incomplete"}},
		{"nothing", policy.Input{}, policy.Decision{Reason: "incomplete"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, policy.Evaluate(c.in)); diff != "" {
				t.Errorf("decision (-want +got):\n%s", diff)
			}
		})
	}
}

// TestProperties judges 10,000 random sets of rules and asserts what must hold of each (attack case I2).
func TestProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	allowed := 0
	for range 10_000 {
		rules := randomRules(r)
		in := ask(randomPrincipal(r), rules...)
		got := policy.Evaluate(in)
		if got.Effect == policy.Allow {
			allowed++
		}
		shuffled := in
		shuffled.Rules = slices.Clone(rules)
		r.Shuffle(len(rules), func(i, j int) {
			shuffled.Rules[i], shuffled.Rules[j] = shuffled.Rules[j], shuffled.Rules[i]
		})
		if diff := cmp.Diff(got, policy.Evaluate(shuffled)); diff != "" {
			t.Fatalf("order matters for %+v:\n%s", in, diff)
		}
		narrower := in
		narrower.Rules = append(slices.Clone(rules), rule("zz", policy.Deny, randomSelectors(r)...))
		if policy.Evaluate(narrower).Effect == policy.Allow && got.Effect != policy.Allow {
			t.Fatalf("an added deny widened %+v", in)
		}
		if got.Effect == policy.Allow && !namedBy(rules, got.Rule, in.Principal) {
			t.Fatalf("allowed by %q, which does not name %+v: %+v", got.Rule, in.Principal, rules)
		}
		nobody := in
		nobody.Principal = policy.Principal{}
		if policy.Evaluate(nobody).Effect != policy.Deny {
			t.Fatalf("nobody was not denied by %+v", rules)
		}
	}
	if allowed < 500 {
		t.Errorf("only %d of 10,000 were allowed: the cases do not test enough", allowed)
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	err := policy.Validate([]policy.Rule{{}, rule("a", policy.Challenge, user("")), rule("a", policy.Allow, user("usr_lee"))})
	if err == nil || len(err.(interface{ Unwrap() []error }).Unwrap()) != 6-1 {
		t.Errorf("faults: %v", err)
	}
	if err := policy.Validate([]policy.Rule{rule("a", policy.Allow, user("usr_lee"))}); err != nil {
		t.Errorf("sound rules: %v", err)
	}
}

func TestNeeds(t *testing.T) {
	if got := policy.Needs(nil); len(got) != 0 {
		t.Errorf("no rules need %v", got)
	}
	want := []policy.Attribute{policy.PrincipalAttribute}
	if got := policy.Needs([]policy.Rule{rule("a", policy.Allow, user("usr_lee"))}); !slices.Equal(got, want) {
		t.Errorf("needs %v, want %v", got, want)
	}
}

func namedBy(rules []policy.Rule, id string, p policy.Principal) bool {
	return slices.ContainsFunc(rules, func(r policy.Rule) bool {
		return r.ID == id && r.Effect == policy.Allow &&
			slices.Contains(r.Include, policy.Selector{Kind: p.Kind, ID: p.ID})
	})
}

func randomPrincipal(r *rand.Rand) policy.Principal {
	return policy.Principal{Kind: randomKind(r), ID: randomID(r)}
}

func randomKind(r *rand.Rand) policy.PrincipalKind {
	return []policy.PrincipalKind{"user", "user", "service", "group", ""}[r.IntN(5)]
}

func randomID(r *rand.Rand) string { return []string{"a", "b", "c", ""}[r.IntN(4)] }

func randomSelectors(r *rand.Rand) []policy.Selector {
	out := make([]policy.Selector, r.IntN(4))
	for i := range out {
		out[i] = policy.Selector{Kind: randomKind(r), ID: randomID(r)}
	}
	return out
}

func randomRules(r *rand.Rand) []policy.Rule {
	out := make([]policy.Rule, r.IntN(6))
	for i := range out {
		out[i] = rule(fmt.Sprint(r.IntN(8)), policy.Effect([]int{1, 1, 1, 0, 2}[r.IntN(5)]), randomSelectors(r)...)
	}
	return out
}
