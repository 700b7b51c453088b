package protocol

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git"
)

// commands is what a push asks for.
type commands struct {
	config   *Config // which capabilities a push was offered
	list     []command
	shallows []git.OID // boundary commits of a client that is itself shallow

	reportStatus, reportMoved, sideBand, atomic, quiet, pushOptions bool
	options                                                         []string

	certText    []byte
	cert        *PushCert
	certOptions []string // the push options that it signs
	said        Said
}

// command is one reference to move.
type command struct {
	git.RefUpdate
	name    string // as the client wrote it, which need not be a reference's name
	refused string // why, in a few words; empty while nothing is against it
	nothing bool   // deletes what is not there: to git, that is a success
	moved   []Moved
}

// readCommands reads up to where the pack starts. With an error come the commands so far, for their capabilities.
func readCommands(pr *PktReader, config *Config) (*commands, error) {
	c := &commands{config: config}
	for first := true; ; {
		k, b, err := pr.Line()
		switch {
		case errors.Is(err, io.EOF) && first && len(c.shallows) == 0:
			return c, nil
		case errors.Is(err, io.EOF):
			return c, cutShort(err)
		case err != nil:
			return c, err
		case k == PktFlush:
			return c, c.readOptions(pr)
		case k != PktData:
			return c, refuse(errkind.Invalid, "receive-pack: expected a flush packet after the commands")
		}
		if arg, ok := bytes.CutPrefix(b, []byte("shallow ")); ok {
			if err := c.shallow(arg); err != nil {
				return c, err
			}
			continue
		}
		line, caps, found := bytes.Cut(b, []byte{0})
		if found && first {
			if err := c.capabilities(caps); err != nil {
				return c, err
			}
		}
		first = false
		if string(line) == "push-cert" && c.cert == nil {
			if err := c.certLines(pr); err != nil {
				return c, err
			}
			continue
		}
		if c.cert != nil {
			return c, refuse(errkind.Invalid, "receive-pack: commands beside a push certificate, which does not sign them")
		}
		if err := c.command(line); err != nil {
			return c, err
		}
	}
}

func (c *commands) shallow(arg []byte) error {
	o, err := git.ParseOID(arg)
	if err != nil {
		return refuse(errkind.Invalid, "receive-pack: protocol error: expected shallow sha, got '%s'", clip(arg, 80))
	}
	if c.shallows = append(c.shallows, o); len(c.shallows) > maxShallow {
		return refuse(errkind.TooLarge, "receive-pack: more than %d shallow lines", maxShallow)
	}
	return nil
}

// capabilities reads what the client chose. As in git, what was not advertised is passed over.
func (c *commands) capabilities(caps []byte) error {
	for word := range bytes.FieldsSeq(caps) {
		switch string(word) {
		case "report-status":
			c.reportStatus = true
		case "report-status-v2":
			c.reportStatus, c.reportMoved = true, true
		case "side-band-64k":
			c.sideBand = true
		case "atomic":
			c.atomic = !c.config.noAtomic
		case "quiet":
			c.quiet = true
		case "push-options":
			c.pushOptions = !c.config.noPushOptions
		default:
			if key, value, ok := strings.Cut(string(word), "="); ok && key != "server-option" {
				_ = c.said.note(key, value) // which has room for these
			}
			if format, ok := bytes.CutPrefix(word, []byte("object-format=")); ok && string(format) != "sha1" {
				return refuse(errkind.Unsupported, "receive-pack: unsupported object format '%s'", clip(format, 40))
			}
		}
	}
	return nil
}

// command reads "<old> <new> <name>".
func (c *commands) command(b []byte) error {
	const hexSize = 2 * git.OIDSize
	bad := func() error {
		return refuse(errkind.Invalid, "receive-pack: protocol error: expected old/new/ref, got '%s'", clip(b, 160))
	}
	if len(b) < 2*hexSize+3 || b[hexSize] != ' ' || b[2*hexSize+1] != ' ' {
		return bad()
	}
	old, err := git.ParseOID(b[:hexSize])
	if err != nil {
		return bad()
	}
	to, err := git.ParseOID(b[hexSize+1 : 2*hexSize+1])
	if err != nil {
		return bad()
	}
	if len(c.list) >= maxCommands {
		return refuse(errkind.TooLarge, "receive-pack: more than %d references in one push", maxCommands)
	}
	name := string(b[2*hexSize+2:])
	if len(name) > maxNameBytes {
		return bad()
	}
	c.list = append(c.list, command{RefUpdate: git.RefUpdate{Name: git.RefName(name), Old: old, New: to}, name: name})
	return nil
}

// readOptions reads the push options, which come between the commands and the pack.
func (c *commands) readOptions(pr *PktReader) error {
	if !c.pushOptions || len(c.list) == 0 {
		return nil
	}
	for {
		k, b, err := pr.Line()
		switch {
		case errors.Is(err, io.EOF):
			return cutShort(err)
		case err != nil:
			return err
		case k == PktFlush:
			return nil
		case k != PktData:
			return refuse(errkind.Invalid, "receive-pack: expected a flush packet after the push options")
		case len(c.options) >= maxPushOptions:
			return refuse(errkind.TooLarge, "receive-pack: more than %d push options", maxPushOptions)
		case len(b) > maxPushOptionBytes:
			return refuse(errkind.TooLarge, "receive-pack: a push option has more than %d bytes", maxPushOptionBytes)
		case bytes.IndexByte(b, 0) >= 0:
			return refuse(errkind.Invalid, "receive-pack: a push option has a NUL byte, which no hook's environment can hold; leave it out")
		}
		c.options = append(c.options, string(b))
	}
}

// judge refuses the commands that are wrong in themselves, or about hidden references. It returns what the client should be
// warned of.
func (c *commands) judge(v View, plain bool) (warnings []string) {
	times := make(map[string]int, len(c.list))
	for i := range c.list {
		times[c.list[i].name]++
	}
	for i := range c.list {
		cmd := &c.list[i]
		_, err := git.ParseRefName(cmd.name)
		switch {
		case v.HidesFromPush(cmd.Name) && cmd.New.IsZero():
			cmd.refused = "deny deleting a hidden ref"
		case v.HidesFromPush(cmd.Name):
			cmd.refused = "deny updating a hidden ref"
		case err != nil:
			cmd.refused = "funny refname"
		case plain: // the repository's programs hear of it, whatever it is
		case times[cmd.name] > 1:
			cmd.refused = "multiple updates for ref not allowed"
		case cmd.Old.IsZero() && cmd.New.IsZero():
			if _, ok := v.Refs.Get(cmd.Name); ok {
				cmd.refused = "fetch first" // it has come since the client looked
				continue
			}
			cmd.nothing = true
			warnings = append(warnings, "warning: deleting a non-existent ref\n")
		}
	}
	return warnings
}

// hasPack reports whether a pack follows: git sends none when all commands delete.
func (c *commands) hasPack() bool {
	for i := range c.list {
		if !c.list[i].New.IsZero() {
			return true
		}
	}
	return false
}

func (c *commands) anyRefused() bool {
	for i := range c.list {
		if c.list[i].refused != "" {
			return true
		}
	}
	return false
}

// refuseAll refuses what is not refused yet.
func (c *commands) refuseAll(why string) {
	for i := range c.list {
		if c.list[i].refused == "" {
			c.list[i].refused = why
		}
	}
}

// live returns the updates that nothing is against.
func (c *commands) live() []git.RefUpdate {
	out := make([]git.RefUpdate, 0, len(c.list))
	for i := range c.list {
		if c.list[i].refused == "" && !c.list[i].nothing {
			out = append(out, c.list[i].RefUpdate)
		}
	}
	return out
}

// noteMoved keeps what a live update, by its place among these, was done by.
func (c *commands) noteMoved(update int, m Moved) {
	for i := range c.list {
		if c.list[i].refused != "" || c.list[i].nothing {
			continue
		}
		if update--; update < 0 {
			c.list[i].moved = append(c.list[i].moved, m)
			return
		}
	}
}

// settle notes what became of the live updates.
func (c *commands) settle(errs []error, whole error) {
	failed := whole != nil
	for _, err := range errs {
		failed = failed || err != nil
	}
	n := 0
	for i := range c.list {
		cmd := &c.list[i]
		if cmd.refused != "" || cmd.nothing {
			continue
		}
		switch {
		case n < len(errs) && errs[n] != nil:
			cmd.refused = reason(cmd.RefUpdate, errs[n])
		case whole != nil:
			cmd.refused = reason(cmd.RefUpdate, whole)
		case c.atomic && failed:
			cmd.refused = "atomic push failure"
		}
		n++
	}
}
