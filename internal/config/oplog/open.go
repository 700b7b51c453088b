package oplog

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/skep-dev/skep/internal/errkind"
	"github.com/skep-dev/skep/internal/postgres"
)

// Addresses says how to name a store, for help texts.
const Addresses = "sqlite:DIR, postgres://USER@HOST/DATABASE, dynamodb://TABLE?region=REGION or memory:"

// OpenStore opens a store by its address:
//
//	sqlite:DIR                      a folder of files, which is made if it is not there
//	postgres://USER@HOST/DATABASE   a database, with all that psql understands
//	dynamodb://TABLE                a table; region=REGION, endpoint=URL and create=true may follow, as in a URL's query
//	memory:                         nothing is kept
func OpenStore(ctx context.Context, address string) (Store, error) {
	if dir, ok := strings.CutPrefix(address, "sqlite:"); ok {
		if dir == "" {
			return nil, fmt.Errorf("open a store of documents: write sqlite:DIR: %w", errkind.Invalid)
		}
		return OpenDir(ctx, dir)
	}
	if postgres.IsAddress(address) {
		return OpenPostgres(ctx, address)
	}
	if strings.HasPrefix(address, "dynamodb:") {
		opts, err := parseDynamo(address)
		if err != nil {
			return nil, fmt.Errorf("open a store of documents: %w", err)
		}
		return OpenDynamo(ctx, opts)
	}
	if address == "memory:" {
		return NewMemory(), nil
	}
	// The address may be one with a password that begins with a slip of the pen, so it is not repeated.
	return nil, fmt.Errorf("open a store of documents: the address is none of %s: %w", Addresses, errkind.Invalid)
}

// CheckKept refuses an address that cannot be kept in a file which others read: it has a secret. The error does not repeat it.
func CheckKept(address string) error {
	secret := strings.Contains(address, "@") // of an endpoint
	instead := "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
	switch {
	case strings.HasPrefix(address, "sqlite:"):
		return nil
	case postgres.IsAddress(address):
		secret, instead = postgres.HasSecret(address), "PGPASSWORD or PGPASSFILE"
	}
	if secret {
		return fmt.Errorf("the address of the store has a password, or what may be one: leave it out, and set %s in the environment: %w", instead, errkind.Invalid)
	}
	return nil
}

func parseDynamo(address string) (opts DynamoOptions, err error) {
	const form = "write dynamodb://TABLE?region=REGION&endpoint=URL&create=true"
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || u.Path != "" || u.Fragment != "" {
		return opts, fmt.Errorf("%s: %w", form, errkind.Invalid)
	}
	opts.Table = u.Host
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return opts, fmt.Errorf("%s: %w", form, errkind.Invalid)
	}
	for name, values := range query {
		value := values[0]
		switch {
		case len(values) > 1:
			err = fmt.Errorf("%s is there twice: %w", name, errkind.Invalid)
		case name == "region":
			opts.Region = value
		case name == "endpoint":
			opts.Endpoint = value
			if e, parseErr := url.Parse(value); parseErr != nil || (e.Scheme != "http" && e.Scheme != "https") || e.Host == "" {
				err = fmt.Errorf("endpoint is no URL with http or https: %w", errkind.Invalid)
			}
		case name == "create":
			if opts.CreateTable, err = strconv.ParseBool(value); err != nil {
				err = fmt.Errorf("create is true or false: %w", errkind.Invalid)
			}
		default:
			err = fmt.Errorf("%s is not known; %s: %w", name, form, errkind.Invalid)
		}
		if err != nil {
			return opts, err
		}
	}
	return opts, nil
}
