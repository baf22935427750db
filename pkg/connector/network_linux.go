package connector

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// watchAddresses sends on changed when the kernel tells that a link or an address came or went (rtnetlink(7)), until ctx ends.
// What it tells is not read: whoever listens looks for himself.
func watchAddresses(ctx context.Context, changed chan<- struct{}) error {
	socket, err := openNetlink()
	if err != nil {
		return err
	}
	return readNetlink(ctx, socket, changed)
}

func openNetlink() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{
		Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR,
	})
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("netlink: %w", err)
	}
	return os.NewFile(uintptr(fd), "netlink"), nil
}

// readNetlink returns, always with an error, when ctx has ended or the socket fails; then it is closed.
func readNetlink(ctx context.Context, socket *os.File, changed chan<- struct{}) error {
	stop := context.AfterFunc(ctx, func() { _ = socket.Close() })
	defer func() {
		stop()
		_ = socket.Close()
	}()
	messages := make([]byte, 16<<10) // what does not fit is cut off
	for {
		_, err := socket.Read(messages)
		// ENOBUFS: there was more than the socket holds, so something did change.
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("netlink: %w", err)
		}
		select {
		case changed <- struct{}{}:
		default:
		}
	}
}
