package edgetest_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// inBrowser runs steps; a fault shows where the browser was.
func inBrowser(t *testing.T, b *edgetest.Browser, what string, steps ...chromedp.Action) {
	t.Helper()
	if err := chromedp.Run(b.Ctx, steps...); err != nil {
		var at, text string
		_ = chromedp.Run(b.Ctx, chromedp.Location(&at), chromedp.Text("body", &text))
		b.Screenshot(t, "failed")
		t.Fatalf("%s: %v\nat %s:\n%.1000s", what, err, at, text)
	}
}

// signInWithBrowser goes from the app through the sign-in host to the application's own log-in page.
func signInWithBrowser(t *testing.T, w *edgetest.World, b *edgetest.Browser) {
	t.Helper()
	next := w.Code(edgetest.Doctor)
	inBrowser(t, b, "the address", chromedp.Navigate(w.URL("/oscar/index.jsp")),
		chromedp.WaitVisible(`input[name=email]`), chromedp.SendKeys(`input[name=email]`, edgetest.Doctor))
	b.Screenshot(t, "1-sign-in")
	inBrowser(t, b, "ask for a code", chromedp.Submit(`form[action="/email"]`), chromedp.WaitVisible(`input[name=code]`))
	b.Screenshot(t, "2-code")
	code, err := next(b.Ctx)
	if err != nil {
		t.Fatal(err)
	}
	inBrowser(t, b, "the code", chromedp.SendKeys(`input[name=code]`, code), chromedp.Submit(`form[action="/code"]`),
		chromedp.WaitVisible(`input[name=username]`))
	b.Screenshot(t, "3-oscar-log-in")
}

// The whole of it as a doctor does it, in a real browser, on a real Tomcat, over both transports.
func TestADoctorInABrowser(t *testing.T) {
	transports(t, func(t *testing.T, noQUIC bool) {
		w, _ := oscarWorld(t, noQUIC)
		b := edgetest.StartBrowser(t, filepath.Join(w.Dir, "edge", "ca", "ca.pem"), 1280, 800)
		signInWithBrowser(t, w, b)
		note := "Seen in a browser " + t.Name()
		inBrowser(t, b, "the application's log-in",
			chromedp.SendKeys(`input[name=username]`, "oscardoc"), chromedp.SendKeys(`input[name=password]`, "mac2002"),
			chromedp.SendKeys(`input[name=pin]`, "1117"), chromedp.Click(`button[type=submit]`), chromedp.WaitVisible(`table`))
		b.Screenshot(t, "4-day-sheet")
		inBrowser(t, b, "a note", chromedp.Navigate(w.URL("/oscar/casemgmt/forward.jsp?demographicNo=1")),
			chromedp.WaitVisible(`textarea`), chromedp.SendKeys(`textarea`, note),
			chromedp.Click(`button[value=save]`))
		edgetest.Eventually(t, "the chart to show the note", func() error {
			var notes string
			err := chromedp.Run(b.Ctx, chromedp.Evaluate(`document.querySelector("#notes")?.innerText ?? ""`, &notes))
			if err == nil && !strings.Contains(notes, note) {
				err = errors.New(notes)
			}
			return err
		})
		b.Screenshot(t, "5-chart")
		browserUpload(t, w, b)
		browserDownload(t, w, b)
		inBrowser(t, b, "sign out", chromedp.Navigate(w.URL("/.sallyport/sign-out")), chromedp.WaitVisible(`section.card`))
		b.Screenshot(t, "6-signed-out")
		inBrowser(t, b, "signed out", chromedp.Navigate(w.URL("/oscar/index.jsp")), chromedp.WaitVisible(`input[name=email]`))
	})
}

// browserUpload sends 200 MB through the application's form.
func browserUpload(t *testing.T, w *edgetest.World, b *edgetest.Browser) {
	t.Helper()
	const size = 200 << 20
	name := filepath.Join(t.TempDir(), "scan.bin")
	file, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.New()
	if _, err := io.Copy(io.MultiWriter(file, digest), patterned(7, size)); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	var answer string
	inBrowser(t, b, "upload", chromedp.Navigate(w.URL("/oscar/documentManager/addDocument.jsp")), chromedp.WaitVisible(`input[type=file]`),
		chromedp.SetUploadFiles(`input[type=file]`, []string{name}), chromedp.Click(`button[type=submit]`),
		chromedp.WaitNotPresent(`input[type=file]`), chromedp.Text(`body`, &answer))
	if want := hex.EncodeToString(digest.Sum(nil)); !strings.Contains(answer, want) || !strings.Contains(answer, fmt.Sprint(size)) {
		t.Errorf("upload of %d bytes with digest %s: the application says %s", size, want, answer)
	}
}

// browserDownload fetches the application's 300 MB backup as a file.
func browserDownload(t *testing.T, w *edgetest.World, b *edgetest.Browser) {
	t.Helper()
	var want string
	inBrowser(t, b, "digest", chromedp.Navigate(w.URL("/oscar/servlet/BackupDownload?digest=1")), chromedp.Text(`body`, &want))
	done := make(chan *browser.EventDownloadProgress, 1)
	chromedp.ListenTarget(b.Ctx, func(event any) {
		if p, ok := event.(*browser.EventDownloadProgress); ok && p.State != browser.DownloadProgressStateInProgress {
			select {
			case done <- p:
			default:
			}
		}
	})
	// A click, as people do: a navigation that turns into a download never ends as one.
	inBrowser(t, b, "download", browser.SetDownloadBehavior(browser.SetDownloadBehaviorBehaviorAllow).WithDownloadPath(b.Downloads).WithEventsEnabled(true),
		chromedp.Navigate(w.URL("/oscar/provider/providercontrol.jsp?displaymode=day")), chromedp.Click(`a[href*="BackupDownload"]`))
	select {
	case p := <-done:
		if p.State != browser.DownloadProgressStateCompleted {
			t.Fatalf("download: %s", p.State)
		}
	case <-b.Ctx.Done():
		t.Fatal("the download does not end")
	}
	file, err := os.Open(filepath.Join(b.Downloads, "backup.bin"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	digest := sha256.New()
	n, err := io.Copy(digest, file)
	if err != nil || n != 300<<20 || hex.EncodeToString(digest.Sum(nil)) != strings.TrimSpace(want) {
		t.Errorf("download: %d bytes with digest %x, want %s, %v", n, digest.Sum(nil), want, err)
	}
}

// A form that a user wrote runs script on the app's host. It can do what the page's reader can do in the application, and
// nothing with the sign-in.
func TestUserScriptCannotTouchTheSignIn(t *testing.T) {
	w, _ := oscarWorld(t, false)
	b := edgetest.StartBrowser(t, filepath.Join(w.Dir, "edge", "ca", "ca.pem"), 1280, 800)
	signInWithBrowser(t, w, b)
	signIn := w.HostURL("signin.maple.localhost", "")
	try := func(name, script string) string {
		t.Helper()
		var got string
		inBrowser(t, b, name, chromedp.Evaluate(`(async () => { try { return String(await (async () => {`+script+`})()) } catch (e) { return "refused: " + e } })()`,
			&got, chromedp.EvalAsValue, awaitPromise))
		return got
	}
	if got := try("read our cookies", `return document.cookie`); strings.Contains(strings.ToLower(got), "sallyport") {
		t.Errorf("a script reads %q", got)
	}
	try("plant cookies", `for (const n of ["__Host-Http-sallyport", "__Host-Http-sallyport-at", "__Host-Http-sallyport-flow"]) document.cookie = n + "=planted; Secure; Path=/"; return ""`)
	try("overflow the jar", `for (let i = 0; i < 400; i++) document.cookie = "fill" + i + "=x; Secure; Path=/"; for (const n of ["__Host-Http-sallyport", "__Host-Http-sallyport-at", "__Host-Http-sallyport-flow"]) document.cookie = n + "=planted; Secure; Path=/"; for (let i = 0; i < 400; i++) document.cookie = "fill" + i + "=; Max-Age=0; Secure; Path=/"; return ""`)
	var jar []*network.Cookie
	inBrowser(t, b, "the jar", chromedp.ActionFunc(func(ctx context.Context) (err error) {
		jar, err = network.GetCookies().WithURLs([]string{w.URL("/")}).Do(ctx)
		return err
	}))
	for _, c := range jar {
		if c.Value == "planted" {
			t.Errorf("a script planted %s", c.Name)
		}
	}
	for name, script := range map[string]string{
		"redeem a code":           `const r = await fetch("/.sallyport/redeem?code=AAAA", {redirect: "manual"}); return r.status`,
		"ask for a mailed code":   `const r = await fetch("` + signIn + `/email", {method: "POST", credentials: "include", body: new URLSearchParams({email: "` + edgetest.Doctor + `"})}); return r.status`,
		"read the sign-in host":   `const r = await fetch("` + signIn + `/", {credentials: "include"}); return r.status + (await r.text()).length`,
		"a worker over our paths": `await navigator.serviceWorker.register("/.sallyport/session"); return "registered"`,
		"a worker over the host":  `await navigator.serviceWorker.register("/oscar/js/alerts.js", {scope: "/"}); return "registered"`,
	} {
		got := try(name, script)
		if !strings.HasPrefix(got, "refused") && !strings.HasPrefix(got, "4") && got != "0" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := try("frame the sign-in host", `const f = document.createElement("iframe"); f.src = "`+signIn+`/"; document.body.append(f); await new Promise(r => f.onload = f.onerror = r); try { return f.contentDocument ? "readable" : "opaque" } catch (e) { return "opaque" }`); got == "readable" {
		t.Error("a script reads the sign-in host in a frame")
	}
	if n := len(w.Mail.To(edgetest.Doctor)); n > 1 {
		t.Errorf("a script had %d mails sent", n-1)
	}
}

// awaitPromise makes Evaluate wait for what an async function returns.
func awaitPromise(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }
