package enroll

import (
	"context"
	"crypto/ed25519"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
)

// shelf is a Store in memory with the store's promise: of many concurrent calls with one code, one succeeds.
type shelf struct {
	Store
	mu      sync.Mutex
	invites map[string]Invite
	spent   map[string]bool
	fail    error
}

func (s *shelf) CreateInvite(_ context.Context, i Invite) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.invites[i.Hash] = i
	return nil
}

func (s *shelf) Enroll(_ context.Context, hash string, key ed25519.PublicKey, c id.Connector, now time.Time) (Connector, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.invites[hash]
	switch {
	case s.fail != nil:
		return Connector{}, s.fail
	case !ok:
		return Connector{}, fault.New(fault.NotFound, "no such code")
	case s.spent[hash]:
		return Connector{}, fault.New(fault.Conflict, "used")
	case !now.Before(i.Expires):
		return Connector{}, fault.New(fault.Denied, "expired")
	}
	s.spent[hash] = true
	return Connector{Tenant: i.Tenant, Site: i.Site, ID: c, PublicKey: key, Created: now}, nil
}

func newShelf() *shelf { return &shelf{invites: map[string]Invite{}, spent: map[string]bool{}} }

func key() ed25519.PublicKey {
	return ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)
}

func TestEveryBadCodeIsRefusedInTheSameWords(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	store := newShelf()
	s := NewService(store, func() time.Time { return now })
	invite := func() string {
		t.Helper()
		code, i, err := s.Invite(t.Context(), "maple", "main")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(i.Hash, code) {
			t.Error("the code itself is kept")
		}
		return code
	}
	used, expired := invite(), invite()
	c, err := s.Enroll(t.Context(), " "+strings.ToLower(used)+"\n", key())
	if err != nil || c.Tenant != "maple" || c.Site != "main" {
		t.Fatalf("%+v %v", c, err)
	}
	words := map[string]bool{}
	refuse := func(name, code string, k ed25519.PublicKey) {
		_, err := s.Enroll(t.Context(), code, k)
		if !fault.Is(err, fault.Denied) {
			t.Errorf("%s: %v", name, err)
		}
		words[fault.Public(err)] = true
	}
	refuse("used", used, key())
	refuse("wrong", strings.Repeat("A", 26), key())
	refuse("malformed", "'; drop", key())
	refuse("empty", "", key())
	refuse("short key", invite(), key()[:31])
	now = now.Add(InviteLife)
	refuse("expired", expired, key())
	if len(words) != 1 {
		t.Errorf("the words differ: %v", words)
	}
	store.fail = errors.New("disk on fire")
	if _, err := s.Enroll(t.Context(), invite(), key()); fault.CodeOf(err) != fault.Internal {
		t.Errorf("a broken store looks like a bad code: %v", err)
	}
}

func TestRacedCodeEnrolsOnce(t *testing.T) {
	s := NewService(newShelf(), time.Now)
	code, _, err := s.Invite(t.Context(), "maple", "main")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	enrolled := 0
	for range 32 {
		wg.Go(func() {
			if _, err := s.Enroll(t.Context(), code, key()); err == nil {
				mu.Lock()
				enrolled++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if enrolled != 1 {
		t.Errorf("%d connectors from one code", enrolled)
	}
}

const (
	goodCode = "ABCDEFGHIJKLMNOPQRSTUVWX27"
	goodPin  = "sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA-_"
)

// The pasted line goes through real shells and must come out as the same words (attack case L2).
func TestPastedLineIsPlainWords(t *testing.T) {
	line, err := Line("https://edge.localhost:8443/", goodCode, goodPin)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"connector", "enroll", "https://edge.localhost:8443", "--code", goodCode, "--ca", goodPin}
	if got := strings.Fields(line); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Fatalf("got %q", line)
	}
	for _, shell := range []string{"sh", "bash"} {
		path, err := exec.LookPath(shell)
		if err != nil {
			continue
		}
		out, err := exec.CommandContext(t.Context(), path, "-c", `printf '%s\n' `+line).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(string(out)); got != strings.Join(want, "\n") {
			t.Errorf("%s read %q", shell, got)
		}
	}
	for name, parts := range map[string][3]string{
		"command in host":    {"https://edge$(id).example", goodCode, goodPin},
		"backtick":           {"https://`id`.example", goodCode, goodPin},
		"space":              {"https://edge.example x", goodCode, goodPin},
		"path":               {"https://edge.example/;id", goodCode, goodPin},
		"query":              {"https://edge.example/?a&b", goodCode, goodPin},
		"user":               {"https://a:b@edge.example", goodCode, goodPin},
		"plain http":         {"http://edge.example", goodCode, goodPin},
		"port":               {"https://edge.example:08443", goodCode, goodPin},
		"option for a host":  {"https://-oProxyCommand", goodCode, goodPin},
		"newline in code":    {"https://edge.example", goodCode[:25] + "\n", goodPin},
		"quote in code":      {"https://edge.example", goodCode[:25] + "'", goodPin},
		"semicolon in a pin": {"https://edge.example", goodCode, goodPin[:49] + ";"},
		"pin of other hash":  {"https://edge.example", goodCode, "md5" + goodPin[6:]},
	} {
		if line, err := Line(parts[0], parts[1], parts[2]); err == nil {
			t.Errorf("%s: %q", name, line)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("https://edge.example:8443", goodCode, goodPin)
	f.Fuzz(func(t *testing.T, edge, code, pin string) {
		line, err := Line(edge, code, pin)
		if err == nil && strings.ContainsAny(line, "\"'`$\\;&|<>(){}[]*?!#~\n\r\t%^") {
			t.Errorf("%q", line)
		}
	})
}
