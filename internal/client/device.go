package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/policy"
)

// DeviceCode is the beginning of a terminal's login (RFC 8628 section 3.2).
type DeviceCode struct {
	DeviceCode              string `json:"device_code"` // secret
	UserCode                string `json:"user_code"`
	VerificationURI         string `json:"verification_uri"`
	VerificationURIComplete string `json:"verification_uri_complete"`
	ExpiresIn               int    `json:"expires_in"` // seconds
	Interval                int    `json:"interval"`   // seconds between questions
}

// DeviceToken is its end.
type DeviceToken struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"` // seconds
	Scope       string `json:"scope"`
}

// DeviceError is why there is no token, or not yet.
type DeviceError struct {
	Code        string `json:"error"`
	Description string `json:"error_description,omitempty"`
}

func (e *DeviceError) Error() string {
	if e.Description != "" {
		return e.Description
	}
	return e.Code
}

// Unwrap returns what a caller may act on.
func (e *DeviceError) Unwrap() error {
	switch e.Code {
	case "access_denied", "expired_token":
		return errkind.Unauthorized
	case "authorization_pending":
		return errkind.Conflict
	case "slow_down":
		return errkind.RateLimited
	}
	return errkind.Invalid
}

const (
	devicePath  = "/login/device"
	deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"
	clientID    = "skep"
	// slowDown is what is added to the time between questions when the server asks for it (RFC 8628 section 3.5).
	slowDown = 5 * time.Second
	// maxForm bounds an answer of the device flow.
	maxForm = 64 << 10
)

// BeginDevice asks the server for a code that a person confirms in a browser. name says to that person what asks.
func (c *Client) BeginDevice(ctx context.Context, name string, scope policy.Scope) (DeviceCode, error) {
	var out DeviceCode
	err := c.form(ctx, devicePath+"/code", url.Values{"client_id": {clientID}, "device_name": {name}, "scope": {string(scope)}}, &out)
	return out, err
}

// AwaitDevice asks until the person has answered, the code has expired, or ctx ends.
func (c *Client) AwaitDevice(ctx context.Context, d DeviceCode) (DeviceToken, error) {
	const shortest = time.Second
	interval := max(time.Duration(d.Interval)*time.Second, shortest)
	ask := url.Values{"client_id": {clientID}, "grant_type": {deviceGrant}, "device_code": {d.DeviceCode}}
	for {
		timer := time.NewTimer(interval)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return DeviceToken{}, ctx.Err()
		}
		var out DeviceToken
		err := c.form(ctx, devicePath+"/token", ask, &out)
		e, ok := errors.AsType[*DeviceError](err)
		switch {
		case ok && e.Code == "authorization_pending":
		case ok && e.Code == "slow_down":
			interval += slowDown
		case err != nil:
			return DeviceToken{}, err
		case out.AccessToken == "":
			return DeviceToken{}, fmt.Errorf("the server's answer has no token: %w", errkind.Invalid)
		default:
			return out, nil
		}
	}
}

// form posts a form and decodes the answer into out.
func (c *Client) form(ctx context.Context, path string, f url.Values, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.String()+path, strings.NewReader(f.Encode()))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.agent)
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("call server: %w", err)
	}
	defer closeBody(resp)
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxForm))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		e := &DeviceError{}
		if json.Unmarshal(b, e) != nil || e.Code == "" {
			return fmt.Errorf("the server has no login for terminals here (it answered %d): %w", resp.StatusCode, KindOf(resp.StatusCode))
		}
		return e
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}
