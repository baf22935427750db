package token

import (
	"errors"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// body is the JSON of Claims. Times are whole seconds, so that no float rounds a limit away.
type body struct {
	Issuer     string           `json:"iss"`
	Subject    string           `json:"sub"`
	Audience   jwt.ClaimStrings `json:"aud"`
	Expires    int64            `json:"exp"`
	IssuedAt   int64            `json:"iat"`
	ID         string           `json:"jti,omitempty"`
	Tenant     id.Tenant        `json:"tnt"`
	Session    id.Session       `json:"sid,omitempty"`
	Principal  string           `json:"knd"`
	Methods    []string         `json:"amr,omitempty"`
	Site       id.Site          `json:"site,omitempty"`
	App        id.App           `json:"app,omitempty"`
	Connector  id.Connector     `json:"con,omitempty"`
	Generation uint64           `json:"gen,omitempty"`
}

var _ jwt.Claims = (*body)(nil)

// lastSecond is 9999-12-31T23:59:59Z: times beyond it overflow what follows.
const lastSecond = 253402300799

func seconds(s int64) (*jwt.NumericDate, error) {
	switch {
	case s == 0:
		return nil, nil
	case s < 0 || s > lastSecond:
		return nil, errors.New("time out of range")
	}
	return &jwt.NumericDate{Time: time.Unix(s, 0)}, nil
}

func (b *body) GetExpirationTime() (*jwt.NumericDate, error) { return seconds(b.Expires) }
func (b *body) GetIssuedAt() (*jwt.NumericDate, error)       { return seconds(b.IssuedAt) }
func (b *body) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }
func (b *body) GetIssuer() (string, error)                   { return b.Issuer, nil }
func (b *body) GetSubject() (string, error)                  { return b.Subject, nil }
func (b *body) GetAudience() (jwt.ClaimStrings, error)       { return b.Audience, nil }

func bodyOf(c Claims) *body {
	return &body{
		Issuer: c.Issuer, Subject: c.Subject, Audience: c.Audience, Expires: c.Expires.Unix(), IssuedAt: c.IssuedAt.Unix(),
		ID: c.ID, Tenant: c.Tenant, Session: c.Session, Principal: c.Kind, Methods: c.Methods, Site: c.Site, App: c.App,
		Connector: c.Connector, Generation: c.Generation,
	}
}

func (b *body) claims() Claims {
	return Claims{
		Issuer: b.Issuer, Subject: b.Subject, Audience: b.Audience, Expires: time.Unix(b.Expires, 0), IssuedAt: time.Unix(b.IssuedAt, 0),
		ID: b.ID, Tenant: b.Tenant, Session: b.Session, Kind: b.Principal, Methods: b.Methods, Site: b.Site, App: b.App,
		Connector: b.Connector, Generation: b.Generation,
	}
}

// life is the longest time between iat and exp of a kind; 0 for kinds whose claims are not a body.
func life(k Kind) time.Duration {
	switch k {
	case Access:
		return AccessLife
	case Assertion, Origin:
		return AssertionLife
	case Service:
		return ServiceLife
	}
	return 0
}

// complete checks what every token of the kind must say, when it is made and when it is read.
func (b *body) complete(k Kind) error {
	limit := life(k)
	switch {
	case limit == 0:
		return errors.New("kind carries no claims of this shape")
	case b.Issuer == "" || b.Subject == "" || b.Tenant == "":
		return errors.New("issuer, subject or tenant missing")
	case len(b.Audience) == 0 || b.Audience[0] == "":
		return errors.New("audience missing")
	case b.Expires <= 0 || b.IssuedAt <= 0 || b.Expires > lastSecond || b.IssuedAt > lastSecond:
		return errors.New("exp or iat missing")
	case b.Expires <= b.IssuedAt || b.Expires-b.IssuedAt > int64(limit/time.Second):
		return errors.New("lives longer than its kind may")
	case k == Access && b.Session == "":
		return errors.New("session missing")
	case k == Service && b.ID == "":
		return errors.New("token id missing")
	case k == Assertion:
		return b.completeAssertion()
	}
	return nil
}

func (b *body) completeAssertion() error {
	switch {
	case len(b.Audience) != 1 || b.Audience[0] != AssertionAudience(b.Connector, b.Generation):
		return errors.New("audience is not the connector's generation")
	case b.Connector == "" || b.Generation == 0:
		return errors.New("connector or generation missing")
	case b.Site == "" || b.App == "":
		return errors.New("site or app missing")
	}
	return nil
}
