package connector

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport-dev/sallyport/pkg/conf"
	"github.com/sallyport-dev/sallyport/pkg/fault"
	"github.com/sallyport-dev/sallyport/pkg/secret"
	"github.com/sallyport-dev/sallyport/pkg/tunnel/egress"
)

const (
	// ServiceFile is where an installed service has its configuration, unless another file is named.
	ServiceFile = "/etc/sallyport/connector.yaml"
	// passwordFile in the state directory holds the password of the proxy's user.
	passwordFile = "proxy.password"

	serviceFileHead = "# Settings of the installed connector, read again when this file changes; connector run --help lists the keys.\n" +
		"# Everybody on this machine may read it: no passwords here (proxy_password_file).\n"
)

// Installed is what a service needs beside its unit to run as the command line did that installed it.
type Installed struct {
	// File is the text of the configuration file, which everybody may read. Taken lists the keys in it that were given by flags or
	// environment.
	File  []byte
	Taken []string
	// password is the proxy's, to be written into the state directory; empty leaves what is there.
	password secret.Redacted
}

// ForService returns what a service needs to find its way as this configuration does. text is the configuration file as it is now,
// empty for none; given are the keys that did not come from it. A proxy that the environment names for all programs is taken too,
// if it counts for edge (host:port; empty: it is not looked for). What the service, which is a user of its own, could not read or
// would have to let others read is fault.Invalid.
func (c Config) ForService(text []byte, given []string, edge string) (Installed, error) {
	in := Installed{Taken: slices.DeleteFunc(slices.Clone(given), func(key string) bool { return key == "state_dir" })}
	err := c.absolute()
	if err == nil {
		err = c.proxyForService(&in, given, edge)
	}
	if err != nil {
		return in, err
	}
	if c.CAFile != "" {
		if err := ReadableByService(c.CAFile); err != nil {
			return in, fault.New(fault.Invalid, "ca_file: %v", err)
		}
	}
	if len(text) == 0 {
		text = []byte(serviceFileHead)
	}
	in.File, err = conf.Amend(text, &c, in.Taken...)
	return in, err
}

// proxyForService finds the proxy, and parts it from its password.
func (c *Config) proxyForService(in *Installed, given []string, edge string) error {
	way, err := c.Egress()
	if err != nil && !c.leftPassword(given) {
		return err
	}
	if way.Source() == "environment" && c.Transport != TransportQUIC && edge != "" {
		u, err := way.For(edge)
		if err != nil {
			return err
		}
		if u != nil {
			c.Proxy = egress.Named(u)
			in.take("proxy")
		}
	}
	bare, password := c.Proxy.Apart()
	if password != "" && !slices.Contains(in.Taken, "proxy") {
		return fault.New(fault.Invalid, "proxy: its password stands in a file that the service needs to be readable for everybody: "+
			"write the proxy without it, and give it once with --proxy-password-file")
	}
	own := filepath.Join(c.StateDir, passwordFile)
	switch {
	case c.ProxyPasswordFile != "" && c.ProxyPasswordFile != own:
		if password, err = c.proxyPassword(); err != nil {
			return err
		}
	case c.ProxyPasswordFile == own && !bare.HasUser():
		c.ProxyPasswordFile = "" // it was for the proxy before
		in.take("proxy_password_file")
	}
	if password != "" {
		c.ProxyPasswordFile = own
		in.take("proxy_password_file")
	}
	c.Proxy, in.password = bare, secret.Redact(password)
	return nil
}

func (in *Installed) take(key string) {
	if !slices.Contains(in.Taken, key) {
		in.Taken = append(in.Taken, key)
	}
}

// leftPassword reports whether another proxy was given and all that is wrong is the password, which was for the one before.
func (c Config) leftPassword(given []string) bool {
	if !slices.Contains(given, "proxy") || slices.Contains(given, "proxy_password_file") || c.Proxy.HasUser() {
		return false
	}
	c.ProxyPasswordFile = ""
	_, err := c.Egress()
	return err == nil
}

// absolute makes paths absolute: the service has another working directory.
func (c *Config) absolute() error {
	for _, path := range []*string{&c.Ingress, &c.CAFile, &c.ProxyPasswordFile} {
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = absolute
	}
	return nil
}

// KeepPassword writes the proxy's password, if one was given, into the state directory, where only the service can read it.
func (in Installed) KeepPassword(stateDir string) error {
	if in.password.Reveal() == "" {
		return nil
	}
	return writeFile(stateDir, passwordFile, []byte(in.password.Reveal()+"\n"))
}

// HasPassword reports whether there is one for KeepPassword to write.
func (in Installed) HasPassword() bool { return in.password.Reveal() != "" }

// ReadableByService says what keeps the service from reading a file: it is a user of its own, and sees no home directories and no
// temporary files of others (the unit's ProtectHome and PrivateTmp).
func ReadableByService(path string) error {
	for _, hidden := range []string{"/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/"} {
		if strings.HasPrefix(path, hidden) {
			return fault.New(fault.Invalid, "the service cannot see %s: put it into /etc/sallyport", path)
		}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.NotFound, "%s is not there", path)
	case err != nil:
		return err
	case info.Mode().Perm()&0o004 == 0:
		return fault.New(fault.Invalid, "the service cannot read %s: chmod a+r it", path)
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode().Perm()&0o001 == 0 {
			return fault.New(fault.Invalid, "the service cannot get to %s: chmod a+x %s", path, dir)
		}
		if dir == filepath.Dir(dir) {
			return nil
		}
	}
}

// Address is host:port of the edge that this machine is enrolled with.
func (i Identity) Address() (string, error) {
	t, err := i.Target()
	if err != nil {
		return "", err
	}
	host, port, err := t.HostPort()
	return net.JoinHostPort(host, strconv.Itoa(int(port))), err
}
