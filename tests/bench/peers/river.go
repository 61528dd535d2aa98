// river.go: River under measurement: `setup`, `latency COUNT GAP_MS SETTINGS` or `drain COUNT SETTINGS`; SETTINGS is "defaults" or
// "tuned"; the database is in the PG* variables.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

type bench struct {
	N int `json:"n"`
}

func (bench) Kind() string { return "bench" }

type worker struct {
	river.WorkerDefaults[bench]
	work func(job *river.Job[bench])
}

func (w *worker) Work(_ context.Context, job *river.Job[bench]) error {
	w.work(job)
	return nil
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "river:", err)
		os.Exit(1)
	}
}

func number(i int) int {
	n, err := strconv.Atoi(os.Args[i])
	must(err)
	return n
}

// A client with the settings that were asked for; `work` is called for each job.
func client(pool *pgxpool.Pool, settings string, work func(*river.Job[bench])) *river.Client[pgx.Tx] {
	workers := river.NewWorkers()
	river.AddWorker(workers, &worker{work: work})
	config := &river.Config{
		Logger:  slog.New(slog.DiscardHandler),
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 100}},
		Workers: workers,
	}
	if settings == "tuned" {
		config.FetchCooldown = time.Millisecond
		config.FetchPollInterval = 100 * time.Millisecond
		config.Queues[river.QueueDefault] = river.QueueConfig{MaxWorkers: 2000}
	}
	c, err := river.NewClient(riverpgxv5.New(pool), config)
	must(err)
	return c
}

// From Insert() to the worker, one job every gap. Prints milliseconds.
func latency(ctx context.Context, pool *pgxpool.Pool, count int, gap time.Duration, settings string) {
	sent, started := make([]time.Time, count), make([]time.Time, count)
	var seen atomic.Int64
	done := make(chan struct{})
	c := client(pool, settings, func(job *river.Job[bench]) {
		if job.Args.N < 0 {
			return
		}
		started[job.Args.N] = time.Now()
		if seen.Add(1) == int64(count) {
			close(done)
		}
	})
	must(c.Start(ctx))
	_, err := c.Insert(ctx, bench{N: -1}, nil) // warm, as the other contenders' prepared statements are
	must(err)
	time.Sleep(500 * time.Millisecond)
	next := time.Now()
	for i := range count {
		next = next.Add(gap)
		time.Sleep(time.Until(next))
		sent[i] = time.Now()
		_, err := c.Insert(ctx, bench{N: i}, nil)
		must(err)
	}
	<-done
	must(c.Stop(ctx))
	for i := range count {
		fmt.Println(float64(started[i].Sub(sent[i])) / 1e6)
	}
}

// From the first job's start until all are completed in the database. Prints seconds.
func drain(ctx context.Context, pool *pgxpool.Pool, count int, settings string) {
	var seen, first atomic.Int64
	done := make(chan struct{})
	c := client(pool, settings, func(*river.Job[bench]) {
		n := seen.Add(1)
		if n == 1 {
			first.Store(time.Now().UnixNano())
		}
		if n == int64(count) {
			close(done)
		}
	})
	for left := count; left > 0; left -= 10000 {
		params := make([]river.InsertManyParams, min(left, 10000))
		for i := range params {
			params[i].Args = bench{N: 1}
		}
		_, err := c.InsertManyFast(ctx, params)
		must(err)
	}
	must(c.Start(ctx))
	<-done
	must(c.Stop(ctx)) // the completions that are still batched
	fmt.Println(float64(time.Now().UnixNano()-first.Load()) / 1e9)
}

func main() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, "")
	must(err)
	switch os.Args[1] {
	case "setup":
		migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
		must(err)
		_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
		must(err)
	case "latency":
		latency(ctx, pool, number(2), time.Duration(number(3))*time.Millisecond, os.Args[4])
	default:
		drain(ctx, pool, number(2), os.Args[3])
	}
	pool.Close()
}
