package controlserver

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"sync"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/log"
)

// EnrollPath is where connectors enrol, on the edge's own host.
const EnrollPath = "/.sallyport/enroll"

// Limits of enrolment. A code has 130 bits, so they are there against load, not against guessing.
const (
	maxEnrollBody    = 4 << 10
	enrollPerSecond  = 20
	enrollAtOnce     = 50
	sourcePerSecond  = 1
	sourceAtOnce     = 10
	rememberedSource = 4096
)

// EnrollRequest is what a connector posts, as JSON.
type EnrollRequest struct {
	Code string `json:"code"`
	// PublicKey is the connector's Ed25519 key, 32 bytes in base64url without padding.
	PublicKey string `json:"public_key"`
}

// EnrollResponse is the answer to a good code.
type EnrollResponse struct {
	Connector string `json:"connector"`
	Tenant    string `json:"tenant"`
	Site      string `json:"site"`
	// RootKey is the Ed25519 key to pin: it signs the edge's key sets.
	RootKey string `json:"root_key"`
}

// EnrollError is any other answer; its words are for the person at the terminal.
type EnrollError struct {
	Error string `json:"error"`
}

// EnrollHandler takes enrolments: POST, JSON in and out. It trusts r.RemoteAddr to be the peer's.
func (s *Server) EnrollHandler() http.Handler { return http.HandlerFunc(s.serveEnroll) }

func (s *Server) serveEnroll(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		answer(w, http.StatusMethodNotAllowed, EnrollError{"use connector enroll"})
		return
	}
	if !s.sources.allow(r.RemoteAddr) {
		w.Header().Set("Retry-After", "10")
		answer(w, http.StatusTooManyRequests, EnrollError{"too many tries; wait ten seconds"})
		return
	}
	code, key, err := readEnroll(w, r)
	if err != nil {
		answer(w, http.StatusBadRequest, EnrollError{"not an enrolment request"})
		return
	}
	c, err := s.enroll.Enroll(r.Context(), code, key)
	switch {
	case fault.Is(err, fault.Denied):
		s.cfg.Logger.Info("enrolment refused", zap.Error(err))
		answer(w, http.StatusForbidden, EnrollError{fault.Public(err)})
	case err != nil:
		s.cfg.Logger.Error("enrolment failed", zap.Error(err))
		w.Header().Set("Retry-After", "30")
		answer(w, http.StatusServiceUnavailable, EnrollError{"the edge cannot enrol now; try again in a minute"})
	default:
		s.cfg.Logger.Info("connector enrolled", log.Tenant(c.Tenant), log.Site(c.Site), log.Connector(c.ID))
		answer(w, http.StatusOK, EnrollResponse{
			Connector: string(c.ID), Tenant: string(c.Tenant), Site: string(c.Site),
			RootKey: base64.RawURLEncoding.EncodeToString(s.cfg.Keyring.RootPublic()),
		})
	}
}

func readEnroll(w http.ResponseWriter, r *http.Request) (code string, key ed25519.PublicKey, err error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return "", nil, errors.New("content type") // a form on a foreign page cannot send JSON
	}
	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxEnrollBody))
	dec.DisallowUnknownFields()
	var body EnrollRequest
	if err := dec.Decode(&body); err != nil {
		return "", nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return "", nil, errors.New("bytes after the request")
	}
	key, err = base64.RawURLEncoding.Strict().DecodeString(body.PublicKey)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return "", nil, errors.New("public key")
	}
	return body.Code, key, nil
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a peer that is gone wants no answer
}

// sources throttles enrolment by where it comes from, an IPv6 network of /64 as one, and in all.
type sources struct {
	mu    sync.Mutex // guards by
	by    map[netip.Prefix]*rate.Limiter
	total *rate.Limiter
}

func newSources() *sources {
	return &sources{by: map[netip.Prefix]*rate.Limiter{}, total: rate.NewLimiter(enrollPerSecond, enrollAtOnce)}
}

func (s *sources) allow(remote string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := network(remote)
	one := s.by[from]
	if one == nil {
		if len(s.by) >= rememberedSource {
			clear(s.by) // whoever can fill this table is slowed by the total alone
		}
		one = rate.NewLimiter(sourcePerSecond, sourceAtOnce)
		s.by[from] = one
	}
	return one.Allow() && s.total.Allow()
}

func network(remote string) netip.Prefix {
	at, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	addr, bits := at.Addr().Unmap().WithZone(""), 32
	if addr.Is6() {
		bits = 64
	}
	prefix, _ := addr.Prefix(bits) // bits fit the family: cannot fail
	return prefix
}
