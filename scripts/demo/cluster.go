package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// rig is what -cluster runs: PostgreSQL, three edges on it, and two clinics with an application and two connectors each.
type rig struct {
	options
	*supervisor
	postgres string // directory of its programs
	data     string // and of its data and socket
	tokens   map[string]string
}

const (
	edges      = 3
	connectors = 2 // of each clinic
	database   = "postgresql"
)

var clinics = []string{"maple", "cedar"}

func edgeName(n int) string                     { return fmt.Sprintf("edge%d", n) }
func connectorName(clinic string, n int) string { return fmt.Sprintf("%s-connector%d", clinic, n) }
func hostOf(clinic string) string               { return "oscar." + clinic + ".localhost" }

// The ports, all on 127.0.0.1: an edge's own, that for other edges, and that of /ready.
func (r *rig) listens(n int) int { return r.edgePort + 100*(n-1) }
func (r *rig) peers(n int) int   { return r.listens(n) + 1 }
func (r *rig) ready(n int) int   { return r.listens(n) + 2 }

func (r *rig) path(parts ...string) string {
	return filepath.Join(append([]string{r.dir}, parts...)...)
}

// demoCluster runs the rig, breaks it in turn, and fails if something failed that must not.
func demoCluster(ctx context.Context, o options) error {
	if err := o.prepare(); err != nil {
		return err
	}
	s := newSupervisor(ctx, o.logs())
	s.quiet = true
	r := &rig{options: o, supervisor: s, tokens: map[string]string{}}
	defer func() { _ = os.RemoveAll(r.data) }()
	defer s.stopAll()
	if err := inOrder(ctx, o.logs(), []step{
		{"PostgreSQL", r.startPostgres},
		{"three edges", r.startEdges},
		{"two clinics", r.setUp},
		{"two connectors each", r.startConnectors},
		{"requests through every edge", r.everywhere},
	}); err != nil {
		return err
	}
	return r.breakEach(ctx)
}

// owner puts a command of PostgreSQL, which refuses to be root, under its own user.
func owner(args ...string) []string {
	if os.Geteuid() != 0 {
		return args
	}
	return append([]string{"runuser", "-u", "postgres", "--"}, args...)
}

func (r *rig) startPostgres(ctx context.Context) error {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil || len(found) == 0 {
		return errors.New("there is no /usr/lib/postgresql/*/bin/postgres: apt-get install postgresql")
	}
	r.postgres = filepath.Dir(found[len(found)-1])
	// A short path of its own: a Unix socket's has 107 bytes at most, and root's directories are closed to the user postgres.
	if r.data, err = os.MkdirTemp("/tmp", "sallyport-pg"); err != nil {
		return err
	}
	if os.Geteuid() == 0 {
		if _, err := output(ctx, "chown", "postgres:", r.data); err != nil {
			return err
		}
	}
	data := filepath.Join(r.data, "data")
	initdb := owner(filepath.Join(r.postgres, "initdb"), "-D", data, "-U", "sallyport", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-instructions")
	if _, err := output(ctx, initdb[0], initdb[1:]...); err != nil {
		return err
	}
	err = r.start(database, nil, owner(filepath.Join(r.postgres, "postgres"), "-D", data, "-k", r.data, "-p", "5432",
		"-c", "listen_addresses=", "-c", "max_connections=200")...)
	if err != nil {
		return err
	}
	if err := r.databaseStarts(ctx); err != nil {
		return err
	}
	return r.psql(ctx, "-c", "CREATE ROLE edge LOGIN", "-c", "CREATE DATABASE edges OWNER edge")
}

// psql runs commands as the database's owner.
func (r *rig) psql(ctx context.Context, commands ...string) error {
	_, err := output(ctx, filepath.Join(r.postgres, "psql"), append([]string{"-h", r.data, "-U", "sallyport", "-d", "postgres"}, commands...)...)
	return err
}

func (r *rig) startEdges(ctx context.Context) error {
	url := "postgres://edge@/edges?host=" + r.data
	for n := 1; n <= edges; n++ {
		config := fmt.Sprintf(`state_dir: %s
host: %s.localhost
listen: 127.0.0.1:%d
store: %s
cluster: {edge: %s, listen: "127.0.0.1:%d"}
loopback: 127.0.0.1:%d
log: {format: json, level: info}
`, r.path(edgeName(n)), edgeName(n), r.listens(n), url, edgeName(n), r.peers(n), r.ready(n))
		if err := os.WriteFile(r.path(edgeName(n)+".yaml"), []byte(config), 0o600); err != nil {
			return err
		}
		// What all edges share is made by the first one and copied: master.key, and here the local CA too.
		if n > 1 {
			if err := os.Mkdir(r.path(edgeName(n)), 0o700); err != nil {
				return err
			}
			for _, what := range []string{"master.key", "ca"} {
				if out, err := exec.CommandContext(ctx, "cp", "-a", r.path(edgeName(1), what), r.path(edgeName(n))).CombinedOutput(); err != nil {
					return fmt.Errorf("cp: %s", out)
				}
			}
		}
		if _, err := r.edge(ctx, n, "init"); err != nil {
			return err
		}
		if err := r.start(edgeName(n), nil, filepath.Join(r.bin, "edge"), "serve", "--config", r.path(edgeName(n)+".yaml")); err != nil {
			return err
		}
	}
	for n := 1; n <= edges; n++ {
		if err := wait(ctx, func(ctx context.Context) error { return isReady(ctx, r.ready(n)) }); err != nil {
			return fmt.Errorf("edge %d: %w", n, err)
		}
	}
	return nil
}

// edge runs one command of the edge program against an edge.
func (r *rig) edge(ctx context.Context, n int, args ...string) (string, error) {
	return output(ctx, filepath.Join(r.bin, "edge"), append(args, "--config", r.path(edgeName(n)+".yaml"))...)
}

func output(ctx context.Context, name string, args ...string) (string, error) {
	text, err := exec.CommandContext(ctx, name, args...).Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return "", fmt.Errorf("%s %s: %s", filepath.Base(name), strings.Join(args, " "), strings.TrimSpace(string(failed.Stderr)))
	}
	return strings.TrimSpace(string(text)), err
}

// isReady asks a program's /ready.
func isReady(ctx context.Context, port int) error {
	_, err := fetch(ctx, port, "ready")
	return err
}

// fetch asks a program on its loopback port.
func fetch(ctx context.Context, port int, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/%s", port, path), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("/%s on %d answers %s", path, port, resp.Status)
	}
	return io.ReadAll(resp.Body)
}

// setUp makes the clinics, each through another edge: every edge serves every tenant.
func (r *rig) setUp(ctx context.Context) error {
	for i, clinic := range clinics {
		n := 1 + i%edges
		for _, args := range [][]string{
			{"tenant", "create", clinic, "--name", clinic + " clinic"},
			{"site", "create", "main", "--tenant", clinic},
			{"app", "create", "--tenant", clinic, "--host", hostOf(clinic), "--site", "main", "--allow-service", "load"},
		} {
			if _, err := r.edge(ctx, n, args...); err != nil {
				return err
			}
		}
		var err error
		if r.tokens[clinic], err = r.edge(ctx, n, "token", "mint", "load", "--tenant", clinic); err != nil {
			return err
		}
	}
	return nil
}

// The ports of clinic i: its application's, and /ready of its connectors.
func (r *rig) originPort(i int) int        { return r.tomcat + i }
func (r *rig) connectorReady(i, n int) int { return r.tomcat + 10 + 10*i + n }

func (r *rig) startConnectors(ctx context.Context) error {
	for i, clinic := range clinics {
		address := fmt.Sprintf("127.0.0.1:%d", r.originPort(i))
		if err := r.start(clinic+"-oscar", nil, filepath.Join(r.bin, "standin"), "-https", address, "-dir", r.path(clinic+"-oscar")); err != nil {
			return err
		}
		if err := waitTCP(ctx, address); err != nil {
			return err
		}
		pin, err := output(ctx, filepath.Join(r.bin, "connector"), "ingress", "pin", "https://"+address)
		if err != nil {
			return err
		}
		rules := fmt.Sprintf("rules:\n  - host: %s\n    origin: https://%s\n    preset: oscar\n    tls: {pin_sha256: %q}\n  - status: 404\n", hostOf(clinic), address, pin)
		if err := os.WriteFile(r.path(clinic+"-ingress.yaml"), []byte(rules), 0o600); err != nil {
			return err
		}
		for n := 1; n <= connectors; n++ {
			if err := r.startConnector(ctx, i, n); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *rig) startConnector(ctx context.Context, i, n int) error {
	name := connectorName(clinics[i], n)
	config := fmt.Sprintf("state_dir: %s\ningress: %s\nloopback: 127.0.0.1:%d\n",
		r.path(name), r.path(clinics[i]+"-ingress.yaml"), r.connectorReady(i, n))
	if err := os.WriteFile(r.path(name+".yaml"), []byte(config), 0o600); err != nil {
		return err
	}
	line, err := r.edge(ctx, 1+(i+n)%edges, "connector", "invite", "--tenant", clinics[i], "--site", "main")
	if err != nil {
		return err
	}
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "connector" {
		return fmt.Errorf("unexpected invitation %q", line)
	}
	for w := range words {
		words[w] = strings.Trim(words[w], "'")
	}
	if _, err := output(ctx, filepath.Join(r.bin, "connector"), append(words[1:], "--config", r.path(name+".yaml"))...); err != nil {
		return err
	}
	if err := r.start(name, nil, filepath.Join(r.bin, "connector"), "run", "--config", r.path(name+".yaml")); err != nil {
		return err
	}
	return wait(ctx, func(ctx context.Context) error { return isReady(ctx, r.connectorReady(i, n)) })
}
