package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"

	"github.com/pelletier/go-toml/v2"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/errkind"
)

const (
	hashPrefix = "sha256:"

	// keyPrefix lets people and secret scanners recognise a key. It is not that of Skep's tokens, which are no API keys.
	keyPrefix = "skepc_"

	maxAPIKeys  = 10_000 // each is looked at in each request: some hundred microseconds
	maxKeyBytes = 4 << 10

	// minKeyBits is when a key cannot be found by trying: its hash is as quickly computed as SHA-256 is.
	minKeyBits = 128
)

// apiKeysFile is the form of api-keys.toml.
type apiKeysFile struct {
	Keys []apiKeyForm `toml:"keys"`
}

type apiKeyForm struct {
	Hash    string       `toml:"key_hash"`
	Actor   string       `toml:"actor_id"`
	Class   config.Class `toml:"actor_class"`
	Name    string       `toml:"display_name"`
	Expires any          `toml:"expires_at"` // a time of TOML, or RFC 3339 in a string
	Revoked bool         `toml:"revoked"`
}

// APIKeys are the keys of an api-keys.toml. They are immutable.
type APIKeys struct{ keys []apiKey }

type apiKey struct {
	hash    [sha256.Size]byte
	actor   config.Actor
	expires time.Time // zero: never
	revoked bool
}

// LoadAPIKeys reads an api-keys.toml.
func LoadAPIKeys(text []byte) (*APIKeys, error) {
	var src apiKeysFile
	f, err := decode("api-keys.toml", text, "", &src)
	if err != nil {
		return nil, err
	}
	if n := len(src.Keys); n > maxAPIKeys {
		return nil, fmt.Errorf("api-keys.toml: it has %d keys, and %d are allowed: %w", n, maxAPIKeys, errkind.TooLarge)
	}
	out, seen := &APIKeys{}, map[[sha256.Size]byte]int{}
	for i, form := range src.Keys {
		way := fmt.Sprintf("keys[%d]", i)
		k := apiKey{actor: config.Actor{ID: form.Actor, Class: form.Class, Name: form.Name}, revoked: form.Revoked}
		digits, ok := strings.CutPrefix(form.Hash, hashPrefix)
		hash, err := hex.DecodeString(digits)
		if !ok || err != nil || len(hash) != sha256.Size {
			return nil, f.wrong(way+".key_hash", `write "sha256:" and 64 hexadecimal digits, as skep config auth hash-key prints them`)
		}
		k.hash = [sha256.Size]byte(hash)
		if first, twice := seen[k.hash]; twice {
			return nil, f.wrong(way+".key_hash", "it is the hash of the key in line %d too: make another key", f.line(fmt.Sprintf("keys[%d].key_hash", first)))
		}
		seen[k.hash] = i
		if err := f.actor(way, k.actor); err != nil {
			return nil, err
		}
		if k.expires, err = f.time(way+".expires_at", form.Expires); err != nil {
			return nil, err
		}
		out.keys = append(out.keys, k)
	}
	return out, nil
}

// actor checks who is named in a table.
func (f *file) actor(way string, a config.Actor) error {
	switch {
	case a.ID == "":
		return f.wrong(way+".actor_id", `it names no actor: write actor_id = "ci-pipeline"`)
	case len(a.ID) > maxNameBytes || strings.ContainsFunc(a.ID, unicode.IsControl):
		return f.wrong(way+".actor_id", "an actor's ID has up to %d bytes and no control characters", maxNameBytes)
	case !isClass(a.Class):
		return f.wrong(way+".actor_class", "%q is no class: use human, pipeline, operator or system", clip(string(a.Class)))
	}
	return nil
}

func (f *file) time(way string, v any) (time.Time, error) {
	switch v := v.(type) {
	case nil:
		return time.Time{}, nil
	case time.Time:
		return v.UTC(), nil
	case string:
		if t, err := time.Parse(time.RFC3339, v); err == nil {
			return t.UTC(), nil
		}
	case toml.LocalDateTime, toml.LocalDate, toml.LocalTime: // of which zone, nobody knows
	}
	return time.Time{}, f.wrong(way, "write a time with its zone, such as 2025-01-31T00:00:00Z")
}

// Find returns the actor whose key was presented: errkind.Unauthorized if it is nobody's, or not any more. It takes the same time whichever
// key it is, and whether it is one. Errors do not have the key.
func (k *APIKeys) Find(key string, now time.Time) (config.Actor, error) {
	if len(key) > maxKeyBytes {
		return config.Actor{}, fmt.Errorf("the API key is not known: %w", errkind.Unauthorized)
	}
	hash := sha256.Sum256([]byte(key))
	var found *apiKey
	for i := range k.keys {
		if subtle.ConstantTimeCompare(k.keys[i].hash[:], hash[:]) == 1 {
			found = &k.keys[i]
		}
	}
	switch {
	case found == nil:
		return config.Actor{}, fmt.Errorf("the API key is not known: %w", errkind.Unauthorized)
	case found.revoked:
		return config.Actor{}, fmt.Errorf("the API key is revoked: %w", errkind.Unauthorized)
	case !found.expires.IsZero() && !now.Before(found.expires):
		return config.Actor{}, fmt.Errorf("the API key has expired: %w", errkind.Unauthorized)
	}
	return found.actor, nil
}

// GenerateKey makes an API key of 256 random bits: skepc_ and 43 characters of base64url.
func GenerateKey() string {
	var b [32]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return keyPrefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// HashKey is what api-keys.toml has of a key. A warning says that the key could be guessed: it should not be used.
func HashKey(key string) (hash, warning string, err error) {
	switch {
	case key == "" || len(key) > maxKeyBytes:
		return "", "", fmt.Errorf("hash API key: it has %d bytes, not 1 to %d: %w", len(key), maxKeyBytes, errkind.Invalid)
	case strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", "", fmt.Errorf("hash API key: it has blanks or other characters that a header does not carry: %w", errkind.Invalid)
	}
	if bits := keyBits(key); bits < minKeyBits {
		warning = fmt.Sprintf("the key has about %d bits of chance, and %d are needed so that nobody finds it from its hash: generate one", bits, minKeyBits)
	}
	sum := sha256.Sum256([]byte(key))
	return hashPrefix + hex.EncodeToString(sum[:]), warning, nil
}

// keyBits estimates how many bits of chance a key has. It can only guess: what is in words, repeats itself or counts up has few, and
// of everything else each character has as many as its alphabet lets it have.
func keyBits(key string) int {
	if prefix, rest, ok := strings.Cut(key, "_"); ok && len(prefix) < 8 {
		key = rest // a prefix such as ghp_ is known
	}
	digits, hexLetters, lower, upper, marks := 0, 0, 0, 0, 0
	for i := range len(key) {
		switch c := key[i]; {
		case '0' <= c && c <= '9':
			digits++
		case 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F':
			hexLetters++
			if c >= 'a' {
				lower++
			} else {
				upper++
			}
		case 'a' <= c && c <= 'z':
			lower++
		case 'A' <= c && c <= 'Z':
			upper++
		default:
			marks++
		}
	}
	perCharacter := 2.0 // letters without digits are words
	switch {
	case digits == 0 && 3*min(lower, upper) > lower+upper: // words have fewer capitals
		perCharacter = math.Log2(52)
	case digits > 0 && digits+hexLetters+marks == len(key): // hexadecimal, or a UUID, whose dashes count as nothing
		perCharacter = 4
		if hexLetters == 0 {
			perCharacter = math.Log2(10)
		}
	case digits > 0 && lower > 0 && upper > 0:
		perCharacter = math.Log2(62)
	case digits > 0:
		perCharacter = 5 // base32
	}
	count := len(key) - marks
	if perCharacter > 5 {
		count = len(key)
	}
	return int(float64(count-foreseen(key)) * perCharacter)
}

// foreseen counts the characters of a key that follow from those before: the fourth of a row such as aaaa, abcd or 4321, and the fourth of
// four that were there before. Four are rarely so by chance.
func foreseen(key string) (n int) {
	const row = 4
	seen := map[string]bool{}
	for i := row; i <= len(key); i++ {
		four := key[i-row : i]
		step := int(four[1]) - int(four[0])
		counts := step >= -1 && step <= 1 && int(four[2])-int(four[1]) == step && int(four[3])-int(four[2]) == step
		if counts || seen[four] {
			n++
		}
		seen[four] = true
	}
	return n
}
