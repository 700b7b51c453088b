//go:build !unix

package router

import "os"

// lockFile only marks the directory: where there is no flock, keeping other processes away is up to the operator.
func lockFile(path string) (unlock func() error, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return f.Close, nil
}
