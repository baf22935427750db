package adminapi_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/sallyport-dev/sallyport/pkg/admin"
	"github.com/sallyport-dev/sallyport/pkg/adminapi"
	"github.com/sallyport-dev/sallyport/pkg/id"
	"github.com/sallyport-dev/sallyport/pkg/session"
	"github.com/sallyport-dev/sallyport/pkg/token"
	adminv1 "github.com/sallyport-dev/sallyport/proto/admin/v1"
)

// same compares messages but for what every run makes anew.
func same(t *testing.T, got, want any) {
	t.Helper()
	diff := cmp.Diff(want, got, protocmp.Transform(),
		protocmp.IgnoreFields(&adminv1.Tenant{}, "created_ms"), protocmp.IgnoreFields(&adminv1.Site{}, "created_ms"),
		protocmp.IgnoreFields(&adminv1.App{}, "created_ms", "id"))
	if diff != "" {
		t.Error(diff)
	}
}

func TestAClinicIsPublished(t *testing.T) {
	w := serve(t)
	app := w.maple(t)
	ctx := t.Context()
	tenants, err := w.ListTenants(ctx, &adminv1.ListTenantsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	same(t, tenants.Tenants, []*adminv1.Tenant{{
		Id: "maple", Name: "Maple Family Clinic", SignInHost: "signin.maple.example", Zone: "America/Toronto",
	}})
	sites, err := w.ListSites(ctx, &adminv1.ListSitesRequest{Tenant: "maple"})
	if err != nil {
		t.Fatal(err)
	}
	same(t, sites.Sites, []*adminv1.Site{{Tenant: "maple", Id: "main"}})
	want := &adminv1.App{
		Tenant: "maple", Host: "oscar.maple.example", Path: "/", Site: "main", Name: "OSCAR", Users: []string{"dr.lee@maple.example"},
	}
	same(t, app, want)
	apps, err := w.ListApps(ctx, &adminv1.ListAppsRequest{Tenant: "maple"})
	if err != nil {
		t.Fatal(err)
	}
	same(t, apps.Apps, []*adminv1.App{want})
	if age := time.Since(time.UnixMilli(apps.Apps[0].CreatedMs)); age < 0 || age > time.Minute {
		t.Errorf("created %s ago", age)
	}
}

func TestAccessIsReplacedAndAppsGoOffTheAir(t *testing.T) {
	w := serve(t)
	app := w.maple(t)
	ctx := t.Context()
	set := &adminv1.SetAppAccessRequest{Tenant: "maple", App: app.Id, AllowServices: []string{"booking"}}
	if _, err := w.SetAppAccess(ctx, set); err != nil {
		t.Fatal(err)
	}
	apps, err := w.ListApps(ctx, &adminv1.ListAppsRequest{Tenant: "maple"})
	if err != nil {
		t.Fatal(err)
	}
	if got := apps.Apps[0]; len(got.Users) != 0 || !cmp.Equal(got.Services, []string{"booking"}) {
		t.Errorf("may use it: %v and %v", got.Users, got.Services)
	}
	if _, err := w.DeleteApp(ctx, &adminv1.DeleteAppRequest{Tenant: "maple", App: app.Id}); err != nil {
		t.Fatal(err)
	}
	if apps, err = w.ListApps(ctx, &adminv1.ListAppsRequest{Tenant: "maple"}); err != nil || len(apps.Apps) != 0 {
		t.Errorf("still there: %v, %v", apps, err)
	}
}

func TestPeopleAreInvitedLockedOutAndLetInAgain(t *testing.T) {
	w := serve(t)
	w.maple(t)
	ctx := t.Context()
	if len(w.post.sent) != 1 || w.post.sent[0].To != "dr.lee@maple.example" || !strings.Contains(w.post.sent[0].Text, "https://signin.maple.example:8443/") {
		t.Errorf("invited by %+v", w.post.sent)
	}
	quiet, err := w.AddUser(ctx, &adminv1.AddUserRequest{Tenant: "maple", Email: "MOA@Maple.example", Quiet: true})
	if err != nil || quiet.Invited || quiet.User.Email != "moa@maple.example" || len(w.post.sent) != 1 {
		t.Errorf("quietly: %v, %v, %d mails", quiet, err, len(w.post.sent))
	}
	for _, disabled := range []bool{true, false} {
		if _, err := w.SetUserDisabled(ctx, &adminv1.SetUserDisabledRequest{Tenant: "maple", Email: "moa@maple.example", Disabled: disabled}); err != nil {
			t.Fatal(err)
		}
		users, err := w.ListUsers(ctx, &adminv1.ListUsersRequest{Tenant: "maple"})
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range users.Users {
			if u.Disabled != (disabled && u.Email == "moa@maple.example") {
				t.Errorf("%s is disabled: %v", u.Email, u.Disabled)
			}
		}
	}
}

func TestSessionsAreListedAndRevoked(t *testing.T) {
	w := serve(t)
	w.maple(t)
	ctx := t.Context()
	users, err := w.ListUsers(ctx, &adminv1.ListUsersRequest{Tenant: "maple"})
	if err != nil {
		t.Fatal(err)
	}
	login := w.login(t, id.User(users.Users[0].Id))
	list, err := w.ListSessions(ctx, &adminv1.ListSessionsRequest{Tenant: "maple"})
	if err != nil || len(list.Sessions) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	if got := list.Sessions[0]; got.Id != string(login.ID) || got.Email != "dr.lee@maple.example" || got.Client != "Firefox" || got.Source != "192.0.2.7" || got.ExpiresMs == 0 {
		t.Errorf("%+v", got)
	}
	if _, err := w.RevokeSession(ctx, &adminv1.RevokeSessionRequest{Tenant: "maple", Session: string(login.ID)}); err != nil {
		t.Fatal(err)
	}
	if list, err = w.ListSessions(ctx, &adminv1.ListSessionsRequest{Tenant: "maple"}); err != nil || len(list.Sessions) != 0 {
		t.Errorf("still live: %v, %v", list, err)
	}
}

func TestTokensAreMintedForOneClinicAndRevoked(t *testing.T) {
	w := serve(t)
	w.maple(t)
	ctx := t.Context()
	minted, err := w.MintToken(ctx, &adminv1.MintTokenRequest{Tenant: "maple", Service: "booking"})
	if err != nil {
		t.Fatal(err)
	}
	if life := time.Duration(minted.Token.ExpiresMs-minted.Token.CreatedMs) * time.Millisecond; life != admin.DefaultTokenLife {
		t.Errorf("good for %s", life)
	}
	claims, err := w.keys.Verifier(token.Service).Verify(minted.Jwt, token.Expect{
		Issuer: session.Issuer("signin.maple.example"), Audience: session.ServiceAudience("maple"), Tenant: "maple",
	}, time.Now())
	if err != nil || claims.Subject != "booking" || claims.ID != minted.Token.Id {
		t.Errorf("%+v, %v", claims, err)
	}
	if _, err := w.RevokeToken(ctx, &adminv1.RevokeTokenRequest{Tenant: "maple", Token: minted.Token.Id}); err != nil {
		t.Fatal(err)
	}
	list, err := w.ListTokens(ctx, &adminv1.ListTokensRequest{Tenant: "maple"})
	if err != nil || len(list.Tokens) != 1 || list.Tokens[0].RevokedMs == 0 {
		t.Errorf("%v, %v", list, err)
	}
	for _, line := range w.log.All() {
		if strings.Contains(line.Message, minted.Jwt) || strings.Contains(mustJSON(t, line.ContextMap()), minted.Jwt) {
			t.Error("the token is in the log")
		}
	}
}

func TestConnectorsAreInvitedListedAndRevoked(t *testing.T) {
	w := serve(t)
	w.maple(t)
	ctx := t.Context()
	invite, err := w.InviteConnector(ctx, &adminv1.InviteConnectorRequest{Tenant: "maple", Site: "main"})
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(invite.Command)
	if len(words) != 5 || !strings.HasPrefix(invite.Command, "connector enroll https://edge.example:8443 --code ") {
		t.Fatalf("the line to paste is %q", invite.Command)
	}
	c := w.enrol(t, words[4])
	if err := w.db.Enroll().SetFrozen(ctx, "maple", c.ID, "its key is in use twice"); err != nil {
		t.Fatal(err)
	}
	if got := w.connector(t); got.Frozen != "its key is in use twice" {
		t.Errorf("frozen: %q", got.Frozen)
	}
	if _, err := w.ThawConnector(ctx, &adminv1.ThawConnectorRequest{Tenant: "maple", Connector: string(c.ID)}); err != nil {
		t.Fatal(err)
	}
	if got := w.connector(t); got.Frozen != "" || got.RevokedMs != 0 {
		t.Errorf("thawed: %v", got)
	}
	if _, err := w.RevokeConnector(ctx, &adminv1.RevokeConnectorRequest{Tenant: "maple", Connector: string(c.ID)}); err != nil {
		t.Fatal(err)
	}
	if got := w.connector(t); got.Id != string(c.ID) || got.RevokedMs == 0 {
		t.Errorf("revoked: %v", got)
	}
}

// connector is the only one of maple.
func (w *world) connector(t *testing.T) *adminv1.Connector {
	t.Helper()
	list, err := w.ListConnectors(t.Context(), &adminv1.ListConnectorsRequest{Tenant: "maple"})
	if err != nil || len(list.Connectors) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	return list.Connectors[0]
}

func TestMailIsTested(t *testing.T) {
	w := serve(t)
	if _, err := w.TestMail(t.Context(), &adminv1.TestMailRequest{To: "it@msp.example"}); err != nil {
		t.Fatal(err)
	}
	if len(w.post.sent) != 1 || w.post.sent[0].To != "it@msp.example" {
		t.Errorf("sent %+v", w.post.sent)
	}
	w.post.refuse = errors.New("554 no")
	_, err := w.TestMail(t.Context(), &adminv1.TestMailRequest{To: "it@msp.example"})
	if err := adminapi.Explain(w.socket, err); err == nil || !strings.Contains(err.Error(), "554 no") {
		t.Errorf("what the mail server said is lost: %v", err)
	}
}

func TestAnswersAreWrittenForPrograms(t *testing.T) {
	answer := &adminv1.ListTenantsResponse{Tenants: []*adminv1.Tenant{{Id: "maple", Name: "Maple: \"Family\" #1", SignInHost: "yes"}}}
	for format, read := range map[string]func([]byte, any) error{"json": json.Unmarshal, "yaml": yaml.Unmarshal} {
		var out bytes.Buffer
		if err := adminapi.Write(&out, format, answer); err != nil {
			t.Fatal(err)
		}
		var got struct {
			Tenants []map[string]any `json:"tenants" yaml:"tenants"`
		}
		if err := read(out.Bytes(), &got); err != nil {
			t.Fatalf("%s: %v\n%s", format, err, out.String())
		}
		want := []map[string]any{{"id": "maple", "name": "Maple: \"Family\" #1", "sign_in_host": "yes"}}
		if diff := cmp.Diff(want, got.Tenants); diff != "" {
			t.Errorf("%s: %s\n%s", format, diff, out.String())
		}
	}
	if err := adminapi.Write(&bytes.Buffer{}, "xml", answer); err == nil {
		t.Error("xml was written")
	}
	if err := adminapi.Write(&bytes.Buffer{}, "json", 1); err == nil {
		t.Error("a number was written")
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestKeysAreRotated(t *testing.T) {
	w := serve(t)
	ctx := t.Context()
	if _, err := w.RotateKeys(ctx, &adminv1.RotateKeysRequest{Kinds: []string{"root"}}); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("the root key: %v", err)
	}
	if _, err := w.RotateKeys(ctx, &adminv1.RotateKeysRequest{Kinds: []string{"access", "access"}}); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("one kind twice: %v", err)
	}
	resp, err := w.RotateKeys(ctx, &adminv1.RotateKeysRequest{Kinds: []string{"assertion"}})
	if err != nil || len(resp.Kinds) != 1 {
		t.Fatalf("%v, %v", resp, err)
	}
	if resp, err = w.RotateKeys(ctx, &adminv1.RotateKeysRequest{Emergency: true}); err != nil || len(resp.Kinds) != 5 {
		t.Fatalf("%v, %v", resp, err)
	}
	keys, err := w.db.Keys().Keys(ctx)
	if err != nil {
		t.Fatal(err)
	}
	good := map[token.Kind]int{}
	for _, k := range keys {
		if time.Now().Before(k.Retired) {
			good[k.Kind]++
		}
	}
	for _, kind := range token.Rotated() {
		if good[kind] != 1 {
			t.Errorf("%d keys of kind %s verify", good[kind], kind)
		}
	}
}
