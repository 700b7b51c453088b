package control

import (
	"context"
	"crypto/rand"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/audit"
	"github.com/skep-dev/skep/internal/auth"
	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/id"
	"github.com/skep-dev/skep/internal/policy"
)

// Device is a terminal that asks to be logged in as somebody, by the device flow (RFC 8628).
type Device struct {
	Code    string // what the person types: XXXX-XXXX
	Name    string // what the terminal says that it is
	Address string // from where it asked
	Scope   policy.Scope
	Created time.Time
	Expires time.Time
}

const (
	// DeviceLife is how long there is to say yes or no.
	DeviceLife = 10 * time.Minute
	// maxDevices is how many may wait at once. Anybody may ask, so that they make a table of limited size.
	maxDevices = 10_000
	// codeLetters have no vowels, so that no words come out, and nothing that looks or sounds alike is needed to tell codes apart
	// (RFC 8628 section 6.1).
	codeLetters = "BCDFGHJKLMNPQRSTVWXZ"
	// codeLength makes 34 bits. Guesses are counted; with maxDevices waiting, one in two million hits.
	codeLength = 8
)

// What a terminal is told that comes for its token.
var (
	ErrDeviceWaits  = fmt.Errorf("nobody has answered yet: %w", errkind.Conflict)
	ErrDeviceDenied = fmt.Errorf("the request was denied: %w", errkind.Forbidden)
	ErrDeviceLate   = fmt.Errorf("the request is not known, or has expired: %w", errkind.NotFound)
)

// BeginDevice notes that a terminal waits, and returns the secret with which it comes for its token. Of d it takes Name, Address
// and Scope.
func (c *Control) BeginDevice(ctx context.Context, d Device) (Device, string, error) {
	d.Name, d.Created = noteText(d.Name, maxNameBytes), c.timestamp()
	d.Expires = d.Created.Add(DeviceLife)
	if !d.Scope.Known() {
		return Device{}, "", fmt.Errorf("begin device login: scope %q: %w", clip(string(d.Scope)), errkind.Invalid)
	}
	var secret string
	err := c.db.Write(ctx, func(q conn) error {
		if err := q.Exec("DELETE FROM device WHERE expires <= ?", d.Created); err != nil {
			return err
		}
		full, err := exists(q, "SELECT 1 FROM device LIMIT 1 OFFSET ?", maxDevices-1)
		if err != nil {
			return err
		}
		if full {
			return fmt.Errorf("%d terminals wait already: %w", maxDevices, errkind.Unavailable)
		}
		d.Code = newUserCode()
		var hash auth.Hash
		secret, hash = auth.NewSessionSecret()
		return q.Exec("INSERT INTO device (hash, code, name, address, scope, created, expires, state) VALUES (?, ?, ?, ?, ?, ?, ?, 'waiting')",
			hash, d.Code, d.Name, d.Address, d.Scope, d.Created, d.Expires)
	})
	if err != nil {
		return Device{}, "", fmt.Errorf("begin device login: %w", err)
	}
	return d, secret, nil
}

// newUserCode makes a code that people can read out.
func newUserCode() string {
	var b strings.Builder
	letters := big.NewInt(int64(len(codeLetters)))
	for i := range codeLength {
		if i == codeLength/2 {
			b.WriteByte('-')
		}
		n, err := rand.Int(rand.Reader, letters)
		if err != nil {
			panic("bug: crypto/rand ends the process instead")
		}
		b.WriteByte(codeLetters[n.Int64()])
	}
	return b.String()
}

// ParseUserCode reads a code as people type it: in any case, with or without the dash.
func ParseUserCode(s string) (string, error) {
	const most = 40
	var code []byte
	for i := 0; i < len(s) && i < most; i++ {
		switch c := s[i] &^ 0x20; {
		case s[i] == '-' || s[i] == ' ':
		case strings.IndexByte(codeLetters, c) >= 0:
			code = append(code, c)
		default:
			return "", fmt.Errorf("code has a character that no code has: %w", errkind.Invalid)
		}
	}
	if len(s) > most || len(code) != codeLength {
		return "", fmt.Errorf("code has not %d letters: %w", codeLength, errkind.Invalid)
	}
	return string(code[:codeLength/2]) + "-" + string(code[codeLength/2:]), nil
}

const waitingDevice = "SELECT code, name, address, created, expires, scope FROM device WHERE code = ? AND state = 'waiting' AND expires > ?"

func scanDevice(r row) Device {
	return Device{Code: r.Text(0), Name: r.Text(1), Address: r.Text(2), Created: r.Time(3), Expires: r.Time(4), Scope: policy.Scope(r.Text(5))}
}

// DeviceByCode finds a terminal that waits, by what its person typed.
func (c *Control) DeviceByCode(ctx context.Context, code string) (d Device, err error) {
	err = c.db.Read(ctx, func(q conn) error {
		return find(q, "waiting device", waitingDevice, func(r row) { d = scanDevice(r) }, code, c.timestamp())
	})
	return d, err
}

// AnswerDevice lets a terminal act as a principal, or not. Only the first answer counts.
func (c *Control) AnswerDevice(ctx context.Context, code string, p id.Principal, allow bool) error {
	state, action := "denied", "device.deny"
	if allow {
		state, action = "allowed", "device.allow"
	}
	err := c.change(ctx, func(q *txn) error {
		var d Device
		if err := find(q, "waiting device", waitingDevice, func(r row) { d = scanDevice(r) }, code, c.timestamp()); err != nil {
			return err
		}
		who, err := principalByID(q, p)
		if err != nil {
			return err
		}
		if err := q.record(audit.Entry{Action: action, Resource: who.resource(), Detail: fmt.Sprintf("%q from %s, scope %s", d.Name, d.Address, d.Scope)}); err != nil {
			return err
		}
		return q.Exec("UPDATE device SET state = ?, principal_id = ? WHERE code = ?", state, p, code)
	}, nil)
	if err != nil {
		return fmt.Errorf("answer device: %w", err)
	}
	return nil
}

// CollectDevice gives a terminal the token that somebody said yes to, once. It is made only now, because its secret is kept
// nowhere.
func (c *Control) CollectDevice(ctx context.Context, h auth.Hash, life time.Duration) (made Token, secret string, err error) {
	if err := c.lookAtDevice(ctx, h); err != nil {
		return Token{}, "", err // mostly that nobody has answered: a read
	}
	err = c.change(ctx, func(q *txn) error {
		var name, state string
		var who id.Principal
		var scope policy.Scope
		now := c.timestamp()
		ok, err := q.First("SELECT name, state, principal_id, scope FROM device WHERE hash = ? AND expires > ?", func(r row) {
			name, state, who, scope = r.Text(0), r.Text(1), id.Principal(r.Text(2)), policy.Scope(r.Text(3))
		}, h, now)
		if err != nil {
			return err
		}
		if !ok || state != "allowed" {
			return ErrDeviceLate
		}
		if err := q.Exec("DELETE FROM device WHERE hash = ?", h); err != nil {
			return err
		}
		person, err := principalByID(q, who)
		if err != nil {
			return err
		}
		q.as(person)
		made, secret, err = makeToken(q, Token{
			ID: id.NewToken(), Principal: who, Name: noteText("skep login on "+name, maxNameBytes), Scope: scope, Created: now, Expires: now.Add(life),
		})
		if err != nil {
			return err
		}
		return mustHold(q, "tokens of the principal", maxTokens, "SELECT 1 FROM token WHERE principal_id = ? LIMIT 1 OFFSET ?", who)
	}, nil)
	if err != nil {
		return Token{}, "", fmt.Errorf("collect token: %w", err)
	}
	return made, secret, nil
}

func (c *Control) lookAtDevice(ctx context.Context, h auth.Hash) error {
	var state string
	var ok bool
	err := c.db.Read(ctx, func(q conn) (err error) {
		ok, err = q.First("SELECT state FROM device WHERE hash = ? AND expires > ?", func(r row) { state = r.Text(0) }, h, c.timestamp())
		return err
	})
	switch {
	case err != nil:
		return err
	case !ok:
		return ErrDeviceLate
	case state == "denied":
		return ErrDeviceDenied
	case state == "waiting":
		return ErrDeviceWaits
	}
	return nil
}
