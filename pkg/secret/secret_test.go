package secret_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-dev/sallyport/pkg/secret"
)

func TestRedactedNeverPrints(t *testing.T) {
	r := secret.Redact("hunter2")
	asJSON, err := json.Marshal(struct{ Password secret.Redacted }{r})
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{fmt.Sprint(r), fmt.Sprintf("%v %+v %#v %s %q", r, r, r, r, r), string(asJSON)} {
		if strings.Contains(printed, "hunter2") {
			t.Errorf("printed the secret: %s", printed)
		}
	}
	if r.Reveal() != "hunter2" {
		t.Error("Reveal lost it")
	}
}

func newSealer(t *testing.T) *secret.Sealer {
	t.Helper()
	path := filepath.Join(t.TempDir(), "master.key")
	if err := secret.CreateMaster(path); err != nil {
		t.Fatal(err)
	}
	s, err := secret.LoadMaster(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealedOpensOnlyUnderItsPurposeAndKey(t *testing.T) {
	a, b := newSealer(t), newSealer(t)
	sealed, err := a.Seal("maple/path", []byte("/oscar/chart"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := a.Open("maple/path", sealed); err != nil || string(plain) != "/oscar/chart" {
		t.Fatalf("Open = %q, %v", plain, err)
	}
	if _, err := a.Open("birch/path", sealed); !errors.Is(err, secret.ErrSealed) {
		t.Errorf("another tenant's purpose: %v", err)
	}
	if _, err := b.Open("maple/path", sealed); !errors.Is(err, secret.ErrSealed) {
		t.Errorf("another key: %v", err)
	}
	for i := range sealed {
		bent := append([]byte(nil), sealed...)
		bent[i] ^= 1
		if _, err := a.Open("maple/path", bent); !errors.Is(err, secret.ErrSealed) {
			t.Fatalf("byte %d altered: %v", i, err)
		}
		if _, err := a.Open("maple/path", sealed[:i]); !errors.Is(err, secret.ErrSealed) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

func TestMasterKeyIsRefusedUnlessPrivateAndWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	if _, err := secret.LoadMaster(path); err == nil {
		t.Error("missing file accepted")
	}
	if err := secret.CreateMaster(path); err != nil {
		t.Fatal(err)
	}
	if err := secret.CreateMaster(path); err == nil {
		t.Error("overwrote an existing key")
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.LoadMaster(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("group-readable key: %v", err)
	}
	if err := os.WriteFile(path, []byte("c2hvcnQ=\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.LoadMaster(path); err == nil {
		t.Error("short key accepted")
	}
}

func BenchmarkSeal(b *testing.B) {
	path := filepath.Join(b.TempDir(), "master.key")
	if err := secret.CreateMaster(path); err != nil {
		b.Fatal(err)
	}
	s, err := secret.LoadMaster(path)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Seal("maple/path", []byte("/oscar/casemgmt/forward.jsp")); err != nil {
			b.Fatal(err)
		}
	}
}
