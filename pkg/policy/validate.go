package policy

import (
	"errors"
	"fmt"
)

// Validate returns every fault of rules at once, for whoever writes them; nil when all are sound. Evaluate does not rely on
// it: what Validate would refuse allows nobody there.
func Validate(rules []Rule) error {
	var faults []error
	seen := make(map[string]bool, len(rules))
	for i, r := range rules {
		name := fmt.Sprintf("rule %d (%q)", i+1, r.ID)
		if r.ID == "" {
			faults = append(faults, fmt.Errorf("%s: it needs an id", name))
		}
		if seen[r.ID] {
			faults = append(faults, fmt.Errorf("%s: the id is used twice", name))
		}
		seen[r.ID] = true
		if r.Effect != Allow && r.Effect != Deny {
			faults = append(faults, fmt.Errorf("%s: the effect is allow or deny", name))
		}
		if len(r.Include) == 0 {
			faults = append(faults, fmt.Errorf("%s: it includes nobody", name))
		}
		for _, s := range r.Include {
			if !known(s.Kind) || s.ID == "" {
				faults = append(faults, fmt.Errorf("%s: %q %q names nobody; use user or service and an id", name, s.Kind, s.ID))
			}
		}
	}
	return errors.Join(faults...)
}
