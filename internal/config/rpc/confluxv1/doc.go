// Package confluxv1 is proto/conflux/v1/conflux.proto in Go, as make proto generates it.
package confluxv1
