package edgetest_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/sallyport-dev/sallyport/pkg/edgetest"
)

// The sign-in of somebody who is signed in goes by itself from host to host, with a code in the address. A script on the
// app's host may set that going for a flow that another browser began; it must never see the address, or that browser would
// be signed in as the person.
func TestUserScriptSeesNoCodeOfASignIn(t *testing.T) {
	w, _ := oscarWorld(t, false)
	other, err := w.Visitor().Navigate(t.Context(), w.URL("/oscar/index.jsp"))
	if err != nil {
		t.Fatal(err)
	}
	_ = other.Body.Close()
	begun := other.Request.URL.String()
	if !strings.Contains(begun, "?to=") {
		t.Fatalf("a sign-in begins at %s", begun)
	}
	b := edgetest.StartBrowser(t, filepath.Join(w.Dir, "edge", "ca", "ca.pem"), 1280, 800)
	signInWithBrowser(t, w, b)
	for name, script := range map[string]string{
		"frame": `const f = document.createElement("iframe"); f.src = "` + begun + `"; document.body.append(f);
			await new Promise(r => { f.onload = f.onerror = r; setTimeout(r, 3000) });
			try { return f.contentWindow.location.href } catch (e) { return "refused: " + e }`,
		"fetch": `const r = await fetch("` + begun + `", {mode: "no-cors", credentials: "include"}); return r.url`,
		"window": `const p = window.open("` + begun + `", "w"); let seen = "";
			for (let i = 0; i < 30; i++) { await new Promise(r => setTimeout(r, 100)); try { seen += " " + p.location.href } catch (e) {} }
			return seen`,
	} {
		var got string
		inBrowser(t, b, name, chromedp.Evaluate(`(async () => { try { return String(await (async () => {`+script+`})()) } catch (e) { return "refused: " + e } })()`,
			&got, chromedp.EvalAsValue, awaitPromise))
		if strings.Contains(got, "code=") {
			t.Errorf("%s: a script sees the code", name)
		}
	}
	// What the tab itself has been to, a later page of the same origin may list.
	var entries string
	inBrowser(t, b, "history", chromedp.Navigate(begun), chromedp.WaitReady("body"), chromedp.Navigate(w.URL("/oscar/index.jsp")),
		chromedp.WaitVisible(`input[name=username]`), chromedp.Evaluate(`navigation.entries().map(e => e.url).join(" ")`, &entries))
	if strings.Contains(entries, "code=") || !strings.Contains(entries, w.URL("/")) {
		t.Errorf("history: %s", entries)
	}
}
