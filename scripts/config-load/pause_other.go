//go:build !unix

package main

import "time"

func pause(d time.Duration) { time.Sleep(d) }
