package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// peers are the rows of other tunnels whose programs are on PATH. They carry no login, no policy and no record, and have a
// plain HTTP front: what stands beside ours is the least that a peer does.
func (b *bench) peers() []way {
	return slices.Concat(
		b.onPath([]way{frp("tcp"), frp("quic"), frp("websocket")}, "frps", "frpc"),
		b.onPath([]way{chisel()}, "chisel"),
		b.onPath([]way{piko()}, "piko"),
	)
}

// onPath returns the ways whose programs are there, and says which are left out.
func (b *bench) onPath(ways []way, programs ...string) []way {
	for _, program := range programs {
		if _, err := exec.LookPath(program); err != nil {
			for _, w := range ways {
				b.leaveOut("row "+w.name, program+" is not on PATH")
			}
			return nil
		}
	}
	return ways
}

// peer is another tunnel being set up.
type peer struct {
	b     *bench
	ctx   context.Context
	at    place
	dir   string
	front string // where requests go
	path  *path
}

// another sets a peer up with steps that launch its programs, and waits until a request gets through.
func another(name string, steps func(*peer) error) way {
	return way{name, func(b *bench, ctx context.Context, at place) (*path, error) {
		dir, err := os.MkdirTemp(b.dir, name+"-")
		if err != nil {
			return nil, err
		}
		front, err := b.address(at.near)
		if err != nil {
			return nil, err
		}
		p := &peer{b: b, ctx: ctx, at: at, dir: dir, front: front, path: &path{base: "http://" + appHost, dial: front}}
		if err = steps(p); err == nil {
			err = await(ctx, name, p.path.programs, p.answers)
		}
		if err != nil {
			p.path.stop()
			return nil, err
		}
		return p.path, nil
	}}
}

// answers tries one request.
func (p *peer) answers() error {
	return p.at.near.within(func() error {
		conn, err := net.DialTimeout("tcp", p.front, time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
		g := generator{work: p.path.work(work{Bytes: 1})}
		_, err = exchangeRaw(conn, bufio.NewReader(conn), g.head(), 1)
		return err
	})
}

// write writes a file of the peer's and returns where it is.
func (p *peer) write(name, text string) (string, error) {
	at := filepath.Join(p.dir, name)
	return at, os.WriteFile(at, []byte(text), 0o644)
}

func (p *peer) launch(on *host, args ...string) error {
	started, err := p.b.start(launch{name: filepath.Base(args[0]), on: on, args: args})
	if err == nil {
		p.path.programs = append(p.path.programs, started)
	}
	return err
}

// inner finds an address on the edge's host for what the peer's own programs speak.
func (p *peer) inner() (address, port string, err error) {
	address, err = p.b.address(p.at.near)
	_, port, _ = strings.Cut(address, ":")
	return address, port, err
}

// nginx is one plain hop without a tunnel: the floor.
func nginx() way {
	return another("nginx", func(p *peer) error {
		file, err := p.write("nginx.conf", fmt.Sprintf(`daemon off; worker_processes auto; error_log stderr error; pid %[1]s/pid; %[4]s
events { worker_connections 1024; }
http {
  access_log off; client_max_body_size 0; proxy_max_temp_file_size 0; keepalive_requests 1000000000;
  client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
  upstream origin { server %[3]s; keepalive 128; keepalive_requests 1000000000; }
  server { listen %[2]s; location / {
    proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off;
  } }
}
`, p.dir, p.front, p.at.originAddr, rootUser()))
		if err != nil {
			return err
		}
		return p.launch(p.at.near, "nginx", "-p", p.dir, "-c", file)
	})
}

// rootUser keeps nginx's workers able to write to the benchmark's own directory.
func rootUser() string {
	if os.Geteuid() == 0 {
		return "user root;"
	}
	return ""
}

// frp is frps and frpc with their defaults, over one of their transports.
func frp(transport string) way {
	return another("frp-"+transport, func(p *peer) error {
		_, port, err := p.inner()
		if err != nil {
			return err
		}
		_, front, _ := strings.Cut(p.front, ":")
		host, originPort, _ := strings.Cut(p.at.originAddr, ":")
		server, errServer := p.write("frps.toml", fmt.Sprintf("bindAddr = %q\nbindPort = %s\nquicBindPort = %s\nvhostHTTPPort = %s\nlog.level = \"error\"\n",
			p.at.near.ip, port, port, front))
		client, errClient := p.write("frpc.toml", fmt.Sprintf(`serverAddr = %q
serverPort = %s
loginFailExit = false
log.level = "error"
transport.protocol = %q
[[proxies]]
name = "bench"
type = "http"
localIP = %q
localPort = %s
customDomains = [%q]
`, p.at.near.ip, port, transport, host, originPort, appHost))
		return errors.Join(errServer, errClient, p.launch(p.at.near, "frps", "-c", server), p.launch(p.at.far, "frpc", "-c", client))
	})
}

// chisel carries the bytes of TCP connections and knows nothing of HTTP.
func chisel() way {
	return another("chisel", func(p *peer) error {
		address, port, err := p.inner()
		if err != nil {
			return err
		}
		return errors.Join(
			p.launch(p.at.near, "chisel", "server", "--reverse", "--host", p.at.near.ip, "--port", port),
			p.launch(p.at.far, "chisel", "client", "http://"+address, "R:"+p.front+":"+p.at.originAddr),
		)
	})
}

// piko finds its endpoint by a header.
func piko() way {
	return another("piko", func(p *peer) error {
		upstream, _, errUpstream := p.inner()
		admin, _, errAdmin := p.inner()
		gossip, _, errGossip := p.inner()
		if err := errors.Join(errUpstream, errAdmin, errGossip); err != nil {
			return err
		}
		p.path.header = map[string]string{"x-piko-endpoint": "bench"}
		return errors.Join(
			p.launch(p.at.near, "piko", "server", "--proxy.bind-addr", p.front, "--upstream.bind-addr", upstream, "--admin.bind-addr", admin, "--gossip.bind-addr", gossip),
			p.launch(p.at.far, "piko", "agent", "http", "bench", p.at.originAddr, "--connect.url", "http://"+upstream),
		)
	})
}
