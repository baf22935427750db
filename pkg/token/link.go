package token

import (
	"crypto/ed25519"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sallyport-dev/sallyport/pkg/id"
)

// proofBytes is the length of a nonce and of the TLS exporter's output; shorter ones prove nothing.
const proofBytes = 32

// proof is the claims of LinkProof and EdgeProof. There is no time in them: the nonce is fresh and the exporter belongs
// to one TLS connection, so a machine with a wrong clock can still prove who it is, and a recorded proof is worthless.
type proof struct {
	Issuer   string           `json:"iss"`
	Audience jwt.ClaimStrings `json:"aud"`
	Nonce    string           `json:"nonce"`
	Exporter string           `json:"exporter"`
}

var _ jwt.Claims = (*proof)(nil)

func (p *proof) GetExpirationTime() (*jwt.NumericDate, error) { return nil, nil }
func (p *proof) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil }
func (p *proof) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }
func (p *proof) GetIssuer() (string, error)                   { return p.Issuer, nil }
func (p *proof) GetSubject() (string, error)                  { return "", nil }
func (p *proof) GetAudience() (jwt.ClaimStrings, error)       { return p.Audience, nil }

func newProof(issuer, audience string, nonce, exporter []byte) (*proof, error) {
	if len(nonce) < proofBytes || len(exporter) < proofBytes {
		return nil, fmt.Errorf("link proof: nonce and exporter of %d and %d bytes, want %d", len(nonce), len(exporter), proofBytes)
	}
	b64 := base64.RawURLEncoding.EncodeToString
	return &proof{Issuer: issuer, Audience: jwt.ClaimStrings{audience}, Nonce: b64(nonce), Exporter: b64(exporter)}, nil
}

// matches compares with what this side of the link knows.
func (p *proof) matches(want *proof) error {
	same := subtle.ConstantTimeCompare([]byte(p.Nonce), []byte(want.Nonce)) &
		subtle.ConstantTimeCompare([]byte(p.Exporter), []byte(want.Exporter))
	if same != 1 {
		return errors.New("made for another nonce or another TLS connection")
	}
	return nil
}

// SignLinkProof makes a connector's proof that it holds its on-site key, over the edge's nonce and the TLS exporter.
func SignLinkProof(key ed25519.PrivateKey, connector id.Connector, nonce, exporter []byte) (string, error) {
	p, err := newProof(string(connector), edgeAudience, nonce, exporter)
	if err != nil {
		return "", err
	}
	return sign(LinkProof, string(connector), key, p)
}

// VerifyLinkProof checks a connector's proof with the key it enrolled.
func VerifyLinkProof(key ed25519.PublicKey, raw string, connector id.Connector, nonce, exporter []byte) error {
	want, err := newProof(string(connector), edgeAudience, nonce, exporter)
	if err != nil {
		return refused(err)
	}
	enrolled := func(_ Kind, kid string) (publicKey, bool) {
		return publicKey{key: key, retired: time.Unix(lastSecond, 0)}, kid == string(connector) && len(key) == ed25519.PublicKeySize
	}
	var got proof
	err = check(raw, LinkProof, &got, enrolled, time.Unix(0, 0), jwt.WithIssuer(want.Issuer), jwt.WithAudience(edgeAudience))
	if err == nil {
		err = got.matches(want)
	}
	if err != nil {
		return refused(err)
	}
	return nil
}

// MintEdgeProof makes the edge's proof over the connector's nonce and the same exporter.
func (k *Keyring) MintEdgeProof(nonce, exporter []byte) (string, error) {
	p, err := newProof(AssertionIssuer, connectorAudience, nonce, exporter)
	if err != nil {
		return "", err
	}
	return k.sign(EdgeProof, EdgeProof, p)
}

// VerifyEdgeProof checks that the peer is the edge whose root key this connector pinned. now is the edge's clock.
func (p *Pinned) VerifyEdgeProof(raw string, nonce, exporter []byte, now time.Time) error {
	want, err := newProof(AssertionIssuer, connectorAudience, nonce, exporter)
	if err != nil {
		return refused(err)
	}
	var got proof
	err = check(raw, EdgeProof, &got, p.key, now, jwt.WithIssuer(AssertionIssuer), jwt.WithAudience(connectorAudience))
	if err == nil {
		err = got.matches(want)
	}
	if err != nil {
		return refused(err)
	}
	return nil
}
