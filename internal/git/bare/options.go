package bare

import (
	"errors"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/git/protocol"
)

// Service is how a request came.
type Service struct {
	Protocol  string // GIT_PROTOCOL, or the header Git-Protocol
	Stateless bool   // one request and its answer, as over HTTP
	Agent     string // how this side calls itself
}

// gitDefaults are what git has when nothing is configured, where the engine's own default is another.
var gitDefaults = [][2]string{
	{"uploadpack.allowfilter", "false"},
	{"uploadpack.allowtipsha1inwant", "false"},
	{"uploadpack.allowreachablesha1inwant", "false"},
	{"transfer.advertiseobjectinfo", "false"},
	{"receive.advertisepushoptions", "false"},
}

// protocolConfig is what the configuration says of the protocol.
func (r *Repo) protocolConfig(s Service) (*protocol.Config, error) {
	c := &protocol.Config{}
	for _, d := range gitDefaults {
		if err := c.Set(d[0], d[1]); err != nil {
			return nil, err
		}
	}
	for i := range r.config.list {
		line := &r.config.list[i]
		value := line.value
		if line.bare {
			value = "true"
		}
		if err := c.Set(line.name, value); err != nil && !errors.Is(err, errkind.Unsupported) {
			return nil, err
		}
	}
	if protocol.ParseVersion(s.Protocol) != protocol.V2 {
		return c, nil
	}
	// In version 2 git gives whatever is there to who knows its ID, whatever is configured.
	return c, c.Set("uploadpack.allowanysha1inwant", "true")
}

// uploadOptions is how upload-pack answers.
func uploadOptions(s Service) protocol.UploadOptions {
	e, v := newEvents(), protocol.ParseVersion(s.Protocol)
	e.version(v)
	return protocol.UploadOptions{Version: v, Stateless: s.Stateless, Agent: s.Agent, Session: e.session, Said: e.said}
}

// receiveOptions is how receive-pack answers.
func receiveOptions(s Service) protocol.ReceiveOptions {
	e, v := newEvents(), protocol.ParseVersion(s.Protocol)
	e.version(v)
	return protocol.ReceiveOptions{Version: v, Stateless: s.Stateless, Agent: s.Agent, Session: e.session, Said: e.said, Plain: true}
}
