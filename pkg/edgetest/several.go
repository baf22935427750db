package edgetest

import (
	"os"
	"path/filepath"

	"github.com/sallyport-dev/sallyport/pkg/porttest"
)

// AddEdge starts another edge on the store of the first (Options.Store): the same clinic, the same people, and no connector of its own.
// What the returned World does, it does there.
func (w *World) AddEdge(name string) *World {
	w.t.Helper()
	other := &World{
		t: w.t, Dir: filepath.Join(w.Dir, name), bin: w.bin, Port: porttest.Free(w.t), Mail: w.Mail, Roots: w.Roots, Connector: w.Connector,
		opt: w.opt, signIns: len(Doctors()) / 2, // others than at the first edge: codes are throttled for each
	}
	for _, file := range []string{"master.key", "ca/ca.pem", "ca/ca.key"} {
		to := other.path("edge", file)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			w.t.Fatal(err)
		}
		if err := os.WriteFile(to, w.read("edge", file), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	other.writeEdge(w.opt, name)
	other.Admin("init")
	other.Edge = startProcess(w.t, "edge "+name, filepath.Join(w.bin, "edge"), "serve", "--config", other.path("edge.yaml"))
	other.Wait("the edge to answer", func() error { _, err := other.Try("tenant", "list"); return err })
	return other
}
