package main

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"time"
)

// newREST makes a client of REST with a courier.
func newREST(address, key, actor string, batch int) (*restClient, *courier) {
	client := &restClient{http: &http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: answerPatience}).DialContext}}, address: func() string { return address }, key: key}
	c := newCourier(&ledger{actor: actor}, batch)
	c.submit = client.submit
	c.find = func(ctx context.Context, list []*write) (map[string]result, error) {
		return client.find(ctx, actor, list)
	}
	return client, c
}

// deploy is the pipeline: it brings images to staging, sets variables, opens ports, and promotes.
func deploy(ctx context.Context, c *courier, every time.Duration, random *rand.Rand) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 2; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		name := names[random.IntN(len(names))]
		service, build := "service."+name, fmt.Sprintf("build %d", n)
		switch n % 4 {
		case 0:
			c.send(operation{Type: "promote", From: "staging", To: "production", Only: []string{"image"}, Intent: "staging is fine"})
		case 1:
			c.send(operation{Type: "set_field", EntityID: service, Field: "env_vars", Key: "RELEASE", Value: fmt.Sprint(n), Intent: build})
			c.send(operation{Type: "set_field", EntityID: service, Field: "ports", Add: []any{int64(8000 + n)}, Intent: "metrics of " + build})
		default:
			c.send(operation{Type: "set_field", EntityID: service, Field: "image", Environment: "staging", Value: fmt.Sprintf("registry.example/%s:%d", name, n), Intent: "deploy " + build})
		}
	}
}

// scale is the autoscaler: so many decisions a second on fields of which the highest value wins. On a busy machine it makes up for those that
// it was late with.
func scale(ctx context.Context, c *courier, every time.Duration, random *rand.Rand) error {
	for n, begun := 0, time.Now(); wait(ctx, every); {
		for ; n < int(time.Since(begun)/every); n++ {
			c.send(demand(n, random))
		}
	}
	return nil
}

// demand is the n-th decision.
func demand(n int, random *rand.Rand) operation {
	name := names[n%len(names)]
	load := 50 + 30*math.Sin(float64(n)/200) + 20*random.Float64() // percent
	if n/len(names)%2 == 1 {
		return operation{Type: "set_field", EntityID: "route." + name, Field: "weight", Value: int64(load), Intent: "load-response"}
	}
	return operation{Type: "set_field", EntityID: "service." + name, Field: "replicas", Value: int64(load / 5), Intent: "load-response"}
}
