package store

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/sallyport-dev/sallyport/pkg/policy"
)

// storedRule is the form of a rule in the store. Effects are words there, so that their order in the program can change,
// and a field or word that this program does not know is an error: a rule half understood is not to be followed.
type storedRule struct {
	ID      string           `json:"id"`
	Effect  string           `json:"effect"`
	Include []storedSelector `json:"include"`
}

type storedSelector struct {
	Kind string `json:"kind"`
	ID   string `json:"id"`
}

func encodeRules(rules []policy.Rule) (string, error) {
	stored := make([]storedRule, 0, len(rules))
	for _, r := range rules {
		s := storedRule{ID: r.ID, Effect: r.Effect.String(), Include: make([]storedSelector, 0, len(r.Include))}
		for _, i := range r.Include {
			s.Include = append(s.Include, storedSelector{string(i.Kind), i.ID})
		}
		stored = append(stored, s)
	}
	text, err := json.Marshal(stored)
	return string(text), err
}

func decodeRules(text string) ([]policy.Rule, error) {
	var stored []storedRule
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.DisallowUnknownFields()
	if err := d.Decode(&stored); err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	var rules []policy.Rule
	for _, s := range stored {
		effect, err := parseEffect(s.Effect)
		if err != nil {
			return nil, fmt.Errorf("rule %s: %w", s.ID, err)
		}
		r := policy.Rule{ID: s.ID, Effect: effect}
		for _, i := range s.Include {
			r.Include = append(r.Include, policy.Selector{Kind: policy.PrincipalKind(i.Kind), ID: i.ID})
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func parseEffect(word string) (policy.Effect, error) {
	for _, e := range []policy.Effect{policy.Deny, policy.Allow, policy.Challenge} {
		if e.String() == word {
			return e, nil
		}
	}
	return policy.Deny, fmt.Errorf("effect %q is not known to this version", word)
}
