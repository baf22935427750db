package edgetest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// Browser is a headless Chromium that trusts the edge's CA, as a clinic's machines would.
type Browser struct {
	Ctx       context.Context
	Downloads string
}

// browserPatience bounds all that a test does in a browser.
const browserPatience = 3 * time.Minute

// StartBrowser starts a Chromium with a profile of its own, which speaks HTTP/2 at most. It ends with the test.
func StartBrowser(t testing.TB, caFile string, width, height int) *Browser {
	t.Helper()
	return startBrowser(t, caFile, width, height, chromedp.Flag("disable-quic", true))
}

// StartHTTP3Browser starts one that begins with HTTP/3 at these origins, host:port each, instead of waiting for Alt-Svc.
func StartHTTP3Browser(t testing.TB, caFile string, origins ...string) *Browser {
	t.Helper()
	return startBrowser(t, caFile, 1280, 800, chromedp.Flag("enable-quic", true), chromedp.Flag("origin-to-force-quic-on", strings.Join(origins, ",")),
		// It tries HTTP/3 at the first address only, which is ::1, where the edge of a test does not listen.
		chromedp.Flag("host-resolver-rules", "MAP *.localhost 127.0.0.1"))
}

func startBrowser(t testing.TB, caFile string, width, height int, quic ...chromedp.ExecAllocatorOption) *Browser {
	t.Helper()
	home := t.TempDir()
	nss := filepath.Join(home, ".pki", "nssdb")
	if err := os.MkdirAll(nss, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-d", "sql:" + nss, "-N", "--empty-password"},
		{"-d", "sql:" + nss, "-A", "-t", "C,,", "-n", "sallyport", "-i", caFile},
	} {
		if text, err := exec.Command("certutil", args...).CombinedOutput(); err != nil {
			t.Fatalf("certutil (libnss3-tools): %v\n%s", err, text)
		}
	}
	b := &Browser{Downloads: filepath.Join(home, "downloads")}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath("/usr/bin/chromium"), chromedp.NoSandbox, chromedp.UserDataDir(filepath.Join(home, "profile")),
		chromedp.Env("HOME="+home), chromedp.WindowSize(width, height),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-sync", true), chromedp.Flag("no-first-run", true),
	)
	options = append(options, quic...)
	ctx, cancel := context.WithTimeout(context.Background(), browserPatience)
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	var closeTab context.CancelFunc
	b.Ctx, closeTab = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		closeTab()
		stop()
		cancel()
	})
	if err := chromedp.Run(b.Ctx); err != nil {
		t.Fatalf("chromium: %v", err)
	}
	return b
}

// Screenshot writes what the browser shows to the directory in SALLYPORT_SCREENSHOTS, for people to look at; without it
// nothing is written.
func (b *Browser) Screenshot(t testing.TB, name string) {
	t.Helper()
	dir := os.Getenv("SALLYPORT_SCREENSHOTS")
	if dir == "" {
		return
	}
	var picture []byte
	if err := chromedp.Run(b.Ctx, chromedp.CaptureScreenshot(&picture)); err != nil {
		t.Fatalf("screenshot %s: %v", name, err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o600); err != nil {
		t.Fatal(err)
	}
}
