package access

import (
	"time"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/policy"
)

// record writes down a judgement: who, what, where, when, and what was answered.
func record(q Question, d policy.Decision, at time.Time) audit.Decision {
	who := q.Identity
	return audit.Decision{
		Tenant:    q.Tenant.ID,
		Request:   q.RequestID,
		Time:      at,
		App:       q.App.ID,
		Site:      q.App.Site,
		Principal: who.Principal,
		Session:   who.Authentication.Session,
		Token:     who.Authentication.Token,
		Methods:   who.Authentication.Methods,
		ClientIP:  q.Request.ClientIP,
		Method:    q.Request.Method,
		Host:      q.Request.Host,
		Path:      q.Request.Path,
		Effect:    d.Effect,
		Reason:    d.Reason,
		Rule:      d.Rule,
	}
}
