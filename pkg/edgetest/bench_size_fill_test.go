package edgetest_test

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/policy"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

func clinicName(i int) id.Tenant { return id.Tenant(fmt.Sprintf("c%d", i)) }
func clinicHost(i int) string    { return fmt.Sprintf("oscar.c%d.example", i) }

// fill makes what administration, enrolment and sign-in would, straight in the database: those are throttled, rightly.
func (s *size) fill() {
	b, ctx := s.b, s.b.Context()
	sealer, err := secret.LoadMaster(filepath.Join(s.edges[0].Dir, "edge", "master.key"))
	if err != nil {
		b.Fatal(err)
	}
	db, err := store.Open(ctx, store.Config{PostgreSQL: store.PostgreSQL{URL: s.database}}, sealer)
	if err != nil {
		b.Fatal(err)
	}
	model, _, err := connector.LoadState(filepath.Join(s.edges[0].Dir, "connector"))
	if err != nil {
		b.Fatal(err)
	}
	service := enroll.NewService(db.Enroll(), time.Now)
	s.inParallel(8, s.clinics, func(i int) error {
		if err := s.clinic(ctx, db, i); err != nil {
			return err
		}
		for n := i; n < s.members; n += s.clinics {
			if err := s.enrol(ctx, service, model, i, n); err != nil {
				return err
			}
		}
		for n := i; n < len(s.cookies); n += s.clinics {
			if err := s.signIn(ctx, db, i, n); err != nil {
				return err
			}
		}
		return nil
	})
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
}

func (s *size) clinic(ctx context.Context, db *store.DB, i int) error {
	now, name := time.Now(), clinicName(i)
	allow := policy.Rule{ID: "r", Effect: policy.Allow, Include: []policy.Selector{{Kind: policy.UserPrincipal, ID: "usr_lee"}}}
	return errors.Join(
		db.Tenants().CreateTenant(ctx, tenant.Tenant{ID: name, SignInHost: fmt.Sprintf("signin.c%d.example", i), Created: now}),
		db.Tenants().CreateSite(ctx, tenant.Site{Tenant: name, ID: "main", Created: now}),
		db.Tenants().CreateApp(ctx, tenant.App{
			Tenant: name, ID: "app_1", Host: clinicHost(i), Path: "/", Site: "main", Name: "OSCAR", Rules: []policy.Rule{allow}, Created: now,
		}),
		db.Identity().CreateUser(ctx, identity.User{
			Tenant: name, ID: "usr_lee", Issuer: identity.LocalIssuer, Subject: "usr_lee", Email: "dr.lee@clinic.example", Created: now,
		}),
		os.WriteFile(s.ingress(i), fmt.Appendf(nil, "rules:\n  - host: %s\n    origin: %s\n  - status: 404\n", clinicHost(i), s.origin), 0o600),
	)
}

func (s *size) ingress(clinic int) string {
	return filepath.Join(s.dir, fmt.Sprintf("ingress%d.yaml", clinic))
}
func (s *size) state(n int) string { return filepath.Join(s.dir, fmt.Sprintf("connector%d", n)) }

func (s *size) enrol(ctx context.Context, service *enroll.Service, model connector.Identity, clinic, n int) error {
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		return err
	}
	code, _, err := service.Invite(ctx, clinicName(clinic), "main")
	if err != nil {
		return err
	}
	member, err := service.Enroll(ctx, code, public)
	if err != nil {
		return err
	}
	model.Tenant, model.Site, model.Connector = clinicName(clinic), "main", member.ID
	text, errText := json.Marshal(model)
	der, errKey := x509.MarshalPKCS8PrivateKey(key)
	return errors.Join(errText, errKey, os.Mkdir(s.state(n), 0o700),
		os.WriteFile(filepath.Join(s.state(n), "identity.json"), text, 0o600),
		os.WriteFile(filepath.Join(s.state(n), "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}

func (s *size) signIn(ctx context.Context, db *store.DB, clinic, n int) error {
	now, value, name := time.Now(), session.NewSecret(), clinicName(clinic)
	one := session.Session{
		Tenant: name, ID: id.NewSession(), User: "usr_lee", Methods: []string{"otp"}, Created: now, LastSeen: now,
		Expires: now.Add(session.DefaultAbsolute), IdleFor: session.DefaultIdle,
	}
	s.cookies[n] = value
	return db.Sessions().CreateSession(ctx, one, session.Reference{
		Tenant: name, Hash: secret.Hash(value), Session: one.ID, Host: clinicHost(clinic), Created: now,
	})
}

// inParallel does count things, workers at a time.
func (s *size) inParallel(workers, count int, do func(i int) error) {
	s.b.Helper()
	next := make(chan int)
	failed := make(chan error, workers)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					select {
					case failed <- fmt.Errorf("%d: %w", i, err):
					default:
					}
				}
			}
		})
	}
	for i := range count {
		next <- i
	}
	close(next)
	all.Wait()
	select {
	case err := <-failed:
		s.b.Fatal(err)
	default:
	}
}
