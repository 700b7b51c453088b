package sshd

import (
	"time"

	"golang.org/x/crypto/ssh"
)

// Command is a command line as it was understood.
type Command struct{ Service, Path string }

// ParseCommand opens the parser for its tests.
func ParseCommand(line string) (Command, error) {
	c, err := parseCommand(line)
	return Command{string(c.service), c.path}, err
}

// The limits that tests reach.
const (
	MaxOffers   = maxOffers
	MaxSessions = maxSessions
	MaxRequests = maxRequests
)

// Spoken is what the server takes and nothing else.
func Spoken() ssh.Config {
	return ssh.Config{KeyExchanges: keyExchanges, Ciphers: ciphers, MACs: macs}
}

// Hasten shortens what clients are waited for: with the command of a session, with the end of one that ran nothing, and with the
// first that a connection has to say. A zero is left as it is.
func Hasten(o Options, command, shut, silent time.Duration) Options {
	o.commandTime, o.closeTime, o.silentTime = command, shut, silent
	return o
}
