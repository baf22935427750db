// Package diag makes the support bundle: what somebody far away needs to see of a connector that misbehaves, in one archive of
// small text files. Keys, codes, passwords and whatever could tell of a patient stay out: what goes in is chosen file by file,
// and scrubbed once more. Finding out what is wrong is doctor's work.
package diag

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/sallyport-dev/sallyport/pkg/connector"
	"github.com/sallyport-dev/sallyport/pkg/connector/doctor"
	"github.com/sallyport-dev/sallyport/pkg/service"
)

const (
	// gatherLimit bounds what each outside source may take, maxFile what each file may hold, in bytes.
	gatherLimit  = 10 * time.Second
	maxFile      = 4 << 20
	journalLines = "500"
)

// Config says what to gather.
type Config struct {
	// Doctor says what is examined; its Connector is the configuration.
	Doctor doctor.Config
	// Settings is what --show-config prints.
	Settings string
	// Journal returns the last lines of the connector's service; nil asks journalctl. fs.ErrNotExist means that there is none.
	Journal func(context.Context) ([]byte, error)
	// Now is time.Now unless a test says otherwise.
	Now func() time.Time
}

// Bundle is what was gathered.
type Bundle struct {
	// Lanes says which lane runs over what, and why.
	Lanes string
	// Report is the doctor's.
	Report doctor.Report

	files []file
	at    time.Time
}

type file struct{ name, text string }

const about = `A support bundle of a Sallyport connector. It holds no keys, no codes, no passwords and nothing of patients; read it before you
send it, if you like: these are text files.

  doctor.txt, doctor.json   what connector doctor found, and what to do
  lanes.txt                 which lane runs over what, and why
  configuration.txt         each setting, with where it came from
  identity.json             who this connector is; the key stays where it is
  ready.json, metrics.txt   what the running connector says of itself
  journal.txt               the last lines of its log; paths and queries are taken out
  network.txt, system.txt   interfaces, kernel, limits, program
`

// Gather looks at everything. What cannot be had is said in its file; nothing of it is an error.
func Gather(ctx context.Context, cfg Config) *Bundle {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Journal == nil {
		cfg.Journal = journal
	}
	c := cfg.Doctor.Connector
	b := &Bundle{at: cfg.Now(), Report: doctor.Run(ctx, cfg.Doctor)}
	scrub := newScrubber(c)
	add := func(name, text string) {
		b.files = append(b.files, file{name, scrub.text(clip(text))})
	}
	add("README.txt", about)
	var words bytes.Buffer
	_ = b.Report.Write(&words) // memory takes everything
	add("doctor.txt", words.String())
	add("doctor.json", inJSON(b.Report))
	ready, metrics, status := running(ctx, c.Loopback)
	b.Lanes = scrub.text(Lanes(status, metrics))
	add("lanes.txt", b.Lanes)
	add("configuration.txt", cfg.Settings)
	add("identity.json", identity(c.StateDir))
	add("ready.json", ready)
	add("metrics.txt", metrics)
	lines, err := bounded(ctx, cfg.Journal)
	if err != nil {
		lines = []byte("no journal: " + err.Error() + "\n")
	}
	add("journal.txt", scrub.paths(clip(string(lines))))
	add("network.txt", network())
	add("system.txt", system())
	return b
}

// identity is the identity without the key, which nothing here reads.
func identity(dir string) string {
	i, err := connector.ReadIdentity(dir)
	if err != nil {
		return "no identity: " + err.Error() + "\n"
	}
	i.CAPEM = fmt.Sprintf("%d bytes", len(i.CAPEM))
	return inJSON(i)
}

// running asks the connector that runs; status is nil when none answers.
func running(ctx context.Context, loopback string) (ready, metrics string, status *connector.Status) {
	if loopback == "" || strings.HasSuffix(loopback, ":0") {
		const none = "the configuration names no loopback address to ask at\n"
		return none, none, nil
	}
	ctx, cancel := context.WithTimeout(ctx, gatherLimit)
	defer cancel()
	s, err := doctor.AskReady(ctx, loopback)
	if err != nil {
		none := fmt.Sprintf("no connector answers at %s: %v\n", loopback, err)
		return none, none, nil
	}
	text, err := doctor.Ask(ctx, loopback, "/metrics")
	if err != nil {
		text = []byte("no metrics: " + err.Error() + "\n")
	}
	return inJSON(s), string(text), &s
}

func journal(ctx context.Context) ([]byte, error) {
	program, err := exec.LookPath("journalctl")
	if err != nil {
		return nil, fmt.Errorf("no journalctl on this machine: %w", fs.ErrNotExist)
	}
	return exec.CommandContext(ctx, program, "--unit", service.ConnectorUnit, "--lines", journalLines, "--no-pager", "--output", "short-iso").Output()
}

func bounded(ctx context.Context, f func(context.Context) ([]byte, error)) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, gatherLimit)
	defer cancel()
	return f(ctx)
}

func inJSON(v any) string {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err.Error()
	}
	return string(text) + "\n"
}

// clip keeps the end, where the newest lines are.
func clip(s string) string { return s[max(0, len(s)-maxFile):] }

// DefaultName is the bundle's name for people.
func (b *Bundle) DefaultName() string {
	return "sallyport-diag-" + b.at.Format("20060102-150405") + ".tar.gz"
}

// Save writes the bundle to a new file that only its owner may read. A file that is there already is left alone.
func (b *Bundle) Save(name string) (err error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: remove it, or choose another name with --output", name)
	}
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	err = errors.Join(b.write(f), f.Close())
	if err != nil {
		return fmt.Errorf("bundle: %w", errors.Join(err, os.Remove(name)))
	}
	return nil
}

func (b *Bundle) write(w io.Writer) error {
	packed := gzip.NewWriter(w)
	archive := tar.NewWriter(packed)
	for _, f := range b.files {
		head := &tar.Header{Name: "sallyport-diag/" + f.name, Mode: 0o600, Size: int64(len(f.text)), ModTime: b.at, Typeflag: tar.TypeReg}
		if err := archive.WriteHeader(head); err != nil {
			return err
		}
		if _, err := io.WriteString(archive, f.text); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), packed.Close())
}
