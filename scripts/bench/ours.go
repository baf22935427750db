package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// path is one way from the load generator to the origin, running.
type path struct {
	base, dial, roots string
	header            map[string]string
	programs          []*program // whose processor time counts; the last is stopped first
	beside            []*program // whose does not
}

// work fills in how the origin is reached over the path.
func (p *path) work(w work) work {
	w.Base, w.Dial, w.Roots, w.Header = p.base, p.dial, p.roots, p.header
	for _, program := range p.programs {
		w.Groups = append(w.Groups, program.group())
	}
	return w
}

func (p *path) stop() {
	for _, program := range p.beside {
		program.stop()
	}
	for i := len(p.programs) - 1; i >= 0; i-- {
		p.programs[i].stop()
	}
}

// place is where the parts of a path run: browsers and the edge on one host, connector and origin on the other. On loopback
// both are this machine.
type place struct {
	near, far  *host
	originAddr string
}

const appHost = "oscar.bench.test"

// edgeHost must lead to the edge: on loopback by RFC 6761, on a link by a hosts file.
func (p place) edgeHost() string {
	if p.near.ns == nil {
		return "edge.localhost"
	}
	return "edge.bench.test"
}

// ours starts an edge and a connector of ours with everything on: TLS in front, access token, policy, decision record.
// Transport is the connector's.
func (b *bench) ours(ctx context.Context, at place, bin, transport string) (*path, error) {
	_, p, err := b.sallyport(ctx, at, bin, transport)
	return p, err
}

func (b *bench) sallyport(ctx context.Context, at place, bin, transport string) (*sallyport, *path, error) {
	return b.sallyportIn(ctx, at, bin, transport, nil)
}

func (b *bench) sallyportIn(ctx context.Context, at place, bin, transport string, in *membership) (*sallyport, *path, error) {
	s := &sallyport{bench: b, place: at, bin: bin, transport: transport, in: in}
	var err error
	if s.dir, err = os.MkdirTemp(b.dir, "sallyport-"); err != nil {
		return nil, nil, err
	}
	if s.listen, err = b.address(at.near); err != nil {
		return nil, nil, err
	}
	if in != nil {
		in.linked = "https://" + s.edgeHost() + s.listen[strings.LastIndexByte(s.listen, ':'):]
	}
	_, port, _ := strings.Cut(s.listen, ":")
	p := &path{base: "https://" + appHost + ":" + port, dial: s.listen, roots: filepath.Join(s.dir, "edge", "ca", "ca.pem")}
	if err := s.setUp(ctx, p); err != nil {
		p.stop()
		return nil, nil, err
	}
	return s, p, nil
}

// sallyport is an edge and a connector being set up.
type sallyport struct {
	*bench
	place
	bin, transport string
	dir, listen    string      // listen is the edge's address
	loopback       string      // where it serves its metrics; "" is anywhere
	in             *membership // nil where the edge is alone, on SQLite
}

func (s *sallyport) file(name string) string { return filepath.Join(s.dir, name) }

func (s *sallyport) setUp(ctx context.Context, p *path) error {
	if err := s.setUpEdge(ctx, p); err != nil {
		return err
	}
	if err := s.enrol(ctx); err != nil {
		return err
	}
	connector, err := s.start(s.runConnector())
	if err != nil {
		return err
	}
	p.programs = append(p.programs, connector)
	return await(ctx, "a link", p.programs, func() error {
		out, err := s.edge(ctx, "connector", "list", "--output", "json")
		if err == nil && !strings.Contains(out, `"transport"`) {
			err = errors.New("the connector has none yet")
		}
		return err
	})
}

// setUpEdge starts an edge with one clinic, whose app the load generator may use.
func (s *sallyport) setUpEdge(ctx context.Context, p *path) error {
	if err := s.configure(); err != nil {
		return err
	}
	if _, err := s.edge(ctx, "init"); err != nil {
		return err
	}
	if err := s.handOver(); err != nil {
		return err
	}
	edge, err := s.start(s.serveEdge())
	if err != nil {
		return err
	}
	p.programs = append(p.programs, edge)
	if err := await(ctx, "the edge's admin socket", p.programs, func() error { _, err := s.edge(ctx, "tenant", "list"); return err }); err != nil {
		return err
	}
	return s.publish(ctx, p)
}

func (s *sallyport) serveEdge() launch {
	l := launch{name: "edge", on: s.near, asGuest: true, args: []string{filepath.Join(s.bin, "edge"), "serve", "--config", s.file("edge.yaml")}}
	words := append([]string{s.file("edge"), s.edgeHost(), s.listen, s.metrics()}, s.in.words()...)
	return s.profileTo(l, s.transport+s.in.suffix(), strings.Join(words, ","))
}

// metrics is where the edge serves them.
func (s *sallyport) metrics() string { return cmp.Or(s.loopback, "127.0.0.1:0") }

func (s *sallyport) runConnector() launch {
	l := launch{
		name: "connector", on: s.far, asGuest: true,
		args: []string{filepath.Join(s.bin, "connector"), "run", "--config", s.file("connector.yaml"), "--transport", s.transport},
	}
	return s.profileTo(l, s.transport, strings.Join([]string{s.file("connector"), s.file("ingress.yaml"), s.transport}, ","))
}

// configure writes the files of both programs.
func (s *sallyport) configure() error {
	s.near.hosts, s.far.hosts = s.file("hosts"), s.file("hosts")
	for name, text := range map[string]string{
		"hosts": fmt.Sprintf("127.0.0.1 localhost\n%s %s\n", s.near.ip, s.edgeHost()),
		"edge.yaml": fmt.Sprintf("state_dir: %s\nhost: %s\nlisten: %s\nloopback: %s\n%s",
			s.file("edge"), s.edgeHost(), s.listen, s.metrics(), s.in.yaml()),
		"ingress.yaml":   fmt.Sprintf("rules:\n  - host: %s\n    origin: http://%s\n  - status: 404\n", appHost, s.originAddr),
		"connector.yaml": fmt.Sprintf("state_dir: %s\ningress: %s\nloopback: 127.0.0.1:0\n", s.file("connector"), s.file("ingress.yaml")),
	} {
		if err := os.WriteFile(s.file(name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return os.Mkdir(s.file("connector"), 0o700)
}

// handOver gives everything to the user that the programs run as.
func (s *sallyport) handOver() error {
	if s.near.ns == nil {
		return nil
	}
	return filepath.WalkDir(s.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, guest, guest)
	})
}

// edge runs one command of the edge program, whose answer it returns.
func (s *sallyport) edge(ctx context.Context, args ...string) (string, error) {
	return command(ctx, s.near, filepath.Join(s.bin, "edge"), append(args, "--config", s.file("edge.yaml"))...)
}

func command(ctx context.Context, on *host, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out, faults strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &faults
	err := on.within(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", filepath.Base(name), args[0], err, strings.TrimSpace(faults.String()))
	}
	return strings.TrimSpace(out.String()), nil
}

// publish makes clinic, site and app, and the token that the load generator carries.
func (s *sallyport) publish(ctx context.Context, p *path) error {
	for _, args := range [][]string{
		{"tenant", "create", "bench", "--name", "Bench"},
		{"site", "create", "main"},
		{"app", "create", "--host", appHost, "--site", "main", "--allow-service", "bench"},
	} {
		if _, err := s.edge(ctx, args...); err != nil {
			return err
		}
	}
	token, err := s.edge(ctx, "token", "mint", "bench")
	p.header = map[string]string{"Sallyport-Access-Token": token}
	return err
}

// enrol pastes the invitation, on the connector's machine.
func (s *sallyport) enrol(ctx context.Context) error {
	text, err := s.edge(ctx, "connector", "invite")
	if err != nil {
		return err
	}
	words := strings.Fields(text)
	if len(words) < 2 || words[0] != "connector" {
		return fmt.Errorf("unexpected invitation %q", text)
	}
	for i, w := range words {
		words[i] = strings.Trim(w, "'")
	}
	args := append([]string{filepath.Join(s.bin, "connector")}, words[1:]...)
	enroller, err := s.start(launch{name: "enroll", on: s.far, asGuest: true, args: append(args, "--config", s.file("connector.yaml"))})
	if err != nil {
		return err
	}
	<-enroller.done
	if !enroller.cmd.ProcessState.Success() {
		return fmt.Errorf("connector enroll: %s", enroller.tail())
	}
	return nil
}
