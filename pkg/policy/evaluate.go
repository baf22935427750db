package policy

import "slices"

// The reasons of a Decision; stable, since records and metrics carry them.
const (
	ReasonRule        = "rule"         // the rule named in Decision.Rule decided
	ReasonNoRule      = "no-rule"      // no rule applies to the principal
	ReasonNoPrincipal = "no-principal" // who is asking is not known
	ReasonIncomplete  = "incomplete"   // the input lacks something that every judgement needs
)

// Evaluate judges in. It is total: every input has an answer, and whatever it cannot make sense of denies. The order of the
// rules does not matter: any Deny that applies wins over every Allow, and of several rules that say the same, the one with
// the smallest id is named.
func Evaluate(in Input) Decision {
	if in.Tenant == "" || in.App == "" || in.Now.IsZero() {
		return Decision{Reason: ReasonIncomplete}
	}
	if !known(in.Principal.Kind) || in.Principal.ID == "" {
		return Decision{Reason: ReasonNoPrincipal}
	}
	var allow, deny string
	var allowed, denied bool
	for i := range in.Rules {
		r := &in.Rules[i]
		switch {
		case r.Effect == Allow:
			// An allow that the record could not name is no allow.
			if r.ID != "" && includes(r.Include, in.Principal, false) {
				allow, allowed = first(allow, allowed, r.ID), true
			}
		case includes(r.Include, in.Principal, true):
			// Deny, and any effect this version does not know.
			deny, denied = first(deny, denied, r.ID), true
		}
	}
	switch {
	case denied:
		return Decision{Effect: Deny, Reason: ReasonRule, Rule: deny}
	case allowed:
		return Decision{Effect: Allow, Reason: ReasonRule, Rule: allow}
	default:
		return Decision{Reason: ReasonNoRule}
	}
}

// Attribute names something about a request that must be fetched before it can be judged.
type Attribute string

// PrincipalAttribute is who is asking; every rule of today looks at it and at nothing else.
const PrincipalAttribute Attribute = "principal"

// Needs states which attributes the rules look at, sorted, each once. No rules need nothing: the answer is no.
func Needs(rules []Rule) []Attribute {
	for _, r := range rules {
		if len(r.Include) > 0 {
			return []Attribute{PrincipalAttribute}
		}
	}
	return nil
}

// includes reports whether the selectors name p. A selector of a kind this version does not know cannot be judged: it
// counts as unknown says, so that it never lets anybody in and never lets anybody past a Deny. An empty selector names
// nobody.
func includes(selectors []Selector, p Principal, unknown bool) bool {
	return slices.ContainsFunc(selectors, func(s Selector) bool {
		switch {
		case s.ID == "" || s.Kind == "":
			return false
		case !known(s.Kind):
			return unknown
		default:
			return s.Kind == p.Kind && s.ID == p.ID
		}
	})
}

func known(k PrincipalKind) bool { return k == UserPrincipal || k == ServicePrincipal }

func first(have string, had bool, next string) string {
	if had && have <= next {
		return have
	}
	return next
}
