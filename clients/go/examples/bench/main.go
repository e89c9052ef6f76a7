// Bench counts how many decisions a second one client gets from a scheduler: each caller places a request and finishes
// it, over one connection. It prints one JSON object.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"sync"
	"time"

	forebay "forebay.dev/client-go"
)

const warmUp = time.Second

type figures struct {
	places   []time.Duration
	failures int
	last     error
}

func main() {
	scheduler := flag.String("scheduler", "", "host:port of the scheduler")
	model := flag.String("model", "llama-8b", "model to ask for")
	inFlight := flag.Int("in-flight", 8, "callers at once")
	seconds := flag.Float64("seconds", 5, "how long to measure")
	flag.Parse()
	client, err := forebay.New(forebay.Options{Addresses: forebay.Addresses{Scheduler: *scheduler}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer client.Close()
	load(client, *model, *inFlight, warmUp)
	span := time.Duration(*seconds * float64(time.Second))
	begin := time.Now()
	found := load(client, *model, *inFlight, span)
	report(found, *inFlight, time.Since(begin))
}

func load(client *forebay.Client, model string, callers int, span time.Duration) figures {
	ctx := context.Background()
	until := time.Now().Add(span)
	each := make([]figures, callers)
	var group sync.WaitGroup
	for caller := range each {
		group.Add(1)
		go func(mine *figures) {
			defer group.Done()
			for time.Now().Before(until) {
				mine.decide(ctx, client, model)
			}
		}(&each[caller])
	}
	group.Wait()
	var all figures
	for _, one := range each {
		all.places = append(all.places, one.places...)
		all.failures += one.failures
		if one.last != nil {
			all.last = one.last
		}
	}
	return all
}

func (f *figures) decide(ctx context.Context, client *forebay.Client, model string) {
	request := forebay.NewRequest(model, "Write a haiku.", 6)
	request.TokensMax = 16
	begin := time.Now()
	placement, err := client.Place(ctx, request)
	took := time.Since(begin)
	if err == nil {
		err = client.Finish(ctx, placement.GetLeaseId(), forebay.Stopped, 4, 6)
	}
	if err != nil {
		f.failures++
		f.last = err
		return
	}
	f.places = append(f.places, took)
}

func report(found figures, inFlight int, took time.Duration) {
	if found.last != nil {
		fmt.Fprintln(os.Stderr, "the last failure:", found.last)
	}
	sort.Slice(found.places, func(i, j int) bool { return found.places[i] < found.places[j] })
	line, _ := json.Marshal(map[string]any{
		"language":        "go",
		"in_flight":       inFlight,
		"seconds":         took.Seconds(),
		"decision_count":  len(found.places),
		"decisions_per_s": float64(len(found.places)) / took.Seconds(),
		"p50_us":          quantile(found.places, 0.5),
		"p99_us":          quantile(found.places, 0.99),
		"failed_count":    found.failures,
	})
	fmt.Println(string(line))
}

func quantile(sorted []time.Duration, share float64) int64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(share*float64(len(sorted)-1))].Microseconds()
}
