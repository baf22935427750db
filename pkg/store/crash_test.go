package store_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sallyport-dev/sallyport/pkg/audit"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/identity"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/store"
	"github.com/sallyport-dev/sallyport/pkg/tenant"
)

// victimEnv names the store that this binary, started again, writes to until it is killed.
const victimEnv = "SALLYPORT_STORE_VICTIM"

// crashesEnv says how often TestKilledWhileWriting kills; 10 if unset.
const crashesEnv = "SALLYPORT_STORE_CRASHES"

func TestMain(m *testing.M) {
	if path := os.Getenv(victimEnv); path != "" {
		fmt.Fprintln(os.Stderr, victim(path))
		os.Exit(1)
	}
	if where := os.Getenv(spoolVictimEnv); where != "" {
		fmt.Fprintln(os.Stderr, spoolVictim(where))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// victim records decisions and adds users as fast as it can, and says of each on stdout when it was acknowledged.
func victim(path string) error {
	ctx := context.Background()
	// The key of sealer(t, 1).
	key, err := secret.NewSealer(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		return err
	}
	db, err := store.Open(ctx, store.Config{Path: path}, key)
	if err != nil {
		return err
	}
	recorder := audit.NewRecorder(db.Audit(), audit.RecorderConfig{}, zap.NewNop())
	fail := make(chan error, 16)
	go func() { fail <- recorder.Run(ctx) }()
	run := strconv.FormatUint(rand.Uint64(), 36)
	for w := range 8 {
		go func() {
			for n := 0; ; n++ {
				d := audit.Decision{Tenant: "maple", Path: fmt.Sprintf("/%s/%d/%d", run, w, n)}
				sequence, err := recorder.Decide(ctx, d)
				if err != nil {
					fail <- err
					return
				}
				recorder.Conclude(audit.Outcome{Tenant: "maple", Sequence: sequence})
				fmt.Printf("decision %d %s\n", sequence, d.Path)
			}
		}()
	}
	go func() {
		for {
			u := identity.User{Tenant: "maple", ID: id.NewUser(), Issuer: identity.LocalIssuer}
			u.Subject, u.Email = string(u.ID), string(u.ID)+"@clinic.example"
			if err := db.Identity().CreateUser(ctx, u); err != nil {
				fail <- err
				return
			}
			fmt.Printf("user %s .\n", u.ID)
		}
	}()
	return <-fail
}

// acknowledged is what victims said was done, over all their lives.
type acknowledged struct {
	decisions map[int64]string
	users     []id.User
}

// Whatever was acknowledged before a kill -9 is there, in one piece, with numbers that go on without a gap.
func TestKilledWhileWriting(t *testing.T) {
	t.Parallel()
	crashes := 10
	if s := os.Getenv(crashesEnv); s != "" {
		var err error
		if crashes, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "edge.db")
	db := open(t, path)
	err := db.Tenants().CreateTenant(t.Context(), tenant.Tenant{ID: "maple", SignInHost: "s.example", Created: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	acks := acknowledged{decisions: make(map[int64]string)}
	for round := range crashes {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		killOne(t, path, &acks)
		db = open(t, path)
		if err := db.Check(t.Context()); err != nil {
			t.Fatalf("after kill %d: %v", round+1, err)
		}
		acks.verify(t, db)
	}
	t.Logf("%d kills; %d decisions and %d users were acknowledged, all there", crashes, len(acks.decisions), len(acks.users))
}

// killOne starts a victim, lets it acknowledge something between nothing and much, kills it and notes what it said.
func killOne(t *testing.T, path string, acks *acknowledged) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+path)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	until := 1 + rand.IntN(400)
	kill := sync.OnceFunc(func() { _ = cmd.Process.Kill() })
	defer kill()
	for n := 0; ; n++ {
		if n == until {
			kill()
		}
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break // a last line without its end was not acknowledged in full
		}
		if err != nil {
			t.Fatal(err)
		}
		acks.note(t, line)
	}
	_ = cmd.Wait() // killed: always an error
	if stderr.Len() > 0 {
		t.Fatal("the victim failed by itself: ", stderr.String())
	}
}

func (a *acknowledged) note(t *testing.T, line string) {
	t.Helper()
	var kind, what, path string
	if _, err := fmt.Sscan(line, &kind, &what, &path); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if kind == "user" {
		a.users = append(a.users, id.User(what))
		return
	}
	sequence, err := strconv.ParseInt(what, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if before, twice := a.decisions[sequence]; twice {
		t.Fatalf("sequence %d was given to %s and to %s", sequence, before, path)
	}
	a.decisions[sequence] = path
}

func (a *acknowledged) verify(t *testing.T, db *store.DB) {
	t.Helper()
	paths := allPaths(t, db)
	for sequence, path := range a.decisions {
		if sequence > int64(len(paths)) || paths[sequence-1] != path {
			t.Fatalf("decision %d (%s) was acknowledged and is not there", sequence, path)
		}
	}
	users, err := db.Identity().Users(t.Context(), "maple")
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[id.User]bool, len(users))
	for _, u := range users {
		there[u.ID] = true
	}
	for _, u := range a.users {
		if !there[u] {
			t.Fatalf("user %s was acknowledged and is not there", u)
		}
	}
	// Each user, and the tenant, has its one change.
	if version, err := db.Changes().Version(t.Context()); err != nil || version != int64(len(users)+1) {
		t.Fatalf("%d changes for %d users and a tenant (%v)", version, len(users), err)
	}
}

// allPaths reads every decision and fails on a gap in their numbers.
func allPaths(t *testing.T, db *store.DB) (paths []string) {
	t.Helper()
	for {
		read, err := db.Audit().Decisions(t.Context(), "maple", int64(len(paths)), 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(read) == 0 {
			return paths
		}
		for _, d := range read {
			if d.Sequence != int64(len(paths)+1) {
				t.Fatalf("decision %d where %d belongs", d.Sequence, len(paths)+1)
			}
			paths = append(paths, d.Path)
		}
	}
}
