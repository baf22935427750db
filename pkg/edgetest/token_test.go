package edgetest_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
	"github.com/sallyport-dev/sallyport/pkg/session"
)

// as sends a request with a service token and returns the status.
func as(t *testing.T, w *edgetest.World, token, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Sallyport-Access-Token", token)
	resp, err := w.Visitor().Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestServiceTokens(t *testing.T) {
	w, tomcat := oscarWorld(t, false)
	app := regexp.MustCompile(`app_[0-9a-f-]+`).FindString(w.Admin("app", "list"))
	w.Admin("app", "access", app, "--allow", strings.Join(edgetest.Doctors(), ","), "--allow-service", "lab")
	lab, other := w.Admin("token", "mint", "lab"), w.Admin("token", "mint", "other")
	url := w.URL("/oscar/ws/rs/status")
	if got := as(t, w, lab, url); got != http.StatusOK {
		t.Fatalf("an allowed service: %d", got)
	}
	if got := as(t, w, other, url); got != http.StatusForbidden {
		t.Errorf("a service that is not allowed: %d", got)
	}

	// A second clinic on the same edge.
	w.Admin("tenant", "create", "birch")
	w.Admin("site", "create", "main", "--tenant", "birch")
	w.Admin("app", "create", "--tenant", "birch", "--host", "oscar.birch.localhost", "--site", "main", "--allow-service", "lab")
	edgetest.Eventually(t, "the second clinic's host to be served", func() error {
		resp, err := w.Visitor().Fetch(t.Context(), http.MethodGet, w.HostURL("oscar.birch.localhost", "/"), nil)
		if err == nil {
			_ = resp.Body.Close()
		}
		return err
	})
	if got := as(t, w, lab, w.HostURL("oscar.birch.localhost", "/oscar/ws/rs/status")); got != http.StatusUnauthorized {
		t.Errorf("a token of one clinic at another: %d", got)
	}

	d := atWork(t, w)
	logged := len(tomcat.AccessLog(t))
	access := d.Cookie(w.URL("/"), session.CookieAccess)
	for name, forged := range forgeries(t, lab, access) {
		if got := as(t, w, forged, url); got != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, got)
		}
	}
	// The other way round: a service's token as a browser's cookie.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.AddCookie(&http.Cookie{Name: session.CookieAccess, Value: lab})
	resp, err := w.Visitor().Client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a service token as an access cookie: %s", resp.Status)
	}
	if reached := tomcat.AccessLog(t)[logged:]; len(reached) != 0 {
		t.Errorf("reached the application: %q", reached)
	}

	w.Admin("token", "revoke", "--tenant", "maple", regexp.MustCompile(`tok_[0-9a-f-]+`).FindString(w.Admin("token", "list", "--tenant", "maple")))
	w.Admin("token", "revoke", "--tenant", "maple", regexp.MustCompile(`tok_[0-9a-f-]+`).FindAllString(w.Admin("token", "list", "--tenant", "maple"), -1)[1])
	edgetest.Eventually(t, "revoked tokens to be refused", func() error {
		if got := as(t, w, lab, url); got != http.StatusUnauthorized {
			return http.ErrNotSupported
		}
		return nil
	})
}

// forgeries are tokens that must not pass, made from a good one.
func forgeries(t *testing.T, good, access string) map[string]string {
	t.Helper()
	parts := strings.Split(good, ".")
	if len(parts) != 3 {
		t.Fatalf("not a JWT: %q", good)
	}
	var header, claims map[string]any
	for i, into := range []*map[string]any{&header, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	_, foreign, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(method jwt.SigningMethod, key any, change func(h, c map[string]any)) string {
		token := jwt.New(method)
		c := jwt.MapClaims{}
		for k, v := range claims {
			c[k] = v
		}
		token.Claims = c
		for k, v := range header {
			if k != "alg" {
				token.Header[k] = v
			}
		}
		if change != nil {
			change(token.Header, c)
		}
		text, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	flipped := []byte(parts[2])
	if flipped[5]++; flipped[5] > 'z' || flipped[5] == '[' || flipped[5] == ':' {
		flipped[5] = 'a'
	}
	return map[string]string{
		"no signature (alg none)": sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil),
		"another key":             sign(jwt.SigningMethodEdDSA, foreign, nil),
		"another key, its own id": sign(jwt.SigningMethodEdDSA, foreign, func(h, _ map[string]any) { h["kid"] = "mine" }),
		"a key in the header": sign(jwt.SigningMethodEdDSA, foreign, func(h, _ map[string]any) {
			h["jwk"] = map[string]string{"kty": "OKP", "crv": "Ed25519", "x": base64.RawURLEncoding.EncodeToString(foreign.Public().(ed25519.PublicKey))}
		}),
		"a symmetric signature":   sign(jwt.SigningMethodHS256, []byte("key"), nil),
		"expired, foreign key":    sign(jwt.SigningMethodEdDSA, foreign, func(_, c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() }),
		"an altered signature":    parts[0] + "." + parts[1] + "." + string(flipped),
		"a person's access token": access,
		"nothing":                 "",
		"rubbish":                 "a.b.c",
	}
}
