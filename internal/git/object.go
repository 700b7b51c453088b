package git

import (
	"crypto/sha1" //nolint:gosec // Git's object format; content from clients is hashed by pack with collision detection
	"fmt"
	"strconv"

	"github.com/skep-dev/skep/internal/errkind"
)

// Kind is the kind of an object, with the numbers that pack entries use
// (https://git-scm.com/docs/gitformat-pack).
type Kind uint8

// The four kinds of object.
const (
	Commit Kind = 1
	Tree   Kind = 2
	Blob   Kind = 3
	Tag    Kind = 4
)

// Valid reports whether k is one of the four kinds.
func (k Kind) Valid() bool { return Commit <= k && k <= Tag }

func (k Kind) String() string {
	switch k {
	case Commit:
		return "commit"
	case Tree:
		return "tree"
	case Blob:
		return "blob"
	case Tag:
		return "tag"
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// ParseKind reads a kind's name, as object headers and tags write it.
func ParseKind[T string | []byte](s T) (Kind, error) {
	switch string(s) {
	case "commit":
		return Commit, nil
	case "tree":
		return Tree, nil
	case "blob":
		return Blob, nil
	case "tag":
		return Tag, nil
	}
	return 0, fmt.Errorf("object kind %q: %w", clip(s), errkind.Invalid)
}

// Object is an object's kind and content. Data belongs to whoever made the Object; readers do not change it.
type Object struct {
	Kind Kind
	Data []byte
}

// AppendHeader appends what is hashed before an object's content: "blob 12\x00".
func AppendHeader(b []byte, k Kind, size int64) []byte {
	b = append(b, k.String()...)
	b = append(b, ' ')
	b = strconv.AppendInt(b, size, 10)
	return append(b, 0)
}

// Hash computes the ID of an object that this process made itself. Content from outside is hashed by package pack,
// which detects SHA-1 collision attacks.
func Hash(k Kind, data []byte) OID {
	h := sha1.New() //nolint:gosec // see the import
	var head [32]byte
	h.Write(AppendHeader(head[:0], k, int64(len(data))))
	h.Write(data)
	var o OID
	h.Sum(o[:0])
	return o
}
