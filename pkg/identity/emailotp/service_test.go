package emailotp_test

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/identity/emailotp"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

const lee = "dr.lee@maple.example"

type fixture struct {
	*emailotp.Service
	t  *testing.T
	db *store.DB
	at time.Time
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	ctx := context.Background()
	sealer, err := secret.NewSealer(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(t.TempDir(), "edge.db")}, sealer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	f := &fixture{t: t, db: db, at: time.Now().Truncate(time.Millisecond)}
	for _, name := range []id.Tenant{"maple", "birch"} {
		ten := tenant.Tenant{ID: name, Name: string(name), SignInHost: "signin." + string(name) + ".example", Zone: "UTC", Created: f.at}
		if err := db.Tenants().CreateTenant(ctx, ten); err != nil {
			t.Fatal(err)
		}
	}
	for _, email := range []string{lee, "p.roy@maple.example"} {
		uid := id.NewUser()
		user := identity.User{Tenant: "maple", ID: uid, Issuer: identity.LocalIssuer, Subject: string(uid), Email: email, Created: f.at}
		if err := db.Identity().CreateUser(ctx, user); err != nil {
			t.Fatal(err)
		}
	}
	f.Service = emailotp.New(db.Codes(), db.Identity(), sealer, func() time.Time { return f.at })
	return f
}

func at(browser string) emailotp.Asker {
	return emailotp.Asker{Tenant: "maple", Browser: browser, Source: "192.0.2.1"}
}

func (f *fixture) ask(a emailotp.Asker, email string) emailotp.Issued {
	f.t.Helper()
	issued, err := f.Ask(context.Background(), a, email, []byte("there"))
	if err != nil {
		f.t.Fatal(err)
	}
	return issued
}

// wrong returns digits that are not the code's.
func wrong(issued emailotp.Issued) string {
	if issued.Digits == "000000" {
		return "000001"
	}
	return "000000"
}

func TestACodeWorksOnceWhereItWasAskedFor(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	issued := f.ask(at("phone"), " Dr.Lee@Maple.example")
	if len(issued.Digits) != emailotp.Digits || issued.To != lee || !issued.Deliver {
		t.Fatalf("%+v", issued)
	}
	if _, err := f.Try(ctx, at("thief"), issued.Digits); !fault.Is(err, fault.Denied) {
		t.Errorf("another browser: %v", err)
	}
	other := at("phone")
	other.Tenant = "birch"
	if _, err := f.Try(ctx, other, issued.Digits); !fault.Is(err, fault.Denied) {
		t.Errorf("another tenant: %v", err)
	}
	code, err := f.Try(ctx, at("phone"), issued.Digits)
	if err != nil || string(code.Return) != "there" || code.User == "" {
		t.Fatalf("the right code: %+v, %v", code, err)
	}
	if _, err := f.Try(ctx, at("phone"), issued.Digits); !fault.Is(err, fault.Denied) {
		t.Errorf("a second time: %v", err)
	}
}

func TestACodeEndsAfterTenMinutesOrFiveTries(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	issued := f.ask(at("late"), lee)
	f.at = f.at.Add(emailotp.Life)
	if _, err := f.Try(ctx, at("late"), issued.Digits); !fault.Is(err, fault.Denied) {
		t.Errorf("after ten minutes: %v", err)
	}
	issued = f.ask(at("guess"), lee)
	for range emailotp.MaxTries {
		if _, err := f.Try(ctx, at("guess"), wrong(issued)); !fault.Is(err, fault.Denied) {
			t.Fatalf("a wrong code: %v", err)
		}
	}
	if _, err := f.Try(ctx, at("guess"), issued.Digits); !fault.Is(err, fault.Denied) {
		t.Errorf("the right code at the sixth try: %v", err)
	}
}

func TestOfManyAtOnceOneSucceeds(t *testing.T) {
	f := newFixture(t)
	issued := f.ask(at("phone"), lee)
	var won atomic.Int32
	var wg sync.WaitGroup
	for range emailotp.MaxTries {
		wg.Go(func() {
			if _, err := f.Try(context.Background(), at("phone"), issued.Digits); err == nil {
				won.Add(1)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of %d succeeded", won.Load(), emailotp.MaxTries)
	}
}

func TestTheRightCodeOfAnUnknownAddressIsWrong(t *testing.T) {
	f := newFixture(t)
	issued := f.ask(at("phone"), "nobody@maple.example")
	if issued.Deliver {
		t.Error("would be sent to nobody")
	}
	if _, err := f.Try(context.Background(), at("phone"), issued.Digits); !fault.Is(err, fault.Denied) {
		t.Errorf("%v", err)
	}
}

// At most ten codes in any hour, however the address is written and from however many places.
func TestAskingIsThrottledPerAccount(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	for _, email := range []string{lee, "nobody@maple.example"} {
		given := 0
		for i := range 3600 / 5 {
			a := at(fmt.Sprintf("browser %d", i))
			a.Source = fmt.Sprintf("198.51.100.%d", i%250)
			spelled := email
			if i%2 == 1 {
				spelled = " " + string(bytes.ToUpper([]byte(email)))
			}
			_, err := f.Ask(ctx, a, spelled, nil)
			if err == nil {
				given++
			} else if !fault.Is(err, fault.Exhausted) {
				t.Fatal(err)
			}
			f.at = f.at.Add(5 * time.Second)
		}
		if given > 10 || given < 5 {
			t.Errorf("%s: %d codes in an hour, want 5 to 10", email, given)
		}
	}
}

// Asking for another code does not give more guesses: the account's own count goes on.
func TestNewCodesDoNotResetTheCountOfFailures(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	tried := 0
	for hour := range 48 {
		for i := range 12 {
			a := at(fmt.Sprintf("browser %d %d", hour, i))
			a.Source = fmt.Sprintf("198.51.%d.%d", hour, i)
			issued, err := f.Ask(ctx, a, lee, nil)
			f.at = f.at.Add(5 * time.Minute)
			if err != nil {
				continue
			}
			f.at = f.at.Add(-5 * time.Minute)
			for range emailotp.MaxTries {
				if _, err := f.Try(ctx, a, wrong(issued)); fault.Is(err, fault.Denied) {
					tried++
				}
			}
			f.at = f.at.Add(5 * time.Minute)
		}
	}
	if tried > 100 {
		t.Errorf("%d guesses in two days, want at most 100", tried)
	}
}

// A stranger who empties every bucket of an account does not lock out the browser that its owner uses.
func TestAStrangerCannotLockOutAKnownBrowser(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	doctor := at("doctor")
	doctor.Known = "known to the clinic"
	code, err := f.Try(ctx, doctor, f.ask(doctor, lee).Digits)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Remember(ctx, "maple", doctor.Known, code); err != nil {
		t.Fatal(err)
	}
	for i := range 600 {
		stranger := at(fmt.Sprintf("stranger %d", i))
		stranger.Source, stranger.Known = fmt.Sprintf("203.0.113.%d", i%250), fmt.Sprintf("made up %d", i)
		issued, err := f.Ask(ctx, stranger, lee, nil)
		for range emailotp.MaxTries {
			if err == nil {
				_, _ = f.Try(ctx, stranger, wrong(issued))
			}
		}
		f.at = f.at.Add(20 * time.Second)
	}
	if _, err := f.Ask(ctx, at("new phone"), lee, nil); !fault.Is(err, fault.Exhausted) {
		t.Fatalf("the stranger did not empty the account's bucket: %v", err)
	}
	if _, err := f.Try(ctx, doctor, f.ask(doctor, lee).Digits); err != nil {
		t.Errorf("the doctor's own browser: %v", err)
	}
	// Known for one account is not known for another.
	for range 50 {
		_, _ = f.Ask(ctx, at("x"), "p.roy@maple.example", nil)
	}
	if _, err := f.Ask(ctx, doctor, "p.roy@maple.example", nil); !fault.Is(err, fault.Exhausted) {
		t.Errorf("a browser known for one account got another's own bucket: %v", err)
	}
}

func TestOneSourceIsThrottledAndOthersAreNot(t *testing.T) {
	f := newFixture(t)
	ctx := context.Background()
	given := 0
	for i := range 500 {
		if _, err := f.Ask(ctx, at("b"), fmt.Sprintf("user%d@maple.example", i), nil); err == nil {
			given++
		}
	}
	if given > 60 {
		t.Errorf("one source asked for %d codes at once", given)
	}
	other := at("c")
	other.Source = "198.51.100.9"
	if _, err := f.Ask(ctx, other, lee, nil); err != nil {
		t.Errorf("another source: %v", err)
	}
}
