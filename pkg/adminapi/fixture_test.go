package adminapi_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sallyport-dev/sallyport/pkg/admin"
	"github.com/sallyport-dev/sallyport/pkg/adminapi"
	"github.com/sallyport-dev/sallyport/pkg/control/controlserver"
	"github.com/sallyport-dev/sallyport/pkg/enroll"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/mail"
	"github.com/sallyport-dev/sallyport/pkg/metric"
	"github.com/sallyport-dev/sallyport/pkg/registry"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/token"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
	"github.com/sallyport-dev/sallyport/proto/admin/v1/adminv1connect"
)

// world is a running admin API over a real store and a real socket.
type world struct {
	adminv1connect.AdminServiceClient
	socket string
	db     *store.DB
	keys   *token.Keyring
	post   *post
	log    *observer.ObservedLogs
	// stop ends Serve and returns what it returned.
	stop func() error
}

// post is a mail server: it keeps what it is handed, or refuses it.
type post struct {
	mu     sync.Mutex
	sent   []mail.Message
	refuse error
	// entered, where set, is told that a mail has come; the mail then waits for proceed.
	entered, proceed chan struct{}
}

func (p *post) Send(ctx context.Context, m mail.Message) error {
	if p.entered != nil {
		p.entered <- struct{}{}
		select {
		case <-p.proceed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return p.refuse
	}
	p.sent = append(p.sent, m)
	return nil
}

// noMailServer leaves the edge without one.
func noMailServer(c *admin.Config) { c.Mail = nil }

// noLinks is an edge that no connector has been linked to.
type noLinks struct{}

func (noLinks) Ingress() map[id.Connector]controlserver.Ingress { return nil }

func serve(t *testing.T, change ...func(*admin.Config)) *world {
	t.Helper()
	return serveOn(t, store.Config{Path: filepath.Join(t.TempDir(), "edge.db")}, change...)
}

func serveOn(t *testing.T, database store.Config, change ...func(*admin.Config)) *world {
	t.Helper()
	core, logged := observer.New(zap.InfoLevel)
	logger := zap.New(core)
	w := &world{socket: filepath.Join(t.TempDir(), "admin.sock"), post: &post{}, log: logged}
	w.openStore(t, database)
	config := admin.Config{
		Tenants: w.db.Tenants(), Identity: w.db.Identity(), Sessions: w.db.Sessions(), Tokens: w.db.Services(),
		Connectors: w.db.Enroll(), Inviter: enroll.NewService(w.db.Enroll(), time.Now), Minter: w.keys, Rotator: w.keys, Mail: w.post,
		Texts: mail.English(), Links: registry.New(registry.Config{Logger: logger, Metrics: metric.New()}), EdgeHost: "edge.example",
		Rules: w.db.Ingress(), Running: noLinks{},
		EdgeURL: "https://edge.example:8443", Port: ":8443", Logger: logger,
	}
	for _, f := range change {
		f(&config)
	}
	l, err := adminapi.Listen(t.Context(), w.socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- adminapi.New(admin.New(config), logger).Serve(ctx, l) }()
	w.stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-served:
			return err
		case <-time.After(10 * time.Second):
			return errors.New("Serve did not return")
		}
	})
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Error(err)
		}
	})
	w.AdminServiceClient = adminapi.Dial(w.socket)
	return w
}

func (w *world) openStore(t *testing.T, database store.Config) {
	t.Helper()
	sealer, err := secret.NewSealer(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	if w.db, err = store.Open(t.Context(), database, sealer); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.db.Close() })
	if w.keys, err = token.NewKeyring(t.Context(), w.db.Keys(), time.Now); err != nil {
		t.Fatal(err)
	}
}

// maple adds a clinic with a site, a person and an app that the person may use.
func (w *world) maple(t *testing.T) *adminv1.App {
	t.Helper()
	ctx := t.Context()
	if _, err := w.CreateTenant(ctx, &adminv1.CreateTenantRequest{Id: "maple", Name: "Maple Family Clinic", Zone: "America/Toronto"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateSite(ctx, &adminv1.CreateSiteRequest{Tenant: "maple", Id: "main"}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.AddUser(ctx, &adminv1.AddUserRequest{Tenant: "maple", Email: "dr.lee@maple.example"}); err != nil {
		t.Fatal(err)
	}
	app, err := w.CreateApp(ctx, &adminv1.CreateAppRequest{
		Tenant: "maple", Host: "oscar.maple.example", Site: "main", AllowUsers: []string{"dr.lee@maple.example"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return app.App
}

// login gives somebody a session.
func (w *world) login(t *testing.T, user id.User) session.Session {
	t.Helper()
	s, _, err := session.NewKeeper(w.db.Sessions(), session.Limits{}, time.Now).Create(t.Context(), session.Login{
		Tenant: "maple", User: user, SignInHost: "signin.maple.example", Methods: []string{"otp"}, Client: "Firefox", Source: "192.0.2.7",
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// enrol spends an invitation as a connector would.
func (w *world) enrol(t *testing.T, code string) enroll.Connector {
	t.Helper()
	key, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := enroll.NewService(w.db.Enroll(), time.Now).Enroll(t.Context(), code, key)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
