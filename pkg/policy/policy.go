// Package policy owns the judgement of a request: Evaluate maps an Input to a Decision and is pure, so that the same
// question always has the same answer and can be asked again later. It fetches nothing: Needs says which attributes the
// rules look at, and access provides them as values. What is not there denies.
package policy

import (
	"time"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// PrincipalKind says whether a person or a machine asks.
type PrincipalKind string

// The kinds of principal. The zero value is nobody.
const (
	UserPrincipal    PrincipalKind = "user"
	ServicePrincipal PrincipalKind = "service"
)

// Principal is who is asking. Issuer and Subject name a person for good; an e-mail address never does.
type Principal struct {
	Kind    PrincipalKind
	ID      string // id.User or id.Service
	Issuer  string
	Subject string
}

// Authentication is how and when the principal proved who they are.
type Authentication struct {
	Session id.Session
	Token   id.Token // services
	// Methods are RFC 8176 values ("otp", "swk", "hwk", …) as they really were.
	Methods []string
	At      time.Time
}

// Request is what is asked for: the same canonical values that are recorded and forwarded.
type Request struct {
	Method string
	Host   string
	Path   string
	// ClientIP is the socket's address, without a port; never a header's.
	ClientIP string
	// Upgrade is "websocket" when the connection is to be switched.
	Upgrade string
}

// Input is everything that a decision may depend on.
type Input struct {
	Tenant         id.Tenant
	App            id.App
	Site           id.Site
	Principal      Principal
	Authentication Authentication
	Request        Request
	Rules          []Rule
	Now            time.Time
}

// Effect is what a decision says. The zero value denies.
type Effect int

// The effects.
const (
	Deny Effect = iota
	Allow
	// Challenge allows as soon as the Obligations are met.
	Challenge
)

func (e Effect) String() string {
	switch e {
	case Allow:
		return "allow"
	case Challenge:
		return "challenge"
	default:
		return "deny"
	}
}

// Obligation is what a Challenge still asks the principal for.
type Obligation struct {
	Kind string // "sign-in", later "step-up", "justification", "approval", "signature"
	// Parameters belong to Kind, e.g. the methods that would satisfy a step-up.
	Parameters map[string]string
}

// Decision is the answer, and why.
type Decision struct {
	Effect Effect
	// Reason is a stable code for records and metrics, such as "rule", "no-rule", "no-principal".
	Reason string
	// Rule is the id of the rule that decided, if one did.
	Rule        string
	Obligations []Obligation
}
