package sign

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/gowebpki/jcs"

	"github.com/skep-dev/skep/internal/errkind"
)

// The limits of a registry.
const (
	MaxRegistryBytes = 4 << 20
	maxKeys          = 10_000
)

// Key is a registered key.
type Key struct {
	ID      string // alice@2024-01
	Actor   string
	Public  ed25519.PublicKey
	Created time.Time // signatures before are not taken
	Expires time.Time // signatures from then on are not taken; zero: never

	Revoked   bool
	RevokedAt time.Time // signatures from then on are not taken; zero of a revoked key: none ever is
}

// validAt says why a key's signature of some time is not taken.
func (k *Key) validAt(at time.Time) error {
	switch {
	case k.Revoked && k.RevokedAt.IsZero():
		return fmt.Errorf("key %s is revoked: %w: %w", k.ID, KeyRevoked, errkind.Unauthorized)
	case k.Revoked && !at.Before(k.RevokedAt):
		return fmt.Errorf("key %s is revoked since %s: sign with another: %w: %w", k.ID, timeText(k.RevokedAt), KeyRevoked, errkind.Unauthorized)
	case !k.Expires.IsZero() && !at.Before(k.Expires):
		return fmt.Errorf("key %s has expired at %s: sign with another: %w: %w", k.ID, timeText(k.Expires), KeyExpired, errkind.Unauthorized)
	case at.Before(k.Created):
		return fmt.Errorf("key %s is registered since %s, and the operation is of %s: %w: %w", k.ID, timeText(k.Created), timeText(at), NotYetValid, errkind.Unauthorized)
	}
	return nil
}

// Registry has the public keys of actors; the zero Registry has none. It may be read by several goroutines while nobody changes it.
type Registry struct{ keys map[string]*Key }

// Key finds a key.
func (r *Registry) Key(id string) (Key, bool) {
	k, ok := r.keys[id]
	if !ok {
		return Key{}, false
	}
	return *k, true
}

// List returns all keys, sorted by ID.
func (r *Registry) List() []Key {
	list := make([]Key, 0, len(r.keys))
	for _, id := range slices.Sorted(maps.Keys(r.keys)) {
		list = append(list, *r.keys[id])
	}
	return list
}

// Register adds a key. An ID is never given anew, even if its key is revoked: old signatures name it.
func (r *Registry) Register(k Key) error {
	if _, taken := r.keys[k.ID]; taken {
		return fmt.Errorf("register key %s: choose another key ID: %w", k.ID, errkind.Exists)
	}
	k.Created, k.Expires = k.Created.UTC().Truncate(time.Second), k.Expires.UTC()
	if err := r.add(k); err != nil {
		return fmt.Errorf("register key %s: %w", clip(k.ID), err)
	}
	return nil
}

func (r *Registry) add(k Key) error {
	if err := errors.Join(checkKeyID(k.ID), checkActor(k.Actor), checkPublic(k.Public)); err != nil {
		return err
	}
	switch {
	case k.Created.IsZero():
		return fmt.Errorf("it has no created_at: %w", errkind.Invalid)
	case !k.Expires.IsZero() && !k.Expires.After(k.Created):
		return fmt.Errorf("it expires before it is created: %w", errkind.Invalid)
	case !k.Revoked && !k.RevokedAt.IsZero():
		return fmt.Errorf("it has a revoked_at and is not revoked: set both or none: %w", errkind.Invalid)
	case len(r.keys) >= maxKeys:
		return fmt.Errorf("there are %d keys, which is the limit: %w", maxKeys, errkind.TooLarge)
	}
	if r.keys == nil {
		r.keys = map[string]*Key{}
	}
	r.keys[k.ID] = &k
	return nil
}

// Revoke ends a key: signatures made from at on are not taken. Of a key that is revoked already the earlier time counts.
func (r *Registry) Revoke(id string, at time.Time) error {
	k, ok := r.keys[id]
	if !ok {
		return fmt.Errorf("revoke key %s: %w", clip(id), errkind.NotFound)
	}
	at = at.UTC()
	if !k.Revoked || at.Before(k.RevokedAt) {
		k.Revoked, k.RevokedAt = true, at
	}
	return nil
}

// checkKeyID lets only pass what can be written in a header, a shell and a log without quotes.
func checkKeyID(id string) error {
	for i := range len(id) {
		switch c := id[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '_', c == '-', c == '@', c == '+', c == ':', c == '/':
		default:
			return fmt.Errorf("the key ID %q has something other than letters, digits and . _ - @ + : /: write one such as alice@2024-01: %w", clip(id), errkind.Invalid)
		}
	}
	if id == "" || len(id) > 200 {
		return fmt.Errorf("the key ID has %d bytes, not 1 to 200: write one such as alice@2024-01: %w", len(id), errkind.Invalid)
	}
	return nil
}

func checkActor(actor string) error {
	if actor == "" {
		return fmt.Errorf("it names no actor: %w", errkind.Invalid)
	}
	return checkText("actor", actor, maxNameBytes)
}

// registryFile is the form of keys.json.
type registryFile struct {
	Keys map[string]keyEntry `json:"keys"`
}

type keyEntry struct {
	Actor     string     `json:"actor_id"`
	Public    string     `json:"public_key"` // standard base64
	Created   time.Time  `json:"created_at"`
	Expires   *time.Time `json:"expires_at,omitempty"`
	Revoked   bool       `json:"revoked"`
	RevokedAt *time.Time `json:"revoked_at,omitempty"`
}

// ParseRegistry reads the text of a keys.json.
func ParseRegistry(text []byte) (*Registry, error) {
	r, err := parseRegistry(text)
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	return r, nil
}

func parseRegistry(text []byte) (*Registry, error) {
	if len(text) > MaxRegistryBytes {
		return nil, fmt.Errorf("the file has %d bytes, and %d are allowed: %w", len(text), MaxRegistryBytes, errkind.TooLarge)
	}
	var file registryFile
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		return nil, fmt.Errorf("%s%w: %w", position(text, err), err, errkind.Invalid)
	}
	// A second entry of a key would take the place of the first, and a revocation in it.
	if _, err := jcs.Transform(text); err != nil {
		return nil, fmt.Errorf("%s: %w", err.Error(), errkind.Invalid)
	}
	r := new(Registry)
	for _, id := range slices.Sorted(maps.Keys(file.Keys)) {
		e := file.Keys[id]
		public, err := ParsePublic(e.Public)
		if err == nil {
			err = r.add(Key{
				ID: id, Actor: e.Actor, Public: public, Created: e.Created.UTC(), Expires: orZero(e.Expires),
				Revoked: e.Revoked, RevokedAt: orZero(e.RevokedAt),
			})
		}
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", clip(id), err)
		}
	}
	return r, nil
}

func orZero(t *time.Time) time.Time { return cmp.Or(t, &time.Time{}).UTC() }

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// position says where a text is wrong, if the error knows.
func position(text []byte, err error) string {
	at := int64(-1)
	if e, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = e.Offset
	} else if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		at = e.Offset
	}
	if at < 0 || at > int64(len(text)) {
		return ""
	}
	before := text[:at]
	return fmt.Sprintf("line %d, column %d: ", bytes.Count(before, []byte("\n"))+1, len(before)-bytes.LastIndexByte(before, '\n')-1)
}

// Text returns the registry as keys.json has it.
func (r *Registry) Text() ([]byte, error) {
	file := registryFile{Keys: map[string]keyEntry{}}
	for id, k := range r.keys {
		file.Keys[id] = keyEntry{
			Actor: k.Actor, Public: base64.StdEncoding.EncodeToString(k.Public), Created: k.Created, Expires: orNil(k.Expires),
			Revoked: k.Revoked, RevokedAt: orNil(k.RevokedAt),
		}
	}
	text, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write keys: %w", err)
	}
	return append(text, '\n'), nil
}

// LoadRegistry reads a keys.json; a file that is not there has no keys.
func LoadRegistry(file string) (*Registry, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return new(Registry), nil
	}
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	r, err := parseRegistry(text)
	if err != nil {
		return nil, fmt.Errorf("load keys: %s: %w", file, err)
	}
	return r, nil
}

// UpdateRegistry changes a keys.json as one step: two processes that change it do not undo what the other did, as a revocation, and whoever
// reads it sees all of a change or nothing. As in Git, the new text is written to file.lock, which only one process can make, and then renamed.
func UpdateRegistry(file string, change func(*Registry) error) error {
	if err := updateRegistry(file, change); err != nil {
		return fmt.Errorf("change keys: %w", err)
	}
	return nil
}

func updateRegistry(file string, change func(*Registry) error) error {
	name := file + ".lock"
	lock, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("another process changes them: try again, or remove %s if none does: %w", name, errkind.Unavailable)
	}
	if err != nil {
		return err
	}
	r, err := LoadRegistry(file)
	if err == nil {
		err = change(r)
	}
	var text []byte
	if err == nil {
		text, err = r.Text()
	}
	if err == nil {
		_, err = lock.Write(text)
	}
	if err == nil {
		err = lock.Sync()
	}
	if err = errors.Join(err, lock.Close()); err == nil {
		err = os.Rename(name, file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
