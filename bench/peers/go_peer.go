// SPDX-License-Identifier: MIT

// What the same pieces cost in Go: go_peer FIGURE, or go_peer echo PORT LOOPS.
//
// Prints one number, as keel_bench does.  What stays on one processor is
// measured in the process's own time.
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	yields  = 4000000
	spawns  = 1000000
	parked  = 100000
	million = 1000000
	items   = 2000000
	slots   = 1024
	jobs    = 1000000
	window  = 1024
	trips   = 200000
)

func die(err error) {
	fmt.Fprintln(os.Stderr, "go_peer:", err)
	os.Exit(1)
}

func ownTime() float64 {
	var u syscall.Rusage

	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		die(err)
	}
	return float64(u.Utime.Nano() + u.Stime.Nano())
}

func say(total float64, count int) {
	fmt.Printf("%.3f\n", total/float64(count))
}

func yield() {
	var both sync.WaitGroup

	turns := func() {
		for i := 0; i < yields/2; i++ {
			runtime.Gosched()
		}
		both.Done()
	}
	both.Add(2)
	begun := ownTime()
	go turns()
	go turns()
	both.Wait()
	say(ownTime()-begun, yields)
}

func spawn() {
	begun := ownTime()
	for i := 0; i < spawns; i++ {
		var done sync.WaitGroup

		done.Add(1)
		go done.Done()
		done.Wait()
	}
	say(ownTime()-begun, spawns)
}

// Resident pages and page tables, in bytes.
func memory() float64 {
	text, err := os.ReadFile("/proc/self/status")
	total := 0

	if err != nil {
		die(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "VmRSS:") || strings.HasPrefix(line, "VmPTE:") {
			kib, _ := strconv.Atoi(strings.Fields(line)[1])
			total += kib
		}
	}
	return float64(total) * 1024
}

func park(count int) (bytes, seconds float64) {
	var there, gone sync.WaitGroup
	release := make(chan struct{})
	before := memory()
	begun := time.Now()

	there.Add(count)
	gone.Add(count)
	for i := 0; i < count; i++ {
		go func() {
			there.Done()
			<-release
			gone.Done()
		}()
	}
	there.Wait()
	took := time.Since(begun)
	bytes = (memory() - before) / float64(count)
	begun = time.Now()
	close(release)
	gone.Wait()
	return bytes, (took + time.Since(begun)).Seconds()
}

func queue(pairs, loops int) {
	var all sync.WaitGroup
	ch := make(chan *int, slots)
	item := new(int)
	count := items / pairs

	runtime.GOMAXPROCS(loops)
	all.Add(2 * pairs)
	begun := time.Now()
	for i := 0; i < pairs; i++ {
		go func() {
			for i := 0; i < count; i++ {
				ch <- item
			}
			all.Done()
		}()
		go func() {
			for i := 0; i < count; i++ {
				<-ch
			}
			all.Done()
		}()
	}
	all.Wait()
	say(float64(time.Since(begun).Nanoseconds()), count*pairs)
}

type job struct {
	run func() int
}

// Workers that read jobs from a channel and write results to another.
func pool(workers int) (chan<- job, <-chan int) {
	todo := make(chan job, window)
	results := make(chan int, window)

	for i := 0; i < workers; i++ {
		go func() {
			for j := range todo {
				results <- j.run()
			}
		}()
	}
	return todo, results
}

func one() int {
	return 1
}

func bulk() {
	workers := runtime.NumCPU() - 1
	sum := 0

	if workers < 1 {
		workers = 1
	}
	todo, results := pool(workers)
	begun := time.Now()
	for i := 0; i < jobs+window; i++ {
		if i >= window {
			sum += <-results
		}
		if i < jobs {
			todo <- job{one}
		}
	}
	took := time.Since(begun)
	if sum != jobs {
		die(fmt.Errorf("jobs are missing"))
	}
	fmt.Printf("%.1f\n", jobs/took.Seconds())
}

func roundtrip() {
	todo, results := pool(1)
	begun := time.Now()

	for i := 0; i < trips; i++ {
		todo <- job{one}
		<-results
	}
	say(float64(time.Since(begun).Nanoseconds()), trips)
}

func echo(port string, loops int) {
	runtime.GOMAXPROCS(loops)
	l, err := net.Listen("tcp4", "127.0.0.1:"+port)
	if err != nil {
		die(err)
	}
	fmt.Printf("listening on %s (go)\n", l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			die(err)
		}
		go func() {
			buf := make([]byte, 4096)

			defer c.Close()
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				if _, err = c.Write(buf[:n]); err != nil {
					return
				}
			}
		}()
	}
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == "echo" {
		loops, _ := strconv.Atoi(os.Args[3])
		echo(os.Args[2], loops)
	}
	if len(os.Args) != 2 {
		os.Exit(2)
	}
	switch os.Args[1] {
	case "yield_ns":
		yield()
	case "spawn_join_ns":
		spawn()
	case "parked_rss_bytes":
		bytes, _ := park(parked)
		fmt.Printf("%.1f\n", bytes)
	case "million_co_bytes":
		bytes, seconds := park(million)
		fmt.Printf("%.1f %.3f\n", bytes, seconds)
	case "queue_local_ns":
		queue(1, 1)
	case "queue_1p1c_ns":
		queue(1, 2)
	case "queue_4p4c_ns":
		queue(4, 4)
	case "pool_bulk_per_s":
		bulk()
	case "pool_roundtrip_ns", "pool_roundtrip_asleep_ns":
		roundtrip()
	default:
		os.Exit(2)
	}
}
