package access

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/config"
	"github.com/skep-dev/skep/internal/errkind"
)

// Mode is how clients say who they are.
type Mode string

// The modes.
const (
	ModeNone   Mode = "none" // they name themselves, and are believed
	ModeAPIKey Mode = "api-key"
	ModeMTLS   Mode = "mtls"
	ModeBoth   Mode = "both" // with an API key or a certificate
)

// APIKeys reports whether API keys are taken.
func (m Mode) APIKeys() bool { return m == ModeAPIKey || m == ModeBoth }

// Certificates reports whether client certificates are asked for.
func (m Mode) Certificates() bool { return m == ModeMTLS || m == ModeBoth }

// Mapping is what of a certificate names the actor.
type Mapping string

// The mappings.
const (
	MapCN    Mapping = "cn"      // the common name
	MapSAN   Mapping = "san"     // the one subject alternative name: URI, e-mail address or DNS name
	MapTable Mapping = "mapping" // a list of names and whose they are
)

// Auth is the table [auth] of config.toml. Files are named as they are written, and not looked at.
type Auth struct {
	Mode                 Mode
	AllowUnauthenticated bool // requests without a credential are taken too, and believed
	APIKeysFile          string
	MTLS                 MTLS
}

// MTLS is the table [auth.mtls].
type MTLS struct {
	CACert, ServerCert, ServerKey string

	mapping Mapping
	class   config.Class
	actors  map[string]config.Actor
}

// DefaultAPIKeysFile is where API keys are unless config.toml says otherwise.
const DefaultAPIKeysFile = ".conflux/api-keys.toml"

// configFile is what of config.toml is about authentication.
type configFile struct {
	Auth authForm `toml:"auth"`
}

type authForm struct {
	Mode                 Mode      `toml:"mode"`
	AllowUnauthenticated bool      `toml:"allow_unauthenticated"`
	APIKeys              storeForm `toml:"api_keys"`
	MTLS                 *mtlsForm `toml:"mtls"`
}

type storeForm struct {
	Storage string `toml:"storage"`
	File    string `toml:"file"`
}

type mtlsForm struct {
	CACert     string        `toml:"ca_cert"`
	ServerCert string        `toml:"server_cert"`
	ServerKey  string        `toml:"server_key"`
	Mapping    Mapping       `toml:"certificate_mapping"`
	Class      config.Class  `toml:"actor_class"`
	Actors     []mappingForm `toml:"mapping"`
}

type mappingForm struct {
	Certificate string       `toml:"certificate"`
	Actor       string       `toml:"actor_id"`
	Class       config.Class `toml:"actor_class"`
	Name        string       `toml:"display_name"`
}

// LoadAuth reads the table [auth] of a config.toml; the file's other tables are left to others. Without the table clients name themselves.
func LoadAuth(text []byte) (Auth, error) {
	var src configFile
	f, err := decode("config.toml", text, "auth", &src)
	if err != nil {
		return Auth{}, err
	}
	form := src.Auth
	a := Auth{Mode: form.Mode, AllowUnauthenticated: form.AllowUnauthenticated, APIKeysFile: form.APIKeys.File}
	switch a.Mode {
	case "":
		a.Mode = ModeNone
	case ModeNone, ModeAPIKey, ModeMTLS, ModeBoth:
	default:
		return Auth{}, f.wrong("auth.mode", "%q is no mode: use none, api-key, mtls or both", clip(string(a.Mode)))
	}
	if s := form.APIKeys.Storage; s != "" && s != "file" {
		return Auth{}, f.wrong("auth.api_keys.storage", `API keys are in a file: write storage = "file"`)
	}
	if a.APIKeysFile == "" && a.Mode.APIKeys() {
		a.APIKeysFile = DefaultAPIKeysFile
	}
	if form.MTLS == nil {
		if a.Mode.Certificates() {
			return Auth{}, f.wrong("auth.mode", "mode %s needs [auth.mtls] with ca_cert, server_cert and server_key", a.Mode)
		}
		return a, nil
	}
	a.MTLS, err = f.mtls(*form.MTLS)
	return a, err
}

func (f *file) mtls(form mtlsForm) (MTLS, error) {
	const way = "auth.mtls"
	m := MTLS{CACert: form.CACert, ServerCert: form.ServerCert, ServerKey: form.ServerKey, mapping: form.Mapping, class: form.Class, actors: map[string]config.Actor{}}
	for _, s := range []struct{ key, file string }{{"ca_cert", m.CACert}, {"server_cert", m.ServerCert}, {"server_key", m.ServerKey}} {
		if s.file == "" {
			return MTLS{}, f.wrong(way+"."+s.key, "it has no %s: write the name of a PEM file", s.key)
		}
	}
	switch m.mapping {
	case "":
		m.mapping = MapCN
	case MapCN, MapSAN, MapTable:
	default:
		return MTLS{}, f.wrong(way+".certificate_mapping", "%q is no mapping: use cn, san or mapping", clip(string(m.mapping)))
	}
	if m.class == "" {
		m.class = config.Pipeline
	}
	if !isClass(m.class) {
		return MTLS{}, f.wrong(way+".actor_class", "%q is no class: use human, pipeline, operator or system", clip(string(m.class)))
	}
	if n := len(form.Actors); (n > 0) != (m.mapping == MapTable) || n > maxAPIKeys {
		return MTLS{}, f.wrong(way+".certificate_mapping", `[[auth.mtls.mapping]] goes with certificate_mapping = "mapping", and has 1 to %d entries`, maxAPIKeys)
	}
	for i, entry := range form.Actors {
		way := fmt.Sprintf("%s.mapping[%d]", way, i)
		kind, name, ok := strings.Cut(entry.Certificate, ":")
		if !ok || name == "" || !slices.Contains([]string{"cn", "dns", "email", "uri"}, kind) {
			return MTLS{}, f.wrong(way+".certificate", "%q is no name of a certificate: write cn:…, dns:…, email:… or uri:…", clip(entry.Certificate))
		}
		actor := config.Actor{ID: entry.Actor, Class: entry.Class, Name: entry.Name}
		if actor.Class == "" {
			actor.Class = m.class
		}
		if err := f.actor(way, actor); err != nil {
			return MTLS{}, err
		}
		key := certificateName(kind, name)
		if _, twice := m.actors[key]; twice {
			return MTLS{}, f.wrong(way+".certificate", "%s is there twice", clip(entry.Certificate))
		}
		m.actors[key] = actor
	}
	return m, nil
}

func certificateName(kind, name string) string {
	if kind == "dns" {
		name = strings.ToLower(name)
	}
	return kind + ":" + name
}

// Actor returns whose a client certificate is. It must be one that an authority in CACert vouches for: the first of a verified chain.
func (m *MTLS) Actor(c *x509.Certificate, now time.Time) (config.Actor, error) {
	a, err := m.actor(c, now)
	if err != nil {
		return config.Actor{}, fmt.Errorf("client certificate: %w: %w", err, errkind.Unauthorized)
	}
	return a, nil
}

func (m *MTLS) actor(c *x509.Certificate, now time.Time) (config.Actor, error) {
	if now.After(c.NotAfter) || now.Before(c.NotBefore) { // the connection may be older
		return config.Actor{}, fmt.Errorf("it is good from %s to %s", c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
	}
	var sans []string
	for _, u := range c.URIs {
		sans = append(sans, certificateName("uri", u.String()))
	}
	for _, s := range c.EmailAddresses {
		sans = append(sans, certificateName("email", s))
	}
	for _, s := range c.DNSNames {
		sans = append(sans, certificateName("dns", s))
	}
	switch m.mapping {
	case MapSAN:
		if len(sans) != 1 {
			return config.Actor{}, fmt.Errorf(`it has %d subject alternative names, so that none is the actor's: use certificate_mapping = "mapping"`, len(sans))
		}
		_, name, _ := strings.Cut(sans[0], ":")
		return m.named(name)
	case MapTable:
		var found []config.Actor
		for _, name := range append(sans, certificateName("cn", c.Subject.CommonName)) {
			if a, ok := m.actors[name]; ok && !slices.Contains(found, a) {
				found = append(found, a)
			}
		}
		if len(found) != 1 {
			return config.Actor{}, fmt.Errorf("its names are those of %d actors in [[auth.mtls.mapping]]", len(found))
		}
		return found[0], nil
	default:
		return m.named(c.Subject.CommonName)
	}
}

// named is the actor that a certificate names itself.
func (m *MTLS) named(name string) (config.Actor, error) {
	if name == "" || len(name) > maxNameBytes || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return config.Actor{}, fmt.Errorf("it names nobody, or in a way that no actor is named")
	}
	return config.Actor{ID: name, Class: m.class}, nil
}
