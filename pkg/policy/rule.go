package policy

// Rule is one statement about who may use an app.
type Rule struct {
	// ID is unique within the app and appears in the record of each decision that the rule made.
	ID     string
	Effect Effect // Allow or Deny; a Deny that matches wins whatever the order
	// Include names principals; the rule applies to whoever is among them. An empty list applies to nobody.
	Include []Selector
}

// Selector names one principal.
type Selector struct {
	Kind PrincipalKind
	ID   string
}
